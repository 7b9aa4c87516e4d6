"""The CPU's and memory's own energy counters (RAPL), as Linux shows them under /sys/class/powercap; Intel and AMD."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ergonaut.events.telemetry import Method
from ergonaut.metering.meters import PLATFORM, CounterMark, HostContext, Meter, NotMeasured, Reading
from ergonaut.metering.sysfs import read_number, text_or_empty

POWERCAP = Path("/sys/class/powercap")
# Khan et al., RAPL in Action (doi 10.1145/3177754), for packages; Desrochers et al., A Validation of DRAM RAPL Power
# Measurements (doi 10.1145/2989081.2989088), for memory.
_RANGE_FRACTIONS = {"cpu": 0.05, "dram": 0.2, PLATFORM: 0.05}
_JOULES_PER_MICROJOULE = 1e-6
# Four times what the hungriest package takes (500 W). A counter that goes back by so much that even this would not explain
# a wrap has begun anew, as after a suspension or a reload of its driver.
_WATTS_MAX = 2000
# Readings may follow one another at once, while the counter goes on in steps of its own; no step is judged by less time.
_SECONDS_MIN = 1.0


def open_meters(host: HostContext) -> Sequence[Meter]:
    """The counters of this host; a component without one says so."""
    powercap = host.powercap or host.path(str(POWERCAP))
    meter = RaplMeter(powercap, host.seconds)
    if not meter.components:
        return [NotMeasured("cpu", "no RAPL on this machine"), NotMeasured("dram", "no RAPL on this machine")]
    if PLATFORM in meter.components:
        return [meter]
    missing = [name for name in ("cpu", "dram") if name not in meter.components]
    return [meter, *(NotMeasured(name, f"no RAPL counter for {_LABELS[name]}") for name in missing)]


_LABELS = {"cpu": "the package", "dram": "memory"}


@dataclass(slots=True)
class _Zone:
    """One counter: where it is, and what it has counted since it was opened or last began anew, across its wraps."""

    name: str
    folder: Path
    wraps_at_microjoules: int = 0
    last_microjoules: int | None = None
    last_at_seconds: float = 0.0
    counted_microjoules: int = 0
    began_anew: bool = False
    """Since that was last told."""

    def advance(self, at_seconds: float) -> CounterMark:
        self.wraps_at_microjoules = self.wraps_at_microjoules or read_number(f"{self.folder}/max_energy_range_uj")
        now = read_number(f"{self.folder}/energy_uj")
        if self.last_microjoules is not None:
            difference, seconds = now - self.last_microjoules, at_seconds - self.last_at_seconds
            step = counted_microjoules(difference, self.wraps_at_microjoules, seconds)
            self.began_anew = self.began_anew or step is None
            # What a counter had when it began anew is lost; nothing is made up for it.
            self.counted_microjoules += step or 0
        self.last_microjoules, self.last_at_seconds = now, at_seconds
        return CounterMark(self.folder.name, now, self.wraps_at_microjoules)


def counted_microjoules(difference: int, wraps_at_microjoules: int, seconds: float) -> int | None:
    """What a counter has counted in some seconds, of two readings' difference; None where it did not wrap but began anew.

    >>> counted_microjoules(-90, 100, 1.0), counted_microjoules(-90_000_000_000, 262_143_328_850, 1.0) is None
    (10, True)
    """
    if difference >= 0:
        return difference
    wrapped = difference + wraps_at_microjoules
    return wrapped if wrapped * _JOULES_PER_MICROJOULE <= _WATTS_MAX * max(seconds, _SECONDS_MIN) else None


class RaplMeter:
    """Components `cpu` (all packages) and `dram`, or `platform` where the machine shows nothing finer.

    Cores lie inside their package and are shown there, never added. What the platform counter (psys) covers is up to the maker
    of the board, so it is read only where there is nothing finer. AMD counts packages and cores, under the same names.
    A counter wraps after some 262 kJ; one wrap between two readings is bridged, so read it every few minutes at least.
    """

    def __init__(self, powercap: Path = POWERCAP, seconds: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        zones = _zones(powercap)
        packages = [zone for zone in zones if zone.name.startswith("package")]
        found = {
            "cpu": packages,
            "dram": [zone for zone in zones if zone.name == "dram"],
            PLATFORM: [] if packages else [zone for zone in zones if zone.name == "psys"],
        }
        self._zones = {component: zones for component, zones in found.items() if zones}
        self._cores = [zone for zone in zones if zone.name == "core"]

    @property
    def components(self) -> frozenset[str]:
        """The components that this machine has counters for, readable or not."""
        return frozenset(self._zones)

    def only(self, components: frozenset[str]) -> Self:
        """The same meter without its other components, for when a model stands in for those."""
        self._zones = {component: zones for component, zones in self._zones.items() if component in components}
        return self

    def read(self) -> Sequence[Reading]:
        return [self._read(component, zones) for component, zones in self._zones.items()]

    def users(self) -> Mapping[str, Mapping[int, float]]:
        return {}

    def close(self) -> None:
        return

    def _read(self, component: str, zones: Sequence[_Zone]) -> Reading:
        at_seconds = self._seconds()
        try:
            marks = tuple(zone.advance(at_seconds) for zone in zones)
        except PermissionError:
            return Reading(component, Method.NOT_MEASURED, _how_to_grant(zones[0].folder.parent))
        except (OSError, ValueError) as error:
            return Reading(component, Method.NOT_MEASURED, f"RAPL in {zones[0].folder.parent} cannot be read: {error}")
        if any(zone.began_anew for zone in zones):
            # A sum that falls back to nothing tells whoever takes differences that this one is not known.
            for zone in zones:
                zone.counted_microjoules, zone.began_anew = 0, False
        inside = _inside(self._cores, at_seconds) if component == "cpu" else ()
        source = f"RAPL {', '.join(zone.name for zone in zones)}"
        return Reading(
            component, Method.COUNTER, source, _RANGE_FRACTIONS[component], _joules(zones), marks, inside=inside
        )


def _zones(powercap: Path) -> list[_Zone]:
    # `intel-rapl-mmio:*` shows the same packages a second time, through another register, and is passed over. AMD's
    # counters stand under the same name since Linux 5.8.
    return [zone for folder in sorted(powercap.glob("intel-rapl:*")) if (zone := _zone(folder)) is not None]


def _zone(folder: Path) -> _Zone | None:
    name = text_or_empty(folder / "name")
    return _Zone(name, folder) if name else None


def _joules(zones: Sequence[_Zone]) -> float:
    return sum(zone.counted_microjoules for zone in zones) * _JOULES_PER_MICROJOULE


def _inside(cores: Sequence[_Zone], at_seconds: float) -> tuple[tuple[str, float], ...]:
    try:
        for zone in cores:
            zone.advance(at_seconds)
    except (OSError, ValueError):
        return ()
    return (("core", _joules(cores)),) if cores else ()


def _how_to_grant(powercap: Path) -> str:
    rule = 'ACTION=="add", SUBSYSTEM=="powercap", KERNEL=="intel-rapl:*", RUN+="/bin/chmod a+r /sys%p/energy_uj"'
    return (
        f"RAPL is here but only root may read it; grant it until the next boot with: "
        f"sudo chmod a+r {powercap}/intel-rapl:*/energy_uj; and over boots with this line in "
        f"/etc/udev/rules.d/70-ergonaut-rapl.rules: {rule}; "
        f"or in /etc/tmpfiles.d/ergonaut-rapl.conf: z {powercap}/intel-rapl:*/energy_uj 0444 - - -"
    )
