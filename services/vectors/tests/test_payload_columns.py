"""Columns: that every payload comes back as it was, that moved rows stay themselves, and that a head's readers see no more."""

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ergonaut.errors import Refused
from ergonaut_vectors.domain.payload import bits
from ergonaut_vectors.domain.payload.columns import Columns
from ergonaut_vectors.domain.payload.documents import checked, decoded, encoded, kept
from ergonaut_vectors.domain.payload.fields import (
    Field,
    FieldType,
    declared,
    fields_of,
    microseconds_of,
    told_of,
)
from ergonaut_vectors.domain.payload.filters import parsed
from ergonaut_vectors.domain.payload.growing import GrowingColumns
from ergonaut_vectors.domain.payload.making import columns_of, joined, reordered
from ergonaut_vectors.domain.payload.matching import matching

JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**30), 10**30),
        st.floats(-1e308, 1e308),
        st.text(max_size=5),
        st.sampled_from(["2026-01-31T12:00:00Z", "y" * 300]),
        st.fixed_dictionaries({"lat": st.floats(-90, 90), "lon": st.floats(-180, 180)}),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(min_size=1, max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
PAYLOADS = st.lists(st.dictionaries(st.sampled_from(["a", "b", "日.本", "c"]), JSON, max_size=3), max_size=8)


def same(one: Any, other: Any) -> bool:
    """Equal in type as well: 1, 1.0 and true are three values, and so are 0.0 and -0.0."""
    return repr(one) == repr(other)


@given(payloads=PAYLOADS)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_every_payload_comes_back_exactly_as_it_was_written(payloads: list[dict[str, Any]]) -> None:
    growing = GrowingColumns()
    growing.append(payloads)
    written = {name: array.copy() for name, array in growing.frozen().arrays.items()}
    for columns in (growing, Columns.open(written)):
        assert columns.count == len(payloads)
        assert same([columns.payload(row) for row in range(len(payloads))], payloads)


@given(payloads=PAYLOADS, data=st.data())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_joined_columns_are_those_of_the_chosen_payloads(payloads: list[dict[str, Any]], data: st.DataObject) -> None:
    """Arrays and all: so it does not matter whether rows were written in one go or have been through many merges."""
    cut = data.draw(st.integers(0, len(payloads)))
    growing = GrowingColumns()
    growing.append(payloads[cut:])
    parts = [(columns_of(payloads[:cut]), range(cut)), (growing, range(len(payloads) - cut))]
    chosen = [
        (columns, np.array(data.draw(st.permutations(rows)), np.int64)[: data.draw(st.integers(0, len(rows)))])
        for columns, rows in parts
    ]
    made = joined(chosen)
    expected = [columns.payload(int(row)) for columns, rows in chosen for row in rows]
    assert_same_arrays(made, columns_of(expected))
    order = np.array(data.draw(st.permutations(range(len(expected)))), np.int64)
    assert_same_arrays(reordered(made, order), columns_of([expected[row] for row in order]))


def assert_same_arrays(made: Columns, expected: Columns) -> None:
    if made.arrays["directory"].tobytes() != expected.arrays["directory"].tobytes():
        # Fields are numbered in the order in which they came, which moved rows need not have.
        assert sorted(made.names()) == sorted(expected.names())
        for name in made.names():
            assert set(made.types(name)) == set(expected.types(name))
    for name in made.names():
        for kind in made.types(name):
            if kind is FieldType.TEXT:
                ours, theirs = made.texts(name, made.count), expected.texts(name, made.count)
                assert ours is not None
                assert theirs is not None
                assert list(ours.postings.terms) == list(theirs.postings.terms)
                for one, other in zip(
                    (*ours[:2], *ours.postings.all()), (*theirs[:2], *theirs.postings.all()), strict=True
                ):
                    np.testing.assert_array_equal(one, other)
                continue
            column, other = made.values(name, kind, made.count), expected.values(name, kind, made.count)
            assert column is not None
            assert other is not None
            assert (column.rows is None) == (other.rows is None)
            np.testing.assert_array_equal(column.rows, other.rows)
            np.testing.assert_array_equal(column.values, other.values)
            assert list(column.terms or ()) == list(other.terms or ())


def test_rows_without_a_payload_take_no_array() -> None:
    assert list(columns_of([{}] * 1000).arrays) == ["directory"]


def test_a_changed_declaration_is_applied_when_columns_are_joined() -> None:
    before = columns_of([{"title": "red fox"}, {"title": "blue"}])
    after = joined([(before, np.arange(2))], {"title": Field(FieldType.TEXT)})
    assert after.types("title") == [FieldType.TEXT]
    assert after.payload(0) == {"title": "red fox"}


def test_a_reader_of_a_head_sees_the_rows_it_was_told_of_while_others_are_added() -> None:
    growing = GrowingColumns()
    torn: list[int] = []
    told = [0]
    done = threading.Event()
    wanted = parsed({"and": [{"field": "batch", "exists": True}, {"field": "tag", "text": "common"}]})

    def read() -> None:
        while not done.is_set():
            count = told[0]
            found = bits.counted(matching(wanted, growing, count))
            if found != count:
                torn.append(found)

    reader = threading.Thread(target=read)
    reader.start()
    for batch in range(300):
        growing.append([{"batch": batch, "tag": f"common {batch}"}] * 7)
        told[0] += 7
    done.set()
    reader.join()
    assert torn == []


def test_a_head_is_frozen_while_rows_are_added() -> None:
    growing = GrowingColumns()
    payloads = [{"number": number, "tag": f"tag {number % 7}", "text": "word " * 60} for number in range(2000)]
    growing.append(payloads[:1000])
    frozen: list[Columns] = []
    freezer = threading.Thread(target=lambda: frozen.extend(growing.frozen(np.arange(1000)) for _ in range(5)))
    freezer.start()
    for first in range(1000, 2000, 5):
        growing.append(payloads[first : first + 5])
    freezer.join()
    assert [[columns.payload(row) for row in (0, 999)] for columns in frozen] == [[payloads[0], payloads[999]]] * 5
    assert growing.frozen().payload(1999) == payloads[1999]


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ([], "p"),
        ({"a": {1: 2}}, "p.a"),
        ({"a": b"x"}, "p.a"),
        ({"a": [1, float("nan")]}, "p.a[1]"),
        ({"a": 10**400}, "p.a"),
        ({"": 1}, "p"),
        ({"a": "\ud800"}, "p"),
        ({"a": "x" * 70_000}, "p"),
        ({"price": [1, "free"]}, "p.price[1]"),
        ({"price": True}, "p.price"),
        ({"count": 3.5}, "p.count"),
        ({"at": "yesterday"}, "p.at"),
        ({"place": {"lat": 100, "lon": 0}}, "p.place"),
        ({"place": "here"}, "p.place"),
        ({"maker": {"name": 5}}, "p.maker.name"),
        ({"price": {"amount": 5}}, "p.price"),
    ],
)
def test_what_a_field_cannot_hold_is_refused_by_its_path(payload: Any, field: str) -> None:
    told = {"price": "float", "count": "integer", "at": "time", "place": "geo", "maker.name": "keyword"}
    with pytest.raises(Refused) as refused:
        checked(payload, fields_of(told), "p")
    assert refused.value.field == field


def test_what_its_fields_can_hold_is_taken() -> None:
    fields = fields_of(
        {"price": "float", "count": "integer", "place": "geo", "title": {"type": "text", "language": "english"}}
    )
    payload = {
        "price": [1, 2.5, None],
        "count": 3.0,
        "place": {"lat": 1, "lon": 2},
        "title": "Red fox",
        "more": {"a": []},
    }
    assert decoded(checked(payload, fields, "p")) == payload
    assert told_of(fields_of(told_of(fields))) == told_of(fields)


@pytest.mark.parametrize(
    "told",
    [{"a": "number"}, {"a": 5}, {"a": {"kind": "text"}}, {"": "text"}, {"a": {"type": "float", "language": "x"}}],
)
def test_a_declaration_that_is_wrong_is_refused(told: Any) -> None:
    with pytest.raises(Refused, match=r"fields\."):
        fields_of(told)


def test_a_language_without_known_stems_is_refused_when_it_is_declared() -> None:
    with pytest.raises(Refused, match=r"fields\.title\.language: is 'klingon'"):
        declared({"title": {"type": "text", "language": "klingon"}})
    assert declared({"title": "text"}) == {"title": Field(FieldType.TEXT)}


def test_a_payload_that_keeps_its_bytes_is_written_down_as_it_was() -> None:
    document = encoded({"b": 1.0, "a": ["ä"]})
    payload = kept(document)
    assert payload == {"b": 1.0, "a": ["ä"]}
    assert encoded(payload) == document
    assert encoded(dict(payload) | {"c": None}) == b'{"b":1.0,"a":["\xc3\xa4"],"c":null}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:00.0000019z", 1),
        ("1970-01-01 01:00:00+01:00", 0),
        ("1969-12-31T23:59:59.5-00:00", -500_000),
        ("1970-01-01T00:00:00", None),
        ("1970-13-01T00:00:00Z", None),
        ("1970-01-01T00:00:00Zulu", None),
        ("0001-01-01T00:00:00+23:59", -62135596800_000000 - 86340_000000),
    ],
)
def test_times_are_read_as_rfc_3339_has_them(text: str, expected: int | None) -> None:
    assert microseconds_of(text) == expected
