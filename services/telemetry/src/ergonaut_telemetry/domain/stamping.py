"""What a joule weighs in grams and costs in dollars, at the host's place and hour; the arithmetic is `ergonaut.carbon`'s."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ergonaut.carbon import (
    Intensity,
    PueSource,
    electricity_usd,
    hourly_intensity,
    machine_source,
    operational_grams,
    rent_usd,
    with_newly_told,
    yearly_intensity,
    zone_code,
)
from ergonaut.events import IntensityChanged, PowerSample
from ergonaut.events.telemetry import Method, Share
from ergonaut.runcontext import RunContext
from ergonaut.units import SECONDS_PER_HOUR, usd_from_micro
from ergonaut_telemetry.domain.charging import Charge
from ergonaut_telemetry.domain.totals import MACHINE

Grid = Mapping[str, Sequence[IntensityChanged]]
"""What was told of each zone, newest first."""


@dataclass(frozen=True, slots=True)
class Interval:
    """The time between two readings, UTC."""

    started_at: datetime
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class Site:
    """Where energy is used: what its carbon depends on."""

    zone: str
    pue: float
    pue_source: PueSource = PueSource.NOT_TOLD


@dataclass(frozen=True, slots=True)
class Machine:
    """What holding a machine comes to in a time: money where it is rented, and its share of having been made, where known."""

    seconds: float
    price_microusd_per_hour: int = 0
    embodied_grams_co2e_per_hour: float = 0.0
    embodied_basis: str = ""

    @property
    def counts(self) -> bool:
        """Whether there is anything to tell."""
        return self.price_microusd_per_hour > 0 or self.embodied_grams_co2e_per_hour > 0


def grid_of(told: Iterable[IntensityChanged]) -> Grid:
    """The grid by all that was told of it, oldest first."""
    grid: Grid = {}
    for event in told:
        grid = grid_with(grid, event)
    return grid


def grid_with(grid: Grid, event: IntensityChanged) -> Grid:
    """The grid once more is told of a zone; the hours before it stay known for a while."""
    zone = zone_code(event.zone)
    return {**grid, zone: with_newly_told(grid.get(zone, ()), event)}


def intensity_at(grid: Grid, zone: str, at: datetime) -> Intensity:
    """A zone's intensity at a time as `pricing` told it, else its yearly factor, else the world's average, flagged."""
    return hourly_intensity(grid.get(zone, ()), at) or yearly_intensity(zone)


def stamped(
    charge: Charge, interval: Interval, site: Site, intensity: Intensity, electricity_microusd_per_kwh: int | None
) -> PowerSample:
    """A charge with its grams and dollars; what was not measured has neither."""
    joules, price = charge.energy_joules, electricity_microusd_per_kwh
    return PowerSample(
        share=charge.share,
        run_id=charge.run.run_id if charge.run else "",
        job_id=charge.run.job_id if charge.run else "",
        project=charge.run.project if charge.run else "",
        component=charge.component,
        method=charge.method,
        source=charge.source,
        range_fraction=charge.range_fraction,
        started_at=interval.started_at,
        ended_at=interval.ended_at,
        energy_joules=joules,
        carbon_grams_co2e=operational_grams(joules, pue=site.pue, intensity_grams_per_kwh=intensity.grams_per_kwh),
        cost_usd=electricity_usd(
            joules, pue=site.pue, price_usd_per_kwh=None if price is None else usd_from_micro(price)
        ),
    )


def held(run: RunContext | None, interval: Interval, machine: Machine) -> PowerSample:
    """What holding the machine came to for a run, or for nobody; it is money and embodied carbon without energy."""
    price_usd = usd_from_micro(machine.price_microusd_per_hour)
    per_hour = machine.embodied_grams_co2e_per_hour
    return PowerSample(
        share=Share.RUN if run else Share.IDLE,
        run_id=run.run_id if run else "",
        job_id=run.job_id if run else "",
        project=run.project if run else "",
        component=MACHINE,
        method=Method.NOT_MEASURED,
        source=machine_source(price_usd, per_hour, machine.embodied_basis),
        started_at=interval.ended_at - timedelta(seconds=machine.seconds),
        ended_at=interval.ended_at,
        cost_usd=rent_usd(price_usd, machine.seconds) if price_usd else None,
        embodied_grams_co2e=per_hour * machine.seconds / SECONDS_PER_HOUR if per_hour else None,
    )
