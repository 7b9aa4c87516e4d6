"""Kernels that compare queries with every row: the truth that indexes are measured by, and how a head is searched.

`segments/exact.py` calls, and says the same in NumPy, which a test compares. The nearest so far are kept sorted while blocks of
rows go by, so that rows of a type that no machine computes with can be widened a block at a time.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.space import Floats, Words

SQUARED_L2, INNER, UNIT_COSINE, COSINE, HAMMING = range(5)
"""Which distance; UNIT_COSINE is that of rows and queries of length one."""

BLOCK_ROWS = 64
"""Rows that are compared with all queries before the next ones: one word of those allowed, and they stay in the nearest cache."""

_LIBERTIES = {"reassoc", "contract", "nsz"}
"""Sums may be taken in any order, so that they use the machine's wide registers; no number is infinite."""

_ONE, _NOTHING = np.uint64(1), np.uint64(0)

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Nearest(NamedTuple):
    """The nearest rows so far, of each query."""

    rows: npt.NDArray[np.int32]  # [queries, limit]
    distances: Floats
    counts: npt.NDArray[np.int64]  # [queries]; how many were found


def _kernel(function: _Function) -> _Function:
    return cast(_Function, numba.njit(cache=True, nogil=True, boundscheck=False, error_model="numpy")(function))


def _sum_kernel(function: _Function) -> _Function:
    compiled = numba.njit(cache=True, nogil=True, boundscheck=False, error_model="numpy", fastmath=_LIBERTIES)
    return cast(_Function, compiled(function))


@_sum_kernel
def _float_distance(kind: int, row: Floats, query: Floats) -> Any:
    total = np.float32(0.0)
    if kind == SQUARED_L2:
        for i in range(row.shape[0]):
            gap = row[i] - query[i]
            total += gap * gap
        return total
    for i in range(row.shape[0]):
        total += row[i] * query[i]
    if kind == INNER:
        return -total
    return np.float32(1.0) - total


@_sum_kernel
def _integer_distance(kind: int, row: npt.NDArray[Any], query: npt.NDArray[Any]) -> Any:
    total, own, asked = np.int32(0), np.int32(0), np.int32(0)
    if kind == SQUARED_L2:
        for i in range(row.shape[0]):
            gap = np.int32(row[i]) - np.int32(query[i])
            total += gap * gap
        return np.float32(total)
    if kind == HAMMING:
        for i in range(row.shape[0]):
            bits = row[i] ^ query[i]
            bits -= (bits >> 1) & np.uint8(0x55)
            bits = (bits & np.uint8(0x33)) + ((bits >> 2) & np.uint8(0x33))
            total += np.int32((bits + (bits >> 4)) & np.uint8(0x0F))
        return np.float32(total)
    for i in range(row.shape[0]):
        total += np.int32(row[i]) * np.int32(query[i])
    if kind == INNER:
        return np.float32(-total)
    for i in range(row.shape[0]):
        own += np.int32(row[i]) * np.int32(row[i])
        asked += np.int32(query[i]) * np.int32(query[i])
    lengths = np.sqrt(np.float64(own)) * np.sqrt(np.float64(asked))
    return np.float32(1.0 - total / lengths) if lengths > 0 else np.float32(1.0)


@_kernel
def _put(rows: npt.NDArray[np.int32], distances: Floats, count: int, far: Any, row: Any) -> int:
    """Put a row among the nearest of a query, which are sorted; gives how many there are then."""
    limit = rows.shape[0]
    if count == limit:
        if limit == 0 or far >= distances[limit - 1]:
            return count
        count -= 1
    at = count
    while at > 0 and distances[at - 1] > far:
        distances[at] = distances[at - 1]
        rows[at] = rows[at - 1]
        at -= 1
    distances[at] = far
    rows[at] = row
    return count + 1


@_kernel
def scan_floats(kind: int, rows: Floats, first: int, queries: Floats, allowed: Words, nearest: Nearest) -> None:
    """Compare with these rows, of which the first is the number `first`, a multiple of 64. No words allow all of them."""
    for block in range(0, rows.shape[0], BLOCK_ROWS):
        after = min(block + BLOCK_ROWS, rows.shape[0])
        word = ~_NOTHING if allowed.shape[0] == 0 else allowed[(first + block) >> 6]
        for query in range(queries.shape[0] if word != _NOTHING else 0):
            count = nearest.counts[query]
            for row in range(block, after):
                if (word >> np.uint64(row - block)) & _ONE != _NOTHING:
                    far = _float_distance(kind, rows[row], queries[query])
                    count = _put(nearest.rows[query], nearest.distances[query], count, far, first + row)
            nearest.counts[query] = count


@_kernel
def scan_integers(
    kind: int, rows: npt.NDArray[Any], first: int, queries: npt.NDArray[Any], allowed: Words, nearest: Nearest
) -> None:
    """The same for rows of bytes."""
    for block in range(0, rows.shape[0], BLOCK_ROWS):
        after = min(block + BLOCK_ROWS, rows.shape[0])
        word = ~_NOTHING if allowed.shape[0] == 0 else allowed[(first + block) >> 6]
        for query in range(queries.shape[0] if word != _NOTHING else 0):
            count = nearest.counts[query]
            for row in range(block, after):
                if (word >> np.uint64(row - block)) & _ONE != _NOTHING:
                    far = _integer_distance(kind, rows[row], queries[query])
                    count = _put(nearest.rows[query], nearest.distances[query], count, far, first + row)
            nearest.counts[query] = count
