"""Answers of the public contract by several shards made one. Used by whoever asked them.

What only one who sees all vectors can answer, such as the sum over a thing's vectors, is not here: it is asked of a node that
has every shard.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut_vectors.domain.placing.merging import Nearby, nearest
from ergonaut_vectors.domain.placing.shard_map import ShardMap
from ergonaut_vectors.domain.schema import LIMIT_DEFAULT

PAGE_DEFAULT = 100

Answers = Mapping[int, Any]
"""By shard."""


@dataclass(frozen=True, slots=True)
class Told:
    """What shards said."""

    answers: Answers
    missing: Sequence[int]
    """Shards that said nothing, where that is allowed."""
    map: ShardMap


def searched(request: pb.SearchRequest, told: Told) -> pb.SearchResponse:
    """The nearest of all."""
    limit = (request.options.limit if request.HasField("options") else request.limit) or LIMIT_DEFAULT
    if request.options.packed:
        return _packed(told, limit)
    if not request.HasField("options"):
        return _attributed(told.answers, limit)
    found = {
        shard: [[_nearby(each) for each in one.neighbours] for one in each.results]
        for shard, each in told.answers.items()
    }
    told_neighbours = (hit for each in told.answers.values() for one in each.results for hit in one.neighbours)
    element = next((hit.element for hit in told_neighbours), pb.ELEMENT_UNSPECIFIED)
    results = [
        pb.Neighbours(neighbours=[_neighbour(hit, element) for hit in hits]) for hits in nearest(found, limit, told.map)
    ]
    return pb.SearchResponse(results=results, shards_missing=told.missing)


def grouped(request: pb.SearchGroupsRequest, told: Told) -> pb.SearchGroupsResponse:
    """The nearest groups: of each its nearest in all shards. A group of which a shard told nothing was too far there."""
    limit, size = request.options.limit or LIMIT_DEFAULT, request.group_size or 1
    groups: dict[str, list[pb.Neighbour]] = {}
    for answer in told.answers.values():
        for group in answer.groups:
            groups.setdefault(group.value, []).extend(group.neighbours)
    ranked = [
        pb.Group(value=value, neighbours=sorted(each, key=lambda hit: (hit.distance, hit.id))[:size])
        for value, each in groups.items()
    ]
    ranked.sort(key=lambda group: (group.neighbours[0].distance, group.value))
    return pb.SearchGroupsResponse(groups=ranked[:limit], shards_missing=told.missing)


def got(request: pb.GetPointsRequest, told: Told) -> pb.GetPointsResponse:
    """The vectors, in the order of the ids."""
    order = {name: at for at, name in enumerate(request.ids)}
    return pb.GetPointsResponse(points=_rows(told.answers, lambda row: order[row.id], None))


def listed(request: pb.ListPointsRequest, told: Told) -> pb.ListPointsResponse:
    """The next in the order in which they were last written."""
    limit = request.limit or PAGE_DEFAULT
    points = _rows(told.answers, lambda row: (row.sequence, row.id), limit)
    whole = len(points.ids) < limit
    return pb.ListPointsResponse(
        points=points, next="" if whole else json.dumps([points.sequences[-1], points.ids[-1]])
    )


def counted(_: pb.GetCountRequest, told: Told) -> pb.GetCountResponse:
    """The sum."""
    return pb.GetCountResponse(count=sum(each.count for each in told.answers.values()))


def valued(request: pb.GetValueCountsRequest, told: Told) -> pb.GetValueCountsResponse:
    """The sums; each shard was asked for as many values as can be asked for."""
    total: Counter[str] = Counter()
    for answer in told.answers.values():
        total.update({each.value: each.count for each in answer.values})
    ranked = sorted(total.items(), key=lambda each: (-each[1], each[0]))[: request.limit or LIMIT_DEFAULT]
    return pb.GetValueCountsResponse(values=[pb.ValueCount(value=value, count=count) for value, count in ranked])


def described(_: pb.DescribeCollectionRequest, told: Told) -> pb.DescribeCollectionResponse:
    """All shards, and how many vectors they have together."""
    shards = sorted((shard for each in told.answers.values() for shard in each.shards), key=lambda shard: shard.number)
    collection = pb.Collection()
    collection.CopyFrom(next(iter(told.answers.values())).collection)
    collection.count = sum(shard.count for shard in shards)
    fields: Counter[tuple[str, str]] = Counter()
    for answer in told.answers.values():
        fields.update({(each.name, each.type): each.count for each in answer.fields})
    return pb.DescribeCollectionResponse(
        collection=collection,
        shards=shards,
        fields=[pb.SeenField(name=name, type=kind, count=count) for (name, kind), count in sorted(fields.items())],
        has_more_fields=any(answer.has_more_fields for answer in told.answers.values()),
    )


def written(answers: Answers) -> dict[int, int]:
    """Positions by shard."""
    return {shard: position for each in answers.values() for shard, position in each.sequences.items()}


def _nearby(hit: pb.Neighbour) -> Nearby:
    return Nearby(hit.id, hit.distance, 0, hit.payload, hit.vector)


def _neighbour(hit: Nearby, element: "pb.Element.ValueType") -> pb.Neighbour:
    return pb.Neighbour(id=hit.id, distance=hit.distance, payload=hit.payload, vector=hit.vector, element=element)


def _attributed(answers: Answers, limit: int) -> pb.SearchResponse:
    """For callers that say nothing of what they want."""
    results = []
    for at in range(len(next(iter(answers.values())).results)):
        hits = {hit.id: hit for answer in answers.values() for hit in answer.results[at].neighbours}
        ranked = sorted(hits.values(), key=lambda hit: (hit.distance, hit.id))[:limit]
        results.append(pb.Neighbours(neighbours=ranked))
    return pb.SearchResponse(results=results)


def _packed(told: Told, limit: int) -> pb.SearchResponse:
    answers = told.answers
    best = nearest({shard: _unpacked(answer.packed) for shard, answer in answers.items()}, limit, told.map)
    hits = [hit for each in best for hit in each]
    some = next(iter(answers.values())).packed
    has_payloads = any(answer.packed.payloads for answer in answers.values())
    vectors = b"".join(hit.vector for hit in hits)
    packed = pb.PackedNeighbours(
        counts=[len(each) for each in best],
        ids=[hit.id for hit in hits],
        distances=np.array([hit.distance for hit in hits], "<f4").tobytes(),
        payloads=[hit.payload for hit in hits] if has_payloads else (),
        vectors=pb.Matrix(rows=vectors, element=some.vectors.element) if some.HasField("vectors") else None,
    )
    return pb.SearchResponse(packed=packed, shards_missing=told.missing)


def _unpacked(packed: pb.PackedNeighbours) -> list[list[Nearby]]:
    distances = np.frombuffer(packed.distances, "<f4").tolist()
    rows = _cut(packed.vectors.rows, len(packed.ids))
    payloads = packed.payloads or [b""] * len(packed.ids)
    hits = [
        Nearby(name, distance, 0, payload, row)
        for name, distance, payload, row in zip(packed.ids, distances, payloads, rows, strict=True)
    ]
    ends = np.cumsum(packed.counts).tolist()
    return [hits[end - count : end] for end, count in zip(ends, packed.counts, strict=True)]


def _cut(content: bytes, count: int) -> Sequence[bytes]:
    width = len(content) // count if count else 0
    return [content[at * width : (at + 1) * width] for at in range(count)]


def _rows(answers: Answers, key: Callable[[Nearby], Any], limit: int | None) -> pb.Rows:
    """Vectors by columns, each once, in an order."""
    found: dict[str, Nearby] = {}
    for answer in answers.values():
        points = answer.points
        payloads = points.payloads or [b""] * len(points.ids)
        rows = _cut(points.vectors.rows, len(points.ids))
        for name, sequence, payload, row in zip(points.ids, points.sequences, payloads, rows, strict=True):
            found[name] = Nearby(name, 0.0, sequence, payload, row)
    ranked = sorted(found.values(), key=key)[:limit]
    told = [answer.points for answer in answers.values()]
    element = next((each.vectors.element for each in told if each.HasField("vectors")), None)
    vectors = b"".join(row.vector for row in ranked)
    return pb.Rows(
        ids=[row.id for row in ranked],
        vectors=pb.Matrix(rows=vectors, element=element) if element is not None else None,
        payloads=[row.payload for row in ranked] if any(each.payloads for each in told) else (),
        sequences=[row.sequence for row in ranked],
    )
