"""Walks over a graph of codes, and searches made of them. Called by `indexes/graph.py` and by the kernels that build.

The pool of a walk is one sorted list of numbers: a row's gap in the upper half, the row in the lower, and in the lowest bit
whether it has been expanded. One comparison orders two entries, and moving them is moving memory. Arrays are told by their
addresses: walks do nothing but read a few bytes here and there, so that even counting a view would be seen.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.compute.cpu.code_gaps import LINE_BYTES, code_gap, fetch, fetch_row
from ergonaut_vectors.domain.compute.cpu.machine import kernel, lowest
from ergonaut_vectors.domain.compute.cpu.memory import (
    KEY_BYTES,
    MARK_BYTES,
    ROW_BYTES,
    add_key,
    load_key,
    load_mark,
    load_row,
    store_key,
    store_mark,
    store_row,
)
from ergonaut_vectors.domain.compute.cpu.scan import gap, scan, word_of
from ergonaut_vectors.domain.space import Floats, Words

NONE = -1
"""Ends a row of links."""

_EXPANDED = np.int64(1)
_ROW = np.int64(0x7FFFFFFF)
_EPOCH_LAST = 0xFFFF
_WORD_LAST = np.uint64(63)
_ONE = np.uint64(1)
_ZERO = np.uint64(0)
_LINES_COMPARED = 8
"""Lines of a row that are fetched before it is compared as it is."""

Keys = npt.NDArray[np.int64]
RowNumbers = npt.NDArray[np.int32]


class Graph(NamedTuple):
    """Where the codes of rows are, and their links, which end at NONE or at the width; numbers alone."""

    form: int
    """What is near: SQUARES, PRODUCTS or BITS."""
    codes: int
    width: int
    """Bytes of a row of codes, a multiple of BLOCK_BYTES."""
    links: int
    """[count, breadth]; the lowest level, where every row is."""
    breadth: int
    upper: int
    """[rows of the levels above, narrow]."""
    narrow: int
    upper_row: int
    """[count]; where the rows of a row's upper levels begin in `upper`."""
    entry: int
    top: int
    """The level of the entry, which no other exceeds."""


class Scratch(NamedTuple):
    """What one walk at a time writes on. `seen[row] == epoch[0]` says that this walk has been there."""

    seen: npt.NDArray[np.uint16]  # [count]
    epoch: npt.NDArray[np.uint16]  # [1]
    keys: Keys  # [width + 1]
    fresh: RowNumbers  # [breadth + 1]
    code: npt.NDArray[np.int8]  # [width of a row of codes]; the query's


@kernel
def row_of(key: Any) -> Any:
    """The row of an entry of a pool."""
    return (key >> 1) & _ROW


@kernel
def key_at(graph: Graph, row: Any, query: Any) -> Any:
    """The entry of a row in the pool of a walk towards the code at the address `query`."""
    far = np.int64(code_gap(graph.form, graph.codes + row * graph.width, query, graph.width))
    return (far << 32) | (np.int64(row) << 1)


@kernel
def row_at(graph: Graph, row: Any, level: Any) -> Any:
    """The address of a row's links on a level, and how many there may be."""
    if level == 0:
        return graph.links + np.int64(row) * graph.breadth * ROW_BYTES, graph.breadth
    slot = np.int64(load_row(graph.upper_row + np.int64(row) * ROW_BYTES)) + level - 1
    return graph.upper + slot * graph.narrow * ROW_BYTES, graph.narrow


@kernel
def _begin(scratch: Scratch) -> Any:
    """A new epoch, in which nothing has been seen; the marks are wiped when the numbers run out."""
    if scratch.epoch[0] == _EPOCH_LAST:
        scratch.seen[:] = 0
        scratch.epoch[0] = 0
    scratch.epoch[0] += 1
    return scratch.epoch[0]


@kernel
def put(keys: Any, size: Any, width: Any, key: Any) -> Any:
    """Put an entry into a sorted list of at most `width`, at an address; gives its place, and how many there are now."""
    if size == width and key >= load_key(keys + (size - 1) * KEY_BYTES):
        return width, size
    low, left = np.int64(0), np.int64(size)
    while left > 1:
        # Without a branch that nobody can foretell.
        half = left >> 1
        low += half if load_key(keys + (low + half - 1) * KEY_BYTES) < key else 0
        left -= half
    if size and load_key(keys + low * KEY_BYTES) < key:
        low += 1
    last = size if size < width else width - 1
    for at in range(last, low, -1):
        store_key(keys + at * KEY_BYTES, load_key(keys + (at - 1) * KEY_BYTES))
    store_key(keys + low * KEY_BYTES, key)
    return low, last + 1


@kernel
def _gather(graph: Graph, links: Any, seen: Any, epoch: Any, fresh: Any) -> Any:
    """The links that this walk has not been to; their codes are fetched while the others are looked at."""
    address, breadth = links
    count = 0
    for i in range(breadth):
        other = np.int64(load_row(address + i * ROW_BYTES))
        if other < 0:
            break
        if load_mark(seen + other * MARK_BYTES) != epoch:
            store_mark(seen + other * MARK_BYTES, epoch)
            store_row(fresh + count * ROW_BYTES, np.int32(other))
            count += 1
            fetch_row(graph.codes + other * graph.width, graph.width)
    return count


@kernel
def _counts(allowed: Any, key: Any) -> Any:
    """1 where the row of an entry is allowed, by words at an address; else 0."""
    row = row_of(key)
    return (load_key(allowed + (row >> 6) * KEY_BYTES) >> (row & 63)) & 1


@kernel
def walk(graph: Graph, scratch: Scratch, query: Any, start: Any, bounds: Any) -> Any:
    """Follow the links of a level from `start` towards the code at the address `query`; gives the size of the pool.

    `bounds` is (level, width, allowed, enough): the pool keeps the `width` nearest, and a walk ends before all of these have been
    expanded when among the nearest so many have been that are allowed. `allowed` is an address of words, 0 where all count.
    """
    level, pool, allowed, enough = bounds
    epoch = _begin(scratch)
    keys, seen, fresh = scratch.keys.ctypes.data, scratch.seen.ctypes.data, scratch.fresh.ctypes.data
    store_mark(seen + start * MARK_BYTES, epoch)
    store_key(keys, key_at(graph, np.int64(start), query))
    size, at, inside = np.int64(1), np.int64(0), np.int64(0)
    while at < size:
        key = load_key(keys + at * KEY_BYTES)
        if key & _EXPANDED:
            if allowed:
                inside += _counts(allowed, key)
            at += 1
            continue
        if allowed and inside >= enough:
            break
        store_key(keys + at * KEY_BYTES, key | _EXPANDED)
        # Under a filter the entry itself is looked at once more, to be counted.
        first = at if allowed else at + 1
        for i in range(_gather(graph, row_at(graph, row_of(key), level), seen, epoch, fresh)):
            key = key_at(graph, np.int64(load_row(fresh + i * ROW_BYTES)), query)
            if size < pool or key < load_key(keys + (size - 1) * KEY_BYTES):
                place, size = put(keys, size, pool, key)
                if allowed:
                    for moved in range(place + 1, first + 1):
                        inside -= _counts(allowed, load_key(keys + moved * KEY_BYTES))
                first = min(first, place)
        at = first
        ahead = at + (load_key(keys + at * KEY_BYTES) & _EXPANDED)
        if ahead < size:
            links, _ = row_at(graph, row_of(load_key(keys + ahead * KEY_BYTES)), level)
            fetch(links)
            fetch(links + LINE_BYTES)
    return size


@kernel
def descend(graph: Graph, query: Any, start: Any, levels: Any) -> Any:
    """Where a greedy walk ends, from the first level down to the one above the second."""
    best = key_at(graph, np.int64(start), query)
    for level in range(levels[0], levels[1], -1):
        moved = True
        while moved:
            moved = False
            links, breadth = row_at(graph, row_of(best), level)
            for i in range(breadth):
                other = np.int64(load_row(links + i * ROW_BYTES))
                if other < 0:
                    break
                key = key_at(graph, other, query)
                if key >> 32 < best >> 32:
                    best, moved = key, True
    return row_of(best)


@kernel
def code_query(query: Any, offset: Floats, factor: Any, code: npt.NDArray[np.int8]) -> None:
    """Write a query as a code; what lies outside of what codes can say is taken to their edge.

    A factor of 0 copies bytes; one below 0 stands for the largest that leaves every number within.
    """
    if factor == 0:
        for i in range(query.shape[0]):
            code[i] = np.int8(query[i])
        return
    if factor < 0:
        most = np.float32(0.0)
        for i in range(query.shape[0]):
            most = max(most, abs(np.float32(query[i]) - offset[i]))
        factor = np.float32(127.0) / most if most > 0 else np.float32(1.0)
    for i in range(query.shape[0]):
        value = np.rint((np.float32(query[i]) - offset[i]) * factor)
        code[i] = np.int8(min(np.float32(127.0), max(np.float32(-128.0), value)))


@kernel
def _tell(keys: Keys, size: Any, distances: Floats, found: RowNumbers) -> None:
    """Tell the nearest of a pool, whose gaps are distances."""
    limit = min(size, found.shape[0])
    for i in range(limit):
        distances[i], found[i] = np.float32(keys[i] >> 32), np.int32(row_of(keys[i]))
    distances[limit:] = np.inf
    found[limit:] = NONE


@kernel
def _compare(metric: Any, sides: tuple[Any, Any], keys: Keys, size: Any, told: tuple[Floats, RowNumbers]) -> None:
    """Tell the nearest of the first of a pool, by the rows themselves."""
    rows, query = sides
    distances, found = told
    limit, kept, stride = found.shape[0], 0, rows.strides[0]
    for i in range(size):
        fetch_row(rows.ctypes.data + row_of(keys[i]) * stride, min(stride, _LINES_COMPARED * LINE_BYTES))
    for i in range(size):
        row = row_of(keys[i])
        far = gap(metric, rows, row, query)
        at = kept
        if kept == limit:
            if not (far < distances[at - 1] or (far == distances[at - 1] and row < found[at - 1])):
                continue
            at -= 1
        else:
            kept += 1
        while at > 0 and (far < distances[at - 1] or (far == distances[at - 1] and row < found[at - 1])):
            distances[at], found[at] = distances[at - 1], found[at - 1]
            at -= 1
        distances[at], found[at] = far, np.int32(row)
    distances[kept:] = np.inf
    found[kept:] = NONE


@kernel
def _only_allowed(keys: Keys, size: Any, allowed: Words) -> Any:
    """Leave those in the pool that count."""
    kept = 0
    for i in range(size):
        row = row_of(keys[i])
        if (allowed[row >> 6] >> (np.uint64(row) & _WORD_LAST)) & _ONE:
            keys[kept] = keys[i]
            kept += 1
    return kept


@kernel
def search_codes(graph: Graph, keys: Keys, query: Any, allowed: tuple[Words, Any], pool: Any) -> Any:
    """The allowed rows of so many whose codes are nearest, all being compared; gives how many are in the pool."""
    words, count = allowed
    address, size = keys.ctypes.data, np.int64(0)
    for at in range((count + 63) >> 6):
        word = word_of(words, at, count)
        while word != _ZERO:
            row = np.int64((at << 6) + lowest(word))
            word &= word - _ONE
            _, size = put(address, size, pool, key_at(graph, row, query))
    return size


@kernel
def _walked(graph: Graph, scratch: Scratch, query: Any, allowed: Words, widths: Any) -> Any:
    """The size of a pool of allowed rows that walks have filled, or -1 where they are to be scanned instead.

    `widths` are (pool, again, enough, needed): how wide the first walk is, 0 for none, and how wide another may be, for which the
    first tells how many of the rows near the query are allowed; after how many allowed rows a walk ends, and how many it must
    have found.
    """
    pool, again, enough, needed = widths
    if pool == 0:
        return np.int64(-1)
    start = descend(graph, query, graph.entry, (graph.top, 0))
    words = allowed.ctypes.data if allowed.shape[0] else 0
    while True:
        size = np.int64(walk(graph, scratch, query, start, (0, pool, words, enough)))
        if words:
            size = np.int64(_only_allowed(scratch.keys, size, allowed))
        if size >= needed:
            return size
        pool = pool * enough // size if size else again + 1
        if pool > again:
            return np.int64(-1)
        again = 0


@kernel
def search_graph(graph: Graph, scratch: Scratch, asked: Any, allowed: Words, sides: Any, told: Any) -> None:
    """For each query the nearest that walks find, or a scan where these find too few.

    `asked` is (metric, widths, compared): the widths of `_walked`, and how many are compared as they are, none where gaps of
    codes are distances. `sides` are rows, queries, and offset and factor of codes; `told` are distances, rows, and whose turn it
    is: the number of the next query, which threads that share a batch share too. They take one at a time, so that none is left
    with more than the others.
    """
    metric, widths, compared = asked
    rows, queries, offset, factor = sides
    distances, found, turn = told
    address, one_more = scratch.code.ctypes.data, np.int64(1)
    while True:
        q = add_key(turn.ctypes.data, one_more)
        if q >= queries.shape[0]:
            break
        code_query(queries[q], offset, factor, scratch.code)
        size = _walked(graph, scratch, address, allowed, widths)
        if size < 0:
            if compared:
                # Far from a query rows lie so close to each other that codes do not tell them apart.
                one = slice(q, q + 1)
                scan(metric, rows, queries[one], allowed, distances[one], found[one])
                continue
            # Every row has a mark.
            within = (allowed, scratch.seen.shape[0])
            size = np.int64(search_codes(graph, scratch.keys, address, within, found.shape[1]))
        if compared:
            _compare(metric, (rows, queries[q]), scratch.keys, min(size, compared), (distances[q], found[q]))
        else:
            _tell(scratch.keys, size, distances[q], found[q])
