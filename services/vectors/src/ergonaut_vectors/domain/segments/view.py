"""A consistent state of a shard, for any thread to read for as long as it likes: all of the log up to one position.

A view never changes; the writer makes a new one for each message. So all questions of one request are asked of one view.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.compute.cpu.id_table import take_out
from ergonaut_vectors.domain.indexes.port import NONE, Asked
from ergonaut_vectors.domain.payload import bits
from ergonaut_vectors.domain.payload.filters import Filter
from ergonaut_vectors.domain.payload.matching import matching
from ergonaut_vectors.domain.placing.slots import SlotRange, slots_of_hashes
from ergonaut_vectors.domain.segments import ids
from ergonaut_vectors.domain.segments.head import HeadRows
from ergonaut_vectors.domain.segments.segment import Segment
from ergonaut_vectors.domain.segments.writes import prepared
from ergonaut_vectors.domain.space import Floats, Rows, Space, Words

SCROLL_MAX = 10_000
"""Rows of one page: more would hold a thread for long."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a search is to find."""

    limit: int = 10
    effort: int = 0
    """How hard an index looks; 0 leaves it to the index."""
    exact: bool = False
    """Compare with every row instead of using indexes."""
    filter: Filter | None = None


class Place(NamedTuple):
    """Where a row is in its view."""

    part: int
    row: int


class Hit(NamedTuple):
    """A row that was found; the view it was found in gives the rest of it."""

    id: str
    distance: float
    place: Place


class Stored(NamedTuple):
    """A vector as it is now."""

    id: str
    sequence: int
    """The position of the message that wrote it."""
    place: Place


class Cursor(NamedTuple):
    """The last row of a page; the next page begins behind it."""

    sequence: int = -1
    id: str = ""


@dataclass(frozen=True, slots=True)
class Tuned:
    """How a segment's index was found to be when it was looked at."""

    effort: int
    """How hard it has to look; 0 leaves it to the index."""
    recall: float
    """The part of the nearest that it finds then."""
    count: int
    """How many rows lived."""
    wanted: float
    """The recall that was to be reached."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Rows that are searched together, and which of them live."""

    store: Segment | HeadRows
    live: Words
    count: int
    """How many live."""
    tuned: Tuned | None = None

    def allowed(self, wanted: Filter | None) -> tuple[Words | None, int]:
        """The living rows that fulfil the filter, None for all rows there are; and how many."""
        if wanted is None:
            return (None if self.count == self.store.count else self.live), self.count
        words = matching(wanted, self.store.columns, self.store.count, self._rows_of_ids)
        words &= self.live[: len(words)]
        return words, bits.counted(words)

    def find(self, names: ids.Asked) -> npt.NDArray[np.int64]:
        """The living row of each id, or NONE."""
        return ids.rows_with(self.store.table, self.live, names)

    def _rows_of_ids(self, names: Sequence[str]) -> npt.NDArray[np.int64]:
        rows = self.find(ids.asked(names))
        return np.extract(rows != NONE, rows)


class _Found(NamedTuple):
    part: int
    rows: npt.NDArray[np.int32]
    distances: Floats


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The state of a shard at a position."""

    space: Space
    position: int
    mark: Any
    """What the writer gave with the message at the position."""
    parts: tuple[Part, ...]
    digest: ids.Digest

    @property
    def count(self) -> int:
        """Vectors there are."""
        return sum(part.count for part in self.parts)

    def without(self, slots: SlotRange) -> "View":
        """The same of ids in other slots alone."""
        parts, digest = [], self.digest
        for part in self.parts:
            table, rows = part.store.table, bits.rows_of(part.live, part.store.count)
            hashes = ids.hashed(table.blob, table.offsets, part.store.count)[rows]
            gone = slots.mask(slots_of_hashes(hashes))
            digest = digest.changed(hashes[gone], part.store.sequences[rows[gone]], -1)
            live = part.live.copy()
            take_out(live, rows[gone])
            parts.append(replace(part, live=live, count=part.count - int(gone.sum())))
        return replace(self, parts=tuple(parts), digest=digest)

    def search(self, queries: Rows, question: Question) -> list[list[Hit]]:
        """The nearest to each query, nearest first: as many as asked for, or as there are that fulfil the filter."""
        queries = prepared(self.space, queries)
        found = [each for at in range(len(self.parts)) if (each := self._searched(at, queries, question))]
        if not found:
            return [[] for _ in queries]
        parts, rows, distances = _joined(found, question.limit)
        names = [ids.reader(part.store.table) for part in self.parts]
        return [
            [Hit(names[part](row), far, Place(part, row)) for part, row, far in triples if row != NONE]
            for triples in map(zip, parts, rows, distances)
        ]

    def counted(self, wanted: Filter | None = None) -> int:
        """How many vectors fulfil the filter."""
        return self.count if wanted is None else sum(part.allowed(wanted)[1] for part in self.parts)

    def get(self, names: Sequence[str]) -> list[Stored | None]:
        """Each of these, or None where it is not there."""
        asked = ids.asked(names)
        answers: list[Stored | None] = [None] * len(names)
        for at, part in enumerate(self.parts):
            rows = part.find(asked)
            for place in np.flatnonzero(rows != NONE).tolist():
                row = int(rows[place])
                answers[place] = Stored(names[place], int(part.store.sequences[row]), Place(at, row))
        return answers

    def scroll(self, after: Cursor, limit: int, wanted: Filter | None = None) -> list[Stored]:
        """The next vectors in the order in which they were last written, equal ones by id.

        What is written again while somebody scrolls through view after view comes once more at the end; nothing is missed.
        """
        limit = min(limit, SCROLL_MAX)
        page: list[Stored] = []
        for at, part in enumerate(self.parts):
            allowed, _ = part.allowed(wanted)
            words = part.live if allowed is None else allowed
            sequences = part.store.sequences
            rows = bits.rows_of(words, part.store.count)
            rows = rows[sequences[rows] >= after.sequence]
            page.extend(self._first(at, rows, after, limit))
        page.sort(key=lambda each: (each.sequence, each.id))
        return page[:limit]

    def payload(self, place: Place) -> dict[str, Any]:
        """What was written with a vector."""
        return self.parts[place.part].store.columns.payload(place.row)

    def vectors(self, places: Sequence[Place]) -> Rows:
        """The vectors at these places, prepared as they are kept: of length one where the metric is the cosine."""
        rows = np.empty((len(places), self.space.width), self.space.dtype)
        for at, (part, row) in enumerate(places):
            rows[at] = self.parts[part].store.rows[row]
        return rows

    def id_at(self, place: Place) -> str:
        """The id at a place."""
        return ids.id_at(self.parts[place.part].store.table, place.row)

    def _searched(self, at: int, queries: Rows, question: Question) -> _Found | None:
        part = self.parts[at]
        if not part.count:
            return None
        allowed, count = part.allowed(question.filter)
        if not count:
            return None
        effort = question.effort or (part.tuned.effort if part.tuned else 0)
        asked = Asked(min(question.limit, count), effort, allowed, count)
        search = part.store.search_exactly if question.exact else part.store.search
        return _Found(at, *search(queries, asked))

    def _first(self, at: int, rows: npt.NDArray[np.int64], after: Cursor, limit: int) -> list[Stored]:
        """The first rows of a part behind the cursor; those of the cursor's own message are told apart by id."""
        table, sequences = self.parts[at].store.table, self.parts[at].store.sequences[rows]
        if len(rows) > limit:
            # Rows of one message may be many; all of the last one that is needed are looked at.
            behind = int((sequences == after.sequence).sum())
            last = np.partition(sequences, min(limit + behind, len(rows)) - 1)[min(limit + behind, len(rows)) - 1]
            rows, sequences = rows[sequences <= last], sequences[sequences <= last]
        name = ids.reader(table)
        found = [
            Stored(name(row), sequence, Place(at, row))
            for row, sequence in zip(rows.tolist(), sequences.tolist(), strict=True)
        ]
        return [each for each in found if (each.sequence, each.id) > after]


def _joined(found: Sequence[_Found], limit: int) -> tuple[list[list[int]], list[list[int]], list[list[float]]]:
    """Of each query the parts, rows and distances of the nearest in all parts, as lists: hits are made of them one by one."""
    if len(found) == 1:
        part, rows, distances = found[0]
        return [[part] * rows.shape[1]] * len(rows), rows.tolist(), distances.tolist()
    rows = np.concatenate([each.rows for each in found], axis=1)
    distances = np.concatenate([each.distances for each in found], axis=1)
    parts = np.array([each.part for each in found for _ in range(each.rows.shape[1])])
    best = np.argsort(distances, axis=1, kind="stable")[:, :limit]
    query = np.arange(len(rows))[:, None]
    return parts[best].tolist(), rows[query, best].tolist(), distances[query, best].tolist()
