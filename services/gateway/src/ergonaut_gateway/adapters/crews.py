"""The threads that onnxruntime begins for one model beside those that call it, and the CPU time that they take.

Each has a clock of its own in the kernel. So it is known exactly what a model's runs of several threads used, also when others
ran at the same time, and what its threads burn while they wait for the next run, which onnxruntime has them do for some time.
"""

import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

_TASKS = Path("/proc/self/task")
"""A process's threads, on Linux; elsewhere nothing is known of them."""

_ONE_AT_A_TIME = threading.Lock()
"""Threads that begin while a session is made are taken for its own, so no two are made at once. Those of Python are known."""

_SCHEDULED = 2
_OF_A_THREAD = 4
"""How the kernel numbers the clock of what a thread was given of CPUs (see clock_gettime(2), and the kernel's posix-timers)."""


class Crew:
    """The threads of one model; empty until they were seen to begin."""

    def __init__(self) -> None:
        self._clocks: dict[int, float] = {}
        """What each clock said last: a thread that ended says nothing more."""

    def __len__(self) -> int:
        return len(self._clocks)

    def cpu_seconds(self) -> float:
        """CPU time of all of them so far; a third of a microsecond each."""
        for clock in self._clocks:
            try:
                self._clocks[clock] = max(self._clocks[clock], time.clock_gettime(clock))
            except OSError:
                # It has ended, or the kernel gives no such clock.
                continue
        return sum(self._clocks.values())

    def took_on(self, threads: Collection[int]) -> None:
        """Count these from now on."""
        self._clocks |= {(~thread << 3) | _OF_A_THREAD | _SCHEDULED: 0.0 for thread in threads}


@contextmanager
def beginning() -> Iterator[Crew]:
    """The crew of what is made within the block; one is made after the other."""
    crew = Crew()
    with _ONE_AT_A_TIME:
        before = _threads()
        yield crew
        of_python = {thread.native_id for thread in threading.enumerate()}
        crew.took_on(_threads() - before - of_python)


def _threads() -> set[int]:
    try:
        return {int(each.name) for each in _TASKS.iterdir()}
    except OSError:
        return set()
