"""The head of a shard: rows that were written lately and are in no segment yet. One writer appends; views of it are read.

Arrays grow by doubling into new ones, and what a view was given never changes: rows behind its count are not its business.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ergonaut_vectors.domain.compute.cpu.id_table import IdTable
from ergonaut_vectors.domain.indexes.port import Asked, Found
from ergonaut_vectors.domain.payload.columns import Readable
from ergonaut_vectors.domain.payload.fields import Fields, Payload
from ergonaut_vectors.domain.payload.growing import GrowingColumns
from ergonaut_vectors.domain.segments import ids
from ergonaut_vectors.domain.segments.exact import exactly
from ergonaut_vectors.domain.segments.segment import Sequences
from ergonaut_vectors.domain.space import Rows, Space

CAPACITY_FIRST = 16
"""Rows of a new head: a tenant with a hundred tiny collections should not pay for big ones."""


@dataclass(frozen=True, slots=True, eq=False)
class HeadRows:
    """The rows that a head had at some moment."""

    space: Space
    count: int
    rows: Rows
    table: IdTable
    sequences: Sequences
    columns: Readable

    def search(self, queries: Rows, asked: Asked) -> Found:
        """The nearest allowed rows."""
        return exactly(self.space, self.rows, queries, asked)

    def search_exactly(self, queries: Rows, asked: Asked) -> Found:
        """By comparing all, at full precision."""
        return exactly(self.space, self.rows, queries, asked)


class Head:
    """Appends rows; `taken` gives those there are."""

    def __init__(self, space: Space, fields: Fields) -> None:
        self._space = space
        self._ids = ids.GrowingIds()
        self._rows: Rows = np.empty((0, space.width), space.dtype)
        self._sequences: Sequences = np.empty(0, np.int64)
        self._columns = GrowingColumns(fields)

    @property
    def count(self) -> int:
        """Rows, dead ones too."""
        return self._ids.count

    def append(self, names: ids.Asked, rows: Rows, payloads: Sequence[Payload], position: int) -> None:
        """Add prepared rows, written by the message at this position."""
        first, after = self.count, self.count + len(rows)
        if after > len(self._sequences):
            self._grow(first, max(CAPACITY_FIRST, after, 2 * len(self._sequences)))
        self._rows[first:after] = rows
        self._sequences[first:after] = position
        self._columns.append(payloads)
        self._ids.append(names)

    def taken(self) -> HeadRows:
        """The rows there are now."""
        count = self.count
        return HeadRows(self._space, count, self._rows[:count], self._ids.table, self._sequences[:count], self._columns)

    def _grow(self, used: int, capacity: int) -> None:
        rows = np.empty((capacity, self._space.width), self._space.dtype)
        rows[:used] = self._rows[:used]
        sequences = np.empty(capacity, np.int64)
        sequences[:used] = self._sequences[:used]
        self._rows, self._sequences = rows, sequences
