"""Bad input gets one error that names the field."""

import numpy as np
import pytest

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.errors import Refused
from ergonaut_vectors.domain.checking import checked_removal
from ergonaut_vectors.domain.payload.fields import Field, FieldType
from ergonaut_vectors.domain.schema import IndexWish, Schema
from ergonaut_vectors.domain.segments.writes import Upserts
from ergonaut_vectors.domain.space import Metric, Rows
from ergonaut_vectors.rpc.asked import Asked, asked_of, queries_of, upserts_of

SCHEMA = Schema("digits", 64)


def point(name: str, *, size: int = 64, value: float = 1.0, **attributes: str) -> pb.Point:
    return pb.Point(id=name, vector=[value] * size, attributes=attributes)


def points(third: pb.Point) -> list[pb.Point]:
    return [point(str(i)) for i in range(3)] + [third]


def upserts(schema: Schema, *asked: pb.Point) -> Upserts:
    return upserts_of(pb.UpsertRequest(points=asked), schema)


def queries(count: int) -> Rows:
    return queries_of(pb.SearchRequest(queries=[pb.Query(vector=[1.0] * 64)] * count), SCHEMA)


def ask(limit: int, candidates: int) -> Asked:
    return asked_of(pb.SearchRequest(limit=limit, candidates=candidates), SCHEMA)


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
    ("wanted", "told"),
    [
        (Schema("digits", 64), ""),
        (Schema("digits", 64, index=IndexWish(small=True)), ""),
        (Schema("digits", 32, Metric.COSINE), "dimension 64, not 32; metric l2, not cosine"),
        (Schema("digits", 64, replicas=2), "replicas 1, not 2"),
        (Schema("digits", 64, fields={"year": Field(FieldType.INTEGER)}), "fields declared otherwise"),
    ],
)
def test_what_another_schema_has_otherwise_is_told(wanted: Schema, told: str) -> None:
    assert SCHEMA.otherwise(wanted) == told


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (point("x", size=63), r"points\[3\].vector: has 63 numbers, the collection needs 64"),
        (point("x", value=np.nan), r"points\[3\].vector: holds a number that is not finite"),
        (point("x", value=-np.inf), r"points\[3\].vector: holds a number that is not finite"),
        (point("x", value=2e16), r"points\[3\].vector: holds a number beyond"),
        (point(""), r"points\[3\].id: has 0 characters; 1 to 128 are taken"),
        (point("x" * 129), r"points\[3\].id: has 129 characters; 1 to 128 are taken"),
        (point("1"), r"points\[3\].id: '1' is the id of points\[1\] already"),
        (point("x", k="v" * 4096), r"points\[3\].attributes: has 4097 characters"),
        (point("x", **{"": "v"}), r"points\[3\].attributes: a key has 0 characters"),
        (point("x", **{str(i): "" for i in range(33)}), r"points\[3\].attributes: has 33 entries"),
    ],
)
def test_a_point_that_breaks_a_rule_is_refused_by_its_place(bad: pb.Point, message: str) -> None:
    with pytest.raises(Refused, match=message):
        upserts(SCHEMA, *points(bad))


def test_a_vector_of_length_zero_has_no_cosine() -> None:
    with pytest.raises(Refused, match=r"points\[0\].vector: has length zero"):
        upserts(Schema("digits", 64, Metric.COSINE), point("x", value=0))
    upserts(SCHEMA, point("x", value=0))


def test_distances_of_the_largest_numbers_do_not_overflow() -> None:
    batch = upserts(Schema("big", 4096), point("x", size=4096, value=1e16), point("y", size=4096, value=-1e16))
    gap = (batch.rows[0] - batch.rows[1]).astype(np.float32)
    assert np.isfinite(np.float32((gap * gap).sum()))


@pytest.mark.parametrize("count", [0, 1025])
def test_a_request_has_1_to_1024_entries(count: int) -> None:
    message = f"has {count} entries; 1 to 1024 are taken at once"
    with pytest.raises(Refused, match=f"points: {message}"):
        upserts(SCHEMA, *(point(str(i)) for i in range(count)))
    with pytest.raises(Refused, match=f"ids: {message}"):
        checked_removal([str(i) for i in range(count)])
    with pytest.raises(Refused, match=f"queries: {message}"):
        queries(count)


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
        ask(limit, candidates)


def test_zero_stands_for_the_defaults_of_a_search() -> None:
    question = ask(0, 0).question
    assert (question.limit, question.effort) == (10, 0)
    assert ask(500, 0).question.limit == 500
