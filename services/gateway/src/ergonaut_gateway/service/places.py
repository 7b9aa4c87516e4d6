"""Electricity where things run, as it is known at the moment of asking. The OpenAI-compatible door weighs its answers by it."""

from collections.abc import Callable

from ergonaut.carbon import Intensity
from ergonaut_gateway.domain.electricity import Electricity, Place, electricity_at, is_comparable, zone_of

Hours = Callable[[str], Intensity | None]
"""What the present hour is told to be in a zone; None where nobody told."""

Host = Callable[[], Electricity | None]
"""What this host draws now; None where nobody tells."""


def no_hours(_zone: str) -> Intensity | None:
    """The hours where nobody tells any."""
    return None


def no_host() -> Electricity | None:
    """The host's electricity where nobody tells it."""
    return None


class Places:
    """Tells what is drawn at a place."""

    def __init__(self, hours: Hours = no_hours, host: Host = no_host) -> None:
        self._hours = hours
        self._host = host

    def electricity(self, place: Place) -> Electricity:
        """What is drawn there now: a few look-ups, made once an answer."""
        host = self._host() if place.here else None
        zone = zone_of(place, host)
        told = self._hours(zone) if zone else None
        # A supplier's or a marginal figure would make a sum of grams of two kinds; the year is of the same kind.
        return electricity_at(place, host, told if told is not None and is_comparable(told) else None)
