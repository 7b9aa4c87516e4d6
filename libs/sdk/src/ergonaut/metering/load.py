"""How busy the whole host is: CPU-seconds since it booted, and memory. The model meters and the attribution rest on it."""

import os
import sys
import time
from dataclasses import dataclass

_STAT = "/proc/stat"
_MEMINFO = "/proc/meminfo"
# The lines that are read are the first; the rest of /proc/stat is as long as the machine has CPUs and interrupts.
_FIRST_LINES_BYTES = 1024


@dataclass(frozen=True, slots=True)
class HostLoad:
    """Cumulative CPU time of the host, and its memory at this moment."""

    at_seconds: float
    busy_cpu_seconds: float
    logical_cpus: int
    memory_bytes: int
    memory_used_bytes: int


def read_load() -> HostLoad:
    """Read the load; the time is monotonic and has an arbitrary beginning."""
    if sys.platform == "linux":
        total, available = _linux_memory(_first_lines(_MEMINFO))
        busy = busy_seconds_of(_first_lines(_STAT), os.sysconf("SC_CLK_TCK"))
    else:
        total, available, busy = _portable()
    return HostLoad(time.monotonic(), busy, os.cpu_count() or 1, total, total - available)


def busy_seconds_of(stat: str, ticks_per_second: int) -> float:
    """CPU-seconds during which any CPU worked, of the text of /proc/stat.

    Waiting for disks is not work, and time stolen by other guests of the hardware was not ours. A guest's time is already
    in the user's.

    >>> busy_seconds_of("cpu  700 100 150 9999 5000 30 20 77 60 0", 100)
    10.0
    """
    user, nice, system, _idle, _iowait, irq, softirq = (int(text) for text in stat.split(maxsplit=8)[1:8])
    return (user + nice + system + irq + softirq) / ticks_per_second


def _first_lines(path: str) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _FIRST_LINES_BYTES).decode()
    finally:
        os.close(descriptor)


def _linux_memory(meminfo: str) -> tuple[int, int]:
    kibibytes = {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in meminfo.splitlines()[:3])}
    return kibibytes["MemTotal"] * 1024, kibibytes["MemAvailable"] * 1024


def _portable() -> tuple[int, int, float]:
    import psutil

    memory, times = psutil.virtual_memory(), psutil.cpu_times()
    busy = sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "interrupt", "dpc"))
    return memory.total, memory.available, busy
