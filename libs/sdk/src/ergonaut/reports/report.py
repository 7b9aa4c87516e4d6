"""What a report tells, put together from the ledger's answers; every way of showing it starts from this."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ergonaut.reports.analysis import Analysis, told
from ergonaut.reports.numbers import Figure

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from ergonaut.api.ledger.v1 import ledger_pb2 as pb
    from ergonaut.jobs import Placement

RENT = "machine"
"""The component that is a machine's rent: money without energy."""

_METHODS = {
    "counter": "energy counter",
    "power-samples": "power samples",
    "model": "model",
    "not-measured": "not measured",
}
_NAMES = {"cpu": "CPU", "dram": "Memory", "psys": "Platform", "core": "CPU cores", RENT: "Machine (rent)"}


@dataclass(frozen=True, slots=True)
class Component:
    """What one component used, and how that is known."""

    component: str
    method: str
    source: str
    range_fraction: float | None
    energy_joules: float | None
    carbon_grams_co2e: float | None
    cost_usd: float | None
    samples: int
    embodied_grams_co2e: float | None = None
    """Grams of making the machine; part of no sum of operational grams."""

    @property
    def label(self) -> str:
        """The component's name for people."""
        return label_of(self.component)

    @property
    def method_label(self) -> str:
        """How the figure came to be, for people."""
        return "price" if self.component == RENT else _METHODS.get(self.method, self.method)

    @property
    def energy(self) -> Figure:
        """Joules with their range."""
        return _ranged(self.energy_joules, self.range_fraction)


@dataclass(frozen=True, slots=True)
class PowerPoint:
    """Mean power of one component over one interval."""

    starts_at: datetime
    component: str
    power_watts: float


@dataclass(frozen=True, slots=True)
class Place:
    """The same run under one offer and start; an estimate."""

    offer_id: str
    provider: str
    region: str
    machine_type: str
    zone: str
    starts_at: datetime
    cost_usd: float
    carbon_grams_co2e: float
    intensity_kind: str

    @property
    def label(self) -> str:
        """Where and on what, for people."""
        parts = dict.fromkeys(part for part in (self.provider, self.region, self.machine_type) if part)
        return " ".join(parts) or "here"

    @property
    def market(self) -> str:
        """`on-demand`, `spot` or `free`, the last part of the offer's id."""
        return self.offer_id.rpartition("/")[2] if "/" in self.offer_id else ""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the scheduler expected when it placed the run's job."""

    offer_id: str
    energy_joules: float
    carbon_grams_co2e: float
    cost_usd: float
    because: str


@dataclass(frozen=True, slots=True)
class RunReport:
    """One run: what it used, how that is known, and what it would have used elsewhere."""

    run_id: str
    job_id: str
    name: str
    state: str
    started_at: datetime
    ended_at: datetime | None
    provider: str
    region: str
    machine_type: str
    zone: str
    components: tuple[Component, ...]
    energy: Figure
    carbon: Figure
    cost: Figure
    intensity_grams_per_kwh: float
    intensity_sources: tuple[str, ...]
    samples: int
    samples_missing: int
    metrics: dict[str, float] = field(default_factory=dict)
    power: tuple[PowerPoint, ...] = ()
    places: tuple[Place, ...] = ()
    hours: tuple[Place, ...] = ()
    method: str = ""
    expected: Expected | None = None
    project: str = ""
    embodied_grams_co2e: float | None = None
    electricity_usd: float | None = None
    rent_usd: float | None = None
    intensity_bases: tuple[str, ...] = ()
    analysis: Analysis = field(default_factory=Analysis)
    paused_seconds: float = 0.0
    """How much of its time it was paused and held no machine."""
    gaps_provable_from: datetime | None = None
    """Where older samples are kept as sums only, the moment from which `samples_missing` counts; None for the whole run."""

    @property
    def duration_seconds(self) -> float | None:
        """How long the run took; None while it runs."""
        return (self.ended_at - self.started_at).total_seconds() if self.ended_at else None

    @property
    def active_seconds(self) -> float | None:
        """How long the run ran, its pauses left out; None while it runs."""
        seconds = self.duration_seconds
        return None if seconds is None else max(seconds - self.paused_seconds, 0.0)

    @property
    def mean_power_watts(self) -> float | None:
        """Energy over the time in which it ran."""
        seconds = self.active_seconds
        return self.energy.value / seconds if self.energy.value is not None and seconds else None

    @property
    def not_measured(self) -> tuple[str, ...]:
        """Names of the components whose energy nobody measured; `part of` one that was measured in part."""
        measured = {part.component for part in self.components if part.energy_joules is not None}
        missing = [part for part in self.components if part.energy_joules is None and part.component != RENT]
        told = (f"part of {part.label}" if part.component in measured else part.label for part in missing)
        return tuple(dict.fromkeys(told))

    @property
    def own_place(self) -> Place | None:
        """The run's own place among the estimates; the hours are all at it."""
        own_ids = {hour.offer_id for hour in self.hours}
        return next((place for place in self.places if place.offer_id in own_ids), None)


def report_of(
    footprint: "pb.GetRunFootprintResponse",
    power: "Sequence[pb.PowerPoint]" = (),
    elsewhere: "pb.EstimateElsewhereResponse | None" = None,
    placement: "Placement | None" = None,
    analysis: Analysis | None = None,
) -> RunReport:
    """Put a report together from the ledger's answers and, where known, what the scheduler expected and the analysis."""
    run = footprint.run
    components = tuple(_component(part) for part in footprint.components)
    measured = any(part.energy_joules is not None for part in components)
    return RunReport(
        run_id=run.run_id,
        job_id=run.job_id,
        name=run.name,
        state=run.state,
        started_at=_time(run.started_at),
        ended_at=_time(run.ended_at) if run.HasField("ended_at") else None,
        provider=run.provider,
        region=run.region,
        machine_type=run.machine_type,
        zone=run.zone,
        components=components,
        energy=Figure(footprint.energy_joules, footprint.energy_joules_range) if measured else Figure(None),
        carbon=_summed(components, [part.carbon_grams_co2e for part in components], footprint.carbon_grams_co2e),
        cost=_summed(components, [part.cost_usd for part in components], footprint.cost_usd),
        intensity_grams_per_kwh=footprint.intensity_grams_per_kwh,
        intensity_sources=tuple(footprint.intensity_sources),
        samples=footprint.samples,
        samples_missing=footprint.samples_missing,
        metrics=dict(sorted(run.metrics.items())),
        power=tuple(PowerPoint(_time(point.starts_at), point.component, point.power_watts) for point in power),
        places=tuple(_place(place) for place in elsewhere.places) if elsewhere else (),
        hours=tuple(_place(hour) for hour in elsewhere.hours) if elsewhere else (),
        method=elsewhere.method if elsewhere else "",
        expected=_expected(placement) if placement else None,
        project=run.project,
        embodied_grams_co2e=told(footprint, "embodied_grams_co2e"),
        electricity_usd=told(footprint, "electricity_usd"),
        rent_usd=told(footprint, "rent_usd"),
        intensity_bases=tuple(footprint.intensity_bases),
        analysis=analysis or Analysis(),
        paused_seconds=run.paused_seconds,
        gaps_provable_from=_time(footprint.gaps_provable_from) if footprint.HasField("gaps_provable_from") else None,
    )


def label_of(component: str) -> str:
    """A component's name for people.

    >>> label_of("gpu0"), label_of("cpu"), label_of("nic")
    ('GPU 0', 'CPU', 'nic')
    """
    if component.startswith("gpu"):
        return f"GPU {component[3:]}".strip()
    return _NAMES.get(component, component)


def _ranged(value: float | None, fraction: float | None) -> Figure:
    return Figure(value, value * fraction if value is not None and fraction is not None else None)


def _summed(components: Sequence[Component], values: Sequence[float | None], total: float) -> Figure:
    """A total of what follows from energy; its range is the energies' ranges added. Rent is exact."""
    if all(value is None for value in values):
        return Figure(None)
    pairs = zip(components, values, strict=True)
    return Figure(total, sum((value or 0.0) * (part.range_fraction or 0.0) for part, value in pairs))


def _component(part: "pb.ComponentFootprint") -> Component:
    return Component(
        component=part.component,
        method=part.method,
        source=part.source,
        range_fraction=told(part, "range_fraction"),
        energy_joules=told(part, "energy_joules"),
        carbon_grams_co2e=told(part, "carbon_grams_co2e"),
        cost_usd=told(part, "cost_usd"),
        samples=part.samples,
        embodied_grams_co2e=told(part, "embodied_grams_co2e"),
    )


def _place(place: "pb.Elsewhere") -> Place:
    return Place(
        offer_id=place.offer_id,
        provider=place.provider,
        region=place.region,
        machine_type=place.machine_type,
        zone=place.zone,
        starts_at=_time(place.starts_at),
        cost_usd=place.cost_usd,
        carbon_grams_co2e=place.carbon_grams_co2e,
        intensity_kind=place.intensity_kind,
    )


def _expected(placement: "Placement") -> Expected:
    return Expected(
        offer_id=placement.offer_id,
        energy_joules=placement.energy_joules_expected,
        carbon_grams_co2e=placement.carbon_grams_co2e_expected,
        cost_usd=placement.cost_usd_expected,
        because=placement.because,
    )


def _time(stamp: "Timestamp") -> datetime:
    return stamp.ToDatetime(UTC)
