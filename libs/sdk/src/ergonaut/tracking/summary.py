"""What a run has used so far or in the end: totals over its samples, live or read back from its journal."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from ergonaut.events.runs import RunState
from ergonaut.events.telemetry import Method, PowerSample, PowerSampled
from ergonaut.journal import EntryKind, JournalEntry
from ergonaut.journal_phases import add_metric

RENT_COMPONENT = "machine"
"""The component under which the machine's rent is kept: money without energy."""


@dataclass(frozen=True, slots=True)
class ComponentFootprint:
    """What one component used for the run, and how far that figure may be off; None where it was not measured."""

    component: str
    method: Method
    source: str
    range_fraction: float | None
    energy_joules: float | None = None
    carbon_grams_co2e: float | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run's footprint. Totals are over what was measured; None means not measured or not known, never zero."""

    run_id: str
    name: str
    state: RunState | None
    because: str
    started_at: datetime
    ended_at: datetime
    metered_by: str
    energy_joules: float | None
    range_fraction: float | None
    carbon_grams_co2e: float | None
    cost_usd: float | None
    zone: str
    intensity_grams_per_kwh: float | None
    intensity_kind: str
    intensity_source: str
    components: tuple[ComponentFootprint, ...]
    idle_joules: float
    others_joules: float
    metrics: Mapping[str, float]
    journal: Path | None
    exit_code: int | None = None
    project: str = ""
    journal_entries_missing: int = 0
    """Entries that the disk did not take: the journal, and whoever reads it such as the ledger, knows less than this tells."""

    @property
    def gap_in_words(self) -> str:
        """What the journal lacks; empty where it has all."""
        missing = self.journal_entries_missing
        return f"{missing} entries are not in the journal, since the disk did not take them" if missing else ""

    @property
    def duration_seconds(self) -> float:
        """How long the run took, by the wall's clock."""
        return (self.ended_at - self.started_at).total_seconds()

    def to_json(self) -> dict[str, Any]:
        """The summary as JSON takes it; units are in the names. A metric that is not finite is null: told, and no number."""
        values = asdict(self)
        values["metrics"] = {name: value if math.isfinite(value) else None for name, value in self.metrics.items()}
        values |= {"started_at": self.started_at.isoformat(), "ended_at": self.ended_at.isoformat()}
        values |= {"journal": str(self.journal) if self.journal else None, "duration_seconds": self.duration_seconds}
        return values

    def sentence(self) -> str:
        """The summary in one line, for a person."""
        if self.energy_joules is None:
            return f"{self.name} ({self.run_id}) took {self.duration_seconds:.0f} s, metered by {self.metered_by}"
        parts = ", ".join(_said(component) for component in self.components if component.component != RENT_COMPONENT)
        cost = "cost not known" if self.cost_usd is None else f"{self.cost_usd:.3g} USD"
        gap = f"; {self.gap_in_words}" if self.journal_entries_missing else ""
        return (
            f"{self.name} ({self.run_id}) used {self.energy_joules:.4g} J ({parts}), "
            f"{self.carbon_grams_co2e:.3g} g CO2e at {self.intensity_grams_per_kwh:g} g/kWh ({self.intensity_kind}), {cost}{gap}"
        )


@dataclass(slots=True)
class _Sum:
    """One component's totals under way."""

    sample: PowerSample
    figures: dict[str, float | None] = field(default_factory=dict)

    def add(self, sample: PowerSample) -> None:
        # A component that could be read at any time keeps that method's name; its gaps were bridged by its counter.
        if sample.method is not Method.NOT_MEASURED or self.sample.method is Method.NOT_MEASURED:
            self.sample = sample
        for name in ("energy_joules", "carbon_grams_co2e", "cost_usd"):
            self.figures[name] = _plus(self.figures.get(name), getattr(sample, name))

    def footprint(self) -> ComponentFootprint:
        sample = self.sample
        return ComponentFootprint(sample.component, sample.method, sample.source, sample.range_fraction, **self.figures)


class Totals:
    """Adds up a run's samples."""

    def __init__(self) -> None:
        self._sums: dict[str, _Sum] = {}
        self._last: PowerSampled | None = None
        self.idle_joules = 0.0
        self.others_joules = 0.0

    @property
    def last(self) -> PowerSampled | None:
        """The newest samples."""
        return self._last

    def add(self, entry: JournalEntry) -> None:
        """Take in one interval; entries of other kinds change nothing."""
        if entry.sampled is None:
            return
        self._last = entry.sampled
        self.idle_joules += entry.idle_joules or 0.0
        self.others_joules += entry.others_joules or 0.0
        for sample in entry.sampled.samples:
            self._sums.setdefault(sample.component, _Sum(sample)).add(sample)

    def components(self) -> tuple[ComponentFootprint, ...]:
        """Every component's total."""
        # The sums are copied in one step, since the meter's thread may add another meanwhile.
        return tuple(total.footprint() for total in tuple(self._sums.values()))


@dataclass(frozen=True, slots=True)
class Ending:
    """How and when a run ended; without a state it is still under way."""

    at: datetime
    state: RunState | None = None
    because: str = ""
    exit_code: int | None = None
    entries_missing: int = 0


@dataclass(frozen=True, slots=True)
class Beginning:
    """Which run it is and since when."""

    run_id: str
    name: str
    at: datetime
    metered_by: str
    journal: Path | None
    project: str = ""


def summarised(beginning: Beginning, ending: Ending, totals: Totals, metrics: Mapping[str, float]) -> RunSummary:
    """Put a run's totals together."""
    components, last = totals.components(), totals.last
    energies = [item.energy_joules for item in components if item.energy_joules is not None]
    energy = sum(energies) if energies else None
    return RunSummary(
        run_id=beginning.run_id,
        name=beginning.name,
        state=ending.state,
        because=ending.because,
        started_at=beginning.at,
        ended_at=ending.at,
        metered_by=beginning.metered_by,
        energy_joules=energy,
        range_fraction=_range(components, energy),
        carbon_grams_co2e=_total(item.carbon_grams_co2e for item in components),
        cost_usd=_total(item.cost_usd for item in components),
        zone=last.zone if last else "",
        intensity_grams_per_kwh=last.intensity_grams_per_kwh if last else None,
        intensity_kind=last.intensity_kind if last else "",
        intensity_source=last.intensity_source if last else "",
        components=components,
        idle_joules=totals.idle_joules,
        others_joules=totals.others_joules,
        metrics=dict(metrics),
        journal=beginning.journal,
        exit_code=ending.exit_code,
        project=beginning.project,
        journal_entries_missing=ending.entries_missing,
    )


def summary_of(entries: Iterable[JournalEntry], journal: Path) -> RunSummary | None:
    """The summary that a journal tells, finished or not; None where it does not tell of a run's beginning."""
    beginning, ending, totals, metrics = None, None, Totals(), dict[str, float]()
    last_at: datetime | None = None
    for entry in entries:
        last_at = entry.at
        totals.add(entry)
        if entry.started is not None and beginning is None:
            started = entry.started
            beginning = Beginning(
                started.run_id, started.name, started.started_at, "the run itself", journal, started.project
            )
        add_metric(metrics, entry)
        if entry.kind is EntryKind.FINISHED and ending is None:
            ending = Ending(entry.at, entry.state, entry.because, entry.exit_code, entry.entries_missing or 0)
    if beginning is None or last_at is None:
        return None
    return summarised(beginning, ending or Ending(last_at), totals, metrics)


def _plus(total: float | None, more: float | None) -> float | None:
    if more is None:
        return total
    return more if total is None else total + more


def _total(figures: Iterable[float | None]) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return math.fsum(known) if known else None


def _range(components: Iterable[ComponentFootprint], energy: float | None) -> float | None:
    # The components' errors may well point the same way, so they are added, not averaged away.
    if not energy:
        return None
    return sum((item.energy_joules or 0.0) * (item.range_fraction or 0.0) for item in components) / energy


def _said(item: ComponentFootprint) -> str:
    if item.energy_joules is None:
        return f"{item.component} not measured"
    off = f" ± {item.range_fraction:.0%}" if item.range_fraction is not None else ""
    return f"{item.component} {item.energy_joules:.3g} J by {item.method.value}{off}"
