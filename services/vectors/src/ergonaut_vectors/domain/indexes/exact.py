"""Exact search of rows as they are: what every index falls back to where few rows count, and what indexes are measured by."""

import numpy as np

from ergonaut_vectors.domain.compute.cpu.lists import compare
from ergonaut_vectors.domain.compute.cpu.scan import RowNumbers, scan
from ergonaut_vectors.domain.indexes.port import NONE, Asked, Found
from ergonaut_vectors.domain.indexes.prepared import (
    allowed_for,
    empty_answer,
    loop_of,
    queries_for,
    read_only,
    rows_for,
)
from ergonaut_vectors.domain.space import Rows, Space


def scanned(space: Space, rows: Rows, queries: Rows, asked: Asked) -> Found:
    """The nearest allowed rows to each query, by comparing all at full precision."""
    found = empty_answer(len(queries), asked.limit)
    if not len(rows) or not asked.limit:
        found.rows[:], found.distances[:] = NONE, np.inf
        return found
    kept, wide, allowed = map(read_only, (rows_for(space, rows), queries_for(space, queries), allowed_for(asked)))
    scan(loop_of(space), kept, wide, allowed, found.distances, found.rows)
    return found


def compared(space: Space, rows: Rows, queries: Rows, candidates: RowNumbers, limit: int) -> Found:
    """The nearest of each query's candidates, which are rows, or -1 behind the last."""
    found = empty_answer(len(queries), limit)
    kept, wide = read_only(rows_for(space, rows)), queries_for(space, queries)
    compare(loop_of(space), kept, wide, candidates, (found.distances, found.rows))
    return found
