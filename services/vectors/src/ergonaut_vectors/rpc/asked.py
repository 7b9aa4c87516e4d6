"""Requests into the domain's words, checked. Used by the doors; large ones are read in a thread."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.errors import Refused
from ergonaut_vectors.catalogue import Positions
from ergonaut_vectors.domain.answers.joining import FusionKind, Hybrid
from ergonaut_vectors.domain.answers.rows import Wanted
from ergonaut_vectors.domain.checking import checked_rows, checked_write, filter_of, rows_of
from ergonaut_vectors.domain.payload.recommending import Strategy
from ergonaut_vectors.domain.schema import (
    ATTRIBUTES_MAX,
    BATCH_MAX,
    CANDIDATES_MAX,
    LIMIT_DEFAULT,
    LIMIT_MAX,
    Schema,
    check_attributes,
)
from ergonaut_vectors.domain.segments.view import Question
from ergonaut_vectors.domain.segments.writes import Upserts
from ergonaut_vectors.domain.space import Element, Rows
from ergonaut_vectors.rpc.schemas import element_told, meaning_of

FIELDS_MAX = ATTRIBUTES_MAX
BATCH_ID_CHARACTERS_MAX = 64

STRATEGIES = {
    pb.EXAMPLE_STRATEGY_UNSPECIFIED: Strategy.AVERAGE,
    pb.EXAMPLE_STRATEGY_MEAN: Strategy.AVERAGE,
    pb.EXAMPLE_STRATEGY_BEST: Strategy.BEST,
}
FUSIONS = {
    pb.FUSION_KIND_UNSPECIFIED: FusionKind.RANKS,
    pb.FUSION_KIND_RECIPROCAL_RANK: FusionKind.RANKS,
    pb.FUSION_KIND_WEIGHTED: FusionKind.SCORES,
}


@dataclass(frozen=True, slots=True)
class Reading:
    """As of when, of which shards, and what is told."""

    at_least: Positions
    partial: bool
    wanted: Wanted


@dataclass(frozen=True, slots=True)
class Asked:
    """A search, beside with what."""

    question: Question
    reading: Reading
    packed: bool = False


def reading_of(told: pb.Reading, shards: int) -> Reading:
    """As of when, of which shards, and what is told. Raises Refused."""
    if len(told.payload_fields) > FIELDS_MAX:
        message = f"has {len(told.payload_fields)} entries; at most {FIELDS_MAX} are taken"
        raise Refused(message, field="reading.payload_fields")
    wanted = Wanted(told.with_payloads or bool(told.payload_fields), tuple(told.payload_fields), told.with_vectors)
    return Reading(_positions(told, shards), told.partial, wanted)


def asked_of(request: pb.SearchRequest, schema: Schema) -> Asked:
    """How to search. Raises Refused."""
    if request.HasField("options"):
        return options_of(request.options, schema)
    limit = within(request.limit, LIMIT_DEFAULT, LIMIT_MAX, "limit")
    effort = _effort(request.candidates, limit, "candidates")
    at_least = {0: request.sequence_min} if request.sequence_min else {}
    if at_least and schema.shards > 1:
        raise _one_position("sequence_min", schema.shards)
    reading = Reading(at_least, partial=False, wanted=Wanted(payloads=True))
    return Asked(Question(limit, effort, request.exact), reading)


def options_of(options: pb.SearchOptions, schema: Schema) -> Asked:
    """How to search. Raises Refused."""
    limit = within(options.limit, LIMIT_DEFAULT, LIMIT_MAX, "options.limit")
    effort = _effort(options.effort, 0, "options.effort")
    question = Question(limit, effort, options.exact, filter_of(options.filter))
    return Asked(question, reading_of(options.reading, schema.shards), options.packed)


def queries_of(request: pb.SearchRequest, schema: Schema) -> Rows:
    """What to search with. Raises Refused."""
    if request.HasField("vectors"):
        if request.queries:
            raise Refused("are told, and vectors too; one of the two is taken", field="queries")
        return matrix_of(request.vectors, schema, "vectors")
    check_size(request.queries, "queries")
    return _rows(schema, [query.vector for query in request.queries], "queries")


def matrix_of(matrix: pb.Matrix, schema: Schema, where: str) -> Rows:
    """The vectors of a matrix. Raises Refused."""
    return rows_of(schema, matrix.rows, element_told(matrix, where), where, count=matrix.count)


def single_of(matrix: pb.Matrix, schema: Schema, where: str) -> Rows:
    """The one vector of a matrix. Raises Refused."""
    rows = matrix_of(matrix, schema, where)
    if len(rows) != 1:
        raise Refused(f"has {len(rows)} vectors; one is taken", field=where)
    return rows


def upserts_of(request: pb.UpsertRequest, schema: Schema) -> Upserts:
    """What to write. Raises Refused."""
    if len(request.batch_id) > BATCH_ID_CHARACTERS_MAX:
        message = f"has {len(request.batch_id)} characters; at most {BATCH_ID_CHARACTERS_MAX} are taken"
        raise Refused(message, field="batch_id")
    if not request.HasField("rows"):
        return _points(request.points, schema)
    if request.points:
        raise Refused("are told, and rows too; one of the two is taken", field="points")
    if request.rows.sequences:
        raise Refused("are given in answers only", field="rows.sequences")
    rows = matrix_of(request.rows.vectors, schema, "rows.vectors")
    return checked_write(schema, list(request.rows.ids), rows, list(request.rows.payloads), "rows")


def hybrid_of(request: pb.SearchHybridRequest) -> Hybrid:
    """What is asked by words. Raises Refused."""
    fusion = request.fusion
    kind = meaning_of(FUSIONS, fusion.kind, "fusion.kind", ("kind of fusion", pb.FusionKind))
    weight = fusion.words_weight if fusion.HasField("words_weight") else 0.5
    return Hybrid(request.text, request.text_field, kind, weight, fusion.depth)


def strategy_of(value: "pb.ExampleStrategy.ValueType") -> Strategy:
    """How examples are used. Raises Refused."""
    return meaning_of(STRATEGIES, value, "strategy", ("strategy", pb.ExampleStrategy))


def within(value: int, default: int, high: int, where: str) -> int:
    """The value, or the default for 0. Raises Refused where it is too high."""
    if value > high:
        raise Refused(f"is {value}, but must be 1 to {high}", field=where)
    return value or default


def check_size(entries: Sequence[object], where: str) -> None:
    """Refuse what is too much before work is spent on it."""
    if not 1 <= len(entries) <= BATCH_MAX:
        raise Refused(f"has {len(entries)} entries; 1 to {BATCH_MAX} are taken at once", field=where)


def _points(points: Sequence[pb.Point], schema: Schema) -> Upserts:
    check_size(points, "points")
    seen: dict[str, int] = {}
    for at, point in enumerate(points):
        if seen.setdefault(point.id, at) != at:
            message = f"{point.id!r} is the id of points[{seen[point.id]}] already; a request writes an id once"
            raise Refused(message, field=f"points[{at}].id")
    payloads = [_payload(point, f"points[{at}]") for at, point in enumerate(points)]
    rows = _rows(schema, [point.vector for point in points], "points")
    try:
        return checked_write(schema, [*seen], rows, payloads if any(payloads) else (), "rows")
    except Refused as error:
        raise Refused(*_of_point(error)) from error


def _of_point(error: Refused) -> tuple[str]:
    """What is wrong, with the point's name: `rows.ids[3]: ...` is `points[3].id: ...` to whoever sent points."""
    told = str(error)
    for by_column, by_point in (("rows.ids[", "id"), ("rows.payloads[", "payload")):
        if told.startswith(by_column):
            at, _, rest = told.removeprefix(by_column).partition("]")
            return (f"points[{at}].{by_point}{rest}",)
    return (told,)


def _payload(point: pb.Point, where: str) -> bytes:
    if point.payload and point.attributes:
        raise Refused("is told, and attributes too; one of the two is taken", field=f"{where}.payload")
    if not point.attributes:
        return point.payload
    attributes: Mapping[str, str] = dict(point.attributes)
    check_attributes(attributes, f"{where}.attributes")
    return json.dumps(attributes, ensure_ascii=False, separators=(",", ":")).encode()


def _rows(schema: Schema, vectors: Sequence[Sequence[float]], where: str) -> Rows:
    """Vectors of floats that each came by themselves."""
    if schema.element is Element.BINARY:
        raise Refused("has floats, but the collection keeps bits; send rows", field=f"{where}[0].vector")
    for at, vector in enumerate(vectors):
        if len(vector) != schema.dimension:
            message = f"has {len(vector)} numbers, the collection needs {schema.dimension}"
            raise Refused(message, field=f"{where}[{at}].vector")
    rows: np.ndarray[Any, np.dtype[np.float32]] = np.empty((len(vectors), schema.dimension), np.float32)
    for at, vector in enumerate(vectors):
        rows[at] = np.fromiter(vector, np.float32, count=schema.dimension)
    return checked_rows(schema, rows, where, each=".vector")


def _effort(told: int, low: int, where: str) -> int:
    if told > CANDIDATES_MAX:
        raise Refused(f"is {told}, but must be 1 to {CANDIDATES_MAX}", field=where)
    if told and told < low:
        raise Refused(f"is {told}, but must be at least limit, {low}", field=where)
    return told


def _positions(told: pb.Reading, shards: int) -> Positions:
    if not told.sequence_min:
        return dict(told.sequences_min)
    if shards > 1:
        raise _one_position("reading.sequence_min", shards)
    return {0: told.sequence_min}


def _one_position(where: str, shards: int) -> Refused:
    return Refused(f"is of one log, but the collection has {shards}; tell sequences_min", field=where)
