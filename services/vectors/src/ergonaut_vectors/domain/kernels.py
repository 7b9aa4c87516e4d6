"""The loops of vector search, compiled by numba: a graph that grows (HNSW), a search along it, and an exact search.

`index.py` owns the arrays and calls these; `plain.py` says the same in plain Python, and a test compares the two. Everything
here releases the interpreter, so searches run beside each other and beside the one writer. All kernels stand in this one
file because numba's cache on disk notices a change only in the file of the kernel that is called.

How readers and the writer share the arrays: a slot is `born` at one position of the log and has `died` at another, and a
reader at position S sees exactly the slots with born <= S < died. Links may change under a reader's feet; that only changes
its path, for every link ever written names a slot whose vector is complete, and what is not yet born is never an answer.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

SQUARED_L2 = 0
"""Near means a small sum of squared differences."""

INNER = 1
"""Near means a large inner product; the distance is minus that."""

NONE = -1
"""No slot: ends a row of links, and stands for the entry of an empty graph."""

EVERYBODY = -1
"""A position at which liveness is not asked for: the walk of an insertion, which may link to the dead."""

ALIVE = np.iinfo(np.int64).max
"""`died` of what lives, and `born` of a slot that has not been written."""

POOL_SLACK = 8
"""The pool holds at most this many times its width: those that are dead but near must be walked through, within a bound."""

_SEEN_ALL = 0xFFFFFFFF
_EXPANDED = 1
_COUNTS = 2

# Sums may be taken in any order, so that they use the machine's wide registers. The other liberties of fastmath assume that
# no number is infinite; the limits on what is stored see to that, but nothing here would gain by them.
_SUM_LIBERTIES = {"reassoc", "contract", "nsz"}

_Function = TypeVar("_Function", bound=Callable[..., Any])

Floats = npt.NDArray[np.float32]
Slots = npt.NDArray[np.int32]
Positions = npt.NDArray[np.int64]


class Graph(NamedTuple):
    """The vectors and their links. Rows of links end at NONE or at their width."""

    metric: int
    vectors: Floats  # [capacity, width]; the width is the dimension, filled up with zeros
    links: Slots  # [capacity, 2 * links]; the lowest level, where every slot is
    upper: Slots  # [rows, links]; the levels above, a row for each level of each slot that is there
    upper_row: Slots  # [capacity]; where the rows of a slot begin in `upper`
    level: Slots  # [capacity]; the highest level of a slot
    born: Positions  # [capacity]
    died: Positions  # [capacity]


class Scratch(NamedTuple):
    """What one walk at a time writes on. `seen[slot] == epoch[0]` says that this walk has been there."""

    seen: npt.NDArray[np.uint32]  # [capacity]
    epoch: npt.NDArray[np.uint32]  # [1]
    pool_distance: Floats  # [POOL_SLACK * width + 1]
    pool_slot: Slots
    pool_state: npt.NDArray[np.uint8]
    row_distance: Floats  # [2 * links + 1]
    row_slot: Slots


class View(NamedTuple):
    """What a reader sees: the log up to `position`, held in the first `used` slots, entered at `entry`."""

    position: int
    used: int
    entry: int


class Found(NamedTuple):
    """Answers, nearest first; a row that finds fewer ends with NONE."""

    slots: Slots  # [queries, limit]
    distances: Floats


def _kernel(function: _Function) -> _Function:
    return cast(_Function, numba.njit(cache=True, nogil=True, boundscheck=False, error_model="numpy")(function))


def _sum_kernel(function: _Function) -> _Function:
    compiled = numba.njit(cache=True, nogil=True, boundscheck=False, error_model="numpy", fastmath=_SUM_LIBERTIES)
    return cast(_Function, compiled(function))


@_sum_kernel
def distance(metric: int, one: Floats, other: Floats) -> np.float32:
    """How far two vectors are from each other."""
    total = np.float32(0.0)
    if metric == SQUARED_L2:
        for i in range(one.shape[0]):
            gap = one[i] - other[i]
            total += gap * gap
        return total
    for i in range(one.shape[0]):
        total += one[i] * other[i]
    return -total


@_kernel
def _begin_walk(scratch: Scratch) -> Any:
    """A new epoch, in which nothing has been seen; the marks are wiped when the numbers run out."""
    if scratch.epoch[0] == np.uint32(_SEEN_ALL):
        scratch.seen[:] = np.uint32(0)
        scratch.epoch[0] = np.uint32(0)
    scratch.epoch[0] += np.uint32(1)
    return scratch.epoch[0]


@_kernel
def _place_in(distances: Floats, slots: Slots, size: int, far: np.float32, slot: int) -> int:
    """Where (far, slot) belongs in a list sorted by distance and then slot."""
    low, high = 0, size
    while low < high:
        middle = (low + high) >> 1
        if distances[middle] < far or (distances[middle] == far and slots[middle] < slot):
            low = middle + 1
        else:
            high = middle
    return low


@_kernel
def _put_in(scratch: Scratch, size: int, at: int, far: np.float32, slot: int) -> None:
    """Put a slot into the pool at a place, and move what lies behind it one place back."""
    for i in range(size, at, -1):
        scratch.pool_distance[i] = scratch.pool_distance[i - 1]
        scratch.pool_slot[i] = scratch.pool_slot[i - 1]
        scratch.pool_state[i] = scratch.pool_state[i - 1]
    scratch.pool_distance[at] = far
    scratch.pool_slot[at] = slot


@_kernel
def _state_at(graph: Graph, slot: int, position: int) -> int:
    """The first state of a slot in the pool: whether it counts for a reader at this position."""
    if position == EVERYBODY or graph.born[slot] <= position < graph.died[slot]:
        return _COUNTS
    return 0


@_kernel
def _trim(scratch: Scratch, size: int, counting: int, width: int) -> tuple[int, int]:
    """Cut the far end off until at most `width` entries count and nothing lies behind the last of them."""
    while counting > width or (counting == width and scratch.pool_state[size - 1] & _COUNTS == 0):
        size -= 1
        if scratch.pool_state[size] & _COUNTS:
            counting -= 1
    if size > POOL_SLACK * width:
        size -= 1
        if scratch.pool_state[size] & _COUNTS:
            counting -= 1
    return size, counting


@_kernel
def walk(graph: Graph, scratch: Scratch, query: Floats, start: int, bounds: tuple[int, int, int]) -> int:
    """Follow the links of a level from `start` towards the query; leaves the nearest in the pool and gives their number.

    `bounds` is (level, width, position): the pool keeps the `width` nearest that live at the position, and between them the
    dead, through which the walk may have to go.
    """
    level, width, position = bounds
    epoch = _begin_walk(scratch)
    scratch.seen[start] = epoch
    _put_in(scratch, 0, 0, distance(graph.metric, query, graph.vectors[start]), start)
    state = _state_at(graph, start, position)
    scratch.pool_state[0] = state
    size, at, counting = 1, 0, int(state == _COUNTS)
    while at < size:
        if scratch.pool_state[at] & _EXPANDED:
            at += 1
            continue
        scratch.pool_state[at] |= _EXPANDED
        slot = scratch.pool_slot[at]
        row = graph.links[slot] if level == 0 else graph.upper[graph.upper_row[slot] + level - 1]
        first_new = size
        for i in range(row.shape[0]):
            other = row[i]
            if other == NONE:
                break
            if scratch.seen[other] == epoch:
                continue
            scratch.seen[other] = epoch
            far = distance(graph.metric, query, graph.vectors[other])
            place = _place_in(scratch.pool_distance, scratch.pool_slot, size, far, other)
            if place == size and counting == width:
                continue
            _put_in(scratch, size, place, far, other)
            state = _state_at(graph, other, position)
            scratch.pool_state[place] = state
            size, counting = _trim(scratch, size + 1, counting + int(state == _COUNTS), width)
            first_new = min(first_new, place)
        at = min(at + 1, first_new)
    return size


@_kernel
def _descend(graph: Graph, scratch: Scratch, query: Floats, start: int, levels: tuple[int, int]) -> int:
    """The slot nearest to the query that greedy walks find, from the first level down to the one above the second."""
    above, below = levels
    for level in range(above, below, -1):
        walk(graph, scratch, query, start, (level, 1, EVERYBODY))
        start = scratch.pool_slot[0]
    return start


@_kernel
def _choose(graph: Graph, distances: Floats, slots: Slots, size: int, row: Slots) -> int:
    """Fill the row with at most `row.shape[0]` neighbours that lie in different directions; gives their number.

    The candidates come nearest first. One is passed over when it is strictly nearer to a neighbour already chosen than to
    the centre: it can be reached through that one. The arrays of candidates are not the row itself.
    """
    chosen = 0
    for i in range(size):
        if chosen == row.shape[0]:
            break
        different = True
        for j in range(chosen):
            if distance(graph.metric, graph.vectors[slots[i]], graph.vectors[row[j]]) < distances[i]:
                different = False
                break
        if different:
            row[chosen] = slots[i]
            chosen += 1
    return chosen


@_kernel
def _link_back(graph: Graph, scratch: Scratch, slot: int, centre: int, level: int) -> None:
    """Add the slot to the row of the centre; choose the whole row anew when it is full."""
    row = graph.links[centre] if level == 0 else graph.upper[graph.upper_row[centre] + level - 1]
    size = 0
    while size < row.shape[0] and row[size] != NONE:
        size += 1
    if size < row.shape[0]:
        row[size] = slot
        return
    kept = 0
    for i in range(size + 1):
        other = slot if i == size else row[i]
        far = distance(graph.metric, graph.vectors[other], graph.vectors[centre])
        place = _place_in(scratch.row_distance, scratch.row_slot, kept, far, other)
        for j in range(kept, place, -1):
            scratch.row_distance[j] = scratch.row_distance[j - 1]
            scratch.row_slot[j] = scratch.row_slot[j - 1]
        scratch.row_distance[place] = far
        scratch.row_slot[place] = other
        kept += 1
    chosen = _choose(graph, scratch.row_distance, scratch.row_slot, kept, row)
    row[chosen:] = NONE


@_kernel
def _insert(graph: Graph, scratch: Scratch, slot: int, entry: int, width: int) -> int:
    """Link one written slot into the graph; gives the entry of the graph from now on."""
    if entry == NONE:
        return slot
    query, top, level = graph.vectors[slot], graph.level[entry], graph.level[slot]
    links = graph.upper.shape[1]
    start = _descend(graph, scratch, query, entry, (top, level))
    for at in range(min(top, level), -1, -1):
        size = walk(graph, scratch, query, start, (at, width, EVERYBODY))
        start = scratch.pool_slot[0]
        own = graph.links[slot] if at == 0 else graph.upper[graph.upper_row[slot] + at - 1]
        chosen = _choose(graph, scratch.pool_distance, scratch.pool_slot, size, own[:links])
        for i in range(chosen):
            _link_back(graph, scratch, slot, own[i], at)
    return slot if level > top else entry


@_kernel
def insert_slots(graph: Graph, scratch: Scratch, slots: tuple[int, int], entry: int, width: int) -> int:
    """Link the written slots from the first up to but not including the second; gives the graph's entry from now on."""
    for slot in range(slots[0], slots[1]):
        entry = _insert(graph, scratch, slot, entry, width)
    return entry


@_kernel
def search_graph(graph: Graph, scratch: Scratch, queries: Floats, view: View, width: int, found: Found) -> None:
    """For each query the nearest that a walk of this width finds."""
    limit = found.slots.shape[1]
    for q in range(queries.shape[0]):
        count = 0
        if view.entry != NONE:
            start = _descend(graph, scratch, queries[q], view.entry, (graph.level[view.entry], 0))
            size = walk(graph, scratch, queries[q], start, (0, width, view.position))
            for i in range(size):
                if count < limit and scratch.pool_state[i] & _COUNTS:
                    found.slots[q, count] = scratch.pool_slot[i]
                    found.distances[q, count] = scratch.pool_distance[i]
                    count += 1
        found.slots[q, count:] = NONE


@_kernel
def search_all(graph: Graph, queries: Floats, view: View, found: Found) -> None:
    """For each query the nearest of all; the answer is exact."""
    limit = found.slots.shape[1]
    for q in range(queries.shape[0]):
        slots, distances, count = found.slots[q], found.distances[q], 0
        for slot in range(view.used):
            if not (graph.born[slot] <= view.position < graph.died[slot]):
                continue
            far = distance(graph.metric, queries[q], graph.vectors[slot])
            if count == limit and far >= distances[limit - 1]:
                continue
            place = _place_in(distances, slots, count, far, slot)
            count = min(count + 1, limit)
            for i in range(count - 1, place, -1):
                distances[i] = distances[i - 1]
                slots[i] = slots[i - 1]
            distances[place] = far
            slots[place] = slot
        slots[count:] = NONE
