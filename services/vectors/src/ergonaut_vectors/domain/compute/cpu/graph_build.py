"""Builds a graph over codes, in as many threads as are wanted. Called by `indexes/graph.py`.

A row is linked to the nearest that a walk finds, of those that lie in different directions, and they to it (Malkov, Yashunin:
Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small World graphs, 2018, algorithms 1
and 4). The row of the highest level is the entry from the start, so that no two threads ever contend for that.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ergonaut_vectors.domain.compute.cpu.code_gaps import code_gap, fetch_row
from ergonaut_vectors.domain.compute.cpu.graph_walk import (
    NONE,
    Graph,
    Keys,
    RowNumbers,
    Scratch,
    descend,
    key_at,
    put,
    row_at,
    row_of,
    walk,
)
from ergonaut_vectors.domain.compute.cpu.machine import kernel
from ergonaut_vectors.domain.compute.cpu.memory import KEY_BYTES, ROW_BYTES, load_key, load_row, store_row

LOCKS = 4096
"""Rows share so many locks, by their number: two threads rarely want one at the same time."""

_I32 = ir.IntType(32)
_UINT = np.uint64


def _step(function: Callable[..., Any]) -> Callable[..., Any]:
    return cast(Callable[..., Any], intrinsic(function))


@_step
def _exchange(context: Any, address: Any, value: Any) -> Any:  # noqa: ARG001
    """Put a value in place of another, which is given; no thread sees anything between."""

    def generate(_: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        pointer = builder.inttoptr(arguments[0], _I32.as_pointer())
        return builder.atomic_rmw("xchg", pointer, arguments[1], "seq_cst")

    return types.int32(types.intp, types.int32), generate


@kernel
def _lock(locks: RowNumbers, row: Any) -> None:
    if locks.shape[0]:
        address = locks.ctypes.data + (row & (LOCKS - 1)) * 4
        while _exchange(address, np.int32(1)) != 0:
            pass


@kernel
def _unlock(locks: RowNumbers, row: Any) -> None:
    if locks.shape[0]:
        _exchange(locks.ctypes.data + (row & (LOCKS - 1)) * 4, np.int32(0))


@kernel
def _choose(graph: Graph, keys: Any, size: Any, row: Any, count_max: Any) -> Any:
    """Fill a row of links with candidates, nearest first, that lie in different directions; gives their number.

    One is passed over when it is nearer to one already chosen than to the centre: it can be reached through that one.
    """
    chosen = 0
    for i in range(size):
        if chosen == count_max:
            break
        key = load_key(keys + i * KEY_BYTES)
        candidate, far = row_of(key), key >> 32
        place = graph.codes + candidate * graph.width
        different = True
        for j in range(chosen):
            other = graph.codes + np.int64(load_row(row + j * ROW_BYTES)) * graph.width
            if code_gap(graph.form, place, other, graph.width) < far:
                different = False
                break
        if different:
            store_row(row + chosen * ROW_BYTES, np.int32(candidate))
            chosen += 1
    return chosen


@kernel
def _held(row: Any, breadth: Any) -> Any:
    """How many links a row has."""
    size = 0
    while size < breadth and load_row(row + size * ROW_BYTES) >= 0:
        size += 1
    return size


@kernel
def _link_back(graph: Graph, keys: Any, links: Any, centre: Any, slot: Any) -> None:
    """Add a slot to the row of the centre; choose the whole row anew when it is full."""
    row, breadth = links
    size = _held(row, breadth)
    if size < breadth:
        store_row(row + size * ROW_BYTES, np.int32(slot))
        return
    query, kept = graph.codes + centre * graph.width, np.int64(0)
    for i in range(size):
        fetch_row(graph.codes + np.int64(load_row(row + i * ROW_BYTES)) * graph.width, graph.width)
    for i in range(size + 1):
        other = np.int64(slot) if i == size else np.int64(load_row(row + i * ROW_BYTES))
        _, kept = put(keys, kept, size + 1, key_at(graph, other, query))
    # The row is read by others while it is written: they may miss a link for a moment, and never find one that is none.
    for i in range(_choose(graph, keys, kept, row, breadth), breadth):
        store_row(row + i * ROW_BYTES, np.int32(NONE))


@kernel
def _merge(links: Any, own: Any, chosen: Any) -> None:
    """Write a row's first links; what other threads linked back meanwhile stays where there is room."""
    row, breadth = links
    size = _held(row, breadth)
    for i in range(chosen):
        candidate, known = load_row(own + i * ROW_BYTES), False
        for j in range(size):
            known = known or load_row(row + j * ROW_BYTES) == candidate
        if not known and size < breadth:
            store_row(row + size * ROW_BYTES, candidate)
            size += 1


@kernel
def _insert(graph: Graph, scratch: Scratch, slot: Any, level: Any, breadth: tuple[Any, Keys, RowNumbers]) -> None:
    candidates, spare, locks = breadth
    query, keys = graph.codes + slot * graph.width, scratch.keys.ctypes.data
    start = np.int64(descend(graph, query, graph.entry, (graph.top, level)))
    own = np.empty(graph.narrow, np.int32)
    for at in range(min(graph.top, level), -1, -1):
        size = walk(graph, scratch, query, start, (at, candidates, 0, 0))
        kept = 0
        for i in range(size):
            # Another thread's row may lead here already; it is no neighbour of its own.
            if row_of(scratch.keys[i]) != slot:
                scratch.keys[kept] = scratch.keys[i]
                kept += 1
        start = np.int64(row_of(scratch.keys[0]))
        chosen = _choose(graph, keys, kept, own.ctypes.data, graph.narrow)
        _lock(locks, slot)
        _merge(row_at(graph, slot, at), own.ctypes.data, chosen)
        _unlock(locks, slot)
        for i in range(chosen):
            centre = np.int64(own[i])
            _lock(locks, centre)
            _link_back(graph, spare.ctypes.data, row_at(graph, centre, at), centre, slot)
            _unlock(locks, centre)


@kernel
def insert_rows(graph: Graph, scratch: Scratch, levels: npt.NDArray[np.int8], slots: Any, breadth: Any) -> None:
    """Link the rows of a range (first, after, step) into the graph; the entry is there already.

    `breadth` is (candidates of a walk, room for a row's candidates, locks): no locks where one thread does it all.
    """
    for slot in range(slots[0], slots[1], slots[2]):
        if slot != graph.entry:
            _insert(graph, scratch, slot, levels[slot], breadth)


@kernel
def levels_of(count: Any, links: Any, seed: Any) -> npt.NDArray[np.int8]:
    """The highest level of each row, by a hash of its number: one in `links` is on level 1 or above, and so on."""
    levels = np.zeros(count, np.int8)
    for row in range(count):
        mixed = _UINT(0x9E3779B97F4A7C15) * _UINT(row + 1 + seed)
        mixed = (mixed ^ (mixed >> _UINT(30))) * _UINT(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> _UINT(27))) * _UINT(0x94D049BB133111EB)
        fraction = (np.float64((mixed ^ (mixed >> _UINT(31))) >> _UINT(11)) + 1.0) / 9007199254740993.0
        levels[row] = min(12, int(-np.log(fraction) / np.log(np.float64(links))))
    return levels


@kernel
def breadth_first(links: RowNumbers, entry: Any) -> npt.NDArray[np.int64]:
    """The rows in the order in which a search through all of the lowest level meets them; unreachable ones come last."""
    count, after, at, next_unseen = links.shape[0], 0, 0, 0
    order = np.empty(count, np.int64)
    seen = np.zeros(count, np.bool_)
    start = entry
    while after < count:
        if at == after:
            while after and seen[next_unseen]:
                next_unseen += 1
            start = next_unseen if after else entry
            seen[start] = True
            order[after] = start
            after += 1
        row = links[order[at]]
        at += 1
        for i in range(row.shape[0]):
            if row[i] == NONE:
                break
            if not seen[row[i]]:
                seen[row[i]] = True
                order[after] = row[i]
                after += 1
    return order
