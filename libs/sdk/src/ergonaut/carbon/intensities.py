"""A grid intensity with all that it rests on, and the ways to one: told hourly, known yearly, set by hand, or unknown."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from ergonaut.carbon.factors import world_factor, yearly_factor
from ergonaut.errors import Refused
from ergonaut.events.pricing import Accounting, Boundary, IntensityChanged, IntensityKind, Signal

SIGNAL_VARIABLE = "ERGONAUT_INTENSITY_SIGNAL"
ACCOUNTING_VARIABLE = "ERGONAUT_INTENSITY_ACCOUNTING"
BOUNDARY_VARIABLE = "ERGONAUT_INTENSITY_BOUNDARY"

HOURS_KEPT = timedelta(hours=2)
"""How long an hour is remembered once newer ones are told: a sample may be late, or lie across a full hour."""

_HOUR = timedelta(hours=1)
_Choice = TypeVar("_Choice", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Intensity:
    """Grams of CO2e per kWh of a zone, and what the figure rests on; goes into each `PowerSampled`."""

    zone: str
    grams_per_kwh: float
    kind: str
    source: str
    signal: Signal = Signal.AVERAGE
    accounting: Accounting = Accounting.LOCATION_BASED
    boundary: Boundary = Boundary.UNKNOWN
    range_fraction: float | None = None
    """The true value is within plus or minus this fraction; None where nobody told."""


def yearly_intensity(zone: str) -> Intensity:
    """A zone's yearly factor, or the world's average, flagged, where the zone is empty or unknown.

    >>> yearly_intensity("FR").grams_per_kwh, yearly_intensity("FR").kind, yearly_intensity("").kind
    (56.0, 'yearly', 'world-average')
    """
    factor = yearly_factor(zone) if zone else None
    if factor is not None:
        kind, grams = IntensityKind.YEARLY.value, factor.intensity_grams_per_kwh
        doubt = factor.range_fraction
        return Intensity(zone, grams, kind, factor.citation, boundary=factor.boundary, range_fraction=doubt)
    world = world_factor()
    why = f"no factor is known for {zone}" if zone else "nobody has set a zone"
    source = f"the world's average, since {why}: {world.citation}"
    kind, grams = IntensityKind.WORLD_AVERAGE.value, world.intensity_grams_per_kwh
    return Intensity(zone, grams, kind, source, boundary=world.boundary, range_fraction=world.range_fraction)


def hourly_intensity(told: Iterable[IntensityChanged], at: datetime) -> Intensity | None:
    """What `pricing` told of the hour that holds a time, in the first of `told` that has it; None where none has."""
    for known in told:
        for hour in known.hours:
            if hour.starts_at <= at < hour.starts_at + _HOUR:
                return Intensity(
                    known.zone,
                    hour.intensity_grams_per_kwh,
                    hour.kind.value,
                    known.source,
                    known.signal,
                    known.accounting,
                    known.boundary,
                    hour.range_fraction,
                )
    return None


def with_newly_told(told: Sequence[IntensityChanged], new: IntensityChanged) -> tuple[IntensityChanged, ...]:
    """All that is known of a zone, newest first, once more was told: of the older, the two hours before the new ones."""
    first = min(hour.starts_at for hour in new.hours)
    known, taken = [new], set[datetime]()
    for older in told:
        hours = [hour for hour in older.hours if first - HOURS_KEPT <= hour.starts_at < first]
        hours = [hour for hour in hours if hour.starts_at not in taken]
        if hours:
            taken.update(hour.starts_at for hour in hours)
            known.append(older.model_copy(update={"hours": tuple(hours)}))
    return tuple(known)


def own_intensity(environment: Mapping[str, str], zone: str, grams_per_kwh: float) -> Intensity:
    """A figure of one's own with what ERGONAUT_INTENSITY_SIGNAL, _ACCOUNTING and _BOUNDARY say of it. Raises Refused.

    Unset, it is average and location-based, and what it counts of a plant is unknown.

    >>> own_intensity({"ERGONAUT_INTENSITY_ACCOUNTING": "market-based"}, "DE", 0.5).accounting.value
    'market-based'
    """
    return Intensity(
        zone,
        grams_per_kwh,
        IntensityKind.YEARLY.value,
        "settings",
        _choice(environment, SIGNAL_VARIABLE, Signal.AVERAGE),
        _choice(environment, ACCOUNTING_VARIABLE, Accounting.LOCATION_BASED),
        _choice(environment, BOUNDARY_VARIABLE, Boundary.UNKNOWN),
    )


def _choice(environment: Mapping[str, str], name: str, default: _Choice) -> _Choice:
    text = environment.get(name, "").strip()
    choices = type(default)
    try:
        return choices(text) if text else default
    except ValueError as error:
        raise Refused(f"{text!r} is none of {', '.join(choices)}", field=name) from error
