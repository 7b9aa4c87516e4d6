"""What a run or the host has used so far: sums over samples, kept in the spool so that they outlive the agent."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from ergonaut.events.telemetry import Method, PowerSample

SAMPLES_GONE_MAX = 3
"""A run has ended when none of its processes was seen for this many samples: one may be between two programs of a script."""

MACHINE = "machine"
"""The component under which rent is told; it has no energy."""


@dataclass(frozen=True, slots=True)
class ComponentTotal:
    """One component: its power over the last sample and its energy since the beginning; None where not measured."""

    component: str
    method: Method
    source: str
    range_fraction: float | None = None
    power_watts: float | None = None
    energy_joules: float | None = None


@dataclass(frozen=True, slots=True)
class RunTotals:
    """One run's sums after a sample."""

    tenant: str
    run_id: str
    sampled_at: datetime
    components: tuple[ComponentTotal, ...] = ()
    carbon_grams_co2e: float = 0.0
    cost_usd: float = 0.0
    intensity_grams_per_kwh: float = 0.0
    intensity_source: str = ""
    samples_gone: int = 0

    @property
    def energy_joules(self) -> float:
        """Joules over all measured components."""
        return sum(total.energy_joules or 0.0 for total in self.components)

    @property
    def ended(self) -> bool:
        """Whether the run's last process is gone for good."""
        return self.samples_gone >= SAMPLES_GONE_MAX


@dataclass(frozen=True, slots=True)
class HostTotals:
    """The whole host after a sample; energy counts from the agent's start."""

    sampled_at: datetime
    components: tuple[ComponentTotal, ...] = ()


def added(totals: tuple[ComponentTotal, ...], samples: tuple[PowerSample, ...]) -> tuple[ComponentTotal, ...]:
    """The sums after these samples; a component that has no sample now has no power now."""
    sums = {total.component: replace(total, power_watts=None) for total in totals}
    by_component: dict[str, list[PowerSample]] = {}
    for sample in samples:
        if sample.component != MACHINE:
            by_component.setdefault(sample.component, []).append(sample)
    for component, mine in by_component.items():
        sums[component] = _with(sums.get(component), mine)
    return tuple(sums.values())


def _with(total: ComponentTotal | None, samples: Sequence[PowerSample]) -> ComponentTotal:
    """A component's sums after its samples of one interval."""
    last, joules = samples[-1], joules_of(samples)
    before = total.energy_joules if total else None
    energy_joules = before if joules is None else (before or 0.0) + joules
    watts = None if joules is None else mean_watts(samples)
    return ComponentTotal(last.component, last.method, last.source, last.range_fraction, watts, energy_joules)


def joules_of(samples: Iterable[PowerSample]) -> float | None:
    """The sum of what was measured; None where nothing was."""
    measured = [sample.energy_joules for sample in samples if sample.energy_joules is not None]
    return sum(measured) if measured else None


def mean_watts(samples: Sequence[PowerSample]) -> float | None:
    """Power over the time of all samples together, which an interval across a full hour is told in parts of; None where nothing
    was measured."""
    joules = joules_of(samples)
    if joules is None:
        return None
    seconds = (
        max(sample.ended_at for sample in samples) - min(sample.started_at for sample in samples)
    ).total_seconds()
    return joules / seconds if seconds > 0 else 0.0


def summed(before: RunTotals, samples: tuple[PowerSample, ...]) -> RunTotals:
    """A run's sums after its samples of one interval."""
    return replace(
        before,
        components=added(before.components, samples),
        carbon_grams_co2e=before.carbon_grams_co2e + sum(sample.carbon_grams_co2e or 0.0 for sample in samples),
        cost_usd=before.cost_usd + sum(sample.cost_usd or 0.0 for sample in samples),
    )
