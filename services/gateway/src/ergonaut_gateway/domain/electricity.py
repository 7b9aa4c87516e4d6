"""What a joule weighs and costs where and when it is used, and what that rests on; by the rule of `ergonaut.carbon`."""

from dataclasses import dataclass, replace

from ergonaut.carbon import (
    PUE_NOT_TOLD,
    Intensity,
    PueSource,
    electricity_usd,
    operational_grams,
    own_intensity,
    yearly_intensity,
)
from ergonaut.events.pricing import Accounting, Signal

Range = tuple[float, float, float]
"""A figure, and between what the true one lies."""


@dataclass(frozen=True, slots=True)
class Electricity:
    """What is drawn at a place; what nobody told is marked so."""

    intensity: Intensity
    pue: float = PUE_NOT_TOLD
    pue_source: str = PueSource.NOT_TOLD.value
    usd_per_kwh: float | None = None
    """At the building's meter."""

    def grams(self, joules: Range) -> Range:
        """Grams of CO2e of an energy. Their range is that of the joules and of the intensity, where that has one, together."""
        middle, low, high = (self._grams(each) for each in joules)
        doubt = self.intensity.range_fraction or 0.0
        return middle, low * max(0.0, 1.0 - doubt), high * (1.0 + doubt)

    def usd(self, joules: Range) -> Range | None:
        """US dollars of an energy, None where the price is not known."""
        if self.usd_per_kwh is None:
            return None
        middle, low, high = (electricity_usd(each, pue=self.pue, price_usd_per_kwh=self.usd_per_kwh) for each in joules)
        return middle or 0.0, low or 0.0, high or 0.0

    def _grams(self, joules: float) -> float:
        grams = operational_grams(joules, pue=self.pue, intensity_grams_per_kwh=self.intensity.grams_per_kwh)
        return grams or 0.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where something runs, as far as somebody said so."""

    zone: str = ""
    """Of the grid; empty where nobody said."""
    grams_per_kwh: float | None = None
    """A figure of the operator's own, which goes before all that others tell."""
    here: bool = False
    """Whether that is this host."""


def is_comparable(intensity: Intensity) -> bool:
    """Whether it is average and location-based: grams of other kinds are never one number with those."""
    return intensity.signal is Signal.AVERAGE and intensity.accounting is Accounting.LOCATION_BASED


def electricity_at(place: Place, host: Electricity | None, told: Intensity | None) -> Electricity:
    """What is drawn at a place now. `host` is what this host draws, and `told` what the hour is said to be where that is;
    without either it is the zone's year, or the world's average, flagged, for an unknown one."""
    local = host if place.here else None
    if place.grams_per_kwh is not None:
        own = replace(own_intensity({}, place.zone, place.grams_per_kwh), source="the file of routes")
        return replace(local, intensity=own) if local is not None else Electricity(own)
    if local is not None and is_comparable(local.intensity):
        return local
    intensity = told or yearly_intensity(zone_of(place, host))
    return replace(local, intensity=intensity) if local is not None else Electricity(intensity)


def zone_of(place: Place, host: Electricity | None) -> str:
    """The grid zone of a place: what was said of it, else the host's where it is here; empty where nobody knows."""
    return place.zone or (host.intensity.zone if place.here and host is not None else "")
