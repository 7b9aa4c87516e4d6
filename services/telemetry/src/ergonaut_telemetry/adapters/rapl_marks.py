"""Where the RAPL counters themselves stand, so that energy used while the agent was away can be charged when it is back.

The metering library counts from its own start; the raw counters go on, and only they tell what happened in between.
"""

from collections.abc import Mapping
from pathlib import Path

from ergonaut_telemetry.domain import Mark


class RaplMarks:
    """The readable counters under a powercap folder, by the component that the metering library makes of them."""

    def __init__(self, powercap: Path) -> None:
        self._folders = _folders(powercap)
        self._wraps_at: dict[Path, int] = {}

    def of(self, component: str) -> tuple[Mark, ...]:
        """The marks of a component; none where its counters cannot be read."""
        try:
            return tuple(self._mark(folder) for folder in self._folders.get(component, ()))
        except (OSError, ValueError):
            return ()

    def _mark(self, folder: Path) -> Mark:
        if folder not in self._wraps_at:
            self._wraps_at[folder] = int((folder / "max_energy_range_uj").read_text())
        return Mark(folder.name, int((folder / "energy_uj").read_text()), self._wraps_at[folder])


def _folders(powercap: Path) -> Mapping[str, list[Path]]:
    folders: dict[str, list[Path]] = {"cpu": [], "dram": [], "platform": []}
    for folder in sorted(powercap.glob("intel-rapl:*")):
        try:
            name = (folder / "name").read_text().strip()
        except OSError:
            continue
        component = "cpu" if name.startswith("package") else {"psys": "platform"}.get(name, name)
        if component in folders:
            folders[component].append(folder)
    return folders
