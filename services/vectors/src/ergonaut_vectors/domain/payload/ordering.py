"""Rows in the order of a field's values, a page at a time: each answer says at which place to go on. For scrolling by a field."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.payload import bits
from ergonaut_vectors.domain.payload.columns import Readable, Values
from ergonaut_vectors.domain.payload.fields import FieldType
from ergonaut_vectors.domain.payload.terms import FrozenTerms, Terms
from ergonaut_vectors.domain.space import Words

Row = TypeVar("Row")

Ties = npt.NDArray[np.uint64]
"""[count]: a number for each row that tells those of one value apart, everywhere alike, such as the hash of its id."""

NUMBERS, TIMES, KEYWORDS, NOTHING = range(4)
_RANKS = {
    FieldType.BOOLEAN: NUMBERS,
    FieldType.INTEGER: NUMBERS,
    FieldType.FLOAT: NUMBERS,
    FieldType.TIME: TIMES,
    FieldType.KEYWORD: KEYWORDS,
}


@dataclass(frozen=True, slots=True)
class Order:
    """By which field rows are ordered, equal ones by their ties.

    Numbers come before times and those before keywords; rows without a value come last, whichever way the order goes. A row with
    several values stands where the first of them does.
    """

    field: str
    descending: bool = False


class Place(NamedTuple):
    """Where a row stands in an order. Fit for JSON, so that a caller can be given it and come back with it."""

    rank: int
    value: int | float | str | None
    tie: int


@dataclass(frozen=True, slots=True)
class Page:
    """How much of an order is asked for."""

    limit: int
    allowed: Words | None = None
    after: Place | None = None
    """Only what comes after this place."""


def ordered(columns: Readable, order: Order, count: int, ties: Ties, page: Page) -> list[tuple[Place, int]]:
    """The next rows of the first `count`, with their places; those of several parts are put together by `merged`."""
    left = np.ones(count, np.bool_) if page.allowed is None else bits.mask_of(page.allowed, count)
    found: list[tuple[Place, int]] = []
    for rank in (NUMBERS, TIMES, KEYWORDS):
        keys = _keys_of(columns, order, rank, count)
        keys = keys.first_of_rows(left)
        left[keys.rows] = False
        if page.after is not None:
            keys = keys.behind(page.after, ties)
        found += keys.top(page.limit - len(found), ties)
    rows = np.flatnonzero(left)
    if page.after is not None and page.after.rank == NOTHING:
        rows = rows[ties[rows] > np.uint64(page.after.tie)]
    without = rows[np.argsort(ties[rows], kind="stable")[: page.limit - len(found)]]
    return found + [(Place(NOTHING, None, int(ties[row])), int(row)) for row in without]


def merged(parts: Iterable[Iterable[tuple[Place, Row]]], order: Order, limit: int) -> list[tuple[Place, Row]]:
    """The first of all parts together."""
    by_rank: dict[int, list[tuple[Place, Row]]] = {}
    for part in parts:
        for place, row in part:
            by_rank.setdefault(place.rank, []).append((place, row))
    every: list[tuple[Place, Row]] = []
    for rank in sorted(by_rank):
        members = sorted(by_rank[rank], key=lambda item: item[0].tie)
        if rank != NOTHING:
            members.sort(key=lambda item: item[0].value, reverse=order.descending)  # type: ignore[arg-type, return-value]
        every += members
    return every[:limit]


@dataclass(frozen=True, slots=True)
class _Keys:
    """Values of one rank, as numbers that sort as they are ordered: `high`, then what a float cannot say of an integer, `low`."""

    rank: int
    rows: npt.NDArray[Any]
    high: npt.NDArray[np.float64]
    low: npt.NDArray[np.int64]
    sign: int
    names: Sequence[str] | Terms
    """Of keywords: sorted, a key being a place among them."""

    def chosen(self, which: npt.NDArray[Any]) -> "_Keys":
        return replace(self, rows=self.rows[which], high=self.high[which], low=self.low[which])

    def first_of_rows(self, left: bits.Mask) -> "_Keys":
        """The first key of each row that is left."""
        keys = self.chosen(left[self.rows])
        if (keys.rows[:-1] < keys.rows[1:]).all():
            return keys
        keys = keys.chosen(np.lexsort((keys.low, keys.high, keys.rows)))
        return keys.chosen(np.concatenate([[True], keys.rows[1:] != keys.rows[:-1]]))

    def behind(self, after: Place, ties: Ties) -> "_Keys":
        """The keys that come after this place."""
        if after.rank != self.rank or after.value is None:
            return self if after.rank < self.rank else self.chosen(np.empty(0, np.int64))
        high, low = self._key_of(after.value)
        later = (self.high > high) | ((self.high == high) & (self.low > low))
        equal = (self.high == high) & (self.low == low)
        return self.chosen(later | (equal & (ties[self.rows] > np.uint64(after.tie))))

    def top(self, limit: int, ties: Ties) -> list[tuple[Place, int]]:
        """The first keys, with the rows they are of."""
        if limit <= 0:
            return []
        keys = self
        if len(self.rows) > 2 * limit:
            keys = self.chosen(self.high <= np.partition(self.high, limit - 1)[limit - 1])
        keys = keys.chosen(np.lexsort((ties[keys.rows], keys.low, keys.high))[:limit])
        values = [self._value_of(high, low) for high, low in zip(keys.high.tolist(), keys.low.tolist(), strict=True)]
        rows = keys.rows.tolist()
        return [(Place(self.rank, value, int(ties[row])), row) for value, row in zip(values, rows, strict=True)]

    def _key_of(self, value: int | float | str) -> tuple[float, int]:
        if isinstance(value, str):
            at = bisect_left(self.names, value)
            there = at < len(self.names) and self.names[at] == value
            return self.sign * (at if there else at - 0.5), 0  # between the two names that it would stand between
        high = float(value)
        return self.sign * high, self.sign * (int(value) - int(high) if isinstance(value, int) else 0)

    def _value_of(self, high: float, low: int) -> int | float | str:
        high, low = self.sign * high, self.sign * low
        if self.rank == KEYWORDS:
            return self.names[int(high)]
        return int(high) + low if high.is_integer() else high


def _keys_of(columns: Readable, order: Order, rank: int, count: int) -> _Keys:
    sign = -1 if order.descending else 1
    rows, high, low = [np.empty(0, np.int32)], [np.empty(0, np.float64)], [np.empty(0, np.int64)]
    names: Sequence[str] | Terms = []
    for kind in columns.types(order.field):
        column = columns.values(order.field, kind, count) if _RANKS.get(kind) == rank else None
        if column is None:
            continue
        values = column.values
        if column.terms is not None:
            names, values = _by_name(column)
        rows.append(np.arange(len(values), dtype=np.int32) if column.rows is None else column.rows)
        high.append(values.astype(np.float64))
        low.append(_remainders(values, high[-1]))
    high_sorted, low_sorted = sign * np.concatenate(high), sign * np.concatenate(low)
    return _Keys(rank, np.concatenate(rows), high_sorted, low_sorted, sign, names)


def _remainders(values: npt.NDArray[Any], high: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    if values.dtype != np.int64:
        return np.zeros(len(values), np.int64)
    # Differences wrap around, and so stay right even where the float is 2^63, which no such integer is.
    whole = np.where(high >= 2.0**63, np.int64(-(2**63)), np.where(high >= 2.0**63, 0.0, high).astype(np.int64))
    return values - whole


def _by_name(column: Values) -> tuple[Sequence[str] | Terms, npt.NDArray[np.int64]]:
    """The names sorted, and each value's place among them."""
    assert column.terms is not None, "keywords have terms"
    if isinstance(column.terms, FrozenTerms):
        return column.terms, column.values.astype(np.int64)
    names = list(column.terms)
    order = sorted(range(len(names)), key=names.__getitem__)
    places = np.empty(len(names), np.int64)
    places[order] = np.arange(len(names))
    return [names[code] for code in order], places[column.values]
