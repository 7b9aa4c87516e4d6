"""The CPU's and memory's own energy counters (RAPL), as Linux shows them under /sys/class/powercap; Intel and AMD."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ergonaut.events.telemetry import Method
from ergonaut.metering.meters import Reading

POWERCAP = Path("/sys/class/powercap")
# Khan et al., RAPL in Action (doi 10.1145/3177754), for packages; Desrochers et al., A Validation of DRAM RAPL Power
# Measurements (doi 10.1145/2989081.2989088), for memory.
_RANGE_FRACTIONS = {"cpu": 0.05, "dram": 0.2, "platform": 0.05}
_JOULES_PER_MICROJOULE = 1e-6


@dataclass(slots=True)
class _Zone:
    """One counter: where it is, and what it has counted since it was opened, across its wraps."""

    name: str
    folder: Path
    wraps_at_microjoules: int = 0
    last_microjoules: int | None = None
    counted_microjoules: int = 0

    def advance(self) -> None:
        now = int((self.folder / "energy_uj").read_text())
        if self.last_microjoules is not None:
            step = now - self.last_microjoules
            self.counted_microjoules += step if step >= 0 else step + self.wraps_at_microjoules
        self.last_microjoules = now


class RaplMeter:
    """Components `cpu` (all packages) and `dram`, or `platform` where the machine shows nothing finer.

    Cores and uncore lie inside their package, and the platform counter (psys) holds packages and memory, so none of them is
    added. A counter wraps after some 262 kJ; one wrap between two readings is bridged, so read it every few minutes at least.
    """

    def __init__(self, powercap: Path = POWERCAP) -> None:
        zones = _zones(powercap)
        packages = [zone for zone in zones if zone.name.startswith("package")]
        found = {
            "cpu": packages,
            "dram": [zone for zone in zones if zone.name == "dram"],
            "platform": [] if packages else [zone for zone in zones if zone.name == "psys"],
        }
        self._zones = {component: zones for component, zones in found.items() if zones}

    @property
    def components(self) -> frozenset[str]:
        """The components that this machine has counters for, readable or not."""
        return frozenset(self._zones)

    def only(self, components: frozenset[str]) -> Self:
        """The same meter without its other components, for when a model stands in for those."""
        self._zones = {component: zones for component, zones in self._zones.items() if component in components}
        return self

    def read(self) -> Sequence[Reading]:
        return [_read(component, zones) for component, zones in self._zones.items()]

    def users(self) -> Mapping[str, Mapping[int, float]]:
        return {}

    def close(self) -> None:
        return


def _zones(powercap: Path) -> list[_Zone]:
    # `intel-rapl-mmio:*` shows the same packages a second time, through another register, and is passed over.
    folders = sorted(powercap.glob("intel-rapl:*"))
    return [_Zone((folder / "name").read_text().strip(), folder) for folder in folders if (folder / "name").is_file()]


def _read(component: str, zones: Sequence[_Zone]) -> Reading:
    try:
        for zone in zones:
            zone.wraps_at_microjoules = zone.wraps_at_microjoules or int(
                (zone.folder / "max_energy_range_uj").read_text()
            )
            zone.advance()
    except PermissionError:
        return Reading(component, Method.NOT_MEASURED, _how_to_grant(zones[0].folder))
    except (OSError, ValueError) as error:
        return Reading(component, Method.NOT_MEASURED, f"RAPL in {zones[0].folder.parent} cannot be read: {error}")
    counted = sum(zone.counted_microjoules for zone in zones)
    names = ", ".join(zone.name for zone in zones)
    return Reading(
        component, Method.COUNTER, f"RAPL {names}", _RANGE_FRACTIONS[component], counted * _JOULES_PER_MICROJOULE
    )


def _how_to_grant(folder: Path) -> str:
    return (
        f"RAPL is here but only root may read it; grant it until the next boot with: "
        f"sudo chmod a+r {folder.parent}/intel-rapl:*/energy_uj"
    )
