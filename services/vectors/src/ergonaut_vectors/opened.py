"""A collection of this process: its shards are opened as they are needed, and a write goes to those that its ids belong to.

Fills `catalogue.Opened`; made by the service, used by the doors.
"""

import asyncio
import itertools
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from ergonaut.errors import ErgonautError, NotFound, Unavailable
from ergonaut_vectors.catalogue import Positions, Seen, ShardState
from ergonaut_vectors.domain.fences import Given, pending
from ergonaut_vectors.domain.placing.slots import SlotRange, equal_ranges, slots_of
from ergonaut_vectors.domain.records import Record
from ergonaut_vectors.domain.schema import Schema
from ergonaut_vectors.domain.segments.view import View
from ergonaut_vectors.domain.segments.writes import Changes, Deletes, Upserts, Write
from ergonaut_vectors.live import GivenAway, given_of
from ergonaut_vectors.opening import Opening

SPLIT_WITHIN_SECONDS = 8.0
"""How long a write waits for a split of its shard; below the 10 s that services give a call."""

SPLIT_AGAIN_SECONDS = 0.02
"""Pause before a write looks whether the split is over: most are within tenths of a second."""

T = TypeVar("T")


class Collection:
    """A collection, of whose shards those are in memory that were asked for."""

    def __init__(self, record: Record, opening: Opening) -> None:
        self.record = record
        self._opening = opening
        # Writes by when they were begun, and of these those that wait for a split.
        self._tickets = itertools.count()
        self._held_up: set[int] = set()
        self._let_go = asyncio.Event()

    @property
    def schema(self) -> Schema:
        """What it is."""
        return self.record.schema

    @property
    def count(self) -> int:
        """Vectors in it, as far as is known without asking."""
        return self._opening.count(self.record)

    async def seen(self, at_least: Positions, *, partial: bool = False) -> Seen:
        """Its shards, each as of at least this position of its log; all that was acknowledged before is there."""
        give_up_at = asyncio.get_running_loop().time() + SPLIT_WITHIN_SECONDS
        while True:
            numbers = range(len(self.record.shards))
            views, missing = await self._views(numbers, at_least, partial=partial)
            # What a shard still answers for, the one that is split off it does not yet.
            early = [number for number in numbers if number in views and not self._answers(number, views)]
            known = all(each.fence.taken_by < len(numbers) for view in views.values() for each in _gone(view))
            if known and not any(at_least.get(number) for number in early):
                break
            # Another node has split a shard: the record, or what this one has of the log, is about to follow.
            await self._pause(give_up_at)
        return Seen([view for number, view in views.items() if number not in early], missing)

    def slots_after(self, number: int, view: View) -> int:
        """The slot behind the last one that a shard answers for, as this view of it says."""
        split = self.record.split_of(number)
        owned = split.slots if split else equal_ranges(self.schema.shards)[number]
        return min([owned.after, *(each.fence.slots.first for each in _gone(view))])

    async def seen_of(self, numbers: Sequence[int], at_least: Positions, *, partial: bool = False) -> Seen:
        """The same of some of its shards; where nodes share a collection, the others are elsewhere."""
        views, missing = await self._views(numbers, at_least, partial=partial)
        return Seen(list(views.values()), missing)

    async def write(self, write: Write, *, batch_id: str = "") -> Positions:
        """Write, all of a shard or none; gives where, when it is seen.

        What comes while a shard is split, and belongs to slots that it gives away, waits for that, in the order in which it came.
        """
        ticket = next(self._tickets)
        positions: dict[int, int] = {}
        left = [write]
        give_up_at = asyncio.get_running_loop().time() + SPLIT_WITHIN_SECONDS
        try:
            while left:
                while any(each < ticket for each in self._held_up):
                    await self._let_go.wait()
                parts = await self._parts(left)
                self._held_up.discard(ticket)
                self._look_again()
                answers = await self._written(parts, batch_id)
                left = _left(parts, answers, positions)
                if left:
                    self._held_up.add(ticket)
                    await self._pause(give_up_at)
        finally:
            self._held_up.discard(ticket)
            self._look_again()
        return positions

    async def write_to(self, number: int, write: Write, batch_id: str) -> int:
        """Write to one shard; gives where. Raises GivenAway, as soon as the other shard answers, where it was split."""
        with self._opening.used(self.record, number) as live:
            try:
                return await live.write(write, batch_id)
            except GivenAway:
                give_up_at = asyncio.get_running_loop().time() + SPLIT_WITHIN_SECONDS
                while pending(live.given) is not None:
                    await self._pause(give_up_at)
                raise

    def states(self) -> Sequence[ShardState]:
        """How its shards stand."""
        states = []
        for number, key in enumerate(self.record.shards):
            live = self._opening.found(key)
            failure = "" if live is None or live.failure is None else str(live.failure)
            states.append(ShardState(number, live.view if live and live.is_ready else None, failure))
        return states

    async def _views(
        self, numbers: Sequence[int], at_least: Positions, *, partial: bool
    ) -> tuple[dict[int, View], list[int]]:
        """The views of these shards, and those that do not answer, where that is allowed."""
        answers = await _outcomes([self._view(number, at_least.get(number, 0)) for number in numbers])
        views, missing = {}, []
        for number, answer in zip(numbers, answers, strict=True):
            if isinstance(answer, View):
                views[number] = answer
            elif partial and isinstance(answer, ErgonautError) and not isinstance(answer, NotFound):
                missing.append(number)
            elif isinstance(answer, BaseException):
                raise answer
        return views, missing

    def _answers(self, number: int, views: Mapping[int, View]) -> bool:
        """Whether a shard answers for its slots, as the view of the one says that it was split off."""
        split = self.record.split_of(number)
        if split is None or split.source not in views:
            return True
        return any(each.fence.taken_by == number for each in _gone(views[split.source]))

    async def _parts(self, writes: Sequence[Write]) -> list[tuple[int, Write]]:
        """Writes cut by the shards that their ids belong to now, as the logs say."""
        if self.schema.shards == 1 and not self.record.splits:
            return [(0, write) for write in writes]
        ranges = await self._ranges()
        return [part for write in writes for part in _by_shard(write, ranges)]

    async def _ranges(self) -> list[SlotRange]:
        """The slots of each shard; none of one that is split off and does not answer yet."""
        ranges = equal_ranges(self.schema.shards)
        for number, split in enumerate(self.record.splits, self.schema.shards):
            with self._opening.used(self.record, split.source) as live:
                await live.wait_for(0)
                is_there = any(each.fence.taken_by == number for each in _gone(live.view))
            ranges.append(split.slots if is_there else SlotRange(0, 0))
            if is_there:
                ranges[split.source] = SlotRange(ranges[split.source].first, split.slots.first)
        return ranges

    async def _written(self, parts: Sequence[tuple[int, Write]], batch_id: str) -> Sequence[int | BaseException]:
        """The position of each part, or why there is none."""
        return await _outcomes([self._write(number, part, batch_id) for number, part in parts])

    async def _pause(self, give_up_at: float) -> None:
        now = asyncio.get_running_loop().time()
        if now >= give_up_at:
            raise Unavailable(f"a shard of collection {self.schema.name} is being split; try again later")
        await asyncio.sleep(SPLIT_AGAIN_SECONDS)

    def _look_again(self) -> None:
        self._let_go.set()
        self._let_go = asyncio.Event()

    async def _view(self, number: int, at_least: int) -> View:
        with self._opening.used(self.record, number) as live:
            await live.wait_for(at_least)
            return live.view

    async def _write(self, number: int, write: Write, batch_id: str) -> int:
        with self._opening.used(self.record, number) as live:
            return await live.write(write, batch_id)


async def _outcomes(asked: Sequence[Coroutine[Any, Any, T]]) -> Sequence[T | BaseException]:
    """What each gives, or why it gives nothing. One alone needs no task of its own, which would cost as much as a search."""
    if len(asked) > 1:
        outcomes: list[T | BaseException] = await asyncio.gather(*asked, return_exceptions=True)
        return outcomes
    try:
        return [await each for each in asked]
    except ErgonautError as error:
        return [error]


def _gone(view: View) -> list[Given]:
    """Slots whose rows are in other shards."""
    return [each for each in given_of(view) if each.fence.is_last]


def _left(
    parts: Sequence[tuple[int, Write]], answers: Sequence[int | BaseException], positions: dict[int, int]
) -> list[Write]:
    """What has to be written again, because its shard gives it away; positions of the rest are noted. Raises the first error."""
    left = []
    for (number, part), answer in zip(parts, answers, strict=True):
        if isinstance(answer, GivenAway):
            left.append(part)
        elif isinstance(answer, BaseException):
            raise answer
        else:
            positions[number] = max(answer, positions.get(number, 0))
    return left


def _by_shard(write: Write, ranges: Sequence[SlotRange]) -> list[tuple[int, Write]]:
    """What of a write belongs to each shard that it touches."""
    slots = slots_of(write.ids)
    parts = []
    for number, owned in enumerate(ranges):
        chosen = np.flatnonzero(owned.mask(slots))
        if len(chosen):
            parts.append((number, _only(write, chosen.tolist())))
    return parts


def _only(write: Write, chosen: Sequence[int]) -> Write:
    ids = [write.ids[at] for at in chosen]
    if isinstance(write, Deletes):
        return Deletes(ids)
    payloads = [write.payloads[at] for at in chosen] if write.payloads else ()
    if isinstance(write, Changes):
        return replace(write, ids=ids, payloads=payloads)
    return Upserts(ids, write.rows[chosen], payloads)
