"""Answers of the public contract by several shards made one. Used by whoever asked them.

What takes more than one question to the shards, such as the sum over a thing's vectors, is not here but in `rpc/gathered.py`.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut_vectors.domain.placing.merging import Nearby, nearest
from ergonaut_vectors.domain.placing.shard_map import ShardMap
from ergonaut_vectors.domain.schema import LIMIT_DEFAULT

PAGE_DEFAULT = 100

T = TypeVar("T")

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


def told_rows(points: pb.Rows) -> list[Nearby]:
    """Vectors that came by columns, one by one."""
    count = len(points.ids)
    payloads = points.payloads or [b""] * count
    vectors = _split(points.vectors.rows, count)
    return [
        Nearby(name, 0.0, sequence, payload, vector)
        for name, sequence, payload, vector in zip(points.ids, points.sequences, payloads, vectors, strict=True)
    ]


def rows_told(rows: Sequence[Nearby], told: Sequence[pb.Rows]) -> pb.Rows:
    """Vectors by columns, with those columns that came."""
    element = next((each.vectors.element for each in told if each.HasField("vectors")), None)
    vectors = b"".join(row.vector for row in rows)
    return pb.Rows(
        ids=[row.id for row in rows],
        vectors=pb.Matrix(rows=vectors, element=element) if element is not None else None,
        payloads=[row.payload for row in rows] if any(each.payloads for each in told) else (),
        sequences=[row.sequence for row in rows],
    )


def cut(hits: Sequence[T], counts: Sequence[int]) -> list[list[T]]:
    """What stands one query behind the other, by query."""
    ends = np.cumsum(counts, dtype=np.int64).tolist()
    return [list(hits[end - count : end]) for end, count in zip(ends, counts, strict=True)]


def _unpacked(packed: pb.PackedNeighbours) -> list[list[Nearby]]:
    distances = np.frombuffer(packed.distances, "<f4").tolist()
    rows = _split(packed.vectors.rows, len(packed.ids))
    payloads = packed.payloads or [b""] * len(packed.ids)
    hits = [
        Nearby(name, distance, 0, payload, row)
        for name, distance, payload, row in zip(packed.ids, distances, payloads, rows, strict=True)
    ]
    return cut(hits, packed.counts)


def _split(content: bytes, count: int) -> Sequence[bytes]:
    width = len(content) // count if count else 0
    return [content[at * width : (at + 1) * width] for at in range(count)]


def _rows(answers: Answers, key: Callable[[Nearby], Any], limit: int | None) -> pb.Rows:
    """Vectors by columns, each once, in an order."""
    told = [answer.points for answer in answers.values()]
    found = {row.id: row for points in told for row in told_rows(points)}
    return rows_told(sorted(found.values(), key=key)[:limit], told)
