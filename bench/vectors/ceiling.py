"""What several threads can do on a machine at most, as a multiple of one: arithmetic alone, and reads that each wait for memory.
Used by `parts.py`: where processors share what calculates, or are given to others at times, no search gains more than these.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

CALCULATED = 4096
"""Numbers that are multiplied again and again; they fit into the nearest cache."""

TIMES = 150_000
READ = 1 << 22
"""Places of a round through memory, each of 8 bytes: more than a processor's own caches hold."""

STEPS = 500_000


@numba.njit(nogil=True, fastmath=True)
def _calculate(numbers, times):  # type: ignore[no-untyped-def]
    total = np.float32(0.0)
    for at in range(times):
        for number in numbers:
            total += number * (number + at)
    return total


@numba.njit(nogil=True)
def _read(following, at, steps):  # type: ignore[no-untyped-def]
    for _ in range(steps):
        at = following[at]
    return at


class Ceiling:
    """The two works, ready to be measured round by round."""

    def __init__(self) -> None:
        dice = np.random.default_rng(0)
        numbers, order = dice.random(CALCULATED, np.float32), dice.permutation(READ)
        following = np.empty(READ, np.int64)
        following[order] = np.roll(order, -1)
        self._works: dict[str, Callable[[int], object]] = {
            "pure arithmetic": lambda _: _calculate(numbers, TIMES),
            "random reads": lambda thread: _read(following, order[thread * READ // 2], STEPS),
        }
        for work in self._works.values():
            work(0)

    def gains(self, threads: int) -> dict[str, float]:
        """How many times one thread's work is done in the same time, by the clock."""
        return {name: threads * _seconds(work, 1) / _seconds(work, threads) for name, work in self._works.items()}


def _seconds(work: Callable[[int], object], threads: int) -> float:
    begun = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    return time.perf_counter() - begun
