"""Momentary power summed up to energy, for devices that have no counter of their own."""

import time
from collections.abc import Callable

# Between two readings that are further apart nobody knows what the power did, so nothing is made up for that time.
GAP_SECONDS_MAX = 60.0


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
        """Take the power as of now in; returns the joules so far."""
        now = self._seconds()
        elapsed = now - self._last_at_seconds
        if self._last_watts is not None and elapsed <= GAP_SECONDS_MAX:
            self._joules += (watts + self._last_watts) / 2 * elapsed
        self._last_watts, self._last_at_seconds = watts, now
        return self._joules

    def interrupt(self) -> None:
        """The device is known to be off or away from now on, so that the time until the next reading is not bridged."""
        self._last_watts = None
