"""Filters: what they say, that a million rows are told the same as one, and what is refused."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ergonaut.errors import Refused
from ergonaut_vectors.domain.payload import bits
from ergonaut_vectors.domain.payload.columns import COLUMNS_MAX
from ergonaut_vectors.domain.payload.fields import Field, FieldType
from ergonaut_vectors.domain.payload.filters import parsed
from ergonaut_vectors.domain.payload.growing import GrowingColumns
from ergonaut_vectors.domain.payload.making import columns_of, joined
from ergonaut_vectors.domain.payload.matching import matching
from ergonaut_vectors.domain.payload.plain import matches

PAYLOADS: list[dict[str, Any]] = [
    {"price": 10, "tags": ["new", "red"], "sold": False, "at": "2026-01-31T12:00:00Z"},
    {"price": 12.5, "tags": "old", "place": {"lat": 52.52, "lon": 13.405}, "maker": {"name": "A", "year": 1999}},
    {"price": [1, 99], "tags": [], "sold": True, "at": "2026-01-31T14:00:00+02:00", "note": "Blue shoes, nearly new"},
    {"price": None, "place": [{"lat": -17.7, "lon": 179.5}, {"lat": -17.7, "lon": -179.5}], "note": "x" * 300},
    {},
]


def rows(told: Any, payloads: list[dict[str, Any]] = PAYLOADS, **declared: Field) -> list[int]:
    columns = columns_of(payloads, declared)
    words = matching(parsed(told), columns, columns.count)
    return bits.rows_of(words, columns.count).tolist()


CASES: list[tuple[dict[str, Any], list[int]]] = [
    ({"field": "price", "eq": 10.0}, [0]),
    ({"field": "price", "in": [99, 12.5, "10"]}, [1, 2]),
    ({"field": "price", "range": {"gt": 10, "lte": 12.5}}, [1]),
    ({"field": "price", "range": {"lt": 10.5}}, [0, 2]),
    ({"field": "price", "exists": True}, [0, 1, 2]),
    ({"field": "price", "empty": True}, [3, 4]),
    ({"field": "tags", "eq": "red"}, [0]),
    ({"field": "tags", "empty": True}, [2, 3, 4]),
    ({"field": "sold", "eq": True}, [2]),
    ({"field": "sold", "in": [1, 0]}, []),
    ({"field": "at", "eq": "2026-01-31T13:00:00+01:00"}, [0, 2]),
    ({"field": "at", "range": {"gt": "2026-01-31T12:00:00Z"}}, []),
    ({"field": "maker.year", "range": {"lt": 2000}}, [1]),
    ({"field": "nowhere", "eq": 1}, []),
    ({"field": "place", "near": {"lat": 52.5, "lon": 13.4, "radius_meters": 3000}}, [1]),
    ({"field": "place", "box": {"south": -20, "west": 179, "north": -10, "east": -179.6}}, [3]),
    ({"field": "place", "polygon": [{"lat": 52, "lon": 13}, {"lat": 53, "lon": 13}, {"lat": 52.5, "lon": 14}]}, [1]),
    (
        {
            "field": "place",
            "polygon": [
                {"lat": -18, "lon": 179},
                {"lat": -18, "lon": -179},
                {"lat": -17, "lon": -179},
                {"lat": -17, "lon": 179},
            ],
        },
        [3],
    ),
    ({"field": "note", "text": "SHOES blue"}, [2]),
    ({"field": "note", "text": "red shoes"}, []),
    ({"field": "note", "text_any": "red shoes"}, [2]),
    ({"field": "note", "eq": "x" * 300}, [3]),
    ({"field": "note", "eq": "Blue shoes, nearly new"}, [2]),
    ({"and": [{"field": "price", "exists": True}, {"not": {"field": "tags", "eq": "old"}}]}, [0, 2]),
    ({"or": [{"field": "sold", "eq": False}, {"field": "place", "exists": True}]}, [0, 1, 3]),
    ({"and": []}, [0, 1, 2, 3, 4]),
    ({"or": []}, []),
]


@pytest.mark.parametrize(("told", "expected"), CASES)
def test_a_filter_finds_the_rows_it_says(told: dict[str, Any], expected: list[int]) -> None:
    assert rows(told) == expected


def test_a_filter_on_ids_asks_whoever_knows_them() -> None:
    columns = columns_of(PAYLOADS)
    known = {"a": 1, "b": 4}

    def rows_of_ids(ids: Any) -> np.ndarray:
        return np.array([known[name] for name in ids if name in known])

    words = matching(parsed({"ids": ["b", "zzz", "a"]}), columns, 5, rows_of_ids)
    assert bits.rows_of(words, 5).tolist() == [1, 4]


def test_a_declared_keyword_that_looks_like_a_time_is_compared_by_its_characters() -> None:
    told = {"field": "at", "eq": "2026-01-31T13:00:00+01:00"}
    assert rows(told, at=Field(FieldType.KEYWORD)) == []


def test_a_declared_text_finds_its_words_in_any_form() -> None:
    pytest.importorskip("Stemmer")
    english = Field(FieldType.TEXT, "english")
    assert rows({"field": "note", "text": "shoe"}, note=english) == [2]
    assert rows({"field": "note", "eq": "Blue shoes, nearly new"}, note=english) == [2]


def test_fields_beyond_the_most_that_have_columns_are_found_all_the_same() -> None:
    crowd = {f"crowd-{number}": number for number in range(COLUMNS_MAX)}
    for told, expected in CASES[::3]:
        assert rows(told, [crowd, *PAYLOADS])[-len(expected) :] == [row + 1 for row in expected]


def test_a_field_that_one_part_has_in_its_documents_alone_is_found_after_a_merge() -> None:
    full = columns_of([{f"crowd-{number}": number for number in range(COLUMNS_MAX)}, {"price": 1, "crowd-0": 7}])
    merged = joined([(full, np.arange(2)), (columns_of(PAYLOADS), np.arange(5))])
    for told, expected in (({"field": "price", "eq": 1}, [1, 4]), ({"field": "crowd-0", "range": {"gt": 0}}, [1])):
        assert bits.rows_of(matching(parsed(told), merged, 7), 7).tolist() == expected


def test_parts_that_have_more_fields_together_than_have_columns_are_searched_in_full() -> None:
    many = [columns_of([{f"{part}-{number}": number for number in range(200)}]) for part in "ab"]
    merged = joined([(columns, np.arange(1)) for columns in many])
    assert len(list(merged.names())) == COLUMNS_MAX
    assert bits.rows_of(matching(parsed({"field": "b-199", "eq": 199}), merged, 2), 2).tolist() == [1]


WRONG: list[tuple[Any, str]] = [
    ([], "filter"),
    ({}, "filter"),
    ({"nor": []}, "filter"),
    ({"and": {}}, "filter.and"),
    ({"and": [{"field": "a", "eq": 1}, {"field": "a", "range": {"gte": "x"}}]}, "filter.and[1].range.gte"),
    ({"not": {"field": "a"}}, "filter.not"),
    ({"field": "a", "eq": 1, "in": []}, "filter"),
    ({"field": "", "eq": 1}, "filter.field"),
    ({"field": "a", "eq": None}, "filter.eq"),
    ({"field": "a", "in": [1, [2]]}, "filter.in[1]"),
    ({"field": "a", "range": {"gt": 1, "gte": 2}}, "filter.range"),
    ({"field": "a", "range": {"gt": 1, "lt": "2026-01-31T12:00:00Z"}}, "filter.range"),
    ({"field": "a", "range": {"gt": float("nan")}}, "filter.range.gt"),
    ({"field": "a", "exists": 1}, "filter.exists"),
    ({"field": "a", "near": {"lat": 91, "lon": 0, "radius_meters": 1}}, "filter.near"),
    ({"field": "a", "near": {"lat": 9, "lon": 0, "radius_meters": -1}}, "filter.near.radius_meters"),
    ({"field": "a", "box": {"south": 1, "north": 0, "west": 0, "east": 0}}, "filter.box"),
    ({"field": "a", "polygon": [{"lat": 1, "lon": 1}]}, "filter.polygon"),
    ({"field": "a", "text": "..."}, "filter.text"),
    ({"ids": [1]}, "filter.ids"),
]


@pytest.mark.parametrize(("told", "field"), WRONG)
def test_a_filter_that_is_wrong_is_refused_by_the_path_of_what_is_wrong(told: Any, field: str) -> None:
    with pytest.raises(Refused) as refused:
        parsed(told)
    assert refused.value.field == field


def test_a_filter_nested_without_end_is_refused() -> None:
    told: Any = {"and": []}
    for _ in range(50):
        told = {"not": told}
    with pytest.raises(Refused, match="more than"):
        parsed(told)


NAMES = st.sampled_from(["a", "b", "a.b", "c"])
NUMBERS = st.one_of(
    st.integers(-3, 3), st.sampled_from([0.5, 2.0, 2**53, 2**53 + 1, float(2**53), 2**63, -(2**63), 2**70, -0.0, 1e300])
)
PLACES = st.fixed_dictionaries({"lat": st.integers(-90, 90), "lon": st.integers(-180, 180)})
TIMES = st.sampled_from(
    ["2026-01-31T12:00:00Z", "2026-01-31T13:00:00+01:00", "1969-12-31t23:59:59.999999z", "2026-02-30T00:00:00Z"]
)
STRINGS = st.one_of(
    st.sampled_from(["", "red", "Red", "red fox", "fox, red", "日本 語", "x" * 300, "red " * 80]), TIMES
)
SCALARS = st.one_of(st.booleans(), NUMBERS, STRINGS)
VALUES = st.recursive(
    st.one_of(st.none(), SCALARS, PLACES),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("bc"), inner, max_size=2)),
    max_leaves=5,
)
DRAWN_PAYLOADS = st.lists(st.dictionaries(NAMES, VALUES, max_size=3), max_size=12)
FIELDS = st.dictionaries(NAMES, st.builds(Field, st.sampled_from(FieldType)), max_size=2)
ENDS = st.tuples(st.sampled_from(["gt", "gte"]), st.sampled_from(["lt", "lte"]))


@st.composite
def ranges(draw: st.DrawFn) -> dict[str, Any]:
    bounds = st.sampled_from(["2026-01-31T12:00:00Z", "1969-12-31T00:00:00Z"]) if draw(st.booleans()) else NUMBERS
    drawn = {end: draw(bounds) for end in draw(ENDS)}
    drop = draw(st.sampled_from([None, *drawn]))
    return {end: bound for end, bound in drawn.items() if end != drop}


OPERATORS = st.one_of(
    st.fixed_dictionaries({"eq": SCALARS}),
    st.fixed_dictionaries({"in": st.lists(SCALARS, max_size=12)}),
    st.fixed_dictionaries({"range": ranges()}),
    st.fixed_dictionaries({"exists": st.booleans()}),
    st.fixed_dictionaries({"empty": st.booleans()}),
    st.fixed_dictionaries({"text": st.sampled_from(["red", "fox red", "日"])}),
    st.fixed_dictionaries({"text_any": st.sampled_from(["fox blue", "x 語"])}),
    st.fixed_dictionaries({"near": PLACES.map(lambda place: {**place, "radius_meters": 3_000_000.5})}),
    st.fixed_dictionaries({"polygon": st.lists(PLACES, min_size=3, max_size=5)}),
    st.fixed_dictionaries(
        {
            "box": st.tuples(PLACES, PLACES).map(
                lambda two: {
                    "south": min(two[0]["lat"], two[1]["lat"]),
                    "north": max(two[0]["lat"], two[1]["lat"]),
                    "west": two[0]["lon"],
                    "east": two[1]["lon"],
                }
            )
        }
    ),
)
CONDITIONS = st.one_of(
    st.tuples(NAMES, OPERATORS).map(lambda drawn: {"field": drawn[0], **drawn[1]}),
    st.fixed_dictionaries({"ids": st.lists(st.sampled_from(["0", "3", "x"]), max_size=2)}),
)
FILTERS = st.recursive(
    CONDITIONS,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"and": st.lists(inner, max_size=3)}),
        st.fixed_dictionaries({"or": st.lists(inner, max_size=3)}),
        st.fixed_dictionaries({"not": inner}),
    ),
    max_leaves=5,
)


def rows_of_ids(ids: Any) -> np.ndarray:
    return np.array([int(name) for name in ids if name.isdigit()], np.int64)


@given(payloads=DRAWN_PAYLOADS, fields=FIELDS, told=FILTERS, seen=st.integers(0, 12))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_columns_say_of_every_row_what_the_filter_says_of_its_payload(
    payloads: list[dict[str, Any]], fields: dict[str, Field], told: Any, seen: int
) -> None:
    wanted = parsed(told)
    expected = [row for row, each in enumerate(payloads) if matches(wanted, each, fields, str(row))]
    growing = GrowingColumns(fields)
    growing.append(payloads[:5])
    growing.append(payloads[5:])
    for columns in (growing, growing.frozen()):
        words = matching(wanted, columns, len(payloads), lambda ids: rows_of_ids(ids)[rows_of_ids(ids) < len(payloads)])
        assert bits.rows_of(words, len(payloads)).tolist() == expected
    seen = min(seen, len(payloads))
    words = matching(wanted, growing, seen, rows_of_ids)
    assert bits.rows_of(words, seen).tolist() == [row for row in expected if row < seen]
