"""What the memory is likely to use where nothing can measure it: so many watts for each gigabyte that is built in."""

import time
from collections.abc import Callable, Mapping, Sequence

from ergonaut.events.telemetry import Method
from ergonaut.metering.load import read_load
from ergonaut.metering.meters import HostContext, Meter, Reading

# Cloud Carbon Footprint's mean of what Crucial and Micron state: www.cloudcarbonfootprint.org/docs/methodology
WATTS_PER_GIGABYTE = 0.392
# The figure is part of the estimates that arXiv 2509.22092 found up to 40 % off.
_RANGE_FRACTION = 0.4
_BYTES_PER_GIGABYTE = 1e9


def open_meters(host: HostContext) -> Sequence[Meter]:
    """The model, for any host."""
    return [DramModel(memory_bytes=host.load().memory_bytes)]


class DramModel:
    """Component `dram`: constant, since modules are refreshed whether or not anything is in them."""

    def __init__(
        self,
        *,
        because: str = "",
        memory_bytes: int = 0,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """Model so many bytes, by default those of this host, over a clock's seconds."""
        self._source = f"{WATTS_PER_GIGABYTE} W per GB built in (Cloud Carbon Footprint); range from arXiv 2509.22092"
        self._source += f"; {because}" if because else ""
        self._watts = WATTS_PER_GIGABYTE * (memory_bytes or read_load().memory_bytes) / _BYTES_PER_GIGABYTE
        self._seconds = seconds

    def read(self) -> Sequence[Reading]:
        return [Reading("dram", Method.MODEL, self._source, _RANGE_FRACTION, self._watts * self._seconds())]

    def users(self) -> Mapping[str, Mapping[int, float]]:
        return {}

    def close(self) -> None:
        return
