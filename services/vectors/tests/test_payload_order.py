"""Facets and orders: counts agree with counting, and pages with sorting, over one part or many."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ergonaut_vectors.domain.payload import bits
from ergonaut_vectors.domain.payload.facets import facets_of, most_frequent, written
from ergonaut_vectors.domain.payload.fields import FieldType, alike, leaves_of
from ergonaut_vectors.domain.payload.filters import parsed
from ergonaut_vectors.domain.payload.groups import keys_of
from ergonaut_vectors.domain.payload.growing import GrowingColumns
from ergonaut_vectors.domain.payload.making import columns_of
from ergonaut_vectors.domain.payload.matching import matching
from ergonaut_vectors.domain.payload.ordering import Order, Page, Place, merged, ordered

NUMBERS = st.one_of(
    st.integers(-2, 3), st.booleans(), st.sampled_from([0.5, 2.0, 2**53 + 1, float(2**53), 2**63 - 1, -(2**63), 1e300])
)
STRINGS = st.sampled_from(
    ["a", "b", "ä", "\U00010000", "\ufffd", "2026-01-31T12:00:00Z", "1969-01-31T12:00:00Z", "z" * 300]
)
VALUES = st.one_of(NUMBERS, STRINGS, st.none())
PAYLOADS = st.lists(
    st.fixed_dictionaries({}, optional={"a": st.one_of(VALUES, st.lists(VALUES, max_size=3))}), max_size=12
)
RANKS = {FieldType.TIME: 1, FieldType.KEYWORD: 2, FieldType.TEXT: 9, FieldType.GEO: 9}


def expected_order(payloads: list[dict[str, Any]], ties: np.ndarray, descending: bool) -> list[int]:
    def first(row: int) -> tuple[int, Any]:
        values = [(RANKS.get(kind, 0), value) for _, kind, value in leaves_of(payloads[row], {})]
        rank = min((rank for rank, _ in values if rank < 9), default=3)
        return rank, (max if descending else min)([value for r, value in values if r == rank], default=None)

    places = {row: first(row) for row in range(len(payloads))}
    rows = sorted(places, key=lambda row: ties[row])
    result: list[int] = []
    for rank in range(4):
        members = [row for row in rows if places[row][0] == rank]
        if rank < 3:
            members.sort(key=lambda row: places[row][1], reverse=descending)
        result += members
    return result


@given(
    payloads=PAYLOADS, descending=st.booleans(), limit=st.integers(1, 4), cut=st.integers(0, 12), seed=st.integers(0, 9)
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_pages_of_several_parts_are_the_sorted_rows(
    payloads: list[dict[str, Any]], descending: bool, limit: int, cut: int, seed: int
) -> None:
    ties = np.random.default_rng(seed).permutation(len(payloads)).astype(np.uint64)
    growing = GrowingColumns()
    growing.append(payloads[cut:])
    parts = [(columns_of(payloads[:cut]), 0), (growing, min(cut, len(payloads)))]
    order, after, seen = Order("a", descending), None, list[int]()
    while True:
        pages = []
        for columns, first in parts:
            rows = ordered(columns, order, columns.count, ties[first : first + columns.count], Page(limit, after=after))
            pages.append([(place, first + row) for place, row in rows])
        page = merged(pages, order, limit)
        if not page:
            break
        seen += [row for _, row in page]
        after = Place(*page[-1][0])
    assert seen == expected_order(payloads, ties, descending)


def test_an_order_keeps_to_the_rows_that_are_allowed() -> None:
    columns = columns_of([{"a": number} for number in (5, 3, 9, 1)])
    page = Page(10, bits.of_rows(np.array([0, 2, 3]), 4))
    assert [row for _, row in ordered(columns, Order("a"), 4, np.arange(4, dtype=np.uint64), page)] == [3, 0, 2]


@given(payloads=PAYLOADS, allowed=st.frozensets(st.integers(0, 11)))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_facets_count_the_rows_that_have_a_value(payloads: list[dict[str, Any]], allowed: frozenset[int]) -> None:
    growing = GrowingColumns()
    growing.append(payloads)
    rows = [row for row in range(len(payloads)) if row in allowed]
    words = bits.of_rows(np.array(rows, np.int64), len(payloads))
    counted: Counter[Any] = Counter()
    for row in rows:
        leaves = leaves_of(payloads[row], {})
        counted.update({alike(kind, value) for _, kind, value in leaves if kind is not FieldType.TEXT})
    for columns in (growing, growing.frozen()):
        assert facets_of(columns, "a", len(payloads), words) == counted


def test_a_number_is_one_value_however_it_was_written() -> None:
    columns = columns_of([{"a": 3}, {"a": 3.0}, {"a": [3, 3.0]}, {"a": 3.5}])
    assert facets_of(columns, "a", 4) == {(FieldType.INTEGER, 3): 3, (FieldType.FLOAT, 3.5): 1}
    assert [keys_of({"a": value}, "a", {}) for value in (3, 3.0)] == [[(FieldType.INTEGER, 3)]] * 2


def test_the_most_frequent_values_of_all_parts_come_first() -> None:
    parts = [
        {(FieldType.KEYWORD, "red"): 2, (FieldType.KEYWORD, "blue"): 2},
        {(FieldType.KEYWORD, "red"): 1, (FieldType.INTEGER, 1): 2},
    ]
    assert most_frequent(parts, 2) == [((FieldType.KEYWORD, "red"), 3), ((FieldType.INTEGER, 1), 2)]


@pytest.mark.parametrize(
    ("facet", "expected"),
    [
        ((FieldType.TIME, 1_500_000), "1970-01-01T00:00:01.500000Z"),
        ((FieldType.KEYWORD, "x"), "x"),
        ((FieldType.BOOLEAN, True), True),
    ],
)
def test_a_facet_is_written_as_its_value_was(facet: Any, expected: Any) -> None:
    assert written(facet) == expected


@pytest.mark.parametrize(
    "time", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "2026-01-31T12:00:00.25+01:00"]
)
def test_a_time_that_a_facet_tells_finds_the_rows_that_were_counted(time: str) -> None:
    columns = columns_of([{"at": time}, {"at": "2026-01-31T00:00:00Z"}])
    told = [written(facet) for facet in facets_of(columns, "at", 2)]
    found = [bits.rows_of(matching(parsed({"field": "at", "eq": each}), columns, 2), 2).tolist() for each in told]
    assert sorted(found) == [[0], [1]]
