"""Bad input gets one error that names the field."""

import numpy as np
import pytest

from ergonaut.errors import Refused
from ergonaut_vectors.domain.schema import (
    Metric,
    Point,
    Schema,
    checked_ask,
    checked_deletes,
    checked_queries,
    checked_upserts,
)

SCHEMA = Schema("digits", 64)


def vector(*, size: int = 64, value: float = 1.0) -> np.ndarray:
    return np.full(size, value, np.float32)


def points(third: Point) -> list[Point]:
    return [Point(str(i), vector()) for i in range(3)] + [third]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (Schema("Digits", 64), "collection.name: 'Digits' cannot name a collection"),
        (Schema("digits", 0), "collection.dimension: is 0, but must be 1 to 4096"),
        (Schema("digits", 4097), "collection.dimension: is 4097, but must be 1 to 4096"),
        (Schema("digits", 64, links=3), "collection.links: is 3, but must be 4 to 64"),
        (Schema("digits", 64, candidates_build=1025), "collection.candidates_build: is 1025, but must be 8 to 1024"),
    ],
)
def test_a_schema_out_of_bounds_is_refused(schema: Schema, message: str) -> None:
    with pytest.raises(Refused, match=message):
        schema.check()


@pytest.mark.parametrize(
    ("point", "message"),
    [
        (Point("x", vector(size=63)), r"points\[3\].vector: has 63 numbers, the collection needs 64"),
        (Point("x", vector(value=np.nan)), r"points\[3\].vector: holds a number that is not finite"),
        (Point("x", vector(value=-np.inf)), r"points\[3\].vector: holds a number that is not finite"),
        (Point("x", vector(value=2e16)), r"points\[3\].vector: holds a number beyond"),
        (Point("", vector()), r"points\[3\].id: has 0 characters; 1 to 128 are taken"),
        (Point("x" * 129, vector()), r"points\[3\].id: has 129 characters; 1 to 128 are taken"),
        (Point("1", vector()), r"points\[3\].id: '1' is the id of points\[1\] already"),
        (Point("x", vector(), {"k": "v" * 4096}), r"points\[3\].attributes: has 4097 characters"),
        (Point("x", vector(), {"": "v"}), r"points\[3\].attributes: a key has 0 characters"),
        (Point("x", vector(), {str(i): "" for i in range(33)}), r"points\[3\].attributes: has 33 entries"),
    ],
)
def test_a_point_that_breaks_a_rule_is_refused_by_its_place(point: Point, message: str) -> None:
    with pytest.raises(Refused, match=message):
        checked_upserts(SCHEMA, points(point))


def test_a_vector_of_length_zero_has_no_cosine() -> None:
    with pytest.raises(Refused, match=r"points\[0\].vector: has length zero"):
        checked_upserts(Schema("digits", 64, Metric.COSINE), [Point("x", vector(value=0))])
    checked_upserts(SCHEMA, [Point("x", vector(value=0))])


def test_distances_of_the_largest_numbers_do_not_overflow() -> None:
    schema = Schema("big", 4096)
    batch = checked_upserts(
        schema, [Point("x", vector(size=4096, value=1e16)), Point("y", vector(size=4096, value=-1e16))]
    )
    gap = (batch.vectors[0] - batch.vectors[1]).astype(np.float32)
    assert np.isfinite(np.float32((gap * gap).sum()))


@pytest.mark.parametrize("count", [0, 1025])
def test_a_request_has_1_to_1024_entries(count: int) -> None:
    message = f"has {count} entries; 1 to 1024 are taken at once"
    with pytest.raises(Refused, match=f"points: {message}"):
        checked_upserts(SCHEMA, [Point(str(i), vector()) for i in range(count)])
    with pytest.raises(Refused, match=f"ids: {message}"):
        checked_deletes([str(i) for i in range(count)])
    with pytest.raises(Refused, match=f"queries: {message}"):
        checked_queries(SCHEMA, [vector()] * count)


@pytest.mark.parametrize(
    ("limit", "candidates", "message"),
    [
        (1001, 0, "limit: is 1001, but must be 1 to 1000"),
        (10, 4097, "candidates: is 4097, but must be 1 to 4096"),
        (10, 9, "candidates: is 9, but must be at least limit, 10"),
    ],
)
def test_a_search_out_of_bounds_is_refused(limit: int, candidates: int, message: str) -> None:
    with pytest.raises(Refused, match=message):
        checked_ask(limit, candidates, exact=False)


def test_zero_stands_for_the_defaults_of_a_search() -> None:
    ask = checked_ask(0, 0, exact=True)
    assert (ask.limit, ask.candidates, ask.exact) == (10, 64, True)
    assert checked_ask(500, 0, exact=False).candidates == 500
