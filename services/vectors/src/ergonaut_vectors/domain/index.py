"""The searchable state of one collection: what its log says, up to a position. One writer applies; any thread searches.

Readers see a consistent state without a lock. The writer first changes the arrays in ways that no reader can see (slots that
are born, and deaths that happen, after every reader's position), and then replaces `_seen`, one reference, with a snapshot of
the new position. A search takes that reference once and answers from it: all of a batch or nothing of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ergonaut_vectors.domain.growing import GrowingGraph
from ergonaut_vectors.domain.kernels import NONE, Floats, Found, Graph, View
from ergonaut_vectors.domain.schema import Ask, Batch, Deletes, Hit, Schema, Upserts
from ergonaut_vectors.domain.space import Metric

DEAD_MIN = 1024
"""Below this many dead slots the graph is never built anew: it would save little and happen often."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A consistent state: the log up to `view.position`."""

    store: GrowingGraph
    graph: Graph
    view: View
    count: int
    ids: Sequence[str]
    attributes: Sequence[Mapping[str, str]]


class VectorIndex:
    """Vectors by id, searched by nearness. Applying what has been applied changes nothing."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._slot_of: dict[str, int] = {}
        self._ids: list[str] = []
        self._attributes: list[Mapping[str, str]] = []
        self._store = GrowingGraph(schema)
        self._seen = self._snapshot(0)

    @property
    def position(self) -> int:
        """The position of the log up to which searches see it."""
        return self._seen.view.position

    @property
    def count(self) -> int:
        """Vectors that can be found now."""
        return self._seen.count

    def apply(self, batch: Batch, position: int) -> bool:
        """Make a batch visible, all at once; False when the index had it already. For the one writer."""
        if position <= self.position:
            return False
        if isinstance(batch, Deletes):
            self._remove(batch, position)
        else:
            self._write(batch, position)
        dead = len(self._ids) - len(self._slot_of)
        if dead >= DEAD_MIN and dead > len(self._slot_of):
            self._build_anew(position)
        self._seen = self._snapshot(position)
        return True

    def pass_over(self, position: int) -> None:
        """Take note that the log up to this position changes nothing further. For the one writer."""
        if position > self.position:
            self._seen = self._snapshot(position)

    def search(self, queries: Floats, ask: Ask) -> list[list[Hit]]:
        """The nearest to each query, nearest first; as many as asked for, or as there are."""
        seen = self._seen
        prepared = seen.store.prepared(queries)
        if ask.exact:
            found = seen.store.search_exactly(seen.graph, seen.view, prepared, ask.limit)
        else:
            found = seen.store.search(seen.graph, seen.view, prepared, ask.limit, ask.candidates)
            _complete(found, seen, prepared, ask.limit)
        return [self._hits(seen, *row) for row in zip(found.slots, found.distances, strict=True)]

    def _hits(self, seen: Snapshot, slots: Sequence[int], distances: Sequence[float]) -> list[Hit]:
        shift = 1.0 if self.schema.metric is Metric.COSINE else 0.0
        pairs = zip(np.asarray(slots).tolist(), np.asarray(distances).tolist(), strict=True)
        return [Hit(seen.ids[slot], far + shift, seen.attributes[slot]) for slot, far in pairs if slot != NONE]

    def _write(self, batch: Upserts, position: int) -> None:
        vectors = self._store.prepared(batch.vectors)
        newest = {name: row for row, name in enumerate(batch.ids)}
        rows = [row for name, row in newest.items() if not self._holds(name, vectors[row], batch.attributes[row])]
        if not rows:
            return
        first = self._store.add(vectors[rows], position)
        for slot, row in enumerate(rows, first):
            name = batch.ids[row]
            if name in self._slot_of:
                self._store.end(self._slot_of[name], position)
            self._slot_of[name] = slot
            self._ids.append(name)
            self._attributes.append(batch.attributes[row])

    def _holds(self, name: str, vector: Floats, attributes: Mapping[str, str]) -> bool:
        """Whether exactly this is there already; writing it again would only leave a dead slot behind."""
        slot = self._slot_of.get(name)
        if slot is None:
            return False
        return bool(self._attributes[slot] == attributes and np.array_equal(self._store.graph.vectors[slot], vector))

    def _remove(self, batch: Deletes, position: int) -> None:
        for name in batch.ids:
            slot = self._slot_of.pop(name, None)
            if slot is not None:
                self._store.end(slot, position)

    def _build_anew(self, position: int) -> None:
        """Put what lives into a new graph; readers keep the old one for as long as they look at it."""
        living = sorted(self._slot_of.values())
        old = self._store.graph.vectors
        self._store = GrowingGraph(self.schema)
        self._store.add(old[living], position)
        self._ids = [self._ids[slot] for slot in living]
        self._attributes = [self._attributes[slot] for slot in living]
        self._slot_of = {name: slot for slot, name in enumerate(self._ids)}

    def _snapshot(self, position: int) -> Snapshot:
        view = self._store.view(position)
        return Snapshot(self._store, self._store.graph, view, len(self._slot_of), self._ids, self._attributes)


def _complete(found: Found, seen: Snapshot, queries: Floats, limit: int) -> None:
    """Answer exactly where a walk found fewer than there are, as when it ended among the dead."""
    owed = min(limit, seen.count)
    if not owed:
        return
    short = np.flatnonzero(found.slots[:, owed - 1] == NONE)
    if len(short):
        exact = seen.store.search_exactly(seen.graph, seen.view, queries[short], limit)
        found.slots[short] = exact.slots
        found.distances[short] = exact.distances


def warm_up() -> None:
    """Run every kernel once, so that it is compiled, or loaded from the cache, before the first request needs it."""
    index = VectorIndex(Schema("warm-up", 8))
    vectors = np.arange(64 * 8, dtype=np.float32).reshape(64, 8)
    index.apply(Upserts(tuple(map(str, range(64))), vectors, ({},) * 64), 1)
    for exact in (False, True):
        index.search(vectors[:2], Ask(exact=exact))
