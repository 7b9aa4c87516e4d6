"""Kernels of search by lists: the lists nearest to a query, candidates from their rows by 8-bit codes or as they are, and the
exact comparison of candidates. Called by `indexes/listed.py` and `indexes/lists.py`; codes of parts are in `parts.py`.

Lists are runs of rows, so codes lie in the order in which they are read.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.compute.cpu.code_gaps import fetch_row
from ergonaut_vectors.domain.compute.cpu.codes import SCALE, SQUARE, dot, quantise_query
from ergonaut_vectors.domain.compute.cpu.machine import kernel, ones
from ergonaut_vectors.domain.compute.cpu.memory import address_of
from ergonaut_vectors.domain.compute.cpu.pool import cut, entry_of, far_of, row_of
from ergonaut_vectors.domain.compute.cpu.scan import L2, NONE, RowNumbers, finish, gap, offer, start
from ergonaut_vectors.domain.space import Floats, Words

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
    """Allowed rows that were looked at before no further list is."""
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
def allowed_among(allowed: Words, first: Any, after: Any) -> Any:
    """How many rows of a run are allowed."""
    if allowed.shape[0] == 0:
        return np.int64(after - first)
    total = np.int64(0)
    for at in range(first >> 6, (after + 63) >> 6):
        word = allowed[at]
        if at == first >> 6:
            word &= ~((_ONE << (np.uint64(first) & _WORD_LAST)) - _ONE)
        if at == after >> 6:
            word &= (_ONE << (np.uint64(after) & _WORD_LAST)) - _ONE
        total += np.int64(ones(word))
    return total


@kernel
def _counts(allowed: Words, row: Any) -> bool:
    return bool(allowed.shape[0] == 0 or (allowed[row >> 6] >> (np.uint64(row) & _WORD_LAST)) & _ONE != np.uint64(0))


@kernel
def count_met(coarse: Coarse, probes: Probes, looked: int, allowed: Words, met: npt.NDArray[np.int64]) -> None:
    """How many allowed rows, and how many at all, are in the lists nearest to each query; `met` is [queries, 2]."""
    for q in range(met.shape[0]):
        met[q] = 0
        for at in range(looked):
            first, after = coarse.offsets[probes.lists[q, at]], coarse.offsets[probes.lists[q, at] + 1]
            met[q, 0] += allowed_among(allowed, first, after)
            met[q, 1] += after - first


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
    metric, enough, probes, allowed = within
    steps = np.empty(queries.shape[1], np.int16)
    for q in range(queries.shape[0]):
        scale, _, _ = quantise_query(queries[q], steps)
        far, near = found[0][q], found[1][q]
        start(far, near)
        looked = np.int64(0)
        weight = scale * _TWO if metric == L2 else scale
        for at in range(probes.lists.shape[1]):
            each = probes.lists[q, at]
            if each == NONE or looked >= enough:
                break
            first, after = coarse.offsets[each], coarse.offsets[each + 1]
            among = allowed_among(allowed, first, after)
            if among == 0:
                continue
            looked += among
            for row in range(first, after):
                estimate = -weight * factors[row, SCALE] * np.float32(dot(values, row, steps))
                estimate += factors[row, SQUARE] if metric == L2 else np.float32(0.0)
                if estimate < far[0] and _counts(allowed, row):
                    offer(far, near, estimate, np.int32(row))
        finish(far, near)


@kernel
def candidates_by_rows(
    rows: Any, coarse: Coarse, queries: Any, within: Within, found: tuple[Floats, RowNumbers]
) -> None:
    """The nearest rows themselves, where they are bytes or bits."""
    metric, enough, probes, allowed = within
    for q in range(queries.shape[0]):
        query, far, near = queries[q], found[0][q], found[1][q]
        start(far, near)
        looked = np.int64(0)
        for at in range(probes.lists.shape[1]):
            each = probes.lists[q, at]
            if each == NONE or looked >= enough:
                break
            first, after = coarse.offsets[each], coarse.offsets[each + 1]
            looked += allowed_among(allowed, first, after)
            for row in range(first, after):
                if _counts(allowed, row):
                    offer(far, near, gap(metric, rows, row, query), np.int32(row))
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
