"""The arrays of a graph, which grow by doubling, and what the one writer does to them. Used by `index.py`."""

import math
from collections import deque
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.kernels import (
    ALIVE,
    INNER,
    NONE,
    POOL_SLACK,
    SQUARED_L2,
    Floats,
    Found,
    Graph,
    Scratch,
    View,
    insert_slots,
    search_all,
    search_graph,
)
from ergonaut_vectors.domain.schema import Schema
from ergonaut_vectors.domain.space import Metric

CAPACITY_FIRST = 64
"""Slots of a new graph: a tenant with a hundred tiny collections should not pay for big ones."""

LEVEL_MAX = 12
"""With the fewest links, 4, a graph of 4**12 nodes is expected to have this many levels; more would never be walked."""

LANES = 8
"""Vectors are filled up with zeros to a multiple of this: float32 numbers in one AVX2 register, so no loop has a tail."""

SCRATCHES_MAX = 16
"""Scratches kept for later searches; more searches than this at once make their own."""

_Array = TypeVar("_Array", bound=npt.NDArray[Any])

_LEVEL_SEED = 0x9E3779B97F4A7C15
_64_BITS = (1 << 64) - 1


class GrowingGraph:
    """A graph to which one writer adds. Readers use the `graph` and `view` that they were handed earlier.

    Growing makes new arrays and copies; whoever holds the old ones still sees all that was in them. A death is then told
    in the new arrays only, which is right: it lies after the position of everybody who holds the old ones.
    """

    def __init__(self, schema: Schema) -> None:
        width = -(-schema.dimension // LANES) * LANES
        self._schema = schema
        self._used = 0
        self._rows_used = 0
        self._entry = NONE
        self._scratches: deque[Scratch] = deque(maxlen=SCRATCHES_MAX)
        self.graph = Graph(
            metric=SQUARED_L2 if schema.metric is Metric.L2 else INNER,
            vectors=np.zeros((0, width), np.float32),
            links=np.zeros((0, 2 * schema.links), np.int32),
            upper=np.zeros((0, schema.links), np.int32),
            upper_row=np.zeros(0, np.int32),
            level=np.zeros(0, np.int32),
            born=np.zeros(0, np.int64),
            died=np.zeros(0, np.int64),
        )

    def view(self, position: int) -> View:
        """What a reader at this position sees of the graph as it is now."""
        return View(position, self._used, self._entry)

    def add(self, vectors: Floats, position: int) -> int:
        """Write prepared vectors that live from this position on and link them; gives the first one's slot."""
        first, after = self._used, self._used + len(vectors)
        levels = np.array([level_of(slot, self._schema.links) for slot in range(first, after)], np.int32)
        self._reserve(after, self._rows_used + int(levels.sum()))
        graph = self.graph
        graph.vectors[first:after] = vectors
        graph.level[first:after] = levels
        graph.upper_row[first:after] = self._rows_used + np.cumsum(levels) - levels
        graph.born[first:after] = position
        self._used = after
        self._rows_used += int(levels.sum())
        scratch = self._take_scratch(graph, self._schema.candidates_build)
        self._entry = int(insert_slots(graph, scratch, (first, after), self._entry, self._schema.candidates_build))
        self._scratches.append(scratch)
        return first

    def end(self, slot: int, position: int) -> None:
        """Let a slot be dead from this position on; its links stay, so that walks still pass through it."""
        self.graph.died[slot] = position

    def prepared(self, vectors: Floats) -> Floats:
        """Vectors as the kernels want them: of length one for the cosine, and filled up with zeros."""
        if self._schema.metric is Metric.COSINE:
            lengths = np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1, keepdims=True))
            vectors = (vectors / lengths).astype(np.float32)
        missing = self.graph.vectors.shape[1] - vectors.shape[1]
        return np.ascontiguousarray(np.pad(vectors, ((0, 0), (0, missing))))

    def search(self, graph: Graph, view: View, queries: Floats, limit: int, candidates: int) -> Found:
        """The nearest that walks find, for prepared queries; safe beside the writer and other readers."""
        found = _nothing_found(len(queries), limit)
        scratch = self._take_scratch(graph, candidates)
        search_graph(graph, scratch, queries, view, candidates, found)
        self._scratches.append(scratch)
        return found

    def search_exactly(self, graph: Graph, view: View, queries: Floats, limit: int) -> Found:
        """The nearest of all, for prepared queries; safe beside the writer and other readers."""
        found = _nothing_found(len(queries), limit)
        search_all(graph, queries, view, found)
        return found

    def _take_scratch(self, graph: Graph, width: int) -> Scratch:
        """A scratch that nobody else writes on; one that has become too small is left to the garbage."""
        capacity, pool = len(graph.born), POOL_SLACK * width + 1
        try:
            scratch = self._scratches.pop()
        except IndexError:
            return new_scratch(capacity, pool, graph.links.shape[1] + 1)
        if len(scratch.seen) >= capacity and len(scratch.pool_slot) >= pool:
            return scratch
        return new_scratch(capacity, max(pool, len(scratch.pool_slot)), graph.links.shape[1] + 1)

    def _reserve(self, slots: int, rows: int) -> None:
        """Make room. All arrays are copied or none: one that two graphs shared would lead readers of the smaller astray."""
        old = self.graph
        capacity = _grown(len(old.born), slots)
        upper_capacity = _grown(len(old.upper), rows)
        if capacity == len(old.born) and upper_capacity == len(old.upper):
            return
        self.graph = Graph(
            metric=old.metric,
            vectors=_copied(old.vectors, capacity, 0),
            links=_copied(old.links, capacity, NONE),
            upper=_copied(old.upper, upper_capacity, NONE),
            upper_row=_copied(old.upper_row, capacity, NONE),
            level=_copied(old.level, capacity, 0),
            born=_copied(old.born, capacity, ALIVE),
            died=_copied(old.died, capacity, ALIVE),
        )


def new_scratch(capacity: int, pool: int, row: int) -> Scratch:
    """A scratch for graphs of at most this capacity, with a pool and a row of these sizes."""
    return Scratch(
        seen=np.zeros(capacity, np.uint32),
        epoch=np.zeros(1, np.uint32),
        pool_distance=np.zeros(pool, np.float32),
        pool_slot=np.zeros(pool, np.int32),
        pool_state=np.zeros(pool, np.uint8),
        row_distance=np.zeros(row, np.float32),
        row_slot=np.zeros(row, np.int32),
    )


def level_of(slot: int, links: int) -> int:
    """The highest level of a slot, from a seeded hash of its number, so that a replayed log makes the same graph.

    One in `links` slots is on level 1 or above, one in `links` squared on level 2 or above, and so on.
    """
    mixed = (_LEVEL_SEED * (slot + 1)) & _64_BITS
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _64_BITS
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _64_BITS
    fraction = ((mixed ^ (mixed >> 31)) + 1) / (_64_BITS + 1)
    return min(LEVEL_MAX, int(-math.log(fraction) / math.log(links)))


def _grown(capacity: int, needed: int) -> int:
    while capacity < needed:
        capacity = max(CAPACITY_FIRST, 2 * capacity)
    return capacity


def _copied(array: _Array, capacity: int, fill: int) -> _Array:
    grown = np.full((capacity, *array.shape[1:]), fill, array.dtype)
    grown[: len(array)] = array
    return cast(_Array, grown)


def _nothing_found(queries: int, limit: int) -> Found:
    return Found(np.full((queries, limit), NONE, np.int32), np.zeros((queries, limit), np.float32))
