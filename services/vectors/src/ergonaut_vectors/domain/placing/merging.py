"""Answers of several shards made one: the nearest of all, sums of counts, pages in order. Pure; who asks the shards calls it."""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from ergonaut_vectors.domain.placing.shard_map import ShardMap
from ergonaut_vectors.domain.segments.view import Cursor

T = TypeVar("T")


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


class Listed(NamedTuple):
    """A vector of a page."""

    id: str
    sequence: int
    payload: bytes = b""
    vector: bytes = b""


class Place(NamedTuple):
    """Where a page of several shards ends: shards are gone through one after the other."""

    shard: int = -1
    cursor: Cursor = Cursor()


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What all shards said together."""

    value: T
    missing: tuple[int, ...] = ()
    """Shards that did not answer; only where a partial answer was allowed."""
    positions: Mapping[int, int] = field(default_factory=dict)
    """How far the log of each shard had been applied when it answered."""


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


def summed(counts: Iterable[Mapping[T, int]]) -> dict[T, int]:
    """Counts by value, added up."""
    total: Counter[T] = Counter()
    for each in counts:
        total.update(each)
    return dict(total)


def ordered(pages: Iterable[Sequence[T]], limit: int, key: Callable[[T], Any], *, descending: bool = False) -> list[T]:
    """The first of several pages that are each in the order of a key."""
    return list(heapq.merge(*pages, key=key, reverse=descending))[:limit]


def next_place(now: ShardMap, asked: Place, page: Sequence[Listed], limit: int) -> Place | None:
    """Where the page behind this one, of one shard, begins; None behind the last shard."""
    if len(page) >= limit:
        last = page[-1]
        return Place(asked.shard, Cursor(last.sequence, last.id))
    later = sorted(each.number for each in now.owning if each.number > asked.shard)
    return Place(later[0]) if later else None
