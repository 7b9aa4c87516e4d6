"""Kernels of exact search: distances of any element and metric, the nearest kept in a heap, whole segments scanned.

Called by `indexes/flat.py` and by every index that compares some rows exactly. Rows and queries come as `indexes/prepared.py`
makes them; a heap is ordered by (distance, row), so that equal distances are told by row.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import overload

from ergonaut_vectors.domain.compute.cpu.machine import kernel, lowest, ones, sum_kernel, widened
from ergonaut_vectors.domain.space import Floats, Rows, Words

L2 = 0
INNER = 1
"""Minus the inner product."""
UNIT = 2
"""One minus the inner product: the cosine where rows and queries have length one."""
ANGLE = 3
"""The cosine of rows of any length."""

NONE = -1
EVERY = np.uint64(0xFFFFFFFFFFFFFFFF)
_ONE = np.uint64(1)
_WORD_LAST = np.uint64(63)
_ZERO = np.float32(0.0)
_UNITY = np.float32(1.0)
_TWO = np.float32(2.0)

BLOCK_WORDS = 4
"""256 rows are compared with all queries before the next are: they stay in the second cache up to 1,024 dimensions."""

RowNumbers = npt.NDArray[np.int32]


@sum_kernel
def _float_gap(metric: int, rows: Floats, row: Any, query: Floats) -> Any:
    total = np.float32(0.0)
    if metric == L2:
        for i in range(query.shape[0]):
            gap = rows[row, i] - query[i]
            total += gap * gap
        return total
    for i in range(query.shape[0]):
        total += rows[row, i] * query[i]
    return np.float32(_UNITY - total) if metric == UNIT else np.float32(-total)


@sum_kernel
def _half_gap(metric: int, rows: npt.NDArray[np.uint16], row: Any, query: Floats) -> Any:
    total = np.float32(0.0)
    if metric == L2:
        for i in range(query.shape[0]):
            gap = widened(rows[row, i]) - query[i]
            total += gap * gap
        return total
    for i in range(query.shape[0]):
        total += widened(rows[row, i]) * query[i]
    return np.float32(_UNITY - total) if metric == UNIT else np.float32(-total)


@kernel
def _byte_gap(metric: int, rows: Rows, row: Any, query: npt.NDArray[np.int16]) -> Any:
    # Sums of products of 16 bits fit 32 bits up to 33,000 dimensions, and machines add them up in pairs.
    total, length, asked = np.int32(0), np.int32(0), np.int32(0)
    if metric == L2:
        for i in range(query.shape[0]):
            gap = np.int32(np.int16(np.int16(rows[row, i]) - query[i]))
            total = np.int32(total + np.int32(gap * gap))
        return np.float32(total)
    for i in range(query.shape[0]):
        total = np.int32(total + np.int32(np.int32(np.int16(rows[row, i])) * np.int32(query[i])))
    if metric == INNER:
        return -np.float32(total)
    for i in range(query.shape[0]):
        length = np.int32(length + np.int32(np.int32(np.int16(rows[row, i])) * np.int32(np.int16(rows[row, i]))))
        asked = np.int32(asked + np.int32(np.int32(query[i]) * np.int32(query[i])))
    lengths = np.sqrt(np.float32(length)) * np.sqrt(np.float32(asked))
    return _UNITY - np.float32(total) / lengths if lengths > _ZERO else _UNITY


@kernel
def _bit_gap(metric: int, rows: Any, row: Any, query: Any) -> Any:  # noqa: ARG001
    total = np.uint64(0)
    for i in range(query.shape[0]):
        total += np.uint64(ones(rows[row, i] ^ query[i]))
    return np.float32(total)


def gap(metric: int, rows: Any, row: Any, query: Any) -> Any:
    """How far one of the rows is from a query, as float32; what they hold says which loop it is."""
    raise NotImplementedError  # the body is chosen below when a kernel is compiled


@overload(gap, strict=False)
def _gap_of(metric: Any, rows: Any, row: Any, query: Any) -> Any:  # noqa: ARG001
    # Lambdas, for numba inlines a body that is a plain function and not one that is compiled.
    if rows.dtype == types.float32 or (rows.dtype == types.int8 and query.dtype == types.float32):
        return lambda metric, rows, row, query: _float_gap(metric, rows, row, query)  # noqa: PLW0108
    if query.dtype == types.float32:
        return lambda metric, rows, row, query: _half_gap(metric, rows, row, query)  # noqa: PLW0108
    if query.dtype == types.int16:
        return lambda metric, rows, row, query: _byte_gap(metric, rows, row, query)  # noqa: PLW0108
    return lambda metric, rows, row, query: _bit_gap(metric, rows, row, query)  # noqa: PLW0108


@kernel
def _farther(far: Any, row: Any, other_far: Any, other_row: Any) -> bool:
    return bool(far > other_far or (far == other_far and row > other_row))


@kernel
def push(distances: Floats, rows: RowNumbers, far: Any, row: Any) -> None:
    """Put a row in place of the farthest of a heap; the caller knows that it is nearer."""
    size, at = distances.shape[0], 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and _farther(distances[child + 1], rows[child + 1], distances[child], rows[child]):
            child += 1
        if not _farther(distances[child], rows[child], far, row):
            break
        distances[at], rows[at] = distances[child], rows[child]
        at = child
    distances[at], rows[at] = far, row


@kernel
def offer(distances: Floats, rows: RowNumbers, far: Any, row: Any) -> None:
    """Put a row into a heap if it is nearer than the farthest there."""
    if far < distances[0] or (far == distances[0] and row < rows[0]):
        push(distances, rows, far, row)


@kernel
def start(distances: Floats, rows: RowNumbers) -> None:
    """An empty heap: as many rows that are infinitely far."""
    for i in range(distances.shape[0]):
        distances[i] = np.float32(np.inf)
        rows[i] = np.int32(0x7FFFFFFF)


@kernel
def finish(distances: Floats, rows: RowNumbers) -> None:
    """Sort a heap, nearest first; what is infinitely far is no row."""
    for size in range(distances.shape[0] - 1, 0, -1):
        far, row = distances[size], rows[size]
        distances[size], rows[size] = distances[0], rows[0]
        push(distances[:size], rows[:size], far, row)
    for i in range(distances.shape[0]):
        if distances[i] == np.float32(np.inf):
            rows[i] = NONE


@kernel
def word_of(allowed: Words, at: int, count: int) -> Any:
    """The allowed ones of 64 rows; all where `allowed` is empty. Bits behind the last row are 0."""
    word = allowed[at] if allowed.shape[0] else EVERY
    left = count - (at << 6)
    return word if left >= 64 else word & ((_ONE << np.uint64(left)) - _ONE)


@kernel
def scan(metric: int, rows: Any, queries: Any, allowed: Words, distances: Floats, found: RowNumbers) -> None:
    """The nearest allowed rows to each query, all being compared. No words of `allowed` stand for all rows."""
    count = rows.shape[0]
    words = (count + 63) >> 6
    for q in range(queries.shape[0]):
        start(distances[q], found[q])
    for first in range(0, words, BLOCK_WORDS):
        for q in range(queries.shape[0]):
            query, worst, best = queries[q], distances[q], found[q]
            for at in range(first, min(first + BLOCK_WORDS, words)):
                word = word_of(allowed, at, count)
                if word == EVERY:
                    for row in range(at << 6, (at << 6) + 64):
                        offer(worst, best, gap(metric, rows, row, query), np.int32(row))
                    continue
                while word != np.uint64(0):
                    row = (at << 6) + lowest(word)
                    word &= word - _ONE
                    offer(worst, best, gap(metric, rows, row, query), np.int32(row))
    for q in range(queries.shape[0]):
        finish(distances[q], found[q])
