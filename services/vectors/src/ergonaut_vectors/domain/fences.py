"""Slots that a shard gives to another, as its log says: first they are fenced, then their rows go. Kept in the mark of each view.

A batch that names an id of a fenced slot counts for nothing, whatever its writer knew: the writer is told, and looks again. So
rows of fenced slots are the same at every later position, and whoever makes the other shard of them may die and begin anew.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ergonaut_vectors.domain.placing.slots import SlotRange, slots_of

_MAGIC = b"\0fence\0\0"
"""No name of a batch begins so: those are digests, which stand behind fences in what a shard saves."""

_ENTRY = struct.Struct("<8sHHHHQ")
"""Magic, first slot, slot after the last, shard that takes them, whether their rows are gone, position of the fence."""


@dataclass(frozen=True, slots=True)
class Fence:
    """What a message says: these slots are another shard's. With `is_last`, that the other answers, and the rows are to go."""

    slots: SlotRange
    taken_by: int
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class Given:
    """Slots that a shard has given away."""

    fence: Fence
    position: int
    """Of the message that fenced them."""


def given_in(mark: bytes, first: int) -> tuple[Given, ...]:
    """What a mark says, from this byte on."""
    found = []
    while mark[first : first + len(_MAGIC)] == _MAGIC:
        _, begin, after, taken_by, is_last, position = _ENTRY.unpack_from(mark, first)
        found.append(Given(Fence(SlotRange(begin, after), taken_by, bool(is_last)), position))
        first += _ENTRY.size
    return tuple(found)


def mark_of(given: Sequence[Given]) -> bytes:
    """How a mark says it."""
    return b"".join(
        _ENTRY.pack(_MAGIC, each.fence.slots.first, each.fence.slots.after, each.fence.taken_by, *_told(each))
        for each in given
    )


def with_fence(given: Sequence[Given], fence: Fence, position: int) -> tuple[Given, ...]:
    """The same with one fence more, or with one whose rows are gone."""
    known = {each.fence.taken_by: each for each in given}
    before = known.get(fence.taken_by)
    if before is None:
        return (*given, Given(fence, position))
    if before.fence.is_last:
        # Of two processes that went on with one split the slower one comes too late.
        return tuple(given)
    return tuple(replace(each, fence=fence) if each is before else each for each in given)


def taker_of(given: Sequence[Given], ids: Sequence[str]) -> int | None:
    """The shard to which an id of these belongs that was given away; None where all are still here."""
    if not given:
        return None
    slots = slots_of(ids)
    return next((each.fence.taken_by for each in given if each.fence.slots.mask(slots).any()), None)


def given_to(given: Sequence[Given], shard: int) -> Given | None:
    """What was given to a shard, or was fenced for it."""
    return next((each for each in given if each.fence.taken_by == shard), None)


def pending(given: Sequence[Given]) -> Given | None:
    """The slots that are fenced, and whose rows are still here."""
    return next((each for each in given if not each.fence.is_last), None)


def _told(given: Given) -> tuple[int, int]:
    return int(given.fence.is_last), given.position
