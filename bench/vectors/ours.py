"""Our indexes as one more engine of the comparison, by the port that segments use too. Called by `worker.py`."""

import json
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from engines import CANDIDATES_BUILT, LINKS, Array, Engine, Given, lists_of

from ergonaut_vectors.domain.indexes.port import Asked, Builder, Index, Kind, Plan
from ergonaut_vectors.domain.payload import bits
from ergonaut_vectors.domain.schema import IndexWish
from ergonaut_vectors.domain.segments.head import HeadRows
from ergonaut_vectors.domain.segments.ids import reader
from ergonaut_vectors.domain.segments.segment import Segment
from ergonaut_vectors.domain.segments.shard import Shard
from ergonaut_vectors.domain.segments.view import Part, Question, View
from ergonaut_vectors.domain.segments.work import Policy, done
from ergonaut_vectors.domain.segments.writes import Deletes, Upserts, prepared
from ergonaut_vectors.domain.space import Element, Metric, Space

MESSAGE_ROWS = 64
"""Vectors of a message of the log, as the service cuts them."""

MESSAGES_TO_WORK = 64
"""Messages after which it is asked whether something is to be built; the service asks after each."""

BUILDERS = {
    Kind.FLAT: ("flat", "FlatBuilder"),
    Kind.GRAPH: ("graph", "GraphBuilder"),
    Kind.LISTS: ("lists", "ListsBuilder"),
    Kind.PRODUCT: ("product", "ProductBuilder"),
}
LISTS_EFFORTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)


class Ours(Engine):
    """An index of ours; `options` tell its kind and parameters."""

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        metric = Metric.INNER_PRODUCT if given.metric == "ip" else Metric.L2
        self._kind = Kind(given.options["kind"])
        self._space = Space(given.dimension, metric, Element(given.element))
        self._allowed: Array | None = None
        self._allowed_count = -1
        if self._kind is Kind.FLAT:
            self.efforts = (0,)
        elif self._kind is not Kind.GRAPH:
            self.efforts = LISTS_EFFORTS

    def build(self, base: Array, threads: int) -> None:
        parameters = dict(self.given.options.get("parameters", {}))
        if self._kind is Kind.GRAPH:
            parameters = {"links": LINKS, "candidates_build": CANDIDATES_BUILT} | parameters
        elif self._kind is not Kind.FLAT:
            parameters = {"lists": lists_of(len(base))} | parameters
        rows = np.ascontiguousarray(base, dtype=self._space.dtype)
        built = _builder(self._kind).build(self._space, rows, Plan(self._kind, parameters, threads, self.seed))
        self._take(built.index, np.arange(len(rows)) if built.order is None else np.asarray(built.order))

    def _take(self, index: Index, order: Array) -> None:
        # One more entry, so that the row -1 of a short answer becomes the id -1.
        self._index, self._order = index, order
        self._ids = np.append(order, -1)

    def search(self, queries: Array, limit: int, effort: float, threads: int) -> Array:
        asked = Asked(limit, int(effort), self._allowed, self._allowed_count, threads)
        wanted = queries if queries.dtype == self._space.dtype else queries.astype(self._space.dtype)
        ids: Array = self._ids[self._index.search(wanted, asked).rows]
        return ids

    def allow(self, allowed: Array | None) -> None:
        if allowed is None:
            self._allowed, self._allowed_count = None, -1
            return
        self._allowed, self._allowed_count = bits.of_mask(allowed[self._order]), int(allowed.sum())

    def save(self, folder: Path) -> None:
        arrays = {**self._index.arrays, "_rows": self._index.rows, "_order": self._order}
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", np.asarray(array))
        parameters = {name: _plain(value) for name, value in self._index.parameters.items()}
        (folder / "parameters.json").write_text(json.dumps(parameters))

    def load(self, folder: Path) -> None:
        # As a segment does: mapped, so that nothing is read before it is needed.
        arrays = {path.stem: np.load(path, mmap_mode="r").view(np.ndarray) for path in folder.glob("*.npy")}
        rows, order = arrays.pop("_rows"), arrays.pop("_order")
        parameters = json.loads((folder / "parameters.json").read_text())
        self._take(_builder(self._kind).open(self._space, rows, arrays, parameters), np.array(order))

    def told(self) -> dict[str, Any]:
        arrays = {name: int(np.asarray(each).nbytes) for name, each in self._index.arrays.items()}
        return {
            "parameters": {name: _plain(value) for name, value in self._index.parameters.items()},
            "array_bytes": arrays,
        }


def _builder(kind: Kind) -> Builder:
    """The builder of a kind, whether segments use it already or not."""
    module, name = BUILDERS[kind]
    builder: Builder = getattr(import_module(f"ergonaut_vectors.domain.indexes.{module}"), name)()
    return builder


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


class OurShard(Engine):
    """A whole shard of ours, which takes what comes and builds beside it; what a service holds for each replica.

    Nobody writes for a while between two questions, so what a service does then is done.
    """

    efforts = (0,)

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        metric = Metric.INNER_PRODUCT if given.metric == "ip" else Metric.L2
        self._space = Space(given.dimension, metric, Element(given.element))
        kind = given.options.get("kind")
        self._policy = Policy(wish=IndexWish(Kind(kind) if kind else None))
        self._shard, self._position = Shard(self._space, policy=self._policy), 0
        self._view: View | None = None

    def build(self, base: Array, threads: int) -> None:  # noqa: ARG002 (work is done by one)
        self._shard, self._position = Shard(self._space, policy=self._policy), 0
        self.insert(base, 0)

    def search(self, queries: Array, limit: int, effort: float, threads: int) -> Array:  # noqa: ARG002 (work is done by one)
        view = self._view or self._shard.view
        found = view.search(prepared(self._space, queries), Question(limit, int(effort)))
        rows = np.full((len(queries), limit), -1, np.int64)
        for at, hits in enumerate(found):
            rows[at, : len(hits)] = [int(hit.id) for hit in hits]
        return rows

    def insert(self, rows: Array, first_id: int) -> None:
        for first in range(0, len(rows), MESSAGE_ROWS):
            part = np.ascontiguousarray(rows[first : first + MESSAGE_ROWS], self._space.dtype)
            names = [str(first_id + first + at) for at in range(len(part))]
            self._apply(Upserts(names, part))
        self._finish(idle=True)

    def delete(self, ids: Array) -> None:
        for first in range(0, len(ids), MESSAGE_ROWS):
            self._apply(Deletes([str(each) for each in ids[first : first + MESSAGE_ROWS]]))
        self._finish(idle=True)

    def allow(self, allowed: Array | None) -> None:
        # What a filter comes to before a part is searched: fewer rows that count, in each of its parts.
        view = self._shard.view
        self._view = (
            None if allowed is None else replace(view, parts=tuple(_among(each, allowed) for each in view.parts))
        )

    def _apply(self, write: Upserts | Deletes) -> None:
        self._position += 1
        self._shard.apply(write, self._position)
        if self._position % MESSAGES_TO_WORK == 0:
            self._finish()

    def _finish(self, *, idle: bool = False) -> None:
        while (work := self._shard.plan_work(idle=idle)) is not None:
            self._shard.install(done(work))


def _among(part: Part, allowed: Array) -> Part:
    """The part as it is searched where only these ids count."""
    words = bits.of_mask(allowed[_ids_of(part.store)]) & part.live
    return replace(part, live=words, count=bits.counted(words))


@lru_cache(maxsize=64)
def _ids_of(store: Segment | HeadRows) -> Array:
    """The ids of its rows."""
    name = reader(store.table)
    return np.array([int(name(row)) for row in range(store.count)])
