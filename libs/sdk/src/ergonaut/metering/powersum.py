"""Momentary power summed up to energy, for devices that have no counter of their own."""

import time
from collections.abc import Callable

# Between two readings that are further apart nobody knows what the power did, so nothing is made up for that time. The longest
# interval that may be set is a minute, which a busy host may miss by as much again.
GAP_SECONDS_MAX = 150.0


class TooFarApart(Exception):
    """The device was not read for so long that what it used meanwhile is not known; its next reading counts on."""


class PowerSum:
    """Joules by the trapezoidal rule over the readings that it is told of."""

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._joules = 0.0
        self._last_watts: float | None = None
        self._last_at_seconds = 0.0

    @property
    def joules(self) -> float:
        """What has been summed up since the first reading."""
        return self._joules

    def add(self, watts: float) -> float:
        """Take the power as of now in; returns the joules so far. Raises TooFarApart where the last reading was too long ago."""
        now, before = self._seconds(), self._last_watts
        elapsed = now - self._last_at_seconds
        self._last_watts, self._last_at_seconds = watts, now
        if before is None:
            return self._joules
        if elapsed > GAP_SECONDS_MAX:
            raise TooFarApart(f"was not read for {elapsed:.0f} s, and what it used meanwhile is not made up")
        self._joules += (watts + before) / 2 * elapsed
        return self._joules

    def interrupt(self) -> None:
        """The device is known to be off or away from now on, so that the time until the next reading is not bridged."""
        self._last_watts = None
