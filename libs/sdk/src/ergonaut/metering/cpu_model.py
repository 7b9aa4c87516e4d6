"""What the CPU is likely to use where nothing can measure it: a straight line over how busy it is.

A line has a price and a gain: it is up to a sixth of the full power off the real, bent curve, which is inside the range; and the
energy follows from the CPU-seconds alone, so that nothing between two readings is lost, however far apart they are.
"""

from collections.abc import Callable, Mapping, Sequence

from ergonaut.events.telemetry import Method
from ergonaut.metering.cpu_table import MODEL_RANGE_FRACTION, CpuPower, cpu_power
from ergonaut.metering.hosts import cpu_identity
from ergonaut.metering.load import HostLoad, read_load
from ergonaut.metering.meters import HostContext, Meter, Reading

# The averages that Cloud Carbon Footprint takes over the SPECpower_ssj2008 results of the servers of AWS, per virtual CPU,
# which is one logical CPU: www.cloudcarbonfootprint.org/docs/methodology
WATTS_PER_CPU_IDLE = 0.74
WATTS_PER_CPU_FULL = 3.5
# The line of least squares through what Teads measured by RAPL on bare servers of AWS, parts of the TDP at a load of 0, 10, 50
# and 100 %: 0.12, 0.32, 0.75, 1.02 (B. Davy, Estimating AWS EC2 Instances Power Consumption, 2021).
TDP_FRACTION_IDLE = 0.20
TDP_FRACTION_FULL = 1.08
_FALLBACK = CpuPower(
    0.0,
    MODEL_RANGE_FRACTION,
    f"{WATTS_PER_CPU_IDLE} W idle to {WATTS_PER_CPU_FULL} W full per logical CPU (Cloud Carbon Footprint, SPECpower)",
)


def open_meters(host: HostContext) -> Sequence[Meter]:
    """The model, for any host."""
    identity = cpu_identity(host)
    return [CpuModel(power=cpu_power(identity.name, identity.family, identity.model), load=host.load)]


class CpuModel:
    """Component `cpu`, computed from the host's busy CPU-seconds since it booted, so that nothing between readings is lost.

    Each logical CPU is one thread of the package, so that a guest with a part of the threads has that part of the power.
    """

    def __init__(
        self, *, because: str = "", power: CpuPower | None = None, load: Callable[[], HostLoad] = read_load
    ) -> None:
        """Model a CPU of so much power, or of the average server where it is None."""
        tdp = power.tdp_watts_per_thread if power else 0.0
        self.idle_watts_per_cpu = tdp * TDP_FRACTION_IDLE if power else WATTS_PER_CPU_IDLE
        self.full_watts_per_cpu = tdp * TDP_FRACTION_FULL if power else WATTS_PER_CPU_FULL
        self.idle_fraction = self.idle_watts_per_cpu / self.full_watts_per_cpu
        self._range_fraction = (power or _FALLBACK).range_fraction
        line = f"; {TDP_FRACTION_IDLE:.0%} of it idle to {TDP_FRACTION_FULL:.0%} full (Teads 2021)" if power else ""
        self._source = f"{(power or _FALLBACK).source}{line}; range from arXiv 2509.22092"
        self._source += f"; {because}" if because else ""
        self._load = load

    def read(self) -> Sequence[Reading]:
        load = self._load()
        joules = self.idle_watts_per_cpu * load.logical_cpus * load.at_seconds
        joules += (self.full_watts_per_cpu - self.idle_watts_per_cpu) * load.busy_cpu_seconds
        return [Reading("cpu", Method.MODEL, self._source, self._range_fraction, joules, (), self.idle_fraction)]

    def users(self) -> Mapping[str, Mapping[int, float]]:
        return {}

    def close(self) -> None:
        return
