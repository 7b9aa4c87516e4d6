"""The head of a shard: rows that were written lately and are in no segment yet. One writer appends; views of it are read.

Arrays grow by doubling into new ones, and what a view was given never changes: rows behind its count are not its business.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.compute.cpu.id_table import IdTable
from ergonaut_vectors.domain.indexes.codes import Codes, grown, quantise, searched
from ergonaut_vectors.domain.indexes.exact import scanned
from ergonaut_vectors.domain.indexes.flat import codes_of, no_codes
from ergonaut_vectors.domain.indexes.port import Asked, Found
from ergonaut_vectors.domain.payload.columns import Packed, Readable, Texts, Values, none_packed
from ergonaut_vectors.domain.payload.fields import Fields, FieldType, Payload
from ergonaut_vectors.domain.payload.growing import GrowingColumns
from ergonaut_vectors.domain.segments import ids
from ergonaut_vectors.domain.segments.segment import Sequences
from ergonaut_vectors.domain.space import Rows, Space

NO_SEQUENCES: Sequences = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class HeadRows:
    """The rows that a head had at some moment."""

    space: Space
    count: int
    table: IdTable
    columns: Readable
    arrays: tuple[Rows, Sequences]
    """Vectors and sequences, with room behind the last row."""
    codes: Codes

    @property
    def rows(self) -> Rows:
        """The vectors, prepared."""
        return self.arrays[0][: self.count]

    @property
    def sequences(self) -> Sequences:
        """The position of the message that wrote each row."""
        return self.arrays[1][: self.count]

    def search(self, queries: Rows, asked: Asked) -> Found:
        """The nearest allowed rows."""
        return searched(self.space, self.codes, self.rows, queries, asked)

    def search_exactly(self, queries: Rows, asked: Asked) -> Found:
        """By comparing all, at full precision."""
        return scanned(self.space, self.rows, queries, asked)


class NoPayloads:
    """Columns of rows that came without anything: a head that has no payloads at all keeps none."""

    __slots__ = ("fields", "whole")

    def __init__(self, fields: Fields) -> None:
        self.fields = fields
        self.whole = True

    def types(self, name: str) -> Sequence[FieldType]:  # noqa: ARG002
        return ()

    def names(self) -> Iterable[str]:
        return ()

    def values(self, name: str, kind: FieldType, count: int) -> Values | None:  # noqa: ARG002
        return None

    def texts(self, name: str, count: int) -> Texts | None:  # noqa: ARG002
        return None

    def document(self, row: int) -> bytes:  # noqa: ARG002
        return b""

    def packed(self, rows: npt.NDArray[np.int64]) -> Packed:
        return none_packed(len(rows))

    def payload(self, row: int) -> dict[str, Any]:  # noqa: ARG002
        return {}


class Head:
    """Appends rows; `taken` gives those there are."""

    __slots__ = ("_arrays", "_codes", "_columns", "_ids", "_space")

    def __init__(self, space: Space, fields: Fields) -> None:
        self._space = space
        self._ids = ids.GrowingIds()
        self._arrays: tuple[Rows, Sequences] = (np.empty((0, space.width), space.dtype), NO_SEQUENCES)
        self._codes = no_codes(space)
        self._columns: GrowingColumns | NoPayloads = NoPayloads(fields)

    @property
    def count(self) -> int:
        """Rows, dead ones too."""
        return self._ids.count

    def append(self, names: ids.Asked, rows: Rows, payloads: Sequence[Payload], position: int) -> None:
        """Add prepared rows, written by the message at this position."""
        first, after = self.count, self.count + len(rows)
        if after > len(self._arrays[1]):
            self._grow(first, max(after, 2 * first))
        vectors, sequences = self._arrays
        vectors[first:after] = rows
        sequences[first:after] = position
        if len(self._codes.values):
            quantise(self._space, self._codes, first, vectors[first:after])
        if any(payloads) and isinstance(self._columns, NoPayloads):
            self._columns = GrowingColumns(self._columns.fields)
            self._columns.append([{}] * first)
        if isinstance(self._columns, GrowingColumns):
            self._columns.append(payloads)
        self._ids.append(names)

    def taken(self) -> HeadRows:
        """The rows there are now."""
        return HeadRows(self._space, self.count, self._ids.table, self._columns, self._arrays, self._codes)

    def _grow(self, used: int, capacity: int) -> None:
        rows = np.empty((capacity, self._space.width), self._space.dtype)
        sequences = np.empty(capacity, np.int64)
        rows[:used], sequences[:used] = self._arrays[0][:used], self._arrays[1][:used]
        self._arrays = (rows, sequences)
        if len(self._codes.values):
            self._codes = grown(self._codes, used, capacity)
        else:
            self._codes = codes_of(self._space, rows[:used], capacity)
