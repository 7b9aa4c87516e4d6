"""How busy the whole host is: CPU-seconds since it booted, and memory. The model meters and the attribution rest on it.

It is read once for a sample: whoever asks within the same few milliseconds is given the same reading.
"""

import os
import sys
import time
from dataclasses import dataclass

_STAT = "/proc/stat"
_MEMINFO = "/proc/meminfo"
# The lines that are read are the first; the rest of /proc/stat is as long as the machine has CPUs and interrupts.
_FIRST_LINES_BYTES = 1024
# The model, the sampler and the agent ask one after another within one sample; samples are at least 50 ms apart.
SHARED_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class HostLoad:
    """Cumulative CPU time of the host, and its memory at this moment."""

    at_seconds: float
    busy_cpu_seconds: float
    logical_cpus: int
    memory_bytes: int
    memory_used_bytes: int


class LoadReader:
    """Reads the host's load from files that it keeps open, since opening costs more than reading."""

    def __init__(self, stat: str = _STAT, meminfo: str = _MEMINFO) -> None:
        self._stat = _KeptFile(stat)
        self._meminfo = _KeptFile(meminfo)
        self._ticks_per_second = os.sysconf("SC_CLK_TCK") if sys.platform == "linux" else 100
        # Counted once: on large machines counting is as dear as the whole reading, and CPUs hardly come and go.
        self._logical_cpus = os.cpu_count() or 1
        self._last: HostLoad | None = None

    def read(self) -> HostLoad:
        """The load now, or as it was at most `SHARED_SECONDS` ago. Raises OSError or ValueError where /proc is no /proc."""
        now, last = time.monotonic(), self._last
        if last is not None and now - last.at_seconds < SHARED_SECONDS:
            return last
        if sys.platform == "linux":
            total, available = memory_of(self._meminfo.first_lines(b"MemTotal:"))
            busy = busy_seconds_of(self._stat.first_lines(b"cpu"), self._ticks_per_second)
        else:
            total, available, busy = _portable()
        self._last = load = HostLoad(now, busy, self._logical_cpus, total, total - available)
        return load


class _KeptFile:
    """A file of /proc that stays open. A program that closes all its files, as daemons do, only makes it open again."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1

    def first_lines(self, beginning: bytes) -> bytes:
        try:
            lines = os.pread(self._descriptor, _FIRST_LINES_BYTES, 0) if self._descriptor >= 0 else b""
        except OSError:
            lines = b""
        # A number that the program closed may stand for another file of its own by now, which must not be closed.
        if lines.startswith(beginning):
            return lines
        self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        return os.pread(self._descriptor, _FIRST_LINES_BYTES, 0)


_reader = LoadReader()


def read_load() -> HostLoad:
    """Read this host's load; the time is monotonic and has an arbitrary beginning."""
    return _reader.read()


def busy_seconds_of(stat: bytes, ticks_per_second: int) -> float:
    """CPU-seconds during which any CPU worked, of the beginning of /proc/stat.

    Waiting for disks is not work, and time stolen by other guests of the hardware was not ours. A guest's time is already
    in the user's.

    >>> busy_seconds_of(b"cpu  700 100 150 9999 5000 30 20 77 60 0", 100)
    10.0
    """
    _, user, nice, system, _idle, _iowait, irq, softirq, *_ = stat.split(maxsplit=8)
    return (int(user) + int(nice) + int(system) + int(irq) + int(softirq)) / ticks_per_second


def memory_of(meminfo: bytes) -> tuple[int, int]:
    """Bytes that are built in and that are available, of the beginning of /proc/meminfo.

    >>> memory_of(b"MemTotal: 8 kB\\nMemFree: 2 kB\\nMemAvailable: 4 kB\\nBuffers: 0 kB")
    (8192, 4096)
    """
    words = meminfo.split(None, 8)
    if words[6:7] != [b"MemAvailable:"]:
        raise ValueError("/proc/meminfo does not tell MemAvailable third, as Linux has done since 3.14")
    return int(words[1]) * 1024, int(words[7]) * 1024


def _portable() -> tuple[int, int, float]:
    import psutil

    memory, times = psutil.virtual_memory(), psutil.cpu_times()
    busy = sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "interrupt", "dpc"))
    return memory.total, memory.available, busy
