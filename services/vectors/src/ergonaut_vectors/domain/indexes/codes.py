"""Rows of floats beside 8-bit codes of them, to which rows may be added: exact search that reads a quarter of the bytes.

Used by the head of a shard, whose rows come one after another, and wherever rows have no index yet. One writer adds, any
thread reads the rows that it knows of.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.compute.cpu.codes import quantise_floats, quantise_halves, scan_codes
from ergonaut_vectors.domain.compute.cpu.scan import L2
from ergonaut_vectors.domain.indexes.exact import scanned
from ergonaut_vectors.domain.indexes.port import NONE, Asked, Found
from ergonaut_vectors.domain.indexes.prepared import (
    FLOATS,
    allowed_for,
    empty_answer,
    loop_of,
    queries_for,
    read_only,
    rows_for,
)
from ergonaut_vectors.domain.space import Element, Floats, Rows, Space

CODE_ROWS_MIN = 256
"""Fewer rows are compared as they are: the second pass would cost what the first saves."""


class Codes(NamedTuple):
    """Codes of rows, with room behind the last; nothing at all where rows are bytes or bits already."""

    values: npt.NDArray[np.int8]  # [capacity, dimension]
    factors: Floats  # [capacity, 3]: scale, squared length, length of what the code loses


def codes_with_room(space: Space, capacity: int) -> Codes:
    """Room for codes of so many rows."""
    held = capacity if space.element in FLOATS else 0
    return Codes(np.empty((held, space.dimension), np.int8), np.empty((held, 3), np.float32))


def grown(codes: Codes, used: int, capacity: int) -> Codes:
    """New room with the codes of the first rows in it; the old is left as it is, for readers have it."""
    if not len(codes.values):
        return codes
    more = Codes(np.empty((capacity, codes.values.shape[1]), np.int8), np.empty((capacity, 3), np.float32))
    more.values[:used], more.factors[:used] = codes.values[:used], codes.factors[:used]
    return more


def quantise(space: Space, codes: Codes, first: int, rows: Rows) -> None:
    """Write the codes of rows of which this is the first one's number; there is room for them."""
    if space.element not in FLOATS:
        return
    values, factors = codes.values[first : first + len(rows)], codes.factors[first : first + len(rows)]
    if space.element is Element.FLOAT32:
        quantise_floats(read_only(np.ascontiguousarray(rows)), values, factors)
    else:
        quantise_halves(read_only(rows_for(space, rows)), values, factors)


def searched(
    space: Space, codes: Codes, rows: Rows, queries: Rows, asked: Asked, origin: Floats | None = None
) -> Found:  # fmt: skip
    """The nearest allowed of these rows to each query, exactly; codes may go on behind the last row, and be about an origin."""
    if not len(codes.values) or len(rows) < CODE_ROWS_MIN or not asked.limit:
        return scanned(space, rows, queries, asked)
    found = empty_answer(len(queries), asked.limit)
    kept = (read_only(codes.values), read_only(codes.factors))
    exact, wide, allowed = map(read_only, (rows_for(space, rows), queries_for(space, queries), allowed_for(asked)))
    # To products what all rows have in common adds the same, which leaves their order.
    beside = wide if origin is None or loop_of(space) != L2 else read_only(wide - origin)
    scan_codes(loop_of(space), kept, exact, (wide, beside), allowed, (found.distances, found.rows))
    return found


__all__ = ["NONE", "Codes", "codes_with_room", "grown", "quantise", "searched"]
