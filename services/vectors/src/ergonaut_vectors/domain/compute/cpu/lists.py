"""Kernels of search by lists: the lists nearest to a query, candidates from their rows by codes of three sorts, and the exact
comparison of those candidates. Called by `indexes/lists.py` and `indexes/product.py`.

Lists are runs of rows, so codes lie in the order in which they are read. A distance by codes is `base[row] + list's share -
weight * slope[row] * <code, query>`; the list's share and the row's base are worked out beforehand.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.compute.cpu.codes import SCALE, SQUARE, dot, quantise_query
from ergonaut_vectors.domain.compute.cpu.machine import kernel, ones, sum_kernel
from ergonaut_vectors.domain.compute.cpu.nibbles import BLOCK_ROWS, block_sums, table_of
from ergonaut_vectors.domain.compute.cpu.scan import INNER, L2, NONE, RowNumbers, finish, gap, offer, start
from ergonaut_vectors.domain.space import Floats, Words

_ONE = np.uint64(1)
_TWO = np.float32(2.0)
_WORD_LAST = np.uint64(63)
_BYTE_BITS = np.uint64(8)
_BYTE = np.uint64(255)


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
    steps = np.empty(queries.shape[1], np.int16)
    for q in range(queries.shape[0]):
        scale, length, _ = quantise_query(queries[q], steps)
        far, near = probes.shares[q], probes.lists[q]
        start(far, near)
        square = length * length
        for each in range(values.shape[0]):
            product = np.float32(dot(values, each, steps)) * scale * factors[each, SCALE]
            offer(
                far, near, factors[each, SQUARE] + square - _TWO * product if metric == L2 else -product, np.int32(each)
            )
        finish(far, near)


@kernel
def _allowed_among(allowed: Words, first: Any, after: Any) -> Any:
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
            met[q, 0] += _allowed_among(allowed, first, after)
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
            among = _allowed_among(allowed, first, after)
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
            looked += _allowed_among(allowed, first, after)
            for row in range(first, after):
                if _counts(allowed, row):
                    offer(far, near, gap(metric, rows, row, query), np.int32(row))
        finish(far, near)


@sum_kernel
def part_products(query: Floats, centres: Floats, products: Floats) -> None:
    """The inner product of each part of a query with each centre of that part."""
    parts, width, choices = centres.shape
    for part in range(parts):
        for choice in range(choices):
            products[part, choice] = np.float32(0.0)
        for j in range(width):
            number = query[part * width + j]
            for choice in range(choices):
                products[part, choice] += number * centres[part, j, choice]


@sum_kernel
def turned(query: Floats, rotation: Floats, out: Floats) -> None:
    """The query times the rotation, [dimension, out]; numbers of `out` behind its columns are left as they are."""
    for j in range(rotation.shape[1]):
        out[j] = np.float32(0.0)
    for i in range(rotation.shape[0]):
        number = query[i]
        for j in range(rotation.shape[1]):
            out[j] += number * rotation[i, j]


class Products(NamedTuple):
    """Codes of parts of rows that were turned, and what their distances are made of."""

    packed: npt.NDArray[np.uint8]  # [blocks, pairs, 32] of 4-bit codes, or [rows, parts] of 8-bit codes
    slopes: Floats  # [rows], or of length 0 where all are 1
    bases: Floats  # [rows]
    rotation: Floats  # [dimension, parts * width of a part]
    centres: Floats  # [parts, width of a part, choices]


@sum_kernel
def _estimate_block(
    bases: Floats,
    slopes: Floats,
    run: tuple[Any, Any],
    worth: tuple[Any, Any, Any],
    sums: npt.NDArray[np.uint16],
    out: Floats,
) -> None:
    """The distances by codes of rows of one block, of which the run is the first and the one behind the last."""
    first, after = run
    share, base, step = worth
    past = first % BLOCK_ROWS
    if slopes.shape[0]:
        for i in range(after - first):
            out[i] = bases[first + i] + share - slopes[first + i] * (base + step * np.float32(sums[past + i]))
        return
    share -= base
    for i in range(after - first):
        out[i] = bases[first + i] + share - step * np.float32(sums[past + i])


@kernel
def candidates_by_nibbles(
    products: Products, coarse: Coarse, queries: Floats, within: Within, found: tuple[Floats, RowNumbers]
) -> None:
    """The rows nearest by 4-bit codes of their parts."""
    metric, enough, probes, allowed = within
    packed, slopes, bases, rotation, centres = products
    parts, width, choices = centres.shape
    turned_query = np.zeros(parts * width, np.float32)
    floats = np.empty((parts, choices), np.float32)
    tables = np.empty((parts, choices), np.uint8)
    sums, estimates = np.empty(BLOCK_ROWS, np.uint16), np.empty(BLOCK_ROWS, np.float32)
    weight = np.float32(1.0) if metric == INNER else _TWO
    for q in range(queries.shape[0]):
        turned(queries[q], rotation, turned_query)
        part_products(turned_query, centres, floats)
        base, step = table_of(floats, tables)
        far, near = found[0][q], found[1][q]
        start(far, near)
        looked = np.int64(0)
        for at in range(probes.lists.shape[1]):
            each = probes.lists[q, at]
            if each == NONE or looked >= enough:
                break
            first, after = np.int64(coarse.offsets[each]), np.int64(coarse.offsets[each + 1])
            among = _allowed_among(allowed, first, after)
            if among == 0:
                continue
            looked += among
            worth = (probes.shares[q, at], weight * base, weight * step)
            for block in range(first // BLOCK_ROWS, (after - 1) // BLOCK_ROWS + 1):
                block_sums(packed, block, tables, sums)
                lowest_row = np.int64(block * BLOCK_ROWS)
                begin, end = max(first, lowest_row), min(after, np.int64(lowest_row + BLOCK_ROWS))
                _estimate_block(bases, slopes, (begin, end), worth, sums, estimates)
                for i in range(end - begin):
                    if estimates[i] < far[0] and _counts(allowed, begin + i):
                        offer(far, near, estimates[i], np.int32(begin + i))
        finish(far, near)


@sum_kernel
def _sum_of_bytes(words: npt.NDArray[np.uint64], row: Any, table: Floats) -> Any:
    """The sum of the table's entries, 256 a part, for a code of which eight parts are in a word."""
    even, odd = np.float32(0.0), np.float32(0.0)
    for at in range(words.shape[1]):
        word = words[row, at]
        past = at * 2048
        for _ in range(4):
            even += table[past + np.int64(word & _BYTE)]
            odd += table[past + 256 + np.int64((word >> _BYTE_BITS) & _BYTE)]
            word >>= np.uint64(16)
            past += 512
    return even + odd


@kernel
def candidates_by_bytes(
    products: Products, coarse: Coarse, queries: Floats, within: Within, found: tuple[Floats, RowNumbers]
) -> None:
    """The rows nearest by 8-bit codes of their parts, eight of which are in a word."""
    metric, enough, probes, allowed = within
    parts, width, choices = products.centres.shape
    turned_query = np.zeros(parts * width, np.float32)
    floats = np.empty((parts, choices), np.float32)
    flat = floats.reshape(parts * choices)
    weight = np.float32(1.0) if metric == INNER else _TWO
    words = products.packed.view(np.uint64)
    for q in range(queries.shape[0]):
        turned(queries[q], products.rotation, turned_query)
        part_products(turned_query, products.centres, floats)
        far, near = found[0][q], found[1][q]
        start(far, near)
        looked = np.int64(0)
        for at in range(probes.lists.shape[1]):
            each = probes.lists[q, at]
            if each == NONE or looked >= enough:
                break
            first, after = coarse.offsets[each], coarse.offsets[each + 1]
            looked += _allowed_among(allowed, first, after)
            share = probes.shares[q, at]
            for row in range(first, after):
                estimate = products.bases[row] + share - weight * _sum_of_bytes(words, row, flat)
                if estimate < far[0] and _counts(allowed, row):
                    offer(far, near, estimate, np.int32(row))
        finish(far, near)


@kernel
def compare(metric: int, rows: Any, queries: Any, candidates: RowNumbers, found: tuple[Floats, RowNumbers]) -> None:
    """The nearest of the candidates, exactly."""
    for q in range(queries.shape[0]):
        query, far, near = queries[q], found[0][q], found[1][q]
        start(far, near)
        for at in range(candidates.shape[1]):
            row = candidates[q, at]
            if row == NONE:
                break
            offer(far, near, gap(metric, rows, row, query), row)
        finish(far, near)
