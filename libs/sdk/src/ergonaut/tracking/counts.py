"""Work that a run counts, such as tokens or predictions, so that joules can be told for each of them."""

import atexit
import contextlib
import math
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping

# A training loop may count thousands of times a second; so often at most it is written down, and a kill loses no more.
WRITE_SECONDS_MIN = 0.5
# Names times phases that wait to be written; more are written at once.
_WAITING_MAX = 100
# A pool kills its processes the moment they have nothing to do, so what they count now and then must not wait. So many counts
# are written as they come, and then so many a second: 2.5 kB.
_AT_ONCE_MAX = 100.0
_AT_ONCE_PER_SECOND = 20.0


class Counts:
    """Adds up counted work and writes it down a few times a second. Safe in threads and forked children."""

    def __init__(self, write: Callable[[str, str, float, float], None]) -> None:
        """`write` is given a phase, a name, the total so far, and what came to it since the last time."""
        self._write = write
        self._totals: dict[str, float] = {}
        self._begin_in_process()

    def _begin_in_process(self) -> None:
        # A child forked while another thread held the lock would wait for ever, and what waits is its parent's to write.
        self._pid, self._lock = os.getpid(), threading.RLock()
        self._waiting: dict[tuple[str, str], float] = {}
        self._written_at = -math.inf
        self._at_once, self._at_once_since = _AT_ONCE_MAX, time.monotonic()
        self._flushed_elsewhere = False
        self._timer: threading.Timer | None = None
        _flush_at_end_of_process(self)

    @property
    def totals(self) -> Mapping[str, float]:
        """What this process has counted of each name, since the run began; a view, which grows."""
        return self._totals

    def leave_flushing(self) -> None:
        """Let whoever calls `flush` every second or so do it alone in this process."""
        self._flushed_elsewhere = True

    def add(self, phase: str, name: str, amount: float) -> None:
        """Count more of something in a phase."""
        with self._own_lock():
            self._totals[name] = self._totals.get(name, 0.0) + amount
            self._waiting[phase, name] = self._waiting.get((phase, name), 0.0) + amount
            now = time.monotonic()
            is_due = now - self._written_at >= WRITE_SECONDS_MIN
            if is_due or len(self._waiting) >= _WAITING_MAX or self._may_write_at_once(now):
                self._write_waiting()
            elif self._timer is None and not self._flushed_elsewhere:
                self._flush_soon()

    def flush(self) -> None:
        """Write down what waits."""
        if self._waiting:
            with self._own_lock():
                self._write_waiting()

    def _may_write_at_once(self, now: float) -> bool:
        if self._flushed_elsewhere:
            return False
        more = (now - self._at_once_since) * _AT_ONCE_PER_SECOND
        self._at_once, self._at_once_since = min(_AT_ONCE_MAX, self._at_once + more), now
        if self._at_once < 1:
            return False
        self._at_once -= 1
        return True

    def _flush_soon(self) -> None:
        self._timer = threading.Timer(WRITE_SECONDS_MIN, self._flush_late)
        self._timer.daemon = True
        # Where no thread may be begun, the next count or the end writes it.
        with contextlib.suppress(RuntimeError):
            self._timer.start()

    def _flush_late(self) -> None:
        with self._own_lock():
            self._timer = None
            self._write_waiting()

    def _write_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        self._written_at = time.monotonic()
        for (phase, name), amount in waiting.items():
            self._write(phase, name, self._totals[name], amount)

    def _own_lock(self) -> threading.RLock:
        if self._pid != os.getpid():
            self._begin_in_process()
        return self._lock


_counting: "weakref.WeakSet[Counts]" = weakref.WeakSet()
_ends_watched_in: set[int] = set()


def _flush_at_end_of_process(counts: Counts) -> None:
    """Write what waits also where a process ends without leaving the run's block, as those of multiprocessing do."""
    _counting.add(counts)
    pid = os.getpid()
    if pid in _ends_watched_in:
        return
    _ends_watched_in.clear()
    _ends_watched_in.add(pid)
    atexit.register(_flush_all)
    # Its children leave by os._exit, after what they themselves know to do; without it there are no such children.
    multiprocessing = sys.modules.get("multiprocessing.util")
    if multiprocessing is not None:
        multiprocessing.Finalize(None, _flush_all, exitpriority=0)


def _flush_all() -> None:
    for counts in tuple(_counting):
        counts.flush()
