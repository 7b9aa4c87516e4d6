"""What answers requests in a model's place: endpoints and pipelines, which ask models in turn, and other gateways."""

from typing import TYPE_CHECKING, Protocol

from ergonaut_gateway.domain.inference import InferenceRequest
from ergonaut_gateway.domain.models import ModelRecord
from ergonaut_gateway.domain.peers import Because
from ergonaut_gateway.domain.tallies import Statistics
from ergonaut_gateway.service.lanes import Done, Ticket

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


class Elsewhere(Protocol):
    """Other gateways, which answer requests for versions of models; what they cannot answer comes back by itself."""

    @property
    def spreads(self) -> bool:
        """Whether it takes requests that could run here."""
        ...

    def beforehand(self, wish: "Wish", ticket: Ticket, version: int) -> Cancellable | None:
        """Send on a request that could run here, where it is another's turn; None where it shall run here."""
        ...

    def instead(
        self, wish: "Wish", request: InferenceRequest, done: Done, version: int, because: Because
    ) -> Cancellable | None:
        """Send on a request that cannot run here; None where nobody else may be able to."""
        ...

    @property
    def has_any(self) -> bool:
        """Whether they have requests of ours."""
        ...

    async def idle(self) -> None:
        """Wait until they have none."""
        ...


Plans = dict[tuple[str, str], Plan]
"""By tenant and name."""
