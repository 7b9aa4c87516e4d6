"""A collection of this process: its shards are opened as they are needed, and a write goes to those that its ids belong to.

Fills `catalogue.Opened`; made by the service, used by the doors.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ergonaut.errors import ErgonautError, NotFound
from ergonaut_vectors.catalogue import Positions, Seen, ShardState
from ergonaut_vectors.domain.placing.slots import equal_ranges, slots_of
from ergonaut_vectors.domain.records import Record
from ergonaut_vectors.domain.schema import Schema
from ergonaut_vectors.domain.segments.view import View
from ergonaut_vectors.domain.segments.writes import Changes, Deletes, Upserts, Write
from ergonaut_vectors.opening import Opening


class Collection:
    """A collection, of whose shards those are in memory that were asked for."""

    def __init__(self, record: Record, opening: Opening) -> None:
        self.record = record
        self._opening = opening

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
        return await self.seen_of(range(self.schema.shards), at_least, partial=partial)

    async def seen_of(self, numbers: Sequence[int], at_least: Positions, *, partial: bool = False) -> Seen:
        """The same of some of its shards; where nodes share a collection, the others are elsewhere."""
        asked = (self._view(number, at_least.get(number, 0)) for number in numbers)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        views, missing = [], []
        for number, answer in zip(numbers, answers, strict=True):
            if isinstance(answer, View):
                views.append(answer)
            elif partial and isinstance(answer, ErgonautError) and not isinstance(answer, NotFound):
                missing.append(number)
            elif isinstance(answer, BaseException):
                raise answer
        return Seen(views, missing)

    async def write(self, write: Write, *, batch_id: str = "") -> Positions:
        """Write, all of a shard or none; gives where, when it is seen."""
        if self.schema.shards == 1:
            return {0: await self._write(0, write, batch_id)}
        parts = _by_shard(write, self.schema.shards)
        answers = await asyncio.gather(
            *(self._write(number, part, batch_id) for number, part in parts.items()), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return {
            number: answer
            for number, answer in zip(parts, answers, strict=True)
            if not isinstance(answer, BaseException)
        }

    def states(self) -> Sequence[ShardState]:
        """How its shards stand."""
        states = []
        for number, key in enumerate(self.record.shards):
            live = self._opening.found(key)
            failure = "" if live is None or live.failure is None else str(live.failure)
            states.append(ShardState(number, live.view if live and live.is_ready else None, failure))
        return states

    async def _view(self, number: int, at_least: int) -> View:
        with self._opening.used(self.record, number) as live:
            await live.wait_for(at_least)
            return live.view

    async def _write(self, number: int, write: Write, batch_id: str) -> int:
        with self._opening.used(self.record, number) as live:
            return await live.write(write, batch_id)


def _by_shard(write: Write, shards: int) -> dict[int, Write]:
    """What of a write belongs to each shard that it touches."""
    slots = slots_of(write.ids)
    parts = {}
    for number, owned in enumerate(equal_ranges(shards)):
        chosen = np.flatnonzero(owned.mask(slots))
        if len(chosen):
            parts[number] = _only(write, chosen.tolist())
    return parts


def _only(write: Write, chosen: Sequence[int]) -> Write:
    ids = [write.ids[at] for at in chosen]
    if isinstance(write, Deletes):
        return Deletes(ids)
    payloads = [write.payloads[at] for at in chosen] if write.payloads else ()
    if isinstance(write, Changes):
        return replace(write, ids=ids, payloads=payloads)
    return Upserts(ids, write.rows[chosen], payloads)
