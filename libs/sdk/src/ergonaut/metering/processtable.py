"""The host's processes one by one: CPU time, memory, parent, environment. Linux from /proc, other systems through psutil."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_STAT_BYTES_MAX = 4096
# The kernel takes no larger environment together with its arguments by default (a quarter of an 8 MiB stack).
_ENVIRONMENT_BYTES_MAX = 2 * 1024 * 1024
# Most environments are a few KiB; a buffer for the largest, each time anew, would cost more than all else about reading one.
_ENVIRONMENT_BYTES_FIRST = 16 * 1024
# Up to so many new pids are looked up one by one; listing all processes is cheaper from a few dozen on.
_LOOKED_UP_MAX = 48
_EXIT_SIGNAL_OF_THREADS = b"-1"


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """One process at one moment. Its pid and the time it started identify it; a pid alone is used again."""

    pid: int
    parent_pid: int
    started: float
    cpu_seconds: float
    reaped_cpu_seconds: float
    resident_bytes: int
    ended: bool

    @property
    def total_cpu_seconds(self) -> float:
        """What its parent inherits when it reaps the process: its own time and that of the children that it reaped."""
        return self.cpu_seconds + self.reaped_cpu_seconds


class ProcessTable(Protocol):
    """Where processes are looked up; what has gone in the meantime, or is not ours to see, is None or empty."""

    def pids(self) -> set[int]:
        """Every process there is."""
        ...

    def read(self, pid: int) -> ProcessStat | None:
        """One process, or None where it has gone."""
        ...

    def environment(self, pid: int, beginning: str = "") -> Mapping[str, str]:
        """The environment that its program was started with, or of it the variables of such a beginning; empty where it may
        not be seen."""
        ...

    def newest(self) -> int:
        """A mark of the process that began last, for `begun`; 0 where the system tells none."""
        ...

    def begun(self, after: int, until: int) -> set[int] | None:
        """The processes that began after one mark, up to another, and still live; None where only a look at all can tell."""
        ...


class LinuxProcessTable:
    """Reads /proc by hand, since one scan a second must cost less than a millisecond."""

    def __init__(self, proc: str = "/proc") -> None:
        self._proc = proc
        self._loadavg = f"{proc}/loadavg"

    def pids(self) -> set[int]:
        return {int(name) for name in os.listdir(self._proc) if name.isdecimal()}  # noqa: PTH208 - twice as fast as Path.iterdir

    def read(self, pid: int) -> ProcessStat | None:
        text = self._content(f"{self._proc}/{pid}/stat", _STAT_BYTES_MAX)
        # The program's name stands in parentheses and may hold anything, even a parenthesis.
        fields = text.rpartition(b")")[2].split(None, 22)
        if len(fields) < 22:
            return None
        return ProcessStat(
            pid=pid,
            parent_pid=int(fields[1]),
            started=float(fields[19]),
            cpu_seconds=(int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND,
            reaped_cpu_seconds=(int(fields[13]) + int(fields[14])) / _TICKS_PER_SECOND,
            resident_bytes=int(fields[21]) * _PAGE_BYTES,
            ended=fields[0] in (b"Z", b"X"),
        )

    def environment(self, pid: int, beginning: str = "") -> Mapping[str, str]:
        text = self._environment(f"{self._proc}/{pid}/environ")
        start = os.fsencode(beginning)
        # Nearly every process has no such variable, and splitting its environment would be most of the work.
        if start and start not in text:
            return {}
        pairs = (item.partition(b"=") for item in text.split(b"\0") if item.startswith(start))
        return {os.fsdecode(name): os.fsdecode(value) for name, is_pair, value in pairs if is_pair}

    def newest(self) -> int:
        """The last number of /proc/loadavg: the pid that the kernel gave out last, to a process or to a thread."""
        fields = self._content(self._loadavg, _STAT_BYTES_MAX).split()
        return int(fields[4]) if len(fields) == 5 else 0

    def begun(self, after: int, until: int) -> set[int] | None:
        # Without marks, or when the numbers began anew at 1 in between, nothing follows from them.
        if not after or not until or not 0 <= until - after <= _LOOKED_UP_MAX:
            return None
        return {pid for pid in range(after + 1, until + 1) if self._is_process(pid)}

    def _is_process(self, pid: int) -> bool:
        """Whether a pid is a process rather than one of its threads, which have pids of the same sequence."""
        fields = self._content(f"{self._proc}/{pid}/stat", _STAT_BYTES_MAX).rpartition(b")")[2].split(None, 36)
        return len(fields) > 35 and fields[35] != _EXIT_SIGNAL_OF_THREADS

    def _environment(self, path: str) -> bytes:
        text = self._content(path, _ENVIRONMENT_BYTES_FIRST)
        return text if len(text) < _ENVIRONMENT_BYTES_FIRST else self._content(path, _ENVIRONMENT_BYTES_MAX)

    def _content(self, path: str, bytes_max: int) -> bytes:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            return os.read(descriptor, bytes_max)
        except OSError:
            return b""
        finally:
            os.close(descriptor)


class PortableProcessTable:
    """The same through psutil; slower, and without the time of children that were reaped on systems that keep none."""

    def pids(self) -> set[int]:
        import psutil

        return set(psutil.pids())

    def read(self, pid: int) -> ProcessStat | None:
        import psutil

        try:
            process = psutil.Process(pid)
            with process.oneshot():
                times = process.cpu_times()
                return ProcessStat(
                    pid=pid,
                    parent_pid=process.ppid(),
                    started=process.create_time(),
                    cpu_seconds=times.user + times.system,
                    reaped_cpu_seconds=times.children_user + times.children_system,
                    resident_bytes=process.memory_info().rss,
                    ended=process.status() == psutil.STATUS_ZOMBIE,
                )
        except psutil.Error:
            return None

    def environment(self, pid: int, beginning: str = "") -> Mapping[str, str]:
        import psutil

        try:
            environment = psutil.Process(pid).environ()
        except (psutil.Error, OSError):
            return {}
        return {name: value for name, value in environment.items() if name.startswith(beginning)}

    def newest(self) -> int:
        return 0

    def begun(self, after: int, until: int) -> set[int] | None:  # noqa: ARG002 - the table's contract
        return None


def open_process_table() -> ProcessTable:
    """The table of this host."""
    return LinuxProcessTable() if sys.platform == "linux" else PortableProcessTable()


def process_started_at(pid: int) -> float | None:
    """When a process began, Unix seconds; None where there is no such process. Tells it from a later one of its pid."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None
