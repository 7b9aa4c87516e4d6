"""Columns made of others: chosen rows of one or many, in any order. Whole columns are moved; `making.py` calls."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.payload.columns import (
    COLUMNS_MAX,
    VALUE_TYPES,
    Columns,
    Readable,
    Texts,
    Values,
    directory_of,
)
from ergonaut_vectors.domain.payload.fields import Fields, FieldType
from ergonaut_vectors.domain.payload.terms import FrozenTerms, Terms

RowNumbers = npt.NDArray[np.int64]
Named = dict[str, npt.NDArray[Any]]

GONE = -1


class _Part(NamedTuple):
    """One of those joined, and where its rows go."""

    columns: Readable
    places: npt.NDArray[np.int32]
    """Of each of its rows, up to the last one chosen, the row that it becomes; GONE for none."""

    @property
    def rows_read(self) -> int:
        """Rows that have to be read of it."""
        return len(self.places)


def joined_alike(parts: Sequence[tuple[Readable, RowNumbers]], fields: Fields) -> Columns:
    """The chosen rows of each, one after the other in the order given. All have these declared fields."""
    ends = np.cumsum([0, *(len(rows) for _, rows in parts)])
    placed = [_placed(columns, rows, int(first)) for (columns, rows), first in zip(parts, ends, strict=False)]
    arrays = _documents(parts)
    kinds: dict[str, list[FieldType]] = {}
    names, whole = _names(parts, fields)
    for name in names:
        for kind in FieldType:
            column = _joined(placed, name, kind, int(ends[-1]))
            if column:
                kinds.setdefault(name, []).append(kind)
                prefix = f"field_{len(kinds) - 1}_{kind}"
                arrays |= {f"{prefix}_{part}": each for part, each in column.items()}
    directory = directory_of(int(ends[-1]), fields, kinds, whole=whole)
    return Columns(arrays | {"directory": np.frombuffer(directory, np.uint8)})


def _names(parts: Sequence[tuple[Readable, RowNumbers]], fields: Fields) -> tuple[list[str], bool]:
    """The fields that get columns, and whether no others have values.

    A field that a part has in its documents alone has no column here either: it would hold a part of the values for all of them.
    """
    names = list(dict.fromkeys(name for columns, _ in parts for name in columns.names()))
    partly = [set(columns.names()) for columns, _ in parts if not columns.whole]
    kept = [name for name in names if name in fields or all(name in known for known in partly)]
    declared = [name for name in kept if name in fields]
    kept = declared + [name for name in kept if name not in fields][:COLUMNS_MAX]
    return kept, not partly and len(kept) == len(names)


def _placed(columns: Readable, rows: RowNumbers, first: int) -> _Part:
    places = np.full(int(rows.max()) + 1 if len(rows) else 0, GONE, np.int32)
    places[rows] = np.arange(first, first + len(rows), dtype=np.int32)
    # Texts of a segment are read whole; rows behind the last chosen one go nowhere.
    if isinstance(columns, Columns) and len(places) < columns.count:
        places = np.concatenate([places, np.full(columns.count - len(places), GONE, np.int32)])
    return _Part(columns, places)


def _documents(parts: Sequence[tuple[Readable, RowNumbers]]) -> Named:
    packed = [columns.packed(rows.astype(np.int64, copy=False)) for columns, rows in parts]
    blob = np.concatenate([np.empty(0, np.uint8), *(each.blob for each in packed)])
    if not len(blob):
        return {}
    lengths = np.concatenate([np.diff(each.offsets) for each in packed])
    return {"documents": blob, "document_offsets": _narrow(np.concatenate([[0], np.cumsum(lengths)]))}


def _joined(parts: Sequence[_Part], name: str, kind: FieldType, count: int) -> Named:
    if kind is FieldType.TEXT:
        texts = [(part, part.columns.texts(name, part.rows_read)) for part in parts]
        return _joined_texts([(part, each) for part, each in texts if each is not None])
    columns = [(part, part.columns.values(name, kind, part.rows_read)) for part in parts]
    return _joined_values([(part, each) for part, each in columns if each is not None], kind, count)


def _joined_values(columns: Sequence[tuple[_Part, Values]], kind: FieldType, count: int) -> Named:
    kept = [_kept(part, column) for part, column in columns]
    rows = np.concatenate([np.empty(0, np.int32), *(each.rows for each in kept)])
    if not len(rows):
        return {}
    arrays: Named = {}
    codes = [each.values for each in kept]
    if kind is FieldType.KEYWORD:
        terms, codes = _joined_terms(
            [(_terms_of(column), each) for (_, column), each in zip(columns, codes, strict=True)]
        )
        arrays = {"terms": terms.blob, "term_offsets": _narrow(terms.offsets)}
    values = np.concatenate(codes).astype(VALUE_TYPES[kind].base, copy=False)
    rows, values = _sorted_by_row(rows, values)
    arrays["values"] = values
    if len(rows) != count or not np.array_equal(rows, np.arange(count)):
        arrays["rows"] = rows
    return arrays


class _Kept(NamedTuple):
    rows: npt.NDArray[np.int32]
    values: npt.NDArray[Any]


def _kept(part: _Part, column: Values) -> _Kept:
    """The values whose rows were chosen, with the rows that these become."""
    rows = part.places[: len(column.values)] if column.rows is None else part.places[column.rows]
    chosen = rows != GONE
    return _Kept(rows[chosen], column.values[chosen])


def _terms_of(column: Values) -> Terms:
    assert column.terms is not None, "keywords have terms"
    return column.terms


def _sorted_by_row(rows: npt.NDArray[np.int32], values: npt.NDArray[Any]) -> _Kept:
    """In the order of rows; the values of one row stay in theirs."""
    if np.all(rows[:-1] <= rows[1:]):
        return _Kept(rows, values)
    order = np.argsort(rows, kind="stable")
    return _Kept(rows[order], values[order])


def _joined_terms(
    parts: Sequence[tuple[Terms, npt.NDArray[np.int32]]],
) -> tuple[FrozenTerms, list[npt.NDArray[np.int32]]]:
    """The terms in use, sorted, and the codes of each part in them."""
    first, of_first = parts[0]
    if len(parts) == 1 and isinstance(first, FrozenTerms) and np.bincount(of_first, minlength=len(first)).all():
        return first, [of_first]  # as when all rows of a segment get another order
    used = []
    for terms, codes in parts:
        times = np.bincount(codes, minlength=len(terms))
        used.append({code: text for code, text in enumerate(terms) if code < len(times) and times[code]})
    texts = sorted({text for each in used for text in each.values()})
    new = {text: code for code, text in enumerate(texts)}
    recoded = []
    for (terms, codes), each in zip(parts, used, strict=True):
        table = np.zeros(max(len(terms), 1), np.int32)
        table[list(each)] = [new[text] for text in each.values()]
        recoded.append(table[codes])
    return FrozenTerms.of(texts), recoded


def _joined_texts(columns: Sequence[tuple[_Part, Texts]]) -> Named:
    kept = [_kept(part, Values(text.rows, text.lengths)) for part, text in columns]
    if not any(len(each.rows) for each in kept):
        return {}
    rows, lengths = _sorted_by_row(*(np.concatenate(each) for each in zip(*kept, strict=True)))
    postings = [_kept_postings(part, text) for part, text in columns]
    terms, codes = _joined_terms(
        [(text.postings.terms, each[0]) for (_, text), each in zip(columns, postings, strict=True)]
    )
    all_codes, posting_rows = np.concatenate(codes), np.concatenate([each[1] for each in postings])
    order = np.argsort((all_codes.astype(np.int64) << 32) | posting_rows)  # one key sorts faster than two
    return {
        "rows": rows,
        "lengths": lengths,
        "terms": terms.blob,
        "term_offsets": _narrow(terms.offsets),
        "starts": np.searchsorted(all_codes[order], np.arange(len(terms) + 1)).astype(np.int64),
        "postings": posting_rows[order],
        "counts": np.concatenate([each[2] for each in postings])[order],
    }


def _kept_postings(part: _Part, text: Texts) -> tuple[npt.NDArray[Any], ...]:
    codes, rows, counts = text.postings.all()
    places = part.places[rows]
    chosen = places != GONE
    return codes[chosen], places[chosen], counts[chosen]


def _narrow(offsets: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Offsets in half the bytes where they fit."""
    return offsets.astype(np.uint32) if offsets[-1] <= np.iinfo(np.uint32).max else offsets
