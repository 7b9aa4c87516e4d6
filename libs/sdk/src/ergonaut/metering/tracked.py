"""How a tracker lets the telemetry agent of its host know whom it tells a bus of, so that their energy is counted once.

A small file for each tracked program lies in a folder that all users of the machine share, while its run goes on. It is for the
agent alone: where it cannot be written nothing else is lost, so nobody is told.
"""

import contextlib
import json
import os
import re
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from ergonaut.metering.processtable import open_process_table
from ergonaut.runcontext import RunContext

FOLDER = Path("/tmp/ergonaut-tracked")  # noqa: S108 - shared by all users; whoever reads it checks each file's owner
BYTES_MAX = 4096
"""Of one file; four names and an address are far less."""

_FOLDER_MODE = 0o1777
_FILE_NAME = re.compile(r"([1-9][0-9]{0,9})-([0-9]{1,19})")
_NAMES = ("run_id", "tenant", "job_id", "project", "bus")
_BUS_PORT = 4222
_THIS_MACHINE = "127.0.0.1"
_NAMES_OF_THIS_MACHINE = frozenset({"localhost", "::1"})


@dataclass(frozen=True, slots=True)
class ProcessName:
    """A process by its pid and its start, in the kernel's ticks since boot: together they are one process's."""

    pid: int
    started_ticks: int

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """A living process of this host; None where there is none."""
        stat = open_process_table().read(pid)
        return cls(pid, int(stat.started)) if stat is not None else None

    @classmethod
    def from_file_name(cls, name: str) -> Self | None:
        """The process that a file is named after; None for a name of another form."""
        match = _FILE_NAME.fullmatch(name)
        return cls(int(match[1]), int(match[2])) if match else None

    @property
    def file_name(self) -> str:
        """How the file about it is called."""
        return f"{self.pid}-{self.started_ticks}"


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """What a file says: the run, who tracks it, and the bus that is told of it, as `bus_address` gives it."""

    run_id: str
    tenant: str
    job_id: str
    project: str
    bus: str
    tracker: ProcessName

    @classmethod
    def of_this_process(cls, context: RunContext, bus_url: str) -> Self | None:
        """A run that this process tracks; None on systems whose processes are not told apart by ticks."""
        tracker = ProcessName.of(os.getpid()) if sys.platform == "linux" else None
        if tracker is None:
            return None
        return cls(context.run_id, context.tenant, context.job_id, context.project, bus_address(bus_url), tracker)

    @classmethod
    def from_json(cls, text: bytes) -> Self | None:
        """The run of a file, which anybody may have written; None for anything else. Its names are still to be checked."""
        try:
            values = json.loads(text)
            run_id, tenant, job_id, project, bus = names = [values[name] for name in _NAMES]
            pid, ticks = values["tracker"]["pid"], values["tracker"]["started_ticks"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        if not all(isinstance(name, str) for name in names) or not (type(pid) is type(ticks) is int):
            return None
        return cls(run_id, tenant, job_id, project, bus, ProcessName(pid, ticks))

    def context(self) -> RunContext | None:
        """The run as the agent knows runs, not metered by it; None where a name is none."""
        try:
            return RunContext(run_id=self.run_id, tenant=self.tenant, job_id=self.job_id, project=self.project)
        except ValueError:
            return None


def bus_address(url: str) -> str:
    """Host and port of a NATS address, without user or password.

    >>> bus_address("nats://user:secret@LOCALHOST"), bus_address("nats://bus.example:4333")
    ('127.0.0.1:4222', 'bus.example:4333')
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or _BUS_PORT
    except ValueError:
        return ""
    return f"{_THIS_MACHINE if host in _NAMES_OF_THIS_MACHINE else host}:{port}"


def tell_agent(run: TrackedRun, pid: int, folder: Path = FOLDER) -> Path | None:
    """Let the agent know that a process and its descendants are tracked; gives the file to `take_back`, if there is one."""
    process = ProcessName.of(pid)
    if process is None:
        return None
    with contextlib.suppress(OSError):
        _make(folder)
        path = folder / process.file_name
        # At once or not at all, and over nothing that somebody else has put there.
        draft = folder / f".{process.file_name}-{time.monotonic_ns()}"
        try:
            with open(draft, "xb", opener=_readable_by_all) as file:
                file.write(json.dumps(asdict(run)).encode())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        return path
    return None


def take_back(path: Path) -> None:
    """The run has ended, or its program has."""
    with contextlib.suppress(OSError):
        path.unlink()


def _make(folder: Path) -> None:
    try:
        folder.mkdir()
    except FileExistsError:
        if folder.is_symlink():
            raise
    else:
        # A umask would keep the other users out.
        folder.chmod(_FOLDER_MODE)


def _readable_by_all(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0), 0o644)
    # The agent may be another user than the program, whatever the umask.
    os.fchmod(descriptor, 0o644)
    return descriptor
