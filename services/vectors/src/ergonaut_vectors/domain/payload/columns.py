"""The payloads of rows that never change: as documents, and by columns that filters read. Segments write the arrays to disk.

A column has the values of one type of one field, as pairs of row and value in the order of rows: so a row may have none, one
or many, and a field that few rows have takes little. Where each row has exactly one, the row numbers are left out. Texts are
kept by word instead: for each word the rows that have it, and how often.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.compute.cpu.gathering import copy_texts
from ergonaut_vectors.domain.payload.documents import decoded
from ergonaut_vectors.domain.payload.fields import Fields, FieldType, fields_of, told_of
from ergonaut_vectors.domain.payload.keyword_words import KeywordWords
from ergonaut_vectors.domain.payload.terms import FrozenTerms, Terms

Arrays = Mapping[str, npt.NDArray[Any]]
Rows = npt.NDArray[np.int32]

COLUMNS_MAX = 256
"""Fields that have columns without being declared. Payloads whose names are data (ids, dates) would make one of each; beyond
this many the rest stays in the documents, where filters find it, slowly."""

VALUE_TYPES: dict[FieldType, "np.dtype[Any]"] = {
    FieldType.BOOLEAN: np.dtype(np.bool_),
    FieldType.INTEGER: np.dtype(np.int64),
    FieldType.FLOAT: np.dtype(np.float64),
    FieldType.TIME: np.dtype(np.int64),
    FieldType.GEO: np.dtype((np.float64, 2)),
    FieldType.KEYWORD: np.dtype(np.int32),
}
"""What the values of a column are; those of a keyword are codes of its terms."""


class Values(NamedTuple):
    """A column of anything but text: value `i` belongs to row `rows[i]`, or to row `i` where there are no row numbers."""

    rows: Rows | None
    values: npt.NDArray[Any]
    terms: Terms | None = None
    """What the codes of keywords mean."""
    words: Callable[[], KeywordWords] | None = None
    """Which keywords have which words; made when it is first asked for."""

    def rows_of(self, chosen: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The rows of the values at these places."""
        return chosen if self.rows is None else self.rows[chosen]


class Texts(NamedTuple):
    """A column of text: which rows have any, of how many words, and by word which rows have it how often."""

    rows: Rows
    lengths: npt.NDArray[np.int32]
    """Words of each of `rows`; 0 for a text without any."""
    postings: "Postings"
    language: str = ""
    """Of which language the words were reduced to their stems; empty where they stand as they were written."""


class Packed(NamedTuple):
    """Bytes one behind the other: the `i`th from `offsets[i]` to `offsets[i + 1]`."""

    blob: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]


def packed_of(blob: npt.NDArray[np.uint8], offsets: npt.NDArray[Any], rows: npt.NDArray[np.int64]) -> Packed:
    """The bytes of these rows."""
    starts = offsets.astype(np.int64)  # narrow ones would be another kernel to compile
    ends = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(starts[rows + 1] - starts[rows], out=ends[1:])
    copied = np.empty(ends[-1], np.uint8)
    copy_texts(blob, starts, rows, copied, ends)
    return Packed(copied, ends)


def none_packed(count: int) -> Packed:
    """So many rows without any bytes."""
    return Packed(np.empty(0, np.uint8), np.zeros(count + 1, np.int64))


class Postings(Protocol):
    """Where words are."""

    @property
    def terms(self) -> Terms: ...

    def of(self, code: int) -> tuple[Rows, npt.NDArray[np.uint16]]:
        """The rows that have a word, ascending, and how often."""
        ...

    def all(self) -> tuple[npt.NDArray[np.int32], Rows, npt.NDArray[np.uint16]]:
        """Every word, row and how often; in any order."""
        ...


@dataclass(frozen=True, slots=True)
class FrozenPostings:
    """Sorted by word, then row: `starts[code]` to `starts[code + 1]` are a word's."""

    terms: FrozenTerms
    starts: npt.NDArray[np.int64]
    rows: Rows
    counts: npt.NDArray[np.uint16]

    def of(self, code: int) -> tuple[Rows, npt.NDArray[np.uint16]]:
        part = slice(int(self.starts[code]), int(self.starts[code + 1]))
        return self.rows[part], self.counts[part]

    def all(self) -> tuple[npt.NDArray[np.int32], Rows, npt.NDArray[np.uint16]]:
        codes = np.repeat(np.arange(len(self.terms), dtype=np.int32), np.diff(self.starts))
        return codes, self.rows, self.counts


class Readable(Protocol):
    """What filters and the rest read: columns of rows, those of a head up to `count`."""

    @property
    def fields(self) -> Fields:
        """As declared."""
        ...

    @property
    def whole(self) -> bool:
        """Whether every value is in a column; otherwise a field without one must be looked for in the documents."""
        ...

    def types(self, name: str) -> Sequence[FieldType]:
        """Of which types a field has values."""
        ...

    def names(self) -> Iterable[str]:
        """The fields that have columns."""
        ...

    def values(self, name: str, kind: FieldType, count: int) -> Values | None:
        """A column of the first rows; None where there is none."""
        ...

    def texts(self, name: str, count: int) -> Texts | None:
        """A text column of the first rows; None where there is none."""
        ...

    def document(self, row: int) -> bytes:
        """A payload's bytes; see `documents.py`."""
        ...

    def packed(self, rows: npt.NDArray[np.int64]) -> Packed:
        """The bytes of many payloads."""
        ...

    def payload(self, row: int) -> dict[str, Any]:
        """A payload as it was written."""
        ...


class Columns:
    """Payloads that never change. Made by `making.py`, opened over a segment's arrays."""

    def __init__(self, arrays: Arrays) -> None:
        directory = json.loads(arrays["directory"].tobytes())
        self.arrays = arrays
        self.count: int = directory["count"]
        self.fields: Fields = fields_of(directory["fields"])
        self.whole: bool = directory["whole"]
        self._columns: dict[str, list[str]] = directory["columns"]
        self._place = {name: at for at, name in enumerate(self._columns)}
        self._words: dict[str, KeywordWords] = {}
        self._offsets = arrays.get("document_offsets")
        self._documents = arrays["documents"].data if "documents" in arrays else memoryview(b"")

    @classmethod
    def open(cls, arrays: Arrays) -> "Columns":
        """The columns that these arrays are; nothing is copied or checked here, the segment has done that."""
        return cls(arrays)

    def types(self, name: str) -> Sequence[FieldType]:
        return [FieldType(kind) for kind in self._columns.get(name, ())]

    def names(self) -> Iterable[str]:
        return list(self._columns)

    def values(self, name: str, kind: FieldType, count: int) -> Values | None:
        prefix = self._prefix(name, kind)
        if prefix is None:
            return None
        terms, words = None, None
        if kind is FieldType.KEYWORD:
            terms = self._terms(prefix)
            words = partial(self._words_of, prefix, terms)
        values, rows = self.arrays[f"{prefix}_values"], self.arrays.get(f"{prefix}_rows")
        if count < self.count:
            end = count if rows is None else int(np.searchsorted(rows, count))
            values, rows = values[:end], None if rows is None else rows[:end]
        return Values(rows, values, terms, words)

    def texts(self, name: str, count: int) -> Texts | None:
        assert count == self.count, "texts of a segment are read whole"
        prefix = self._prefix(name, FieldType.TEXT)
        if prefix is None:
            return None
        arrays = (self.arrays[f"{prefix}_{part}"] for part in ("starts", "postings", "counts"))
        postings = FrozenPostings(self._terms(prefix), *arrays)
        declared = self.fields.get(name)
        language = declared.language if declared else ""
        return Texts(self.arrays[f"{prefix}_rows"], self.arrays[f"{prefix}_lengths"], postings, language)

    def document(self, row: int) -> bytes:
        if self._offsets is None:
            return b""
        return bytes(self._documents[int(self._offsets[row]) : int(self._offsets[row + 1])])

    def packed(self, rows: npt.NDArray[np.int64]) -> Packed:
        if self._offsets is None:
            return none_packed(len(rows))
        return packed_of(self.arrays["documents"], self._offsets, rows)

    def payload(self, row: int) -> dict[str, Any]:
        return decoded(self.document(row))

    def _words_of(self, prefix: str, terms: FrozenTerms) -> KeywordWords:
        return self._words.setdefault(prefix, KeywordWords(terms))

    def _prefix(self, name: str, kind: FieldType) -> str | None:
        return f"field_{self._place[name]}_{kind}" if kind in self._columns.get(name, ()) else None

    def _terms(self, prefix: str) -> FrozenTerms:
        return FrozenTerms(self.arrays[f"{prefix}_terms"], self.arrays[f"{prefix}_term_offsets"])


def directory_of(count: int, fields: Fields, columns: Mapping[str, Sequence[FieldType]], *, whole: bool) -> bytes:
    """What the array `directory` says: how many rows, and which columns there are."""
    told = {"count": count, "fields": told_of(fields), "whole": whole, "columns": columns}
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()
