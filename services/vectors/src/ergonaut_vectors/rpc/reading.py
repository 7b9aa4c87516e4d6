"""The door's methods that only look."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.errors import Refused
from ergonaut_vectors.domain.answers.rows import Row
from ergonaut_vectors.domain.checking import check_ids, filter_of
from ergonaut_vectors.domain.payload.facets import FACETS_MAX, written
from ergonaut_vectors.domain.payload.groups import GROUP_SIZE_MAX
from ergonaut_vectors.domain.payload.ordering import Order
from ergonaut_vectors.domain.schema import LIMIT_DEFAULT, LIMIT_MAX
from ergonaut_vectors.rpc.asked import (
    asked_of,
    check_size,
    hybrid_of,
    matrix_of,
    options_of,
    queries_of,
    reading_of,
    single_of,
    strategy_of,
    within,
)
from ergonaut_vectors.rpc.shared import Door, seen_as
from ergonaut_vectors.rpc.told import (
    attributed_of,
    found_of,
    group_of,
    neighbour_of,
    packed_of,
    rows_of,
    small_enough,
)

PAGE_DEFAULT = 100
ROW_BYTES = 64
"""Of a vector that was found, without its payload and itself."""


class ReadingCalls(Door):
    """Questions, each answered of one state of every shard."""

    async def Search(self, request: pb.SearchRequest, context: Any) -> pb.SearchResponse:
        opened = await self._open(request.collection)
        if not request.HasField("vectors"):
            check_size(request.queries, "queries")
        asked = asked_of(request, opened.schema)
        queries = await self._translated(partial(queries_of, request, opened.schema), request.ByteSize())
        seen = await seen_as(opened, asked.reading)
        found = await self._asking.search(seen, queries, asked.question, asked.reading.wanted)
        tell: Callable[[], pb.SearchResponse] = partial(found_of, found, seen.missing, opened.schema)
        if not request.HasField("options"):
            tell = partial(attributed_of, found)
        elif asked.packed:
            tell = partial(packed_of, found, seen.missing, opened.schema, asked.reading.wanted)
        return await self._translated(tell, _size_of(found))

    async def SearchByExample(self, request: pb.SearchByExampleRequest, context: Any) -> pb.SearchByExampleResponse:
        opened = await self._open(request.collection)
        asked = options_of(request.options, opened.schema)
        strategy = strategy_of(request.strategy)
        seen = await seen_as(opened, asked.reading)
        examples = (list(request.positive), list(request.negative))
        rows = await self._asking.search_like(seen, examples, strategy, asked.question, asked.reading.wanted)
        result = pb.Neighbours(neighbours=[neighbour_of(row, opened.schema) for row in rows])
        return small_enough(pb.SearchByExampleResponse(result=result, shards_missing=seen.missing))

    async def SearchGroups(self, request: pb.SearchGroupsRequest, context: Any) -> pb.SearchGroupsResponse:
        opened = await self._open(request.collection)
        asked = options_of(request.options, opened.schema)
        query = single_of(request.vector, opened.schema, "vector")
        check_field(request.group_by, "group_by")
        group = (request.group_by, within(request.group_size, 1, GROUP_SIZE_MAX, "group_size"))
        seen = await seen_as(opened, asked.reading)
        found = await self._asking.search_groups(seen, query, asked.question, group, asked.reading.wanted)
        groups = [group_of(each, opened.schema) for each in found]
        return small_enough(pb.SearchGroupsResponse(groups=groups, shards_missing=seen.missing))

    async def SearchHybrid(self, request: pb.SearchHybridRequest, context: Any) -> pb.SearchHybridResponse:
        opened = await self._open(request.collection)
        asked, hybrid = options_of(request.options, opened.schema), hybrid_of(request)
        query = single_of(request.vector, opened.schema, "vector") if request.HasField("vector") else None
        seen = await seen_as(opened, asked.reading)
        found = await self._asking.search_hybrid(seen, query, asked.question, hybrid, asked.reading.wanted)
        results = [pb.Scored(neighbour=neighbour_of(row, opened.schema), score=score) for row, score in found]
        return small_enough(pb.SearchHybridResponse(results=results, shards_missing=seen.missing))

    async def SearchMultiVector(
        self, request: pb.SearchMultiVectorRequest, context: Any
    ) -> pb.SearchMultiVectorResponse:
        opened = await self._open(request.collection)
        asked = options_of(request.options, opened.schema)
        queries = matrix_of(request.vectors, opened.schema, "vectors")
        check_field(request.group_by, "group_by")
        seen = await seen_as(opened, asked.reading)
        found = await self._asking.search_several(seen, queries, asked.question, request.group_by, asked.reading.wanted)
        results = [pb.ScoredGroup(group=group_of(each, opened.schema), score=each.score) for each in found]
        return small_enough(pb.SearchMultiVectorResponse(results=results, shards_missing=seen.missing))

    async def GetPoints(self, request: pb.GetPointsRequest, context: Any) -> pb.GetPointsResponse:
        opened = await self._open(request.collection)
        check_ids(request.ids, "ids")
        reading = reading_of(request.reading, opened.schema.shards)
        seen = await seen_as(opened, reading)
        rows = await self._asking.get(seen, list(request.ids), reading.wanted)
        return pb.GetPointsResponse(points=rows_of(rows, opened.schema, reading.wanted))

    async def ListPoints(self, request: pb.ListPointsRequest, context: Any) -> pb.ListPointsResponse:
        opened = await self._open(request.collection)
        reading = reading_of(request.reading, opened.schema.shards)
        limit = within(request.limit, PAGE_DEFAULT, LIMIT_MAX, "limit")
        if request.descending and not request.order_by:
            raise Refused("needs a field to order by", field="descending")
        order = Order(request.order_by, request.descending) if request.order_by else None
        only = filter_of(request.filter, "filter")
        seen = await seen_as(opened, reading)
        rows, following = await self._asking.page(seen, (limit, request.after), reading.wanted, only, order)
        points = rows_of(rows, opened.schema, reading.wanted)
        return pb.ListPointsResponse(points=points, next=following)

    async def GetCount(self, request: pb.GetCountRequest, context: Any) -> pb.GetCountResponse:
        opened = await self._open(request.collection)
        only = filter_of(request.filter, "filter")
        seen = await seen_as(opened, reading_of(request.reading, opened.schema.shards))
        return pb.GetCountResponse(count=await self._asking.count(seen, only))

    async def GetValueCounts(self, request: pb.GetValueCountsRequest, context: Any) -> pb.GetValueCountsResponse:
        opened = await self._open(request.collection)
        only = filter_of(request.filter, "filter")
        check_field(request.field, "field")
        limit = within(request.limit, LIMIT_DEFAULT, FACETS_MAX, "limit")
        seen = await seen_as(opened, reading_of(request.reading, opened.schema.shards))
        found = await self._asking.values(seen, request.field, limit, only)
        counts = [
            pb.ValueCount(value=json.dumps(written(facet), ensure_ascii=False), count=count) for facet, count in found
        ]
        return pb.GetValueCountsResponse(values=counts)


def check_field(name: str, where: str) -> None:
    """Raise Refused unless a field is named."""
    if not name:
        raise Refused("must name a field of payloads", field=where)


def _size_of(found: Sequence[Sequence[Row]]) -> int:
    """About how many bytes an answer has."""
    rows = sum(map(len, found))
    first = next((row for rows in found for row in rows), None)
    if first is None:
        return 0
    vector_bytes = first.vector.nbytes if first.vector is not None else 0
    return rows * (ROW_BYTES + len(first.payload or b"") + vector_bytes)
