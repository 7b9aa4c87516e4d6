"""Large batches of queries are computed with elsewhere, on a GPU where there is one: candidates come from there and are compared
exactly here, so that answers are those of the CPU's kernels. Used by `flat.py` and `listed.py`; `main.py` says where.
"""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from ergonaut.errors import Unavailable
from ergonaut_vectors.domain.compute.cuda.place import gpu
from ergonaut_vectors.domain.compute.port import Compute, Held
from ergonaut_vectors.domain.indexes.exact import compared
from ergonaut_vectors.domain.indexes.port import Asked, Found
from ergonaut_vectors.domain.space import Rows, Space

PAIRS_MIN = 1 << 24
"""Queries times rows of a batch that is worth the way: so many take the CPU a hundredth of a second."""

HELD_NUMBERS_MAX = 1 << 31
"""Numbers of rows that one index may hold there: 8 GB of floats, half of what the common GPUs have."""

MORE = 16
"""Candidates beyond those asked for: sums of floats are rounded otherwise there."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to compute, from how large a batch on."""

    compute: Compute
    pairs_min: int = PAIRS_MIN
    when_failed: Callable[[Exception], None] = lambda _error: None
    """Told what failed there, as for lack of memory; the CPU does it then."""


@dataclass(slots=True)
class _Process:
    place: Place | None = None


_process = _Process()
_one_at_a_time = Lock()


def compute_with(place: Place | None) -> None:
    """Have the large batches of this process computed there; None leaves all to the CPU's kernels."""
    _process.place = place


def place_of(wanted: str, when_failed: Callable[[Exception], None]) -> Place | None:
    """What a setting comes to: "cpu", "cuda", or "auto" for a GPU where there is one."""
    found = None if wanted == "cpu" else gpu()
    if found is None and wanted == "cuda":
        raise Unavailable(
            "no GPU was found by numba; install ergonaut-vectors[cuda] and a driver, or compute on the CPU"
        )
    return Place(found, when_failed=when_failed) if found else None


class Away:
    """The rows of an index as they are held elsewhere; taken there by the first batch that is worth it."""

    __slots__ = ("_failed_at", "_held", "_rows", "_space")

    def __init__(self, space: Space, rows: Rows) -> None:
        self._space, self._rows = space, rows
        self._held: tuple[Place, Held] | None = None
        self._failed_at: Place | None = None

    def nearest(self, queries: Rows, asked: Asked, runs: npt.NDArray[Any] | None = None) -> Found | None:
        """The nearest allowed rows, among runs of rows for each query or among all; None where the CPU is to do it."""
        place = _process.place
        if place is None or not asked.limit or not self.is_worth(queries):
            return None
        wider = Asked(min(asked.limit + MORE, len(self._rows)), allowed=asked.allowed)
        try:
            with _one_at_a_time:
                held = self._at(place)
                rough = held.nearest(queries, wider) if runs is None else held.nearest_in_runs(queries, runs, wider)
        except Exception as error:
            # Whatever a driver says: the CPU can do it, and these rows make room for those of other indexes.
            self._held, self._failed_at = None, place
            place.when_failed(error)
            return None
        return compared(self._space, self._rows, queries, np.ascontiguousarray(rough.rows), asked.limit)

    def is_worth(self, queries: Rows) -> bool:
        """Whether there is a place, and the batch is large enough for it."""
        place, count = _process.place, len(self._rows)
        if place is None or place is self._failed_at or not count or count * self._space.dimension > HELD_NUMBERS_MAX:
            return False
        return len(queries) * count >= place.pairs_min

    def _at(self, place: Place) -> Held:
        if self._held is None or self._held[0] is not place:
            self._held = (place, place.compute.held(self._space, self._rows))
        return self._held[1]
