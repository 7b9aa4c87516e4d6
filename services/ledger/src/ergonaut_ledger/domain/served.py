"""What served models were asked and used, as questions and answers. Asked by the door ModelBookService."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ergonaut.errors import Refused
from ergonaut_ledger.domain.bounds import EARLIEST, LATEST

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

PAGE_BYTES_MAX = 3 * 1024 * 1024
"""Of one answer's tensors; a plain gRPC client takes 4 MiB."""


@dataclass(frozen=True, slots=True)
class ModelFootprint:
    """What one version served and used; energy is of `predictions_measured`, None where that is not known."""

    model: str
    version: int
    requests: int
    predictions: int
    failed: int
    cpu_seconds: float
    predictions_measured: int
    energy_joules: float | None
    energy_joules_low: float | None
    energy_joules_high: float | None
    methods: tuple[str, ...]
    carbon_grams_co2e: float | None
    cost_usd: float | None

    @property
    def range_fraction(self) -> float | None:
        """The true energy is within plus or minus this fraction; None where that is not known."""
        if not self.energy_joules or self.energy_joules_low is None or self.energy_joules_high is None:
            return None
        apart = max(self.energy_joules - self.energy_joules_low, self.energy_joules_high - self.energy_joules)
        return apart / self.energy_joules


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """A request as it was logged."""

    answered_at: datetime
    event_id: str
    position: int
    version: int
    request_id: str
    latency_ms: float | None
    rate: float
    inputs: str
    outputs: str

    @property
    def place(self) -> "Place":
        """Where it stands among the others."""
        return Place(self.answered_at, self.event_id, self.position)

    @property
    def size_bytes(self) -> int:
        """About what it takes in an answer."""
        return len(self.inputs) + len(self.outputs) + 200


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ended."""

    answered_at: datetime
    event_id: str
    position: int

    def token(self) -> str:
        """As it travels."""
        return f"{(self.answered_at - EPOCH) // timedelta(microseconds=1)}.{self.position}.{self.event_id}"

    @classmethod
    def of(cls, token: str) -> "Place":
        """The place that a token tells. Raises Refused.

        >>> Place.of(Place(EARLIEST, "event-1", 3).token()).position
        3
        """
        micros, _, rest = token.partition(".")
        position, _, event_id = rest.partition(".")
        numbers = (micros, position)
        if not all(each.isascii() and each.isdigit() and len(each) < 18 for each in numbers) or len(event_id) > 200:
            raise Refused("is not what a page before told", field="page_token")
        answered_at = EPOCH + timedelta(microseconds=int(micros))
        if not EARLIEST <= answered_at < LATEST:
            raise Refused("is not what a page before told", field="page_token")
        return cls(answered_at, event_id, int(position))


@dataclass(frozen=True, slots=True)
class RequestsQuestion:
    """Which logged requests: a model's, of one version or of all (0), answered in a time, after a place, the newest first."""

    tenant: str
    model: str
    version: int
    since: datetime
    until: datetime
    limit: int
    after: Place | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some requests, and where the next ones begin; None where there are none."""

    requests: Sequence[LoggedRequest]
    next: Place | None


def page_of(found: Iterable[LoggedRequest], limit: int) -> Page:
    """As many as an answer holds of what was found, of which there is one more than asked for where there are more."""
    page: list[LoggedRequest] = []
    size_bytes = 0
    for request in found:
        if len(page) == limit or (page and size_bytes + request.size_bytes > PAGE_BYTES_MAX):
            return Page(page, page[-1].place)
        page.append(request)
        size_bytes += request.size_bytes
    return Page(page, None)
