"""Computing on a GPU, behind the port. `gpu` gives it where there is one, or None."""

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from ergonaut_vectors.domain.compute.plain import comparable
from ergonaut_vectors.domain.compute.port import Compute, mask_of
from ergonaut_vectors.domain.indexes.port import NONE, Asked, Found
from ergonaut_vectors.domain.indexes.prepared import empty_answer
from ergonaut_vectors.domain.space import Floats, Metric, Rows, Space

BLOCK_NUMBERS = 1 << 26
"""Distances that a GPU holds at once: 256 MB, which the smallest have."""

SHARE_THREADS = 32
"""Threads that share the rows of one query when the nearest are found."""


def gpu() -> Compute | None:
    """A GPU to compute with; None where numba finds none, or finds no driver for it."""
    try:
        cuda: Any = importlib.import_module("numba.cuda")
    except ImportError:
        return None
    return CudaCompute(cuda) if cuda.is_available() else None


@dataclass(frozen=True, slots=True, eq=False)
class CudaRows:
    """Rows in a GPU's memory."""

    space: Space
    cuda: Any
    floats: Any
    count: int

    def nearest(self, queries: Rows, asked: Asked) -> Found:
        """The nearest allowed rows to each query."""
        if not self.count or not len(queries) or not asked.limit:
            return _nothing(len(queries), asked.limit)
        wide, allowed = comparable(self.space, queries), self._allowed(asked)
        step = max(1, BLOCK_NUMBERS // self.count)
        parts = [self._scanned(wide[at : at + step], allowed, asked.limit) for at in range(0, len(wide), step)]
        return Found(np.concatenate([p.rows for p in parts]), np.concatenate([p.distances for p in parts]))

    def nearest_in_runs(self, queries: Rows, runs: Rows, asked: Asked) -> Found:
        """The same among runs of rows."""
        from ergonaut_vectors.domain.compute.cuda import kernels

        if not self.count or not len(queries) or not asked.limit or not runs.shape[1]:
            return _nothing(len(queries), asked.limit)
        wide = comparable(self.space, queries)
        best = self._room(len(wide), asked.limit, kernels.LISTED_THREADS)
        given = (self.cuda.to_device(wide), self.cuda.to_device(np.ascontiguousarray(runs, dtype=np.int64)))
        launch = kernels.nearest_of_runs[len(wide), kernels.LISTED_THREADS]
        launch(self._loop(), (self.floats, self._allowed(asked)), given, *best)
        return self._joined(best, asked.limit)

    def _scanned(self, wide: Floats, allowed: Any, limit: int) -> Found:
        from ergonaut_vectors.domain.compute.cuda import kernels

        tile = (kernels.TILE, kernels.TILE)
        grid = (-(-self.count // kernels.TILE), -(-len(wide) // kernels.TILE))
        scores = self.cuda.device_array((len(wide), self.count), np.float32)
        kernels.compared[grid, tile](self._loop(), self.cuda.to_device(wide), (self.floats, allowed), scores)
        best = self._room(len(wide), limit, SHARE_THREADS)
        kernels.nearest_of_part[len(wide), SHARE_THREADS](scores, *best)
        return self._joined(best, limit)

    def _loop(self) -> int:
        return 0 if self.space.metric in (Metric.L2, Metric.HAMMING) else 1

    def _allowed(self, asked: Asked) -> Any:
        return self.cuda.to_device(mask_of(asked.allowed, self.count).astype(np.uint8))

    def _room(self, queries: int, limit: int, threads: int) -> tuple[Any, Any]:
        shape = (queries, threads, min(limit, self.count))
        empty = (np.full(shape, NONE, np.int32), np.full(shape, np.inf, np.float32))
        return self.cuda.to_device(empty[0]), self.cuda.to_device(empty[1])

    def _joined(self, best: tuple[Any, Any], limit: int) -> Found:
        """The nearest of all threads' shares, as distances."""
        rows, scores = (each.copy_to_host().reshape(len(each), -1) for each in best)
        order = np.lexsort((rows, scores), axis=1)[:, :limit]
        rows, scores = np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)
        if self.space.metric is Metric.COSINE:
            scores += np.float32(1)
        found = _nothing(len(rows), limit)
        found.rows[:, : rows.shape[1]], found.distances[:, : rows.shape[1]] = rows, scores
        return found


def _nothing(queries: int, limit: int) -> Found:
    found = empty_answer(queries, limit)
    found.rows[:], found.distances[:] = NONE, np.inf
    return found


@dataclass(frozen=True, slots=True)
class CudaCompute:
    """A GPU, by numba's module of it."""

    cuda: Any
    name: str = "cuda"

    def held(self, space: Space, rows: Rows) -> CudaRows:
        """Rows as floats, copied to the GPU once."""
        floats = comparable(space, rows)
        return CudaRows(space, self.cuda, self.cuda.to_device(floats), len(floats))
