"""Kernels of search by lists: the lists nearest to a query, candidates from their rows by 8-bit codes or as they are, and the
exact comparison of candidates. Called by `indexes/listed.py` and `indexes/lists.py`; codes of parts are in `parts.py`.

Lists are runs of rows, so codes lie in the order in which they are read.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.compute.cpu.code_gaps import fetch_row
from ergonaut_vectors.domain.compute.cpu.codes import SCALE, SQUARE, dot, quantise_query
from ergonaut_vectors.domain.compute.cpu.machine import kernel, lowest, ones
from ergonaut_vectors.domain.compute.cpu.memory import address_of
from ergonaut_vectors.domain.compute.cpu.pool import cut, entry_of, far_of, row_of
from ergonaut_vectors.domain.compute.cpu.scan import EVERY, L2, NONE, RowNumbers, finish, gap, offer, start
from ergonaut_vectors.domain.space import Floats, Words

_NO_ROW = np.uint64(0)
_ONE = np.uint64(1)
_TWO = np.float32(2.0)
_WORD_LAST = np.uint64(63)

FETCHED_AHEAD = 4
"""Candidates that are asked for before they are compared: about what memory takes to answer."""


class Coarse(NamedTuple):
    """The centres of lists, as 8-bit codes, and where their rows begin."""

    values: npt.NDArray[np.int8]  # [lists, dimension]
    factors: Floats  # [lists, 3]
    offsets: npt.NDArray[np.int32]  # [lists + 1]


class Probes(NamedTuple):
    """The lists to look into, nearest first, for each query; `share` is what all rows of the list have in common."""

    lists: RowNumbers  # [queries, lists looked into at most]
    shares: Floats


class Within(NamedTuple):
    """Where to look."""

    metric: int
    enough: int
    """Rows that were looked at before no further list is: with a filter the geometric mean of all and of those allowed."""
    probes: Probes
    allowed: Words


@kernel
def probe(metric: int, coarse: Coarse, queries: Floats, probes: Probes) -> None:
    """The lists whose centres are nearest to each query."""
    values, factors, _ = coarse
    count, reach = values.shape[0], probes.lists.shape[1]
    steps, entries = np.empty(queries.shape[1], np.int16), np.empty(count, np.int64)
    for q in range(queries.shape[0]):
        scale, length, _ = quantise_query(queries[q], steps)
        square = length * length
        for each in range(count):
            product = np.float32(dot(values, each, steps)) * scale * factors[each, SCALE]
            far = factors[each, SQUARE] + square - _TWO * product if metric == L2 else -product
            entries[each] = entry_of(far, each)
        cut(entries, count, reach)
        entries[:reach].sort()
        for at in range(reach):
            probes.lists[q, at], probes.shares[q, at] = row_of(entries[at]), far_of(entries[at])


@kernel
def _allowed_in(allowed: Words, at: Any, run: tuple[Any, Any]) -> Any:
    """The allowed ones of 64 rows, of those in a run; no words of `allowed` stand for all rows."""
    first, after = run
    word = allowed[at] if allowed.shape[0] else EVERY
    if at == first >> 6:
        word &= ~((_ONE << (np.uint64(first) & _WORD_LAST)) - _ONE)
    if at == after >> 6:
        word &= (_ONE << (np.uint64(after) & _WORD_LAST)) - _ONE
    return word


@kernel
def _allowed_among(allowed: Words, run: tuple[Any, Any]) -> Any:
    """How many rows of a run are allowed."""
    first, after = run
    if allowed.shape[0] == 0:
        return np.int64(after - first)
    total = np.int64(0)
    for at in range(first >> 6, (after + 63) >> 6):
        total += np.int64(ones(_allowed_in(allowed, at, run)))
    return total


@kernel
def run_of(coarse: Coarse, each: Any) -> tuple[Any, Any]:
    """The rows of a list: the first, and the one behind the last."""
    return np.int64(coarse.offsets[each]), np.int64(coarse.offsets[each + 1])


@kernel
def count_met(coarse: Coarse, probes: Probes, looked: int, allowed: Words, met: npt.NDArray[np.int64]) -> None:
    """How many allowed rows, and how many at all, are in the lists nearest to each query; `met` is [queries, 2]."""
    for q in range(met.shape[0]):
        met[q] = 0
        for at in range(looked):
            run = run_of(coarse, probes.lists[q, at])
            met[q, 0] += _allowed_among(allowed, run)
            met[q, 1] += run[1] - run[0]


@kernel
def worth_looking(coarse: Coarse, within: Within, q: Any, places: RowNumbers) -> Any:
    """Fill in which of a query's lists have allowed rows, until enough were met; gives how many these are.

    Where every fourth row is allowed half as many of these are enough, so that twice the lists are looked into: the nearest
    allowed ones lie that much farther, and no more (measured with images' features and sentences: 1.4 to 2 times the lists).
    """
    count, met, passed = 0, np.int64(0), np.int64(0)
    for at in range(within.probes.lists.shape[1]):
        if met * passed >= within.enough * within.enough:
            break
        run = run_of(coarse, within.probes.lists[q, at])
        among = _allowed_among(within.allowed, run)
        met, passed = met + among, passed + run[1] - run[0]
        if among:
            places[count] = at
            count += 1
    return count


@kernel
def candidates_by_codes(
    codes: tuple[npt.NDArray[np.int8], Floats],
    coarse: Coarse,
    queries: Floats,
    within: Within,
    found: tuple[Floats, RowNumbers],
) -> None:
    """The rows nearest by 8-bit codes; in the lists to look into."""
    values, factors = codes
    steps, places = np.empty(queries.shape[1], np.int16), np.empty(within.probes.lists.shape[1], np.int32)
    for q in range(queries.shape[0]):
        scale, _, _ = quantise_query(queries[q], steps)
        far, near = found[0][q], found[1][q]
        start(far, near)
        weight = scale * _TWO if within.metric == L2 else scale
        for place in range(worth_looking(coarse, within, q, places)):
            run = run_of(coarse, within.probes.lists[q, places[place]])
            for at in range(run[0] >> 6, (run[1] + 63) >> 6):
                word = _allowed_in(within.allowed, at, run)
                while word != _NO_ROW:
                    row = (at << 6) + lowest(word)
                    word &= word - _ONE
                    estimate = -weight * factors[row, SCALE] * np.float32(dot(values, row, steps))
                    estimate += factors[row, SQUARE] if within.metric == L2 else np.float32(0.0)
                    if estimate < far[0]:
                        offer(far, near, estimate, np.int32(row))
        finish(far, near)


@kernel
def candidates_by_rows(
    rows: Any, coarse: Coarse, queries: Any, within: Within, found: tuple[Floats, RowNumbers]
) -> None:
    """The nearest rows themselves, where they are bytes or bits."""
    places = np.empty(within.probes.lists.shape[1], np.int32)
    for q in range(queries.shape[0]):
        query, far, near = queries[q], found[0][q], found[1][q]
        start(far, near)
        for place in range(worth_looking(coarse, within, q, places)):
            run = run_of(coarse, within.probes.lists[q, places[place]])
            for at in range(run[0] >> 6, (run[1] + 63) >> 6):
                word = _allowed_in(within.allowed, at, run)
                while word != _NO_ROW:
                    row = (at << 6) + lowest(word)
                    word &= word - _ONE
                    offer(far, near, gap(within.metric, rows, row, query), np.int32(row))
        finish(far, near)


@kernel
def compare(metric: int, rows: Any, queries: Any, candidates: RowNumbers, found: tuple[Floats, RowNumbers]) -> None:
    """The nearest of the candidates, exactly."""
    begin, step = address_of(rows), rows.strides[0]
    for q in range(queries.shape[0]):
        query, far, near = queries[q], found[0][q], found[1][q]
        start(far, near)
        for at in range(candidates.shape[1]):
            row = candidates[q, at]
            if row == NONE:
                break
            if at + FETCHED_AHEAD < candidates.shape[1] and candidates[q, at + FETCHED_AHEAD] != NONE:
                fetch_row(begin + np.int64(candidates[q, at + FETCHED_AHEAD]) * step, step)
            offer(far, near, gap(metric, rows, row, query), row)
        finish(far, near)
