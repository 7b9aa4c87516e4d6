"""What the ledger keeps: one frozen dataclass a table, its fields in the table's words. Made by `understanding`."""

from dataclasses import dataclass, field
from datetime import datetime

from ergonaut_ledger.domain.readings import Readings


@dataclass(frozen=True, slots=True)
class Told:
    """Where a fact was told; the first telling of a fact is the one that stands."""

    event_id: str
    stream: str
    sequence: int


@dataclass(frozen=True, slots=True)
class EventRow:
    """Any event, as it was told."""

    told: Told
    tenant: str
    area: str
    type: str
    key: str
    occurred_at: datetime
    subject: str
    producer: str
    """Who numbers events of this type without a gap; empty where nobody does."""
    producer_sequence: int
    body: str


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One power sample, with what its message says of all of them."""

    told: Told
    position: int
    tenant: str
    host: str
    producer: str
    producer_sequence: int
    zone: str
    intensity_grams_per_kwh: float
    intensity_kind: str
    intensity_source: str
    pue: float
    share: str
    run_id: str
    job_id: str
    component: str
    method: str
    source: str
    range_fraction: float | None
    started_at: datetime
    ended_at: datetime
    energy_joules: float | None
    carbon_grams_co2e: float | None
    cost_usd: float | None
    project: str
    embodied_grams_co2e: float | None
    intensity_signal: str
    intensity_accounting: str
    intensity_boundary: str
    pue_source: str


@dataclass(frozen=True, slots=True)
class OfferRow:
    """An offer as it was from one time on."""

    told: Told
    tenant: str
    told_at: datetime
    offer_id: str
    provider: str
    region: str
    zone: str
    machine_type: str
    market: str
    vcpus: float
    memory_gib: float
    accelerator: str
    accelerator_count: int
    price_microusd_per_hour: int
    electricity_microusd_per_kwh: int
    power_watts_expected: float
    pue: float
    billing_increment_seconds: int
    noted_at: datetime
    source: str
    available: bool


@dataclass(frozen=True, slots=True)
class IntensityRow:
    """A zone's intensity over one hour, as known at one time."""

    told: Told
    position: int
    tenant: str
    told_at: datetime
    zone: str
    starts_at: datetime
    intensity_grams_per_kwh: float
    range_fraction: float
    kind: str
    source: str


@dataclass(frozen=True, slots=True)
class RequestRow:
    """One request that the gateway logged; its tensors as JSON lists."""

    told: Told
    position: int
    tenant: str
    model: str
    version: int
    answered_at: datetime
    request_id: str
    latency_ms: float | None
    rate: float
    inputs: str
    outputs: str


Row = EventRow | SampleRow | OfferRow | IntensityRow | RequestRow


@dataclass(frozen=True, slots=True)
class Batch:
    """What is kept in one go."""

    events: list[EventRow] = field(default_factory=list)
    samples: list[SampleRow] = field(default_factory=list)
    offers: list[OfferRow] = field(default_factory=list)
    intensities: list[IntensityRow] = field(default_factory=list)
    requests: list[RequestRow] = field(default_factory=list)
    readings: list[Readings] = field(default_factory=list)
    """Rows of `events` and `samples` that were read as columns."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to keep."""
        return not self.events and not self.readings

    @property
    def rows(self) -> list[Row]:
        """All that were read one by one."""
        return [*self.events, *self.samples, *self.offers, *self.intensities, *self.requests]

    def add(self, other: "Batch") -> None:
        """Take in the rows of another batch."""
        self.events.extend(other.events)
        self.samples.extend(other.samples)
        self.offers.extend(other.offers)
        self.intensities.extend(other.intensities)
        self.requests.extend(other.requests)
        self.readings.extend(other.readings)
