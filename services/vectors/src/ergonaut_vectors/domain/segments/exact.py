"""Exact search: what every index is measured by, how a head is searched, and an index itself where nothing faster is at hand."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.compute.cpu.exact_rows import (
    COSINE,
    HAMMING,
    INNER,
    SQUARED_L2,
    UNIT_COSINE,
    Nearest,
    scan_floats,
    scan_integers,
)
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
from ergonaut_vectors.domain.space import Element, Floats, Metric, Rows, Space

WIDENED_ROWS = 1024
"""Rows of half precision that are widened at once; a multiple of 64, so that words of those allowed are not cut."""

NO_WORDS = np.empty(0, np.uint64)


def distances(space: Space, rows: Rows, query: npt.NDArray[np.generic]) -> Floats:
    """From one prepared query to each row, in NumPy."""
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
    shape = (len(queries), asked.limit)
    found = Found(np.full(shape, NONE, np.int32), np.full(shape, np.inf, np.float32))
    nearest = Nearest(*found, np.zeros(len(queries), np.int64))
    allowed = NO_WORDS if asked.allowed is None else asked.allowed
    kind = _distance_of(space)
    if space.element is Element.FLOAT16:
        wide = queries.astype(np.float32)
        for first in range(0, len(rows), WIDENED_ROWS):
            scan_floats(kind, rows[first : first + WIDENED_ROWS].astype(np.float32), first, wide, allowed, nearest)
    else:
        scan = scan_floats if space.element is Element.FLOAT32 else scan_integers
        scan(kind, rows, 0, queries, allowed, nearest)
    return found


def _distance_of(space: Space) -> int:
    if space.metric is Metric.COSINE:
        return UNIT_COSINE if space.element in (Element.FLOAT32, Element.FLOAT16) else COSINE
    return {Metric.L2: SQUARED_L2, Metric.INNER_PRODUCT: INNER, Metric.HAMMING: HAMMING}[space.metric]


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
