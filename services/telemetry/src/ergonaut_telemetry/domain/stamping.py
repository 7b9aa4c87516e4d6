"""What a joule weighs in grams and costs in dollars, at the host's place and hour."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from ergonaut.events import IntensityChanged, PowerSample
from ergonaut.events.pricing import IntensityKind
from ergonaut.events.telemetry import Method, Share
from ergonaut.metering import WORLD_AVERAGE_GRAMS_PER_KWH
from ergonaut.runcontext import RunContext
from ergonaut.units import SECONDS_PER_HOUR, carbon_grams, kwh_from_joules, usd_from_micro
from ergonaut_telemetry.domain.charging import Charge
from ergonaut_telemetry.domain.totals import MACHINE

_HOUR = timedelta(hours=1)

Grid = Mapping[str, IntensityChanged]
"""The newest intensities of each zone."""


@dataclass(frozen=True, slots=True)
class Intensity:
    """Grams of CO2e per kWh, and what the figure rests on."""

    grams_per_kwh: float
    kind: str
    source: str


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


WORLD_AVERAGE = Intensity(
    WORLD_AVERAGE_GRAMS_PER_KWH,
    IntensityKind.WORLD_AVERAGE.value,
    "IEA 2019, the world's average, since the zone or the hour is not known",
)


def intensity_at(grid: Grid, zone: str, at: datetime) -> Intensity:
    """A zone's intensity at a time; the world average where it is not known."""
    known = grid.get(zone)
    for hour in known.hours if known else ():
        if hour.starts_at <= at < hour.starts_at + _HOUR:
            return Intensity(hour.intensity_grams_per_kwh, hour.kind.value, known.source if known else "")
    return WORLD_AVERAGE


def stamped(
    charge: Charge, interval: Interval, site: Site, intensity: Intensity, electricity_microusd_per_kwh: int | None
) -> PowerSample:
    """A charge with its grams and dollars; what was not measured has neither."""
    joules, price = charge.energy_joules, electricity_microusd_per_kwh
    return PowerSample(
        share=charge.share,
        run_id=charge.run.run_id if charge.run else "",
        job_id=charge.run.job_id if charge.run else "",
        component=charge.component,
        method=charge.method,
        source=charge.source,
        range_fraction=charge.range_fraction,
        started_at=interval.started_at,
        ended_at=interval.ended_at,
        energy_joules=joules,
        carbon_grams_co2e=None if joules is None else carbon_grams(joules * site.pue, intensity.grams_per_kwh),
        cost_usd=None if joules is None or price is None else usd_from_micro(kwh_from_joules(joules) * price),
    )


def rent(run: RunContext, interval: Interval, seconds_present: float) -> PowerSample:
    """What the machine's rent came to while the run was on it; it is money without energy."""
    return PowerSample(
        share=Share.RUN,
        run_id=run.run_id,
        job_id=run.job_id,
        component=MACHINE,
        method=Method.NOT_MEASURED,
        source=f"rent of {usd_from_micro(run.price_microusd_per_hour):g} USD an hour",
        started_at=interval.ended_at - timedelta(seconds=seconds_present),
        ended_at=interval.ended_at,
        cost_usd=usd_from_micro(run.price_microusd_per_hour * seconds_present / SECONDS_PER_HOUR),
    )
