"""Kernels that scan floats as 8-bit codes and compare exactly only what could be among the nearest. Called by `indexes/codes.py`.

A row is `scale * code + rest`; the length of the rest is kept, so that the distance by codes is known to be off by at most
the length of the rest times that of the query (Cauchy and Schwarz), and an answer is exact without every row being read.
Codes need no training: a row that is added leaves the others as they are.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.compute.cpu.code_gaps import STEPS_AT_ONCE, sum_of_steps
from ergonaut_vectors.domain.compute.cpu.machine import kernel, lowest, sum_kernel, widened
from ergonaut_vectors.domain.compute.cpu.memory import address_of
from ergonaut_vectors.domain.compute.cpu.scan import L2, UNIT, finish, gap, offer, start, word_of
from ergonaut_vectors.domain.space import Floats, Words

CODE_LAST = 127
"""Codes are symmetric: -128 is not used."""

SCALE, SQUARE, REST = 0, 1, 2
"""The columns of a row's factors: what one step of its code is worth, its squared length, the length of what codes lose."""

ROUNDING = np.float32(4e-6)
"""What sums of floats themselves may be off by, as a part of the lengths that went into them, with room to spare."""

_Codes = npt.NDArray[np.int8]
_ONE = np.uint64(1)
_TWO = np.float32(2.0)
_INFINITE = np.float32(np.inf)


@sum_kernel
def quantise_floats(rows: Floats, values: _Codes, factors: Floats) -> None:
    """The codes and factors of rows."""
    for i in range(rows.shape[0]):
        row, square, rest, most = rows[i], np.float32(0.0), np.float32(0.0), np.float32(0.0)
        for j in range(row.shape[0]):
            square += row[j] * row[j]
            most = max(most, abs(row[j]))
        scale = most / np.float32(CODE_LAST)
        inverse = np.float32(1.0) / scale if scale > np.float32(0.0) else np.float32(0.0)
        for j in range(row.shape[0]):
            code = np.floor(row[j] * inverse + np.float32(0.5))
            values[i, j] = np.int8(code)
            lost = row[j] - scale * code
            rest += lost * lost
        factors[i, SCALE], factors[i, SQUARE], factors[i, REST] = scale, square, np.sqrt(rest)


@kernel
def quantise_halves(rows: npt.NDArray[np.uint16], values: _Codes, factors: Floats) -> None:
    """The codes and factors of rows of float16, given as their bits."""
    wide = np.empty((1, rows.shape[1]), np.float32)
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            wide[0, j] = widened(rows[i, j])
        quantise_floats(wide, values[i : i + 1], factors[i : i + 1])


@kernel
def dot(values: _Codes, row: Any, query: npt.NDArray[np.int16]) -> Any:
    """The inner product of a row's code and a query in steps; the query's steps are so few that it fits 32 bits."""
    count = query.shape[0]
    whole = count & ~(STEPS_AT_ONCE - 1)
    total = sum_of_steps(address_of(values) + np.int64(row) * values.shape[1], address_of(query), whole)
    for i in range(whole, count):
        total = np.int32(total + np.int32(np.int32(np.int16(values[row, i])) * np.int32(query[i])))
    return total


@sum_kernel
def quantise_query(query: Floats, steps: npt.NDArray[np.int16]) -> tuple[Any, Any, Any]:
    """Writes the query in steps; gives what a step is worth, the query's length, and the length of what the steps lose."""
    square, rest, most = np.float32(0.0), np.float32(0.0), np.float32(0.0)
    for i in range(query.shape[0]):
        square += query[i] * query[i]
        most = max(most, abs(query[i]))
    last = np.float32(min(32767, 2147483647 // (CODE_LAST * query.shape[0])))
    scale = most / last
    inverse = np.float32(1.0) / scale if scale > np.float32(0.0) else np.float32(0.0)
    for i in range(query.shape[0]):
        step = np.floor(query[i] * inverse + np.float32(0.5))
        step = min(step, last)
        steps[i] = np.int16(step)
        lost = query[i] - scale * step
        rest += lost * lost
    return scale, np.sqrt(square), np.sqrt(rest)


@kernel
def estimate(metric: int, product: Any, row_square: Any, square: Any) -> Any:
    """A distance from an inner product."""
    if metric == L2:
        return row_square + square - _TWO * product
    return np.float32(1.0) - product if metric == UNIT else -product


@kernel
def _bounds(
    metric: int, codes: tuple[_Codes, Floats], steps: npt.NDArray[np.int16], query: Any, allowed: Words, bounds: Floats
) -> None:
    """Writes for each row how near it may be at least and at most; infinity for rows that do not count."""
    values, factors = codes
    scale, length, lost = query
    count, square = bounds.shape[1], length * length
    twice = _TWO if metric == L2 else np.float32(1.0)
    for at in range((count + 63) >> 6):
        word = word_of(allowed, at, count)
        for row in range(at << 6, min((at << 6) + 64, count)):
            bounds[0, row] = _INFINITE
            bounds[1, row] = _INFINITE
        while word != np.uint64(0):
            row = (at << 6) + lowest(word)
            word &= word - _ONE
            row_square, rest = factors[row, SQUARE], factors[row, REST]
            near = estimate(
                metric, np.float32(dot(values, row, steps)) * scale * factors[row, SCALE], row_square, square
            )
            whole = np.sqrt(row_square)
            slack = twice * (rest * length + lost * (whole + rest))
            slack += ROUNDING * (whole + length) * (whole + length + np.float32(1.0)) + ROUNDING
            bounds[0, row] = near - slack
            bounds[1, row] = near + slack


@kernel
def scan_codes(
    metric: int,
    codes: tuple[_Codes, Floats],
    rows: Any,
    queries: tuple[Floats, Floats],
    allowed: Words,
    found: tuple[Floats, Any],
) -> int:
    """The nearest allowed of the rows to each query, exactly; gives how many rows were read for it.

    `codes` may go on behind the last of `rows`, which says how many there are; `queries` are as rows are, and as codes are.
    """
    distances, nearest = found
    bounds = np.empty((2, rows.shape[0]), np.float32)
    exact, beside = queries
    steps = np.empty(exact.shape[1], np.int16)
    read = 0
    for q in range(exact.shape[0]):
        query, worst, best = exact[q], distances[q], nearest[q]
        _bounds(metric, codes, steps, quantise_query(beside[q], steps), allowed, bounds)
        start(worst, best)
        for row in range(rows.shape[0]):
            offer(worst, best, bounds[1, row], np.int32(row))
        within = worst[0]
        start(worst, best)
        for row in range(rows.shape[0]):
            if bounds[0, row] <= within and bounds[0, row] < _INFINITE:
                offer(worst, best, gap(metric, rows, row, query), np.int32(row))
                read += 1
        finish(worst, best)
    return read
