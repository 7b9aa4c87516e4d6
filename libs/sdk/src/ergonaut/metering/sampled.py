"""One component whose device tells momentary power: what every meter without a counter has in common."""

import time
from collections.abc import Callable, Mapping, Sequence

from ergonaut.events.telemetry import Method
from ergonaut.metering.meters import Reading
from ergonaut.metering.powersum import PowerSum, TooFarApart


class SampledPower:
    """Sums up what `watts` tells. That raises OSError or ValueError with the reason where there is nothing to be told now."""

    def __init__(
        self,
        component: str,
        source: str,
        range_fraction: float,
        watts: Callable[[], float],
        *,
        seconds: Callable[[], float] = time.monotonic,
        intermittent: bool = False,
    ) -> None:
        self._component = component
        self._source = source
        self._range_fraction = range_fraction
        self._watts = watts
        self._sum = PowerSum(seconds)
        self.intermittent = intermittent

    def read(self) -> Sequence[Reading]:
        try:
            joules = self._sum.add(self._watts())
        except (OSError, ValueError) as error:
            self._sum.interrupt()
            return [Reading(self._component, Method.NOT_MEASURED, f"{self._source}: {error}")]
        except TooFarApart as gap:
            return [Reading(self._component, Method.NOT_MEASURED, f"{self._source}: {gap}")]
        return [Reading(self._component, Method.POWER_SAMPLES, self._source, self._range_fraction, joules)]

    def users(self) -> Mapping[str, Mapping[int, float]]:
        return {}

    def close(self) -> None:
        return
