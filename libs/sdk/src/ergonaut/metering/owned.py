"""A control group that is one run's alone: its CPU time is the run's, that of processes which nobody saw included."""

import os.path
from collections.abc import Callable, Iterable

from ergonaut.metering.cgroups import Cgroups


class OwnedGroup:
    """Counts a group from where it stood, or from nothing."""

    def __init__(self, cgroups: Cgroups, path: str, *, from_nothing: bool, is_named: bool = False) -> None:
        self.path = path
        self.is_named = is_named
        """Whether the group is the run's by its name; then it stays so with whatever is in it."""
        self.used_cpu_seconds: float | None = None
        """CPU-seconds between the last two looks; None where the group could not be read, as when it has been removed."""
        self._cgroups = cgroups
        self.total_cpu_seconds = 0.0 if from_nothing else cgroups.cpu_seconds(path)

    def advance(self) -> None:
        """Look at the group again."""
        before, self.total_cpu_seconds = self.total_cpu_seconds, self._cgroups.cpu_seconds(self.path)
        if before is None or self.total_cpu_seconds is None:
            self.used_cpu_seconds = None
        else:
            self.used_cpu_seconds = max(0.0, self.total_cpu_seconds - before)

    def holds(self, path: str) -> bool:
        """Whether a process of another group's path is inside."""
        return path == self.path or path.startswith(f"{self.path}/")


def own_group(cgroups: Cgroups, paths: Iterable[str], is_foreign: Callable[[int], bool]) -> str:
    """The group that holds all these paths and no process of anybody else; empty where there is none but the root."""
    known = set(paths)
    if not known or "" in known:
        return ""
    common = os.path.commonpath(known)
    return "" if common == "/" or has_foreign(cgroups, common, is_foreign) else common


def has_foreign(cgroups: Cgroups, path: str, is_foreign: Callable[[int], bool]) -> bool:
    """Whether somebody else is in a group, or too much is in it to tell."""
    try:
        return any(is_foreign(pid) for pid in cgroups.pids(path))
    except OverflowError:
        return True
