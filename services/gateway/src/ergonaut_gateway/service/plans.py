"""What answers requests for names that are not, or not only, of models: endpoints and pipelines. They ask models in turn."""

from typing import TYPE_CHECKING, Protocol

from ergonaut_gateway.domain.inference import InferenceRequest
from ergonaut_gateway.domain.models import ModelRecord
from ergonaut_gateway.domain.tallies import Statistics
from ergonaut_gateway.service.lanes import Done

if TYPE_CHECKING:
    from ergonaut_gateway.service.predictions import Wish


class Cancellable(Protocol):
    """A request that was submitted, until it is answered."""

    def cancel(self) -> None:
        """Drop it: it is answered with CancelledError. Does nothing when it is over."""
        ...


class Plan(Protocol):
    """Answers requests for one name of a tenant, on the event loop."""

    version: str
    """The version by which it can be asked too, as by none; empty where only by none."""

    @property
    def record(self) -> ModelRecord:
        """What the pages of its name tell. Raises NotFound or Unavailable where nothing could answer."""
        ...

    def statistics(self) -> Statistics | None:
        """What it did; None where only what it asks is counted."""
        ...

    def submit(self, wish: "Wish", request: InferenceRequest, done: Done) -> Cancellable:
        """Predict; `done` is called exactly once, maybe before this returns."""
        ...


Plans = dict[tuple[str, str], Plan]
"""By tenant and name."""
