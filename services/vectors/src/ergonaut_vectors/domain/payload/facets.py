"""How many rows have each value of a field: facets. The shard calls, and adds up what its parts say."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from ergonaut_vectors.domain.payload import bits
from ergonaut_vectors.domain.payload.columns import Readable, Values
from ergonaut_vectors.domain.payload.fields import INTEGER_MAX, INTEGER_MIN, FieldType
from ergonaut_vectors.domain.space import Words

FACETS_MAX = 1000

Facet = tuple[FieldType, Any]
"""A value with its type: 1 and true are two, 3 and 3.0 are one, an integer."""

_COUNTED = (FieldType.BOOLEAN, FieldType.INTEGER, FieldType.FLOAT, FieldType.TIME, FieldType.KEYWORD)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OFFSET_MAX = timedelta(hours=23, minutes=59)


def facets_of(columns: Readable, name: str, count: int, allowed: Words | None = None) -> dict[Facet, int]:
    """How many of the first rows, of those allowed, have each value; places and texts are not counted by value.

    Parts are added up before the most frequent are taken by `most_frequent`, so that counts are exact.
    """
    found: dict[Facet, int] = {}
    keep = None if allowed is None else bits.mask_of(allowed, count)
    for kind, column in _columns_of(columns, name, count).items():
        found |= {(kind, value): times for value, times in _counts(column, keep)}
    return found


def most_frequent(parts: Iterable[Mapping[Facet, int]], limit: int) -> list[tuple[Facet, int]]:
    """The values that most rows have, of all parts together; equal ones by value."""
    total: dict[Facet, int] = {}
    for part in parts:
        for facet, times in part.items():
            total[facet] = total.get(facet, 0) + times
    return sorted(total.items(), key=lambda item: (-item[1], item[0][0], item[0][1]))[:limit]


def written(facet: Facet) -> bool | int | float | str:
    """A value as it stands in JSON, so that asking for it finds the rows; times in UTC."""
    kind, value = facet
    if kind is not FieldType.TIME:
        return value  # type: ignore[no-any-return]
    moment = timedelta(microseconds=value)
    for offset, told in ((timedelta(), "Z"), (-_OFFSET_MAX, "-23:59"), (_OFFSET_MAX, "+23:59")):
        try:
            return (_EPOCH + (moment + offset)).replace(tzinfo=None).isoformat() + told
        except OverflowError:  # an hour before the year 10000 somewhere is after it in UTC
            continue
    raise AssertionError("a time that was read can be written")


def _columns_of(columns: Readable, name: str, count: int) -> dict[FieldType, Values]:
    """The columns of a field; whole numbers are all among the integers."""
    kinds = [kind for kind in columns.types(name) if kind in _COUNTED]
    found = {kind: column for kind in kinds if (column := columns.values(name, kind, count)) is not None}
    floats = found.get(FieldType.FLOAT)
    if floats is not None:
        whole = (
            (floats.values == np.floor(floats.values)) & (floats.values >= INTEGER_MIN) & (floats.values < INTEGER_MAX)
        )
        if whole.any():
            found[FieldType.FLOAT] = Values(floats.rows_of(np.flatnonzero(~whole)), floats.values[~whole])
            more = Values(floats.rows_of(np.flatnonzero(whole)), floats.values[whole].astype(np.int64))
            found[FieldType.INTEGER] = _together(found.get(FieldType.INTEGER), more)
    return found


def _together(column: Values | None, more: Values) -> Values:
    """Values of two columns in the order of their rows."""
    if column is None:
        return more
    rows = np.concatenate([column.rows_of(np.arange(len(column.values))), more.rows])
    order = np.argsort(rows, kind="stable")
    return Values(rows[order], np.concatenate([column.values, more.values])[order])


def _counts(column: Values, keep: bits.Mask | None) -> list[tuple[Any, int]]:
    values, rows = column.values, column.rows
    if keep is not None:
        chosen = keep[: len(values)] if rows is None else keep[rows]
        values, rows = values[chosen], None if rows is None else rows[chosen]
    distinct, places = np.unique(values, return_inverse=True)
    if rows is not None and len(rows) > 1 and (rows[:-1] == rows[1:]).any():
        # A row that has a value twice counts once.
        pairs = np.unique(rows.astype(np.int64) * len(distinct) + places)
        places = pairs % len(distinct)
    times = np.bincount(places, minlength=len(distinct)).tolist()
    named = [column.terms[code] for code in distinct.tolist()] if column.terms is not None else distinct.tolist()
    return list(zip(named, times, strict=True))
