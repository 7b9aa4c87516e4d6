"""Answers out of the domain's words. Used by the doors; large ones are written in a thread."""

import json
from collections.abc import Sequence
from itertools import chain
from typing import Any, TypeVar

import numpy as np
from google.protobuf.message import Message

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.channels import MESSAGE_BYTES_MAX
from ergonaut.errors import Refused
from ergonaut_vectors.catalogue import Positions
from ergonaut_vectors.domain.answers.finding import Gathered
from ergonaut_vectors.domain.answers.rows import Row, Wanted
from ergonaut_vectors.domain.schema import Schema
from ergonaut_vectors.rpc.schemas import element_value

M = TypeVar("M", bound=Message)


def found_of(found: Sequence[Sequence[Row]], missing: Sequence[int], schema: Schema) -> pb.SearchResponse:
    """The nearest to each query, one by one, with payloads."""
    results = [pb.Neighbours(neighbours=[neighbour_of(row, schema) for row in rows]) for rows in found]
    return small_enough(pb.SearchResponse(results=results, shards_missing=missing))


def attributed_of(found: Sequence[Sequence[Row]]) -> pb.SearchResponse:
    """The nearest to each query, with attributes: as callers are told that say nothing of what they want."""
    results = [
        pb.Neighbours(
            neighbours=[
                pb.Neighbour(id=row.id, distance=row.distance, attributes=_texts_of(row.payload)) for row in rows
            ]
        )
        for rows in found
    ]
    return small_enough(pb.SearchResponse(results=results))


def packed_of(
    found: Sequence[Sequence[Row]], missing: Sequence[int], schema: Schema, wanted: Wanted
) -> pb.SearchResponse:
    """The nearest to each query, by columns."""
    rows = list(chain.from_iterable(found))
    packed = pb.PackedNeighbours(
        counts=[len(each) for each in found],
        ids=[row.id for row in rows],
        distances=np.array([row.distance for row in rows], "<f4").tobytes(),
        payloads=[row.payload or b"" for row in rows] if wanted.payloads else (),
        vectors=_matrix_of(rows, schema) if wanted.vectors else None,
    )
    return small_enough(pb.SearchResponse(packed=packed, shards_missing=missing))


def rows_of(rows: Sequence[Row], schema: Schema, wanted: Wanted) -> pb.Rows:
    """Vectors by columns."""
    return small_enough(
        pb.Rows(
            ids=[row.id for row in rows],
            vectors=_matrix_of(rows, schema) if wanted.vectors else None,
            payloads=[row.payload or b"" for row in rows] if wanted.payloads else (),
            sequences=[row.sequence for row in rows],
        )
    )


def neighbour_of(row: Row, schema: Schema) -> pb.Neighbour:
    """A vector that was found."""
    told = pb.Neighbour(id=row.id, distance=row.distance, payload=row.payload or b"")
    if row.vector is not None:
        told.vector, told.element = _bytes_of(row.vector), element_value(schema.element)
    return told


def group_of(gathered: Gathered, schema: Schema) -> pb.Group:
    """Vectors that share a value."""
    value = json.dumps(gathered.value, ensure_ascii=False)
    return pb.Group(value=value, neighbours=[neighbour_of(row, schema) for row in gathered.rows])


def sequence_of(positions: Positions) -> int:
    """The highest."""
    return max(positions.values(), default=0)


def small_enough(response: M) -> M:
    """The response, or Refused where it is too large to be sent."""
    if (size := response.ByteSize()) > MESSAGE_BYTES_MAX:
        message = (
            f"the answer has {size} bytes, at most {MESSAGE_BYTES_MAX} can be sent; ask with fewer or a smaller limit"
        )
        raise Refused(message, field="queries")
    return response


def _texts_of(payload: bytes | None) -> dict[str, str]:
    """Those values of a payload that are texts."""
    if not payload:
        return {}
    return {name: value for name, value in json.loads(payload).items() if isinstance(value, str)}


def _matrix_of(rows: Sequence[Row], schema: Schema) -> pb.Matrix:
    content = b"".join(_bytes_of(row.vector) for row in rows)
    return pb.Matrix(rows=content, element=element_value(schema.element))


def _bytes_of(vector: "np.ndarray[Any, np.dtype[Any]] | None") -> bytes:
    return b"" if vector is None else vector.astype(vector.dtype.newbyteorder("<"), copy=False).tobytes()
