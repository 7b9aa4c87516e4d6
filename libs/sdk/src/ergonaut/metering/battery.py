"""A laptop's battery: what it gives while nothing charges it is what the whole host takes."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ergonaut.metering.meters import PLATFORM, HostContext, Meter
from ergonaut.metering.sampled import SampledPower
from ergonaut.metering.sysfs import read_number, text_or_empty

_FOLDER = "/sys/class/power_supply"
# Fuel gauges measure current to about 1 % (TI bq40z50 data sheet, SLUSBS8); sums of momentary power miss what is between.
_RANGE_FRACTION = 0.1
_WATTS_PER_MICROWATT = 1e-6


def open_meters(host: HostContext) -> Sequence[Meter]:
    """Component `platform`, for a host with a battery of its own; while it is charged or full, nothing is measured."""
    folder = host.path(_FOLDER)
    batteries = sorted(supply for supply in folder.glob("*") if _is_the_hosts(supply))
    if not batteries:
        return []
    names = ", ".join(battery.name for battery in batteries)
    watts = _given_by(batteries)
    return [SampledPower(PLATFORM, f"battery {names}", _RANGE_FRACTION, watts, seconds=host.seconds, intermittent=True)]


def _is_the_hosts(supply: Path) -> bool:
    # A mouse's battery is of the scope `Device`.
    return text_or_empty(supply / "type") == "Battery" and text_or_empty(supply / "scope") != "Device"


def _given_by(batteries: Sequence[Path]) -> Callable[[], float]:
    def watts() -> float:
        if not any(text_or_empty(battery / "status") == "Discharging" for battery in batteries):
            raise ValueError("the host is on mains, whose power no battery tells")
        return sum(_watts(battery) for battery in batteries)

    return watts


def _watts(battery: Path) -> float:
    if (battery / "power_now").exists():
        return abs(read_number(battery / "power_now")) * _WATTS_PER_MICROWATT
    # Microamperes times microvolts are picowatts. Some drivers tell a discharging current as negative.
    return abs(read_number(battery / "current_now")) * read_number(battery / "voltage_now") * 1e-12
