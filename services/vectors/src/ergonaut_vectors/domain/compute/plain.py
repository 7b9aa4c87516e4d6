"""Computing in NumPy: what GPUs are compared with by a test."""

from dataclasses import dataclass
from typing import cast

import numpy as np

from ergonaut_vectors.domain.compute.port import first_of, mask_of
from ergonaut_vectors.domain.indexes.port import Asked, Found
from ergonaut_vectors.domain.space import Element, Floats, Metric, Rows, Space

BLOCK_NUMBERS = 1 << 24
"""Distances that are held at once: 64 MB."""


def comparable(space: Space, rows: Rows) -> Floats:
    """Rows as floats among which products and differences tell distances: bits as 0 and 1, bytes of the cosine at length one."""
    if space.element is Element.BINARY:
        return np.unpackbits(rows, axis=1, count=space.dimension, bitorder="little").astype(np.float32)
    floats = np.ascontiguousarray(rows, dtype=np.float32)
    if space.metric is Metric.COSINE and space.element in (Element.UINT8, Element.INT8):
        floats = floats / np.maximum(np.linalg.norm(floats, axis=1, keepdims=True), np.float32(1e-12))
    return floats


def distances_between(space: Space, rows: Floats, query: Floats) -> Floats:
    """How far all rows are from a query."""
    if space.metric is Metric.INNER_PRODUCT:
        return cast(Floats, -(rows @ query))
    if space.metric is Metric.COSINE:
        return cast(Floats, np.float32(1) - rows @ query)
    return cast(Floats, np.square(rows - query).sum(axis=1))


@dataclass(frozen=True, slots=True, eq=False)
class PlainRows:
    """Rows as floats."""

    space: Space
    floats: Floats

    def nearest(self, queries: Rows, asked: Asked) -> Found:
        """The nearest allowed rows to each query."""
        return self._among(queries, asked, None)

    def nearest_in_runs(self, queries: Rows, runs: Rows, asked: Asked) -> Found:
        """The same among runs of rows."""
        return self._among(queries, asked, runs)

    def _among(self, queries: Rows, asked: Asked, runs: Rows | None) -> Found:
        wide, count = comparable(self.space, queries), len(self.floats)
        banned = ~mask_of(asked.allowed, count)
        step = max(1, BLOCK_NUMBERS // max(1, count))
        parts = []
        for first in range(0, len(wide), step):
            part = wide[first : first + step]
            far = np.stack([distances_between(self.space, self.floats, query) for query in part])
            far[:, banned] = np.inf
            if runs is not None:
                far[~covered(runs[first : first + step], count)] = np.inf
            parts.append(first_of(far, asked.limit))
        return Found(np.concatenate([p.rows for p in parts]), np.concatenate([p.distances for p in parts]))


def covered(runs: Rows, count: int) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Which rows the runs of each query cover."""
    steps = np.zeros((len(runs), count + 1), np.int32)
    which = np.arange(len(runs))[:, None]
    np.add.at(steps, (which, runs[:, :, 0]), 1)
    np.add.at(steps, (which, runs[:, :, 1]), -1)
    return cast("np.ndarray[tuple[int, int], np.dtype[np.bool_]]", steps[:, :count].cumsum(axis=1) > 0)


class PlainCompute:
    """NumPy."""

    name = "numpy"

    def held(self, space: Space, rows: Rows) -> PlainRows:
        """Rows as floats."""
        return PlainRows(space, comparable(space, rows))
