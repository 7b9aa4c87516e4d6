"""Steps of searches that nodes ask each other, in the words of `shards.proto`, and how these are read and written.

The one side is `StepsDoor`, behind `ShardsService`; the other is `gathered.py`.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ergonaut.api.vectors.v1 import shards_pb2 as pb
from ergonaut.api.vectors.v1 import vectors_pb2 as public
from ergonaut_vectors.domain.answers import joining, reading, steps
from ergonaut_vectors.domain.answers.joining import Hybrid
from ergonaut_vectors.domain.checking import filter_of
from ergonaut_vectors.domain.payload.fields import FieldType
from ergonaut_vectors.domain.payload.groups import WIDTH_MAX, GroupKey
from ergonaut_vectors.domain.payload.ordering import Order
from ergonaut_vectors.domain.payload.ranking import Statistics
from ergonaut_vectors.domain.schema import LIMIT_MAX
from ergonaut_vectors.domain.segments.view import Question
from ergonaut_vectors.domain.space import Floats, Rows, Space
from ergonaut_vectors.rpc.asked import options_of, reading_of, within
from ergonaut_vectors.rpc.door import VectorsDoor
from ergonaut_vectors.rpc.reading import PAGE_DEFAULT
from ergonaut_vectors.rpc.schemas import element_value
from ergonaut_vectors.rpc.shared import seen_as
from ergonaut_vectors.rpc.told import rows_of, small_enough

STEPS: dict[str, Any] = {
    "FindNear": pb.FindNearRequest,
    "CountWords": pb.CountWordsRequest,
    "RankWords": pb.RankWordsRequest,
    "ScoreThings": pb.ScoreThingsRequest,
    "CountValues": pb.CountValuesRequest,
    "ListInOrder": pb.ListInOrderRequest,
}
"""Requests by method."""

VALUES_MAX = 20_000
"""Values that a shard tells to be added up: a megabyte of them. Where it has more it tells how frequent the next one is."""


class StepsDoor(VectorsDoor):
    """Answers calls of the public contract, and steps of such, of the shards that it is given."""

    async def FindNear(self, request: pb.FindNearRequest, context: Any) -> pb.FindNearResponse:
        opened = await self._open(request.collection)
        asked, space = options_of(request.options, opened.schema), opened.schema.space
        question = replace(asked.question, limit=within(request.width, 1, WIDTH_MAX, "width"))
        if request.without:
            question = replace(question, filter=steps.without(question.filter, request.without))
        unlike = unpacked(request.unlike, space) if request.compared else None
        work = partial(
            steps.found,
            queries=unpacked(request.vectors, space),
            question=question,
            around=steps.Around(request.group_by, unlike),
        )
        found = await self._asking.step(await seen_as(opened, asked.reading), work)
        every = [each for hits in found.near for each in hits]
        return small_enough(
            pb.FindNearResponse(
                counts=[len(hits) for hits in found.near],
                ids=[each.id for each in every],
                distances=floats([each.distance for each in every]),
                groups=[keys_told(keys) for keys in found.keys],
                distances_liked=floats(found.to_liked),
                distances_unlike=floats(found.to_unlike),
                count=found.count,
            )
        )

    async def CountWords(self, request: pb.CountWordsRequest, context: Any) -> pb.CountWordsResponse:
        opened = await self._open(request.collection)
        seen = await seen_as(opened, reading_of(request.reading, opened.schema.shards))
        asked = Hybrid(request.text, request.text_field)
        return words_told(await self._asking.step(seen, partial(joining.counted, asked=asked)))

    async def RankWords(self, request: pb.RankWordsRequest, context: Any) -> pb.RankWordsResponse:
        opened = await self._open(request.collection)
        asked = options_of(request.options, opened.schema)
        question = Question(within(request.width, 1, LIMIT_MAX, "width"), filter=asked.question.filter)
        work = partial(
            joining.worded,
            asked=Hybrid(request.text, request.text_field),
            question=question,
            known=words_known(request.known),
        )
        found = await self._asking.step(await seen_as(opened, asked.reading), work)
        return pb.RankWordsResponse(ids=[near.id for near, _ in found], scores=floats([score for _, score in found]))

    async def ScoreThings(self, request: pb.ScoreThingsRequest, context: Any) -> pb.ScoreThingsResponse:
        opened = await self._open(request.collection)
        asked = options_of(request.options, opened.schema)
        work = partial(
            steps.scored,
            queries=unpacked(request.vectors, opened.schema.space),
            things=(request.group_by, keys_of(request.things)),
            only=asked.question.filter,
        )
        scored = await self._asking.step(await seen_as(opened, asked.reading), work)
        every = [near for of_thing in scored.near for near in of_thing]
        return small_enough(
            pb.ScoreThingsResponse(
                ids=["" if near is None else near.id for near in every],
                distances=floats(scored.least),
                distances_least=floats([np.inf if near is None else near.distance for near in every]),
                count=scored.count,
            )
        )

    async def CountValues(self, request: pb.CountValuesRequest, context: Any) -> pb.CountValuesResponse:
        asked = request.values
        opened = await self._open(asked.collection)
        work = partial(reading.values, field=asked.field, limit=VALUES_MAX + 1, only=filter_of(asked.filter, "filter"))
        seen = await seen_as(opened, reading_of(asked.reading, opened.schema.shards))
        counted = await self._asking.step(seen, work)
        told, untold = counted[:VALUES_MAX], counted[VALUES_MAX:]
        return small_enough(
            pb.CountValuesResponse(
                values=keys_told([facet for facet, _ in told]),
                counts=[count for _, count in told],
                count_untold_max=sum(count for _, count in untold),
            )
        )

    async def ListInOrder(self, request: pb.ListInOrderRequest, context: Any) -> pb.ListInOrderResponse:
        page = request.page
        opened = await self._open(page.collection)
        asked = reading_of(page.reading, opened.schema.shards)
        work = partial(
            reading.page_by_field,
            asked=(within(page.limit, PAGE_DEFAULT, LIMIT_MAX, "limit"), page.after),
            wanted=asked.wanted,
            only=filter_of(page.filter, "filter"),
            order=Order(page.order_by, page.descending),
        )
        placed = await self._asking.step(await seen_as(opened, asked), work)
        rows = rows_of([row for _, row in placed], opened.schema, asked.wanted)
        return pb.ListInOrderResponse(points=rows, places=[place for place, _ in placed])


def packed(rows: Rows, space: Space) -> public.Matrix:
    """Vectors as the space keeps them, on their way to another node."""
    content = rows.astype(rows.dtype.newbyteorder("<"), copy=False).tobytes()
    return public.Matrix(rows=content, element=element_value(space.element))


def unpacked(matrix: public.Matrix, space: Space) -> Rows:
    """Vectors that another node has packed, and checked before."""
    rows = np.frombuffer(matrix.rows, space.dtype.newbyteorder("<")).reshape(-1, space.width)
    return np.ascontiguousarray(rows, space.dtype)


def floats(values: Sequence[float] | Floats) -> bytes:
    """Distances and scores as they are sent."""
    return np.asarray(values, "<f4").tobytes()


def floats_of(content: bytes) -> Floats:
    """Distances and scores as they came."""
    return np.frombuffer(content, "<f4").astype(np.float32, copy=False)


def keys_told(keys: Sequence[GroupKey]) -> str:
    """Values of a field as they are sent: each with its type, for 1 and true are two."""
    return json.dumps([[str(kind), value] for kind, value in keys], ensure_ascii=False, separators=(",", ":"))


def keys_of(told: str) -> list[GroupKey]:
    """Values of a field as they came."""
    return [(FieldType(kind), value) for kind, value in json.loads(told)]


def words_told(known: Statistics) -> pb.CountWordsResponse:
    """What is known of words as it is sent."""
    return pb.CountWordsResponse(texts=known.texts, words=known.words, holding=dict(known.holding))


def words_known(told: pb.CountWordsResponse) -> Statistics:
    """What is known of words as it came."""
    return Statistics(told.texts, told.words, dict(told.holding))
