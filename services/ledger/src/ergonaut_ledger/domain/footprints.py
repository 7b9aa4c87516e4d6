"""What a run used: sums of its samples by component, and what follows from them. Asked for by `Reporting`."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

MACHINE = "machine"
"""The component that stands for the whole machine: it has rent and embodied carbon, and no energy of its own."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as its events tell of it."""

    run_id: str
    job_id: str
    name: str
    state: str
    started_at: datetime
    ended_at: datetime | None
    project: str = ""
    host: str = ""
    provider: str = ""
    region: str = ""
    machine_type: str = ""
    zone: str = ""
    offer_id: str = ""
    price_microusd_per_hour: int = 0
    electricity_microusd_per_kwh: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    starts: tuple[datetime, ...] = ()
    """Every time it started: the first one, and one after each pause."""
    pauses: tuple[datetime, ...] = ()
    """Every time it was paused."""


@dataclass(frozen=True, slots=True)
class ComponentSum:
    """The sum of a run's samples of one component that came to be in one way."""

    component: str
    method: str
    source: str
    range_fraction: float | None
    energy_joules: float | None
    carbon_grams_co2e: float | None
    cost_usd: float | None
    samples: int
    embodied_grams_co2e: float | None = None


@dataclass(frozen=True, slots=True)
class Coverage:
    """When and under which circumstances a run was sampled, and whether that is all of it."""

    job_id: str
    zone: str
    first_at: datetime
    last_at: datetime
    pue: float
    """Mean over the energy."""
    intensity_grams_per_kwh: float
    """Mean over the energy of the building, PUE included, by which it gives the run's grams."""
    intensity_sources: tuple[str, ...]
    samples_missing: int
    intensity_bases: tuple[str, ...] = ()
    """Signal, accounting and boundary of the intensities, each that occurs."""
    gaps_provable_from: datetime | None = None
    """Where older samples were dropped by age, the moment from which `samples_missing` counts; None for the whole run."""


@dataclass(frozen=True, slots=True)
class PowerPoint:
    """Mean power of one component over one interval."""

    starts_at: datetime
    component: str
    power_watts: float


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a run used, and how far the figure may be off."""

    run: RunRecord
    components: tuple[ComponentSum, ...]
    coverage: Coverage | None

    @property
    def energy_joules(self) -> float:
        """Joules over all measured components."""
        return sum(part.energy_joules or 0.0 for part in self.components)

    @property
    def energy_joules_range(self) -> float:
        """The components' ranges added, not squared: meters of one host may err alike."""
        return sum((part.energy_joules or 0.0) * (part.range_fraction or 0.0) for part in self.components)

    @property
    def carbon_grams_co2e(self) -> float:
        """Grams over all measured components."""
        return sum(part.carbon_grams_co2e or 0.0 for part in self.components)

    @property
    def cost_usd(self) -> float:
        """Dollars: electricity and rent."""
        return sum(part.cost_usd or 0.0 for part in self.components)

    @property
    def electricity_usd(self) -> float | None:
        """Dollars of electricity: of all that uses energy; None where nobody knows."""
        return _sum_of_known(part.cost_usd for part in self.components if part.component != MACHINE)

    @property
    def rent_usd(self) -> float | None:
        """Dollars of rent; None where none was told."""
        return _sum_of_known(part.cost_usd for part in self.components if part.component == MACHINE)

    @property
    def embodied_grams_co2e(self) -> float | None:
        """Grams of making the machine, apart from those of its electricity; None where nobody knows."""
        return _sum_of_known(part.embodied_grams_co2e for part in self.components)

    @property
    def not_measured(self) -> list[str]:
        """Components of whose energy nobody knows how much; `part of` one that was measured in part. The machine has none."""
        measured = {part.component for part in self.components if part.energy_joules is not None}
        missing = {part.component for part in self.components if part.energy_joules is None} - {MACHINE}
        return sorted(f"part of {name}" if name in measured else name for name in missing)

    @property
    def accelerators_used(self) -> int:
        """How many accelerators of a host used energy for the run."""
        return len(
            {part.component for part in self.components if part.component.startswith("gpu") and part.energy_joules}
        )

    @property
    def samples(self) -> int:
        """Samples that these are the sum of."""
        return sum(part.samples for part in self.components)


def active_stretches(run: RunRecord, until: datetime) -> list[tuple[datetime, datetime]]:
    """The times in which a run ran, up to its end or, while it has none, up to a moment: a paused run holds no machine."""
    ends_at = run.ended_at or until
    stretches, begun = [], run.started_at
    for paused_at in sorted(run.pauses):
        if paused_at <= begun:
            continue
        stretches.append((begun, paused_at))
        resumed_at = min((start for start in run.starts if start >= paused_at), default=None)
        if resumed_at is None:
            return stretches
        begun = resumed_at
    return [*stretches, (begun, max(begun, ends_at))]


def active_seconds(run: RunRecord, until: datetime) -> float:
    """Seconds in which a run ran, its pauses left out."""
    return math.fsum((ends_at - starts_at).total_seconds() for starts_at, ends_at in active_stretches(run, until))


def paused_seconds(run: RunRecord) -> float:
    """Seconds between a run's start and its end, or its newest start, in which it was paused."""
    ends_at = run.ended_at or max((run.started_at, *run.starts))
    return max((ends_at - run.started_at).total_seconds() - active_seconds(run, ends_at), 0.0)


def footprint_of(
    run_id: str, run: RunRecord | None, components: Sequence[ComponentSum], coverage: Coverage | None
) -> Footprint | None:
    """Put a run's parts together; None where nothing at all is known of it."""
    if run is None and coverage is None:
        return None
    return Footprint(_completed(run_id, run, coverage), tuple(components), coverage)


def _sum_of_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) if known else None


def _completed(run_id: str, run: RunRecord | None, coverage: Coverage | None) -> RunRecord:
    """The run, with what only its samples tell. Samples come by a stream of their own and may be here before the run's start."""
    if run is None:
        assert coverage is not None, "somebody must have told of the run"
        return RunRecord(run_id, coverage.job_id, run_id, "running", coverage.first_at, None, zone=coverage.zone)
    return run if run.zone or coverage is None else replace(run, zone=coverage.zone)
