"""Work that a run counts, such as tokens or predictions, so that joules can be told for each of them."""

import math
import os
import threading
import time
from collections.abc import Callable, Mapping

# A training loop may count thousands of times a second; so often at most it is written down, and a kill loses no more.
WRITE_SECONDS_MIN = 0.5
# Names times phases that wait to be written; more are written at once.
_WAITING_MAX = 100


class Counts:
    """Adds up counted work and writes it down a few times a second. Safe in threads and forked children."""

    def __init__(self, write: Callable[[str, str, float, float], None]) -> None:
        """`write` is given a phase, a name, the total so far, and what came to it since the last time."""
        self._write = write
        self._totals: dict[str, float] = {}
        self._waiting: dict[tuple[str, str], float] = {}
        self._written_at = -math.inf
        self._lock = threading.RLock()
        self._pid = os.getpid()

    @property
    def totals(self) -> Mapping[str, float]:
        """What this process has counted of each name, since the run began; a view, which grows."""
        return self._totals

    def add(self, phase: str, name: str, amount: float) -> None:
        """Count more of something in a phase."""
        with self._own_lock():
            self._totals[name] = self._totals.get(name, 0.0) + amount
            self._waiting[phase, name] = self._waiting.get((phase, name), 0.0) + amount
            is_due = time.monotonic() - self._written_at >= WRITE_SECONDS_MIN
            if is_due or len(self._waiting) >= _WAITING_MAX:
                self._write_waiting()

    def flush(self) -> None:
        """Write down what waits."""
        if self._waiting:
            with self._own_lock():
                self._write_waiting()

    def _write_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        self._written_at = time.monotonic()
        for (phase, name), amount in waiting.items():
            self._write(phase, name, self._totals[name], amount)

    def _own_lock(self) -> threading.RLock:
        # A child forked while another thread held the lock would wait for ever, and what waits is its parent's to write.
        if self._pid != os.getpid():
            self._pid, self._lock, self._waiting = os.getpid(), threading.RLock(), {}
        return self._lock
