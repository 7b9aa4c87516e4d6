"""Answers of several shards made one: the nearest of all. Pure; who asks the shards calls it."""

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from ergonaut_vectors.domain.placing.shard_map import ShardMap


class Hit(Protocol):
    """What a shard found."""

    @property
    def id(self) -> str:
        """Of the vector."""
        ...

    @property
    def distance(self) -> float:
        """Smaller is better."""
        ...


H = TypeVar("H", bound=Hit)


class Nearby(NamedTuple):
    """A vector that a shard found, with what was asked for of it."""

    id: str
    distance: float
    sequence: int = 0
    payload: bytes = b""
    vector: bytes = b""


def nearest(found: Mapping[int, Sequence[Sequence[H]]], limit: int, now: ShardMap) -> list[list[H]]:
    """The nearest to each query of what shards found, equal ones by id.

    While a shard is split two have the same ids: the one that owns the id is believed, for the other's may be older.
    """
    if not found:
        return []
    queries = len(next(iter(found.values())))
    if len(found) == 1:
        return [list(hits[:limit]) for hits in next(iter(found.values()))]
    return [_nearest_of({shard: hits[at] for shard, hits in found.items()}, limit, now) for at in range(queries)]


def _nearest_of(found: Mapping[int, Sequence[H]], limit: int, now: ShardMap) -> list[H]:
    names = [hit.id for hits in found.values() for hit in hits]
    twice = {name for name, times in Counter(names).items() if times > 1}
    owners: dict[str, int] = {}
    if twice:
        doubled = sorted(twice)
        owners = {doubled[at]: shard for shard, places in now.by_shard(doubled).items() for at in places.tolist()}
    kept = (
        (hit.distance, hit.id, hit)
        for shard, hits in found.items()
        for hit in hits
        if owners.get(hit.id, shard) == shard
    )
    return [hit for *_, hit in heapq.nsmallest(limit, kept, key=lambda each: each[:2])]
