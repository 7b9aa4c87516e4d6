"""Searches that take several steps, of collections that are spread over nodes: each step is asked of all shards.

The same steps as `domain/answers` goes through where one process has every shard, so that both answer alike. `SpreadDoor` calls.
"""

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ergonaut.api.vectors.v1 import shards_pb2 as steps_pb
from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut_vectors.cluster.joining import cut, rows_told, told_rows
from ergonaut_vectors.cluster.spread import Shards
from ergonaut_vectors.domain.answers import joining, steps
from ergonaut_vectors.domain.answers.finding import check_groups, check_several
from ergonaut_vectors.domain.answers.reading import placed_of
from ergonaut_vectors.domain.answers.rows import Row
from ergonaut_vectors.domain.payload import facets, ordering, ranking, recommending
from ergonaut_vectors.domain.payload.groups import GROUP_SIZE_MAX, WIDTH_MAX, GroupKey, complete, grouped, widths
from ergonaut_vectors.domain.payload.recommending import Strategy
from ergonaut_vectors.domain.placing.merging import Nearby, nearest
from ergonaut_vectors.domain.schema import BATCH_MAX, ID_CHARACTERS_MAX, LIMIT_DEFAULT, Schema
from ergonaut_vectors.domain.space import Rows, Space
from ergonaut_vectors.rpc.asked import hybrid_of, matrix_of, options_of, single_of, strategy_of, within
from ergonaut_vectors.rpc.reading import PAGE_DEFAULT, check_field
from ergonaut_vectors.rpc.steps import floats_of, keys_of, keys_told, packed, unpacked, words_known, words_told
from ergonaut_vectors.rpc.told import neighbour_of, small_enough

Answer = Callable[[Shards, Schema, Any], Awaitable[Any]]


class _Near(NamedTuple):
    """A vector that a shard found."""

    id: str
    distance: float
    keys: Sequence[GroupKey] = ()
    to_liked: float = 0.0
    to_unlike: float = 0.0


@dataclass(frozen=True, slots=True)
class _Search:
    """What each step of one search has in common."""

    shards: Shards
    schema: Schema
    collection: str
    options: pb.SearchOptions

    @property
    def space(self) -> Space:
        return self.schema.space

    async def near(self, queries: Rows, width: int, **more: Any) -> tuple[list[list[_Near]], int]:
        """The nearest of all shards to each query, and how many vectors fulfil the filter."""
        request = steps_pb.FindNearRequest(
            collection=self.collection,
            vectors=packed(queries, self.space),
            options=self.options,
            width=width,
            **more,
        )
        answers = await self.shards.all("FindNear", request, steps_pb.FindNearResponse)
        found = {shard: _near_of(answer) for shard, answer in answers.items()}
        return nearest(found, width, self.shards.map), sum(answer.count for answer in answers.values())

    async def told(self, hits: Sequence[tuple[str, float]]) -> Iterator[pb.Neighbour]:
        """What is answered of vectors that were found; one that was removed meanwhile comes with nothing but its id."""
        reading = self.options.reading
        wanted = reading.with_payloads or reading.payload_fields or reading.with_vectors
        names = list(dict.fromkeys(name for name, _ in hits))
        rows = await self.rows(names, reading) if wanted else {}
        return (neighbour_of(self._row(name, distance, rows.get(name)), self.schema) for name, distance in hits)

    def _row(self, name: str, distance: float, row: Nearby | None) -> Row:
        if row is None:
            return Row(name, distance)
        vector = unpacked(pb.Matrix(rows=row.vector), self.space)[0] if row.vector else None
        return Row(name, distance, row.payload, vector)

    async def rows(self, names: Sequence[str], reading: pb.Reading) -> Mapping[str, Nearby]:
        """What there is of these ids, each asked of the shard that owns it."""
        rows: dict[str, Nearby] = {}
        for first in range(0, len(names), BATCH_MAX):
            some = names[first : first + BATCH_MAX]
            requests = {
                shard: pb.GetPointsRequest(
                    collection=self.collection, ids=[some[at] for at in places.tolist()], reading=reading
                )
                for shard, places in self.shards.map.by_shard(some).items()
            }
            answers = await self.shards.each("GetPoints", requests, pb.GetPointsResponse)
            rows |= {row.id: row for answer in answers.values() for row in told_rows(answer.points)}
        return rows


async def by_example(shards: Shards, schema: Schema, request: pb.SearchByExampleRequest) -> pb.SearchByExampleResponse:
    """Fetch the examples, find what is near them, and choose."""
    asked, strategy = options_of(request.options, schema), strategy_of(request.strategy)
    search = _Search(shards, schema, request.collection, request.options)
    recommending.check_examples(len(request.positive), len(request.negative))
    liked, disliked = await _examples(search, request)
    without, limit = [*request.positive, *request.negative], asked.question.limit
    if strategy is Strategy.AVERAGE:
        (near,), _ = await search.near(steps.middle_of(search.space, liked, disliked), limit, without=without)
        hits = [(each.id, each.distance) for each in near]
    else:
        unlike = packed(disliked, search.space)
        width = steps.candidates(limit)
        found, _ = await search.near(liked, width, without=without, compared=True, unlike=unlike)
        among = [*{each.id: each for hits in found for each in hits}.values()]
        to_liked = np.array([each.to_liked for each in among], np.float32)
        to_unlike = np.array([each.to_unlike for each in among], np.float32)
        order = recommending.ordered(to_liked, to_unlike, limit).tolist()
        hits = [(among[at].id, among[at].to_liked) for at in order]
    result = pb.Neighbours(neighbours=await search.told(hits))
    return small_enough(pb.SearchByExampleResponse(result=result, shards_missing=sorted(shards.missing)))


async def in_groups(shards: Shards, schema: Schema, request: pb.SearchGroupsRequest) -> pb.SearchGroupsResponse:
    """Look through more and more of what is near until the groups are complete."""
    limit = options_of(request.options, schema).question.limit
    query = single_of(request.vector, schema, "vector")
    check_field(request.group_by, "group_by")
    size = within(request.group_size, 1, GROUP_SIZE_MAX, "group_size")
    check_groups(limit, size)
    search = _Search(shards, schema, request.collection, request.options)
    asked = next(widths(limit, size, WIDTH_MAX))
    (near,), count = await search.near(query, asked, group_by=request.group_by)
    groups = []
    for width in widths(limit, size, count):
        if width > asked:
            asked = width
            (near,), _ = await search.near(query, asked, group_by=request.group_by)
        groups = grouped(near, [each.keys for each in near], limit, size)
        if complete(groups, limit, size):
            break
    told = await search.told([(hit.id, hit.distance) for group in groups for hit in group.hits])
    answer = [_group(group.key, told, len(group.hits)) for group in groups]
    return small_enough(pb.SearchGroupsResponse(groups=answer, shards_missing=sorted(shards.missing)))


async def hybrid(shards: Shards, schema: Schema, request: pb.SearchHybridRequest) -> pb.SearchHybridResponse:
    """Add up what shards know of the words, have each rank by that, and join both rankings."""
    question, asked = options_of(request.options, schema).question, hybrid_of(request)
    query = single_of(request.vector, schema, "vector") if request.HasField("vector") else None
    depth = joining.depth_of(asked, question.limit)
    search = _Search(shards, schema, request.collection, request.options)
    by_words = await _ranked(search, request, depth)
    by_nearness = None
    if query is not None:
        (near,), _ = await search.near(query, depth)
        by_nearness = [(each.id, each.distance) for each in near]
    best = joining.fused(by_words, by_nearness, asked)[: question.limit]
    distances = dict(by_nearness or ())
    told = await search.told([(name, distances.get(name, np.inf)) for name, _ in best])
    results = [pb.Scored(neighbour=hit, score=score) for hit, (_, score) in zip(told, best, strict=True)]
    return small_enough(pb.SearchHybridResponse(results=results, shards_missing=sorted(shards.missing)))


async def by_several(
    shards: Shards, schema: Schema, request: pb.SearchMultiVectorRequest
) -> pb.SearchMultiVectorResponse:
    """Find things that have a vector near one of the query's, and score each by all of its vectors, wherever they are."""
    limit = options_of(request.options, schema).question.limit
    queries = matrix_of(request.vectors, schema, "vectors")
    check_field(request.group_by, "group_by")
    check_several(limit, len(queries))
    search = _Search(shards, schema, request.collection, request.options)
    found, _ = await search.near(queries, steps.near_things(limit), group_by=request.group_by)
    things = steps.things_of([(near.distance, near.keys) for hits in found for near in hits])
    least, nearest_ids = await _scored(search, queries, request.group_by, things)
    best = steps.best_things(least, limit)
    members = [[*dict.fromkeys(each for each in nearest_ids[thing] if each is not None)] for thing, _ in best]
    told = await search.told([hit for hits in members for hit in hits])
    results = [
        pb.ScoredGroup(group=_group(things[thing], told, len(hits)), score=score)
        for (thing, score), hits in zip(best, members, strict=True)
    ]
    return small_enough(pb.SearchMultiVectorResponse(results=results, shards_missing=sorted(shards.missing)))


async def values(shards: Shards, _: Schema, request: pb.GetValueCountsRequest) -> pb.GetValueCountsResponse:
    """Add up what the shards count."""
    check_field(request.field, "field")
    limit = within(request.limit, LIMIT_DEFAULT, facets.FACETS_MAX, "limit")
    asked = steps_pb.CountValuesRequest(values=request)
    answers = await shards.all("CountValues", asked, steps_pb.CountValuesResponse)
    parts = [dict(zip(keys_of(each.values), each.counts, strict=True)) for each in answers.values()]
    counts = [
        pb.ValueCount(value=json.dumps(facets.written(facet), ensure_ascii=False), count=count)
        for facet, count in facets.most_frequent(parts, limit)
    ]
    missing_max = sum(answer.count_untold_max for answer in answers.values())
    return pb.GetValueCountsResponse(values=counts, count_missing_max=missing_max)


async def in_order(shards: Shards, _: Schema, request: pb.ListPointsRequest) -> pb.ListPointsResponse:
    """The first of the pages of all shards, each of which begins behind the same place."""
    asked = steps_pb.ListInOrderRequest(page=request)
    answers = await shards.all("ListInOrder", asked, steps_pb.ListInOrderResponse)
    parts = [zip(map(placed_of, answer.places), told_rows(answer.points), strict=True) for answer in answers.values()]
    limit = request.limit or PAGE_DEFAULT
    best = ordering.merged(parts, ordering.Order(request.order_by, request.descending), limit)
    points = rows_told([row for _, row in best], [answer.points for answer in answers.values()])
    following = json.dumps(list(best[-1][0])) if len(best) == limit else ""
    return small_enough(pb.ListPointsResponse(points=points, next=following))


IN_STEPS: Mapping[str, Answer] = {
    "SearchByExample": by_example,
    "SearchGroups": in_groups,
    "SearchHybrid": hybrid,
    "SearchMultiVector": by_several,
    "GetValueCounts": values,
}
"""By method; pages by a field are answered by `in_order`."""


async def _examples(search: _Search, request: pb.SearchByExampleRequest) -> tuple[Rows, Rows]:
    """The vectors of the examples that are liked, and disliked. Raises NotFound."""
    reading = pb.Reading()
    reading.CopyFrom(search.options.reading)
    reading.ClearField("payload_fields")
    reading.with_payloads, reading.with_vectors = False, True
    names = list(dict.fromkeys((*request.positive, *request.negative)))
    rows = await search.rows([name for name in names if 1 <= len(name) <= ID_CHARACTERS_MAX], reading)
    examples = []
    for where, asked in (("positive", request.positive), ("negative", request.negative)):
        steps.check_there(asked, [name in rows for name in asked], where)
        matrix = pb.Matrix(rows=b"".join(rows[name].vector for name in asked))
        examples.append(unpacked(matrix, search.space))
    return examples[0], examples[1]


async def _ranked(search: _Search, request: pb.SearchHybridRequest, depth: int) -> list[tuple[str, float]]:
    """The best by words, ranked by what all shards know of these together, with their scores."""
    counting = steps_pb.CountWordsRequest(
        collection=search.collection,
        text=request.text,
        text_field=request.text_field,
        reading=search.options.reading,
    )
    counted = await search.shards.all("CountWords", counting, steps_pb.CountWordsResponse)
    known = ranking.combined(words_known(each) for each in counted.values())
    asked = steps_pb.RankWordsRequest(
        collection=search.collection,
        text=request.text,
        text_field=request.text_field,
        options=search.options,
        width=depth,
        known=words_told(known),
    )
    answers = await search.shards.all("RankWords", asked, steps_pb.RankWordsResponse)
    found = {
        shard: [
            [_Near(name, -score) for name, score in zip(answer.ids, floats_of(answer.scores).tolist(), strict=True)]
        ]
        for shard, answer in answers.items()
    }
    return [(each.id, -each.distance) for hits in nearest(found, depth, search.shards.map) for each in hits]


async def _scored(
    search: _Search, queries: Rows, field: str, things: steps.Things
) -> tuple[Any, list[list[tuple[str, float] | None]]]:
    """How near things are to each query by the nearest of all shards, and which that is."""
    shape = (len(things), len(queries))
    least = np.full(shape, np.inf, np.float32)
    near: list[list[tuple[str, float] | None]] = [[None] * len(queries) for _ in things]
    if not things:
        return least, near
    asked = steps_pb.ScoreThingsRequest(
        collection=search.collection,
        vectors=packed(queries, search.space),
        options=search.options,
        group_by=field,
        things=keys_told(things),
    )
    answers = await search.shards.all("ScoreThings", asked, steps_pb.ScoreThingsResponse)
    steps.check_compared(sum(answer.count for answer in answers.values()))
    for answer in answers.values():
        here = floats_of(answer.distances).reshape(shape)
        own = floats_of(answer.distances_least).reshape(shape)
        for thing, query in np.argwhere(here < least).tolist():
            near[thing][query] = (answer.ids[thing * len(queries) + query], float(own[thing, query]))
        least = np.minimum(least, here)
    return least, near


def _near_of(answer: steps_pb.FindNearResponse) -> list[list[_Near]]:
    count = len(answer.ids)
    groups: list[Sequence[GroupKey]] = [keys_of(each) for each in answer.groups] or [()] * count
    liked = floats_of(answer.distances_liked).tolist() or [0.0] * count
    unlike = floats_of(answer.distances_unlike).tolist() or [0.0] * count
    distances = floats_of(answer.distances).tolist()
    hits = [_Near(*each) for each in zip(answer.ids, distances, groups, liked, unlike, strict=True)]
    return cut(hits, answer.counts)


def _group(key: GroupKey, told: Iterator[pb.Neighbour], count: int) -> pb.Group:
    """A group, whose vectors are the next ones that are told."""
    value = json.dumps(facets.written(key), ensure_ascii=False)
    return pb.Group(value=value, neighbours=[next(told) for _ in range(count)])
