"""What the CPU is likely to use where nothing can measure it: a straight line over how busy it is."""

from collections.abc import Callable, Mapping, Sequence

from ergonaut.events.telemetry import Method
from ergonaut.metering.load import HostLoad, read_load
from ergonaut.metering.meters import Reading

# The averages that Cloud Carbon Footprint takes over the SPECpower_ssj2008 results of the servers of AWS, per virtual CPU,
# which is one logical CPU: www.cloudcarbonfootprint.org/docs/methodology
WATTS_PER_CPU_IDLE = 0.74
WATTS_PER_CPU_FULL = 3.5
# Estimates by such tools were up to 40 % off against external meters over hundreds of runs: arXiv 2509.22092.
MODEL_RANGE_FRACTION = 0.4
_SOURCE = (
    f"{WATTS_PER_CPU_IDLE} W idle to {WATTS_PER_CPU_FULL} W full per logical CPU (Cloud Carbon Footprint, SPECpower); "
    "range from arXiv 2509.22092"
)


class CpuModel:
    """Component `cpu`, computed from the host's busy CPU-seconds since it booted, so that nothing between readings is lost."""

    def __init__(self, *, because: str = "no RAPL on this machine", load: Callable[[], HostLoad] = read_load) -> None:
        self._source = f"{_SOURCE}; {because}"
        self._load = load

    def read(self) -> Sequence[Reading]:
        load = self._load()
        idle = WATTS_PER_CPU_IDLE * load.logical_cpus * load.at_seconds
        dynamic = (WATTS_PER_CPU_FULL - WATTS_PER_CPU_IDLE) * load.busy_cpu_seconds
        return [Reading("cpu", Method.MODEL, self._source, MODEL_RANGE_FRACTION, idle + dynamic)]

    def users(self) -> Mapping[str, Mapping[int, float]]:
        return {}

    def close(self) -> None:
        return
