"""Sensors that Linux shows under /sys/class/hwmon: AMD's CPU energy, AMD's and Intel's graphics cards, and a host's own meter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ergonaut.events.telemetry import Method
from ergonaut.metering.meters import PLATFORM, USERS_NOT_TOLD, HostContext, Meter, NotMeasured, Reading
from ergonaut.metering.sampled import SampledPower
from ergonaut.metering.sysfs import read_number, read_text, text_or_empty

_FOLDER = "/sys/class/hwmon"
_PER_MILLION = 1e-6
# The same counters as RAPL's on AMD's CPUs, see there.
_CPU_RANGE_FRACTION = 0.05
# No maker states how good a card's own sensor is; NVIDIA's +-5 % stands for them, and sums of readings miss what is between.
_CARD_COUNTER_RANGE_FRACTION = 0.1
_CARD_RANGE_FRACTION = 0.15
# ACPI 6.5, 10.4.1: a power meter tells its accuracy; supplies of 80 PLUS servers tell 5 % or better of a half load.
_METER_RANGE_FRACTION = 0.05


def open_meters(host: HostContext) -> Sequence[Meter]:
    """A meter for each sensor that stands for a whole component; temperatures, fans and single rails are left alone."""
    meters: list[Meter] = []
    cards = {"amdgpu": 0, "xe": 0, "i915": 0}
    for folder in sorted(host.path(_FOLDER).glob("hwmon*")):
        name = text_or_empty(folder / "name")
        if name == "amd_energy":
            meters.append(_sockets(folder))
        elif name == "power_meter":
            meters.append(_host_meter(folder, host))
        elif name in cards and _is_card(folder, name):
            meters.append(_card(folder, name, cards[name], host))
            cards[name] += 1
    return meters


@dataclass(slots=True)
class _Counter:
    """Microjoules of one sensor, which the kernel widens to 64 bits, so that they do not wrap in practice."""

    path: Path

    def joules(self) -> float:
        return read_number(self.path) * _PER_MILLION


class CountedEnergy:
    """One component, the sum of its sensors' counters."""

    def __init__(self, component: str, source: str, range_fraction: float, paths: Sequence[Path]) -> None:
        self._component = component
        self._source = source
        self._range_fraction = range_fraction
        self._counters = [_Counter(path) for path in paths]

    def read(self) -> Sequence[Reading]:
        try:
            joules = sum(counter.joules() for counter in self._counters)
        except PermissionError as error:
            grant = f"only root may read it; grant it until the next boot with: sudo chmod a+r {error.filename}"
            return [Reading(self._component, Method.NOT_MEASURED, f"{self._source}: {grant}")]
        except (OSError, ValueError) as error:
            return [Reading(self._component, Method.NOT_MEASURED, f"{self._source}: {error}")]
        return [Reading(self._component, Method.COUNTER, self._source, self._range_fraction, joules)]

    def users(self) -> Mapping[str, Mapping[int, float]]:
        return {}

    def close(self) -> None:
        return


def _sockets(folder: Path) -> Meter:
    labels = sorted(folder.glob("energy*_label"))
    sockets = [label for label in labels if text_or_empty(label).startswith("Esocket")]
    if not sockets:
        return NotMeasured("cpu", "hwmon amd_energy shows no socket")
    paths = [label.with_name(label.name.replace("_label", "_input")) for label in sockets]
    return CountedEnergy("cpu", "hwmon amd_energy", _CPU_RANGE_FRACTION, paths)


def _host_meter(folder: Path, host: HostContext) -> Meter:
    # The average is over the meter's own interval and misses nothing; a meter without one tells the moment.
    sensor = next((path for name in ("power1_average", "power1_input") if (path := folder / name).exists()), None)
    if sensor is None:
        return NotMeasured(PLATFORM, "hwmon power_meter (ACPI) shows no power")
    return SampledPower(
        PLATFORM,
        "hwmon power_meter (ACPI)",
        _METER_RANGE_FRACTION,
        lambda: read_number(sensor) * _PER_MILLION,
        seconds=host.seconds,
    )


def _is_card(folder: Path, driver: str) -> bool:
    # An integrated GPU lies inside the CPU's package, which counts it. Only AMD's cards have a limit, only Intel's a counter.
    return (folder / ("power1_cap" if driver == "amdgpu" else "energy1_input")).exists()


def _card(folder: Path, driver: str, index: int, host: HostContext) -> Meter:
    if driver != "amdgpu":
        source = f"hwmon {driver} energy of card {index}{USERS_NOT_TOLD}"
        return CountedEnergy(f"gpu-intel{index}", source, _CARD_COUNTER_RANGE_FRACTION, [folder / "energy1_input"])
    source = f"hwmon amdgpu power of card {index}{USERS_NOT_TOLD}"
    return SampledPower(
        f"gpu-amd{index}", source, _CARD_RANGE_FRACTION, lambda: _amd_watts(folder), seconds=host.seconds
    )


def _amd_watts(folder: Path) -> float:
    try:
        return int(read_text(folder / "power1_average")) * _PER_MILLION
    except FileNotFoundError:
        # Cards since RDNA 3 tell the moment only.
        return read_number(folder / "power1_input") * _PER_MILLION
