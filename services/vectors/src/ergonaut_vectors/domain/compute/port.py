"""What computes large batches of queries beside the CPU's kernels: one port, behind which GPUs and plain NumPy stand.

`indexes/away.py` asks it. A query at a time stays with the CPU: to a GPU and back takes longer than the scan.
"""

from typing import Protocol

import numpy as np

from ergonaut_vectors.domain.indexes.port import NONE, Asked, Found
from ergonaut_vectors.domain.indexes.prepared import empty_answer
from ergonaut_vectors.domain.space import Floats, Rows, Space, Words


class Held(Protocol):
    """Rows where they are computed with."""

    def nearest(self, queries: Rows, asked: Asked) -> Found:
        """The nearest allowed rows to each query, all being compared."""
        ...

    def nearest_in_runs(self, queries: Rows, runs: Rows, asked: Asked) -> Found:
        """The same among some runs of rows: `runs` is [queries, runs of a query, 2], first row and the one behind the last."""
        ...


class Compute(Protocol):
    """A place to compute."""

    @property
    def name(self) -> str: ...

    def held(self, space: Space, rows: Rows) -> Held:
        """Rows, taken there; they stay until they are let go of."""
        ...


def mask_of(allowed: Words | None, count: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which rows are allowed, one by one."""
    if allowed is None:
        return np.ones(count, np.bool_)
    return np.unpackbits(allowed.view(np.uint8), count=count, bitorder="little").astype(np.bool_)


def first_of(distances: Floats, limit: int) -> Found:
    """The nearest of all distances, [queries, rows]; those that are infinite are no answers."""
    found = empty_answer(len(distances), limit)
    found.rows[:], found.distances[:] = NONE, np.inf
    kept = min(limit, distances.shape[1])
    if not kept:
        return found
    last = np.partition(distances, kept - 1, axis=1)[:, kept - 1]
    for at, far in enumerate(distances):
        near = np.flatnonzero((far <= last[at]) & np.isfinite(far))
        best = near[np.argsort(far[near], kind="stable")][:kept]
        found.rows[at, : len(best)], found.distances[at, : len(best)] = best, far[best]
    return found
