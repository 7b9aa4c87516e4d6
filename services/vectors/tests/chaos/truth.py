"""What must be there: points by id, as the writes left them that were acknowledged. Pure; the writers and the checks use it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Payload = Mapping[str, Any]
Point = tuple[bytes, Payload]
"""A vector's bytes and its payload."""

Points = Mapping[str, Point]


class Wrong(Exception):
    """A promise was broken."""


@dataclass(frozen=True, slots=True)
class Put:
    """Points written whole, under a name."""

    points: Points
    name: str


@dataclass(frozen=True, slots=True)
class Change:
    """Payloads written over those of points that are there, or into them."""

    payloads: Mapping[str, Payload]
    merged: bool


@dataclass(frozen=True, slots=True)
class Drop:
    """Points removed."""

    ids: Sequence[str]


Written = Put | Change | Drop


def after(points: Points, written: Written) -> dict[str, Point]:
    """The points when this has been written."""
    if isinstance(written, Put):
        return {**points, **written.points}
    if isinstance(written, Drop):
        return {name: point for name, point in points.items() if name not in set(written.ids)}
    changed = {}
    for name, payload in written.payloads.items():
        vector, before = points[name]
        changed[name] = (vector, {**before, **payload} if written.merged else payload)
    return {**points, **changed}


def check_same(found: Points, expected: Points, where: str) -> None:
    """Raise Wrong, naming some ids, where these are not the same."""
    lost = sorted(expected.keys() - found.keys())
    more = sorted(found.keys() - expected.keys())
    other = sorted(name for name in expected.keys() & found.keys() if expected[name] != found[name])
    if lost or more or other:
        told = f"lost {len(lost)} {lost[:3]}, not deleted {len(more)} {more[:3]}, another content {len(other)}"
        of = other[:2]
        raise Wrong(f"{where}: {told} {[(name, found[name][1], expected[name][1]) for name in of]}")


def check_whole_or_not(
    found: Points, before: Points, written: Written, shards_of: Callable[[Sequence[str]], Sequence[int]], where: str
) -> None:
    """Raise Wrong unless each shard has all of its part of a write whose answer nobody knows, or nothing of it."""
    then = after(before, written)
    names = sorted(found.keys() | before.keys() | then.keys())
    shards = dict(zip(names, shards_of(names), strict=True))
    for shard in sorted(set(shards.values())):

        def part(points: Points, shard: int = shard) -> Points:
            return {name: point for name, point in points.items() if shards[name] == shard}

        if part(found) != part(then):
            check_same(part(found), part(before), f"{where}, shard {shard}, beside a write of unknown outcome")
