"""The scan of lists by codes of parts of rows: 4-bit codes, 8-bit codes of which the high half is a code of its own, and 1-bit
codes taken four dimensions at a time. Called by `indexes/parts.py`.

All are looked up 32 rows at a time in registers (`nibbles.py`). Of 8-bit codes these are the high halves: centres are ordered so
that 16 which share one lie together, and only the rows nearest by the means of those are looked up in full. A distance is
`base[row] + list's share - weight * slope[row] * <code, query>`; base and slope are worked out beforehand.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.compute.cpu.lists import Coarse, Within, run_of, worth_looking
from ergonaut_vectors.domain.compute.cpu.machine import kernel, lowest, sum_kernel
from ergonaut_vectors.domain.compute.cpu.memory import address_of
from ergonaut_vectors.domain.compute.cpu.nibbles import BLOCK_ROWS, CHOICES, block_sums, table_of
from ergonaut_vectors.domain.compute.cpu.pool import (
    POOL_TIMES,
    Keys,
    cut,
    entry_of,
    far_of,
    nearer_of_32,
    row_of,
    taken,
)
from ergonaut_vectors.domain.compute.cpu.scan import INNER, RowNumbers
from ergonaut_vectors.domain.space import Floats, Words

FULL_TIMES = 5
"""Rows that are looked up in full, as a multiple of those that are kept: more raise recall by less than half a point."""

FULL_ROWS_MIN = 320
"""The least of them, for where few are kept the nearest few by high halves are not the nearest."""

_NO_ROW = np.uint64(0)
_ONE = np.uint64(1)
_LOW, _HIGH = 15, 240
_TWO = np.float32(2.0)
_INFINITE = np.float32(np.inf)


class Products(NamedTuple):
    """Codes of parts of rows that were turned, and what their distances are made of; rows are filled up to whole blocks."""

    packed: npt.NDArray[np.uint8]  # [blocks, pairs of parts, 32]: 4-bit codes, or the high halves of 8-bit codes
    lows: npt.NDArray[np.uint8]  # [rows, pairs of parts]: the low halves; of length 0 where codes are of 4 bits
    slopes: Floats  # [blocks * 32], or of length 0 where all are 1
    bases: Floats  # [blocks * 32]
    rotation: Floats  # [dimension, parts * width of a part], or of length 0 where nothing is turned
    centres: Floats  # [parts, width of a part, choices]


class Worth(NamedTuple):
    """What sums of tables are worth as distances of one query."""

    weight: Any
    base: Any
    step: Any


class Tables(NamedTuple):
    """What each code is worth to one query."""

    full: Floats  # [parts, choices]; of 8-bit codes without what their high halves are worth
    rough: Floats  # [parts, 16]: the means of those that share a high half
    steps: npt.NDArray[np.uint8]  # [parts, 16]: the same in whole steps


@sum_kernel
def turned(query: Floats, rotation: Floats, out: Floats) -> None:
    """The query times the rotation, [dimension, out]; numbers of `out` behind its columns are left as they are."""
    if not rotation.shape[0]:
        out[: query.shape[0]] = query
        return
    for j in range(rotation.shape[1]):
        out[j] = np.float32(0.0)
    for i in range(0, rotation.shape[0] - 3, 4):
        one, two, three, four = query[i], query[i + 1], query[i + 2], query[i + 3]
        for j in range(rotation.shape[1]):
            out[j] += (one * rotation[i, j] + two * rotation[i + 1, j]) + (
                three * rotation[i + 2, j] + four * rotation[i + 3, j]
            )
    for i in range(rotation.shape[0] & ~3, rotation.shape[0]):
        for j in range(rotation.shape[1]):
            out[j] += query[i] * rotation[i, j]


@sum_kernel
def part_products(query: Floats, centres: Floats, products: Floats) -> None:
    """The inner product of each part of a query with each centre of that part."""
    parts, width, choices = centres.shape
    for part in range(parts):
        for choice in range(choices):
            products[part, choice] = query[part * width] * centres[part, 0, choice]
        for j in range(1, width):
            number = query[part * width + j]
            for choice in range(choices):
                products[part, choice] += number * centres[part, j, choice]


@sum_kernel
def _means(full: Floats, rough: Floats) -> None:
    """The mean of each 16 that share a high half."""
    for part in range(full.shape[0]):
        for high in range(CHOICES):
            total = np.float32(0.0)
            for low in range(CHOICES):
                total += full[part, high * CHOICES + low]
            rough[part, high] = total / np.float32(CHOICES)


@sum_kernel
def _take_off(full: Floats, step: Any, steps: npt.NDArray[np.uint8]) -> None:
    """Leave of the full tables what the steps of high halves do not say."""
    for part in range(full.shape[0]):
        for high in range(CHOICES):
            said = step * np.float32(steps[part, high])
            for low in range(CHOICES):
                full[part, high * CHOICES + low] -= said


@kernel
def _worth_of(metric: int, tables: Tables) -> Worth:
    """Fill the tables of whole steps from those of floats; gives what they are worth."""
    weight = np.float32(1.0) if metric == INNER else _TWO
    if tables.full.shape[1] == CHOICES:
        base, step = table_of(tables.full, tables.steps)
        return Worth(weight, weight * base, weight * step)
    _means(tables.full, tables.rough)
    base, step = table_of(tables.rough, tables.steps)
    _take_off(tables.full, step, tables.steps)
    return Worth(weight, weight * base, weight * step)


@sum_kernel
def _estimate(products: Products, block: Any, worth: Worth, share: Any, sums: Any, out: Floats) -> None:
    """The distances by codes of the rows of a block."""
    first = block * BLOCK_ROWS
    if products.slopes.shape[0]:
        for i in range(BLOCK_ROWS):
            product = worth.base + worth.step * np.float32(sums[i])
            out[i] = products.bases[first + i] + share - products.slopes[first + i] * product
        return
    share -= worth.base
    for i in range(BLOCK_ROWS):
        out[i] = products.bases[first + i] + share - worth.step * np.float32(sums[i])


@kernel
def _that_count(run: tuple[Any, Any], block: Any, allowed: Words) -> Any:
    """The rows of a block that are in a run and allowed, a bit each."""
    first, after = max(run[0] - block * BLOCK_ROWS, 0), min(run[1] - block * BLOCK_ROWS, BLOCK_ROWS)
    bits = ((_ONE << np.uint64(after)) - _ONE) & ~((_ONE << np.uint64(first)) - _ONE)
    return bits & (allowed[block >> 1] >> np.uint64((block & 1) * BLOCK_ROWS)) if allowed.shape[0] else bits


@kernel
def _collected(
    products: Products, coarse: Coarse, within: Within, asked: tuple[Any, Any, Any], room: tuple[Any, Any, Any, Any]
) -> Any:
    """The candidates of one query by 4-bit codes or high halves, in the pool; gives how many."""
    pool, sums, estimates, places = room
    q, steps, worth = asked
    kept, size, worst = (pool.shape[0] - BLOCK_ROWS) // POOL_TIMES, 0, _INFINITE
    for place in range(worth_looking(coarse, within, q, places)):
        run = run_of(coarse, within.probes.lists[q, places[place]])
        share = within.probes.shares[q, places[place]]
        for block in range(run[0] // BLOCK_ROWS, (run[1] - 1) // BLOCK_ROWS + 1):
            wanted = _that_count(run, block, within.allowed)
            if wanted == _NO_ROW:
                continue
            block_sums(products.packed, block, steps, sums)
            _estimate(products, block, worth, share, sums, estimates)
            nearer = nearer_of_32(address_of(estimates), worst) & wanted
            while nearer != _NO_ROW:
                lane = lowest(nearer)
                nearer &= nearer - _ONE
                pool[size] = entry_of(estimates[lane], block * BLOCK_ROWS + lane)
                size += 1
            if size > POOL_TIMES * kept:
                worst = cut(pool, size, kept)
                size = kept
    if size > kept:
        cut(pool, size, kept)
    return min(size, kept)


@sum_kernel
def _rest_of(products: Products, row: Any, full: Floats) -> Any:
    """The sum of what the full tables say beyond high halves."""
    block, lane = row // BLOCK_ROWS, row % BLOCK_ROWS
    even, odd = np.float32(0.0), np.float32(0.0)
    for pair in range(products.packed.shape[1]):
        high, low = np.intp(products.packed[block, pair, lane]), np.intp(products.lows[row, pair])
        even += full[2 * pair, (high & _LOW) << 4 | low & _LOW]
        odd += full[2 * pair + 1, high & _HIGH | low >> 4]
    return even + odd


@kernel
def _look_up_in_full(products: Products, full: Floats, worth: Worth, pool: Keys, size: Any) -> None:
    """Let candidates be as far as their whole codes say."""
    for at in range(size):
        row = row_of(pool[at])
        far = far_of(pool[at]) + worth.base - worth.weight * _rest_of(products, row, full)
        pool[at] = entry_of(far, row)


@kernel
def candidates_by_parts(products: Products, coarse: Coarse, queries: Floats, within: Within, found: RowNumbers) -> None:
    """The rows nearest by codes of their parts, in any order."""
    parts, width, choices = products.centres.shape
    is_halved, kept = choices > CHOICES, found.shape[1]
    turned_query = np.zeros(parts * width, np.float32)
    tables = Tables(
        np.empty((parts, choices), np.float32),
        np.empty((parts, CHOICES), np.float32),
        np.empty((parts, CHOICES), np.uint8),
    )
    looked_up = max(FULL_TIMES * kept, FULL_ROWS_MIN) if is_halved else kept
    pool = np.empty(POOL_TIMES * looked_up + BLOCK_ROWS, np.int64)
    places = np.empty(within.probes.lists.shape[1], np.int32)
    room = (pool, np.empty(BLOCK_ROWS, np.uint16), np.empty(BLOCK_ROWS, np.float32), places)
    for q in range(queries.shape[0]):
        turned(queries[q], products.rotation, turned_query)
        part_products(turned_query, products.centres, tables.full)
        worth = _worth_of(within.metric, tables)
        size = _collected(products, coarse, within, (q, tables.steps, worth), room)
        if is_halved:
            _look_up_in_full(products, tables.full, worth, pool, size)
        taken(pool, size, found[q])


__all__ = ["Products", "candidates_by_parts", "part_products", "turned"]
