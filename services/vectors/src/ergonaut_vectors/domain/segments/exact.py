"""Exact search in NumPy: what every index is measured by, and an index itself where nothing faster is at hand."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.indexes.port import (
    NONE,
    Arrays,
    Asked,
    Built,
    Found,
    Kind,
    Parameters,
    Plan,
    Progress,
)
from ergonaut_vectors.domain.payload.bits import rows_of
from ergonaut_vectors.domain.space import Floats, Metric, Rows, Space


def distances(space: Space, rows: Rows, query: npt.NDArray[np.generic]) -> Floats:
    """From one prepared query to each row."""
    if space.metric is Metric.HAMMING:
        return cast(Floats, np.bitwise_count(rows ^ query).sum(axis=1).astype(np.float32))
    wide, asked = rows.astype(np.float32), query.astype(np.float32)
    if space.metric is Metric.L2:
        return cast(Floats, np.square(wide - asked).sum(axis=1))
    products = wide @ asked
    if space.metric is Metric.INNER_PRODUCT:
        return -products
    lengths = np.sqrt(np.square(wide).sum(axis=1)) * np.sqrt(np.square(asked).sum())
    return cast(Floats, (1.0 - products / np.where(lengths > 0, lengths, 1.0)).astype(np.float32))


def exactly(space: Space, rows: Rows, queries: Rows, asked: Asked) -> Found:
    """The nearest allowed rows to each query, by comparing all."""
    allowed = np.arange(len(rows)) if asked.allowed is None else rows_of(asked.allowed, len(rows))
    among = rows if asked.allowed is None else rows[allowed]
    found = Found(
        np.full((len(queries), asked.limit), NONE, np.int32), np.full((len(queries), asked.limit), np.inf, np.float32)
    )
    count = min(asked.limit, len(allowed))
    if not count:
        return found
    for at, query in enumerate(queries):
        far = distances(space, among, query)
        near = np.flatnonzero(far <= np.partition(far, count - 1)[count - 1])
        best = near[np.argsort(far[near], kind="stable")][:count]
        found.rows[at, :count] = allowed[best]
        found.distances[at, :count] = far[best]
    return found


@dataclass(frozen=True, slots=True)
class ExactIndex:
    """Compares with every row."""

    space: Space
    rows: Rows
    kind: Kind = Kind.FLAT

    @property
    def arrays(self) -> Arrays:
        return {}

    @property
    def parameters(self) -> Parameters:
        return {}

    def search(self, queries: Rows, asked: Asked) -> Found:
        return exactly(self.space, self.rows, queries, asked)


class ExactBuilder:
    """There is nothing to build."""

    def build(self, space: Space, rows: Rows, *_: Plan | Progress | None) -> Built:
        return Built(ExactIndex(space, rows))

    def open(self, space: Space, rows: Rows, *_: Arrays | Parameters) -> ExactIndex:
        return ExactIndex(space, rows)
