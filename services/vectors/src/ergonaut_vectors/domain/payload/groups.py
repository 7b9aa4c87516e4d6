"""Hits gathered by a field's value: the best groups, with the best hits of each. Made of a search that was wide enough."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ergonaut_vectors.domain.payload.fields import Fields, FieldType, Payload, alike, leaves_of

Hit = TypeVar("Hit")

GROUPS_MAX = 100
GROUP_SIZE_MAX = 100
WIDTH_MAX = 10_000
"""Hits that are looked through for groups; where most are of few groups, less groups than asked for may be found in these."""

GroupKey = tuple[FieldType, Any]
"""A value with its type, for 1 and true are two groups."""


@dataclass(frozen=True, slots=True)
class Group(Generic[Hit]):
    """The best hits with one value, best first."""

    key: GroupKey
    hits: tuple[Hit, ...]


def keys_of(payload: Payload, field: str, fields: Fields) -> list[GroupKey]:
    """The groups that a payload belongs to: one for each value of the field."""
    return list(dict.fromkeys(alike(kind, value) for name, kind, value in leaves_of(payload, fields) if name == field))


def grouped(hits: Sequence[Hit], keys: Sequence[Sequence[GroupKey]], limit: int, size: int) -> list[Group[Hit]]:
    """The first `limit` groups in the order of their best hits, with at most `size` hits each. Hits come best first."""
    groups: dict[GroupKey, list[Hit]] = {}
    for hit, of_hit in zip(hits, keys, strict=True):
        for key in of_hit:
            members = groups.get(key)
            if members is None and len(groups) < limit:
                members = groups[key] = []
            if members is not None and len(members) < size:
                members.append(hit)
    return [Group(key, tuple(members)) for key, members in groups.items()]


def complete(groups: Sequence[Group[Hit]], limit: int, size: int) -> bool:
    """Whether a wider search could change nothing."""
    return len(groups) == limit and all(len(group.hits) == size for group in groups)


def widths(limit: int, size: int, count: int) -> Iterator[int]:
    """How many hits to look through, first and again, until the groups are complete; `count` vectors are there."""
    width = min(2 * limit * size, WIDTH_MAX, count)
    while True:
        yield width
        if width >= min(WIDTH_MAX, count):
            return
        width = min(4 * width, WIDTH_MAX, count)
