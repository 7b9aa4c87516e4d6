"""NVIDIA Jetson boards: the INA3221 power monitors on their rails, as the kernel shows them; JetPack 4 to 6."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ergonaut.metering.meters import PLATFORM, USERS_NOT_TOLD, HostContext, Meter, NotMeasured
from ergonaut.metering.sampled import SampledPower
from ergonaut.metering.sysfs import read_number, text_or_empty

_DRIVERS = "/sys/bus/i2c/drivers"
# TI INA3221 data sheet (SBOS576): gain error 0.25 %, offset 80 uV, of which little is left at load; the shunts add 1 %, and
# sums of momentary readings miss what is between.
_RANGE_FRACTION = 0.1
# Jetson Linux Developer Guide, Clock Frequency and Power Management: what each rail feeds. A rail that feeds CPU and GPU is the
# CPU's, since nothing tells them apart. Rails that are not named here are told by the whole board's, as what is left over.
_COMPONENTS = {
    PLATFORM: ("VDD_IN", "POM_5V_IN", "5V_IN"),
    "cpu": ("CPU", "VDD_CPU", "POM_5V_CPU", "VDD_SYS_CPU", "VDD_CPU_CV", "VDD_CPU_GPU_CV", "VDD_CPU_GPU"),
    "gpu0": ("GPU", "VDD_GPU", "POM_5V_GPU", "VDD_SYS_GPU", "VDD_GPU_SOC"),
    "dram": ("VDDRQ", "VDD_SYS_DDR", "VDD_DDR", "SYS_DDR"),
}
_SHARED_BY_GPU = ("VDD_CPU_GPU_CV", "VDD_CPU_GPU")


def open_meters(host: HostContext) -> Sequence[Meter]:
    """A meter for each component that has a rail; none where there is no such monitor."""
    rails = _rails(host.path(_DRIVERS))
    meters: list[Meter] = []
    for component, labels in _COMPONENTS.items():
        rail = next((label for label in labels if label in rails), None)
        if rail is not None:
            source = f"INA3221 rail {rail}{USERS_NOT_TOLD if component.startswith('gpu') else ''}"
            meters.append(SampledPower(component, source, _RANGE_FRACTION, rails[rail], seconds=host.seconds))
    shared = next((label for label in _SHARED_BY_GPU if label in rails), None)
    if shared is not None:
        meters.append(NotMeasured("gpu", f"shares the rail {shared} with the CPU, whose figure holds both"))
    return meters


def _rails(drivers: Path) -> dict[str, Callable[[], float]]:
    rails: dict[str, Callable[[], float]] = {}
    for label in sorted(drivers.glob("ina3221/*/hwmon/hwmon*/in*_label")):
        number = label.name.removeprefix("in").removesuffix("_label")
        folder = label.parent
        if (folder / f"curr{number}_input").exists():
            rails[text_or_empty(label)] = _hwmon_watts(folder, number)
    # JetPack 4 has an older driver.
    for label in sorted(drivers.glob("ina3221x/*/iio:device*/rail_name_*")):
        number = label.name.removeprefix("rail_name_")
        rails[text_or_empty(label)] = _iio_watts(label.parent / f"in_power{number}_input")
    return rails


def _hwmon_watts(folder: Path, number: str) -> Callable[[], float]:
    # Millivolts times milliamperes are microwatts.
    return lambda: read_number(folder / f"in{number}_input") * read_number(folder / f"curr{number}_input") * 1e-6


def _iio_watts(path: Path) -> Callable[[], float]:
    return lambda: read_number(path) * 1e-3
