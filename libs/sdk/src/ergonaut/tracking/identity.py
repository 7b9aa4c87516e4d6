"""Which process it was, told so that it can be known again later, whatever was done to the clock meanwhile."""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ergonaut.metering.processtable import process_started_at

# Systems compute when a process began from two clocks, of which one may have been set in between. Only where the kernel tells
# no ticks, and of journals that tell none, is this all there is.
_SAME_PROCESS_SECONDS = 2.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_HAS_ENDED = (b"Z", b"X")


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A pid is used again; together with when the process began, in ticks since this or that boot, it is one process's."""

    pid: int
    started_at: float = 0.0
    """Unix seconds; 0 where it is not known."""
    started_ticks: int | None = None
    boot_id: str = ""

    @classmethod
    def of_this_process(cls) -> Self:
        """Who this process is, as far as that can be seen."""
        pid = os.getpid()
        try:
            ticks, boot = started_ticks(pid), boot_id()
            if ticks is None:
                return cls(pid, process_started_at(pid) or 0.0)
            since_boot_seconds = time.clock_gettime(time.CLOCK_BOOTTIME)
            return cls(pid, time.time() - since_boot_seconds + ticks / _TICKS_PER_SECOND, ticks, boot)
        except OSError:
            return cls(pid)

    def lives(self) -> bool:
        """Whether this very process still lives, on this machine and since this boot. Raises OSError where nobody can tell."""
        here = boot_id() if self.started_ticks is not None and self.boot_id else ""
        if here:
            return here == self.boot_id and started_ticks(self.pid) == self.started_ticks
        now = process_started_at(self.pid)
        return now is not None and abs(now - self.started_at) <= _SAME_PROCESS_SECONDS


def boot_id() -> str:
    """Which boot of which machine this is, the same in all its containers; empty where the system tells none. Raises OSError."""
    try:
        return _BOOT_ID.read_text().strip()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return ""


def started_ticks(pid: int) -> int | None:
    """When a process that has not ended began, in the kernel's ticks since boot; None where there is none. Raises OSError.

    Field 22 of /proc/PID/stat, proc(5).
    """
    if sys.platform != "linux":
        return None
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The program's name stands in parentheses and may hold anything, even a parenthesis.
    fields = text.rpartition(b")")[2].split(None, 20)
    return None if len(fields) < 20 or fields[0] in _HAS_ENDED else int(fields[19])
