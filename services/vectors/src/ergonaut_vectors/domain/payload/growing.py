"""The payloads of a head: rows are added by its one writer, while any thread reads the first rows that it knows of.

Whoever reads is told a count of rows by the head's view, and names it: what was added later is cut off, so that a reader sees
all of a batch or nothing. Arrays grow by doubling into new ones; a reader keeps the array that it took.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.payload.arrays import GrowingArray
from ergonaut_vectors.domain.payload.columns import (
    COLUMNS_MAX,
    VALUE_TYPES,
    Columns,
    Packed,
    Rows,
    Texts,
    Values,
    packed_of,
)
from ergonaut_vectors.domain.payload.documents import decoded, encoded
from ergonaut_vectors.domain.payload.fields import Field, Fields, FieldType, Payload, leaves_of
from ergonaut_vectors.domain.payload.joining import joined_alike
from ergonaut_vectors.domain.payload.keyword_words import COUNT_MAX, KeywordWords
from ergonaut_vectors.domain.payload.stems import stemmed
from ergonaut_vectors.domain.payload.terms import GrowingTerms, Terms, words_of


@dataclass(slots=True)
class _GrowingValues:
    """A column being written: row numbers and values side by side."""

    rows: GrowingArray
    values: GrowingArray
    terms: GrowingTerms | None
    words: KeywordWords | None = None

    def extend(self, rows: Sequence[int], values: Sequence[Any]) -> None:
        if self.terms is not None:
            values = [self.terms.add(value) for value in values]
        self.values.extend(values)  # before the rows, by which readers count
        self.rows.extend(rows)

    def until(self, count: int) -> Values:
        rows = self.rows.taken()
        end = int(np.searchsorted(rows, count))
        return Values(rows[:end], self.values.taken(end), self.terms, self._words if self.terms is not None else None)

    def _words(self) -> KeywordWords:
        if self.words is None:
            assert self.terms is not None, "keywords have terms"
            # Of two threads one makes it in vain, and the next question finds one.
            self.words = KeywordWords(self.terms)
        return self.words


@dataclass(frozen=True, slots=True)
class GrowingPostings:
    """Words of the first rows in the order of rows; heads are small enough to look through all of them."""

    terms: Terms
    codes: npt.NDArray[np.int32]
    rows: Rows
    counts: npt.NDArray[np.uint16]

    def of(self, code: int) -> tuple[Rows, npt.NDArray[np.uint16]]:
        chosen = np.flatnonzero(self.codes == code)
        return self.rows[chosen], self.counts[chosen]

    def all(self) -> tuple[npt.NDArray[np.int32], Rows, npt.NDArray[np.uint16]]:
        return self.codes, self.rows, self.counts


def _numbers(kind: "type[np.generic]") -> GrowingArray:
    return GrowingArray(np.dtype(kind))


@dataclass(slots=True)
class _GrowingTexts:
    """A text column being written."""

    language: str
    terms: GrowingTerms = field(default_factory=GrowingTerms)
    rows: GrowingArray = field(default_factory=lambda: _numbers(np.int32))
    lengths: GrowingArray = field(default_factory=lambda: _numbers(np.int32))
    codes: GrowingArray = field(default_factory=lambda: _numbers(np.int32))
    posting_rows: GrowingArray = field(default_factory=lambda: _numbers(np.int32))
    counts: GrowingArray = field(default_factory=lambda: _numbers(np.uint16))

    def extend(self, rows: Sequence[int], texts: Sequence[str]) -> None:
        words: dict[int, Counter[str]] = {}
        for row, text in zip(rows, texts, strict=True):
            words.setdefault(row, Counter()).update(stemmed(words_of(text), self.language))
        self.codes.extend([self.terms.add(word) for counter in words.values() for word in counter])
        self.counts.extend([min(times, COUNT_MAX) for counter in words.values() for times in counter.values()])
        self.posting_rows.extend([row for row, counter in words.items() for _ in counter])
        self.lengths.extend([counter.total() for counter in words.values()])
        self.rows.extend(list(words))

    def until(self, count: int) -> Texts:
        rows, posting_rows = self.rows.taken(), self.posting_rows.taken()
        end, posting_end = int(np.searchsorted(rows, count)), int(np.searchsorted(posting_rows, count))
        postings = GrowingPostings(
            self.terms, self.codes.taken(posting_end), posting_rows[:posting_end], self.counts.taken(posting_end)
        )
        return Texts(rows[:end], self.lengths.taken(end), postings, self.language)


class GrowingColumns:
    """Payloads that are added to. One writer appends; any thread reads the first `count` rows, for a count it was told."""

    def __init__(self, fields: Fields | None = None) -> None:
        self.fields: Fields = fields or {}
        self.whole = True
        self._columns: dict[str, dict[FieldType, _GrowingValues | _GrowingTexts]] = {}
        self._documents = bytearray()
        self._offsets = array("q", [0])

    @property
    def count(self) -> int:
        """Rows there are; for the writer."""
        return len(self._offsets) - 1

    def append(self, payloads: Sequence[Payload], documents: Sequence[bytes] | None = None) -> None:
        """Add a row for each payload, in order. For the one writer; who has the payloads' documents saves it making them."""
        found: dict[tuple[str, FieldType], tuple[list[int], list[Any]]] = {}
        for row, payload in enumerate(payloads, self.count):
            for name, kind, value in leaves_of(payload, self.fields) if payload else ():
                entries = found.get((name, kind))
                if entries is None:
                    entries = found[name, kind] = ([], [])
                entries[0].append(row)
                entries[1].append(value)
        for document in map(encoded, payloads) if documents is None else documents:
            self._documents += document
            self._offsets.append(len(self._documents))
        for (name, kind), (rows, values) in found.items():
            column = self._column(name, kind)
            if column is not None:
                column.extend(rows, values)

    def frozen(self, rows: npt.NDArray[np.int64] | None = None) -> Columns:
        """These rows in this order, or all, as columns that never change; safe beside the writer for rows that a view has."""
        chosen = np.arange(self.count) if rows is None else rows
        return joined_alike([(self, chosen)], self.fields)

    def types(self, name: str) -> Sequence[FieldType]:
        return list(self._columns.get(name, ()))

    def names(self) -> Iterable[str]:
        return list(self._columns)

    def values(self, name: str, kind: FieldType, count: int) -> Values | None:
        column = self._columns.get(name, {}).get(kind)
        return column.until(count) if isinstance(column, _GrowingValues) else None

    def texts(self, name: str, count: int) -> Texts | None:
        column = self._columns.get(name, {}).get(FieldType.TEXT)
        return column.until(count) if isinstance(column, _GrowingTexts) else None

    def document(self, row: int) -> bytes:
        return bytes(self._documents[self._offsets[row] : self._offsets[row + 1]])

    def packed(self, rows: npt.NDArray[np.int64]) -> Packed:
        # Copies, made in one step each: the writer could not add to what is lent out. Offsets first, so that no byte is missing.
        offsets = np.frombuffer(self._offsets.tobytes(), np.int64)
        return packed_of(np.frombuffer(bytes(self._documents), np.uint8), offsets, rows)

    def payload(self, row: int) -> dict[str, Any]:
        return decoded(self.document(row))

    def _column(self, name: str, kind: FieldType) -> _GrowingValues | _GrowingTexts | None:
        """Where values go; None where there are too many columns already."""
        kinds = self._columns.get(name, {})
        column = kinds.get(kind)
        if column is None:
            if not kinds and name not in self.fields and len(self._columns) >= COLUMNS_MAX:
                self.whole = False
                return None
            column = self._made(kind, self.fields.get(name))
            self._columns[name] = kinds | {kind: column}  # a new dictionary: threads may be reading the old one
        return column

    def _made(self, kind: FieldType, declared: Field | None) -> _GrowingValues | _GrowingTexts:
        if kind is FieldType.TEXT:
            return _GrowingTexts(declared.language if declared else "")
        terms = GrowingTerms() if kind is FieldType.KEYWORD else None
        return _GrowingValues(_numbers(np.int32), GrowingArray(VALUE_TYPES[kind]), terms)
