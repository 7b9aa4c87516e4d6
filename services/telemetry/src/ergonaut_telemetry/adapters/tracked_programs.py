"""The programs of this host whose own trackers tell the bus of them, by the files that the trackers leave for the agent.

Any user may put anything into their folder, so a file counts only as its process's owner's own word.
"""

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ergonaut.metering import RunKey
from ergonaut.metering.processes import ToldProcess
from ergonaut.metering.processtable import ProcessTable
from ergonaut.metering.tracked import BYTES_MAX, FOLDER, ProcessName, TrackedRun
from ergonaut.runcontext import RunContext

FILES_MAX = 1_000
"""More programs than any host runs; the bound keeps one user's rubbish from costing the agent its second."""

# A folder's time is the kernel's tick: what changes within the same one as a listing is not seen by the time alone.
_FOLDER_TIME_LAG_SECONDS = 0.05
# A file of a killed tracker. In another container its process may live all the same, where nobody else reads it that long.
_OLD_SECONDS = 86400.0


@dataclass(frozen=True, slots=True)
class _Program:
    process: ProcessName
    tracker: ProcessName
    context: RunContext

    @property
    def key(self) -> RunKey:
        return (self.context.tenant, self.context.run_id)


def _owner_of(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}").st_uid  # noqa: PTH116 - a pid is no path
    except OSError:
        return None


class TrackedPrograms:
    """Whom the trackers of this host tell the agent's own bus of; `bus` is as `bus_address` gives it."""

    def __init__(self, bus: str, folder: Path = FOLDER, owner_of: Callable[[int], int | None] = _owner_of) -> None:
        self._bus = bus
        self._folder = str(folder)
        self._owner_of = owner_of
        self._listed_ns: int | None = None
        self._programs: Mapping[int, _Program] = {}
        self._told: Sequence[ToldProcess] = ()

    def look(self, table: ProcessTable, before_ticks: float) -> set[RunKey]:
        """Look again; gives the runs that have ended since. Of those programs that are new, `told` has the ones whose processes
        began before these ticks; a scan sees the younger ones by itself."""
        earlier = self._programs
        if self._has_changed():
            self._programs = {program.process.pid: program for program in self._listed(table)}
        if not earlier and not self._programs:
            self._told = ()
            return set()
        # Without its tracker nobody tells of a run any more, whatever still lives of it.
        self._programs = {
            pid: program
            for pid, program in self._programs.items()
            if _lives(program.process, table) and _lives(program.tracker, table)
        }
        new = [pid for pid, program in self._programs.items() if program != earlier.get(pid)]
        stats = [known for pid in new if (known := table.read(pid)) is not None]
        self._told = [ToldProcess(known) for known in stats if known.started < before_ticks]
        return {program.key for program in earlier.values()} - {one.key for one in self._programs.values()}

    def told(self) -> Sequence[ToldProcess]:
        """The processes that a scan would not look at again by itself."""
        return self._told

    def run_of(self, pid: int) -> RunContext | None:
        """The run that a process is tracked as."""
        program = self._programs.get(pid)
        return program.context if program is not None else None

    def _has_changed(self) -> bool:
        try:
            changed_ns = os.stat(self._folder).st_mtime_ns  # noqa: PTH116 - once a sample
        except OSError:
            changed_ns = 0
        if changed_ns == self._listed_ns:
            return False
        is_settled = time.time() - changed_ns / 1e9 > _FOLDER_TIME_LAG_SECONDS
        self._listed_ns = changed_ns if is_settled else None
        return True

    def _listed(self, table: ProcessTable) -> Iterable[_Program]:
        try:
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return []
        try:
            with os.scandir(folder) as entries:
                names = [entry.name for entry in islice(entries, FILES_MAX)]
            processes = [process for name in names if (process := ProcessName.from_file_name(name)) is not None]
            found = [self._believed(process, folder, table) for process in processes]
        finally:
            os.close(folder)
        return [program for program in found if program is not None]

    def _believed(self, process: ProcessName, folder: int, table: ProcessTable) -> _Program | None:
        """What a file says, if the owner of the process that it is about has written it."""
        if not _lives(process, table):
            _remove_old(process.file_name, folder)
            return None
        text = _own_words(process.file_name, folder, self._owner_of(process.pid))
        run = TrackedRun.from_json(text)
        context = run.context() if run is not None else None
        if run is None or context is None or run.bus != self._bus:
            return None
        return _Program(process, run.tracker, context)


def _lives(process: ProcessName, table: ProcessTable) -> bool:
    known = table.read(process.pid)
    return known is not None and known.started == process.started_ticks and not known.ended


def _own_words(name: str, folder: int, owner: int | None) -> bytes:
    """What a plain, small file of an owner holds; nothing of any other."""
    try:
        # A pipe would have the agent wait for whoever writes to it.
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return b""
    try:
        known = os.fstat(descriptor)
        if not stat.S_ISREG(known.st_mode) or known.st_uid != owner or known.st_size > BYTES_MAX:
            return b""
        return os.read(descriptor, BYTES_MAX)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _remove_old(name: str, folder: int) -> None:
    with contextlib.suppress(OSError):
        known = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if time.time() - known.st_mtime > _OLD_SECONDS:
            os.unlink(name, dir_fd=folder)
