"""Vectors as they are answered, taken from the views of all shards of a collection as of one request. Used within this folder.

A place found in one view means nothing in another, so what is told of a row is read here, beside where it was found.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.payload.filters import Filter
from ergonaut_vectors.domain.segments.view import Place, Question, View
from ergonaut_vectors.domain.space import Rows

Views = Sequence[View]
"""One for each shard."""

INFINITELY = float("inf")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of each vector is told beside its id."""

    payloads: bool = False
    fields: tuple[str, ...] = ()
    """Only these names of payloads; none gives all."""
    vectors: bool = False


class Row(NamedTuple):
    """A vector that was found."""

    id: str
    distance: float = INFINITELY
    payload: bytes | None = None
    """JSON, b"" for an empty one; None where it was not wanted."""
    vector: npt.NDArray[Any] | None = None
    sequence: int = 0


class At(NamedTuple):
    """Where a row is."""

    view: View
    place: Place


class Near(NamedTuple):
    """A row that was found near a query."""

    id: str
    distance: float
    at: At


def nearest(views: Views, queries: Rows, question: Question) -> list[list[Near]]:
    """The nearest of all shards to each query; equal ones by id, as whoever joins answers of shards has them."""
    found = [
        [[Near(hit.id, hit.distance, At(view, hit.place)) for hit in hits] for hits in view.search(queries, question)]
        for view in views
    ]
    if len(found) == 1:
        return found[0]
    return [
        sorted((near for hits in of_query for near in hits), key=lambda near: (near.distance, near.id))[
            : question.limit
        ]
        for of_query in zip(*found, strict=True)
    ]


def told(found: Sequence[Near], wanted: Wanted) -> list[Row]:
    """What is answered of rows that were found."""
    return [Row(near.id, near.distance, payload_at(near.at, wanted), vector_at(near.at, wanted)) for near in found]


def payload_at(at: At, wanted: Wanted) -> bytes | None:
    """The payload, or the part of it that is wanted."""
    if not wanted.payloads:
        return None
    document = at.view.parts[at.place.part].store.columns.document(at.place.row)
    if not wanted.fields or not document:
        return document
    chosen = {name: value for name, value in json.loads(document).items() if name in wanted.fields}
    return json.dumps(chosen, ensure_ascii=False, separators=(",", ":")).encode() if chosen else b""


def vector_at(at: At, wanted: Wanted) -> npt.NDArray[Any] | None:
    """The vector, where it is wanted."""
    return at.view.parts[at.place.part].store.rows[at.place.row] if wanted.vectors else None


def matrix_of(places: Sequence[At]) -> Rows:
    """The vectors at these places."""
    return np.stack([at.view.parts[at.place.part].store.rows[at.place.row] for at in places])


def count_of(views: Views, wanted: Filter | None = None) -> int:
    """How many vectors fulfil the filter."""
    return sum(view.counted(wanted) for view in views)
