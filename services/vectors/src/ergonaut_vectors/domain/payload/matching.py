"""Evaluates filters over columns: which rows fulfil one, as the words that indexes take. Called by the shard before a search.

`plain.py` says what a filter means, for one payload at a time; this says the same of a million in milliseconds.
"""

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.payload import bits, geo, plain
from ergonaut_vectors.domain.payload.columns import Readable, Texts, Values
from ergonaut_vectors.domain.payload.fields import (
    INTEGER_MAX,
    INTEGER_MIN,
    KEYWORD_CHARACTERS_MAX,
    FieldType,
    leaves_of,
    microseconds_of,
)
from ergonaut_vectors.domain.payload.filters import (
    And,
    Bound,
    Box,
    Condition,
    Exists,
    Filter,
    Ids,
    Near,
    Not,
    OneOf,
    Or,
    Polygon,
    Range,
    Text,
)
from ergonaut_vectors.domain.payload.stems import stemmed
from ergonaut_vectors.domain.payload.terms import UNKNOWN, words_of
from ergonaut_vectors.domain.space import Words

RowsOfIds = Callable[[Sequence[str]], npt.NDArray[Any]]
"""The rows that have these ids; those that are not there are left out."""

FEW_VALUES = 8
"""Up to so many values are compared one by one, which is faster than looking each row's up among them."""


def matching(wanted: Filter, columns: Readable, count: int, rows_of_ids: RowsOfIds | None = None) -> Words:
    """Which of the first `count` rows fulfil the filter. A filter on ids needs to be told how ids are found."""
    if isinstance(wanted, And):
        words = bits.all_of(count)
        for part in wanted.parts:
            words &= matching(part, columns, count, rows_of_ids)
        return words
    if isinstance(wanted, Or):
        words = bits.none_of(count)
        for part in wanted.parts:
            words |= matching(part, columns, count, rows_of_ids)
        return words
    if isinstance(wanted, Not):
        return bits.inverted(matching(wanted.part, columns, count, rows_of_ids), count)
    if isinstance(wanted, Ids):
        assert rows_of_ids is not None, "a filter on ids needs ids"
        rows = rows_of_ids(wanted.ids)
        return bits.of_rows(rows[rows < count], count)
    return _fulfilling(wanted, columns, count)


def _fulfilling(condition: Condition, columns: Readable, count: int) -> Words:
    kinds = columns.types(condition.field)
    if not kinds:
        return bits.none_of(count) if columns.whole else _looked_for(condition, columns, count)
    words = bits.none_of(count)
    for kind in kinds:
        if kind is FieldType.TEXT:
            texts = columns.texts(condition.field, count)
            if texts is not None:
                words |= bits.of_rows(_in_texts(condition, texts, columns), count)
            continue
        column = columns.values(condition.field, kind, count)
        if column is not None:
            words |= _in_values(condition, kind, column, count)
    return words


def _looked_for(condition: Condition, columns: Readable, count: int) -> Words:
    """By reading every document: for fields beyond the most that have columns."""
    rows = [row for row in range(count) if plain.fulfils(condition, leaves_of(columns.payload(row), columns.fields))]
    return bits.of_rows(np.array(rows, np.int64), count)


def _in_values(condition: Condition, kind: FieldType, column: Values, count: int) -> Words:
    if isinstance(condition, Exists):
        return bits.all_of(count) if column.rows is None else bits.of_rows(column.rows, count)
    mask = _mask(condition, kind, column)
    if mask is None:
        return bits.none_of(count)
    if column.rows is None:
        return bits.of_mask(mask)
    return bits.of_rows(column.rows[mask], count)


def _mask(condition: Condition, kind: FieldType, column: Values) -> bits.Mask | None:
    """Which of the values fulfil the condition; None where none of this type can."""
    if isinstance(condition, OneOf):
        return _one_of(condition, kind, column)
    if isinstance(condition, Range):
        if (kind is FieldType.TIME and condition.of_times) or (_is_numeric(kind) and not condition.of_times):
            return _between(condition, column.values)
        return None
    if isinstance(condition, Near | Box | Polygon):
        return geo.within(column.values, condition) if kind is FieldType.GEO else None
    if isinstance(condition, Text) and kind is FieldType.KEYWORD:
        return _with_words(condition, column)
    return None


def _with_words(condition: Text, column: Values) -> bits.Mask:
    """Keywords are searched by whole words, all of which one of them has."""
    assert column.terms is not None, "keywords have terms"
    assert column.words is not None, "keywords have words"
    words, terms = column.words(), len(column.terms)
    join = np.union1d if condition.any else np.intersect1d
    codes = reduce(join, (words.having(word)[0] for word in condition.words))
    known = codes[codes < terms]  # others came after the rows that are asked about
    return _any_of(column.values, known.tolist(), terms)


def _one_of(condition: OneOf, kind: FieldType, column: Values) -> bits.Mask | None:
    if kind is FieldType.KEYWORD:
        assert column.terms is not None, "keywords have terms"
        codes = {column.terms.code_of(value) for value in condition.values if isinstance(value, str)} - {UNKNOWN}
        return _any_of(column.values, sorted(codes), len(column.terms)) if codes else None
    values = _comparable(condition.values, kind)
    if not values:
        return None
    if len(values) <= FEW_VALUES:
        mask: bits.Mask = column.values == values[0]
        for value in values[1:]:
            mask |= column.values == value
        return mask
    return np.isin(column.values, np.array(values, column.values.dtype))


def _comparable(values: Sequence[bool | int | float | str], kind: FieldType) -> list[Any]:
    """The values that a column of this type can have, as it would have them."""
    if kind is FieldType.BOOLEAN:
        return [value for value in values if isinstance(value, bool)]
    if kind is FieldType.TIME:
        moments = [microseconds_of(value) for value in values if isinstance(value, str)]
        return [moment for moment in moments if moment is not None]
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if kind is FieldType.INTEGER:
        return [int(number) for number in numbers if number == int(number) and INTEGER_MIN <= number <= INTEGER_MAX]
    if kind is FieldType.FLOAT:
        return [float(number) for number in numbers if float(number) == number]
    return []


def _any_of(values: npt.NDArray[Any], codes: Sequence[int], terms: int) -> bits.Mask:
    if len(codes) <= FEW_VALUES:
        mask = np.zeros(len(values), np.bool_)
        for code in codes:
            mask |= values == code
        return mask
    table = np.zeros(terms, np.bool_)
    table[list(codes)] = True
    chosen: bits.Mask = table[values]
    return chosen


def _between(wanted: Range, values: npt.NDArray[Any]) -> bits.Mask | None:
    whole = values.dtype.kind == "i"
    low = _bound(wanted.low, whole=whole, upwards=True) if wanted.low else None
    high = _bound(wanted.high, whole=whole, upwards=False) if wanted.high else None
    if whole and ((low and low.value > INTEGER_MAX) or (high and high.value < INTEGER_MIN)):
        return None
    mask = None
    if low is not None and not (whole and low.value < INTEGER_MIN):
        mask = values >= low.value if low.inclusive else values > low.value
    if high is not None and not (whole and high.value > INTEGER_MAX):
        below = values <= high.value if high.inclusive else values < high.value
        mask = below if mask is None else mask & below
    return np.ones(len(values), np.bool_) if mask is None else mask


def _bound(bound: Bound, *, whole: bool, upwards: bool) -> Bound:
    """The bound as a number of the column's type that parts its values exactly as the bound does."""
    value = bound.value
    if whole:
        if isinstance(value, int):
            return bound
        near = math.ceil(value) if upwards else math.floor(value)
        return Bound(near, bound.inclusive or near != value)
    as_float = float(value)
    if as_float == value:
        return Bound(as_float, bound.inclusive)
    # An integer that no float is: no value equals it, and the nearest float is on one side of it.
    return Bound(as_float, inclusive=as_float > value if upwards else as_float < value)


def _is_numeric(kind: FieldType) -> bool:
    return kind is FieldType.INTEGER or kind is FieldType.FLOAT


def _in_texts(condition: Condition, texts: Texts, columns: Readable) -> npt.NDArray[Any]:
    if isinstance(condition, Exists):
        return texts.rows
    if isinstance(condition, Text):
        return rows_with(texts, stemmed(condition.words, texts.language), any_word=condition.any)
    if isinstance(condition, OneOf):
        rows = [_equal_texts(value, condition, texts, columns) for value in condition.values if isinstance(value, str)]
        return np.concatenate([np.empty(0, np.int32), *rows])
    return np.empty(0, np.int32)


def _equal_texts(value: str, condition: OneOf, texts: Texts, columns: Readable) -> npt.NDArray[Any]:
    """Rows with exactly this text: those with its words are few, and their documents are read."""
    words = stemmed(words_of(value), texts.language)
    candidates = rows_with(texts, words, any_word=False) if words else texts.rows
    declared = columns.fields.get(condition.field)
    if not len(candidates) or (declared is None and len(value) <= KEYWORD_CHARACTERS_MAX):
        return np.empty(0, np.int32)
    wanted = (condition.field, FieldType.TEXT, value)
    equal = [wanted in leaves_of(columns.payload(row), columns.fields) for row in candidates.tolist()]
    return candidates[np.array(equal, np.bool_)]


def rows_with(texts: Texts, words: Sequence[str], *, any_word: bool) -> npt.NDArray[Any]:
    """The rows that have all of the words, or any of them."""
    codes = {texts.postings.terms.code_of(word) for word in words}
    if UNKNOWN in codes and not any_word:
        return np.empty(0, np.int32)
    found = sorted((texts.postings.of(code)[0] for code in codes - {UNKNOWN}), key=len)
    if not found:
        return np.empty(0, np.int32)
    if any_word:
        return np.concatenate(found)
    rows = found[0]
    for others in found[1:]:
        rows = np.intersect1d(rows, others, assume_unique=True)
    return rows
