"""Splits shards that have grown large, while they are read and written: half of a shard's slots become another shard.

Fills `catalogue.Splits`.

1. A fence in the shard's log: from there on nothing is written to these slots; who tries is told, and waits.
2. The state behind the fence, of these slots alone, goes to the shelf and to the new shard's place: the same files, with other
   rows living. The record of the collection names the new shard and where its log begins, and the log is made.
3. A last fence in the shard's log: from there on the other shard answers, and the shard's rows of these slots are gone. Whoever
   reads or writes goes by what the log of a shard says, so there is no moment between.

Whatever moment the process dies at, what the log and the record say is enough to go on: `main` has `Splitting` look for it.

Where several processes share collections any of them may go on, also two at once: the new shard begins with the same state and
its log with the same message, whoever makes them of whatever state behind the fence, and each step changes nothing where it was
taken before. One shard of a collection is split at a time, by its `Turns`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Protocol

from ergonaut.errors import Broken, Conflict, ErgonautError, Refused
from ergonaut_common.clock import Clock
from ergonaut_common.lifetimes import stopped
from ergonaut_common.observe import get_logger
from ergonaut_vectors.archive.ports import Saved
from ergonaut_vectors.archive.shelved import Shelved
from ergonaut_vectors.domain.batches import name_of
from ergonaut_vectors.domain.fences import Fence, Given, given_to, pending
from ergonaut_vectors.domain.placing.slots import SlotRange
from ergonaut_vectors.domain.records import Begin, Key, Record, Split
from ergonaut_vectors.domain.schema import SHARDS_MAX
from ergonaut_vectors.domain.snapshots import Snapshot
from ergonaut_vectors.live import LiveShard
from ergonaut_vectors.service import Vectors
from ergonaut_vectors.workers import Workers

LOOK_EVERY_SECONDS = 1.0
"""Between two looks for shards that are to be split, or were being split by a process that died: their writers wait for it."""

AGAIN_SECONDS = 5.0
"""Pause before a shard is tried again that could not be split, as where the shelf is away."""

log = get_logger(__name__)


Around = tuple[Shelved, Saved, Workers, Clock]
"""What a split needs beside the service: the shelf, what is saved here, threads for files, and a clock."""


class Turns(Protocol):
    """Whose turn it is among the shards of a collection, and who is told of what came of it. All methods raise Unavailable."""

    async def begin(self, record: Record, number: int) -> tuple[SlotRange, int]:
        """Have it be a shard's turn: the slots that it is to give away, and the number of the shard that takes them."""
        ...

    async def end(self, record: Record, number: int, fence: Fence) -> None:
        """The other shard answers for its slots."""
        ...

    async def is_begun(self, record: Record, number: int) -> bool:
        """Whether it is this shard's turn."""
        ...


class Alone:
    """Turns of a process that shares its collections with none: it splits one shard after the other, by what its record says."""

    async def begin(self, record: Record, number: int) -> tuple[SlotRange, int]:
        return record.ranges[number].halves[1], len(record.shards)

    async def end(self, record: Record, number: int, fence: Fence) -> None:
        """Nobody else has to know."""

    async def is_begun(self, record: Record, number: int) -> bool:  # noqa: ARG002 - what its log says is all there is
        return False


class Splitting:
    """Splits shards of more than so many vectors, one at a time."""

    def __init__(self, vectors: Vectors, around: Around, vectors_max: float) -> None:
        self._vectors = vectors
        self._shelved, self._saved, self._threads, self._clock = around
        self._vectors_max = vectors_max
        self._one_by_one = asyncio.Lock()
        self.turns: Turns = Alone()
        # When shards could not be split, by the clock.
        self._failed_at: dict[Key, float] = {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Splitting"]:
        """Look for what is to be split while the block runs."""
        looking = asyncio.create_task(self._look())
        try:
            yield self
        finally:
            await stopped(looking)

    async def split(self, tenant: str, name: str, number: int) -> int:
        """Split a shard; gives the new one's number. Raises Refused where it cannot be split."""
        async with self._one_by_one, self._used(tenant, name, number) as (record, live):
            return await self._split(record, number, live)

    async def look(self) -> None:
        """Split what is due, and go on with what was begun; one that cannot be split keeps none of the others from it."""
        for record, number, live in self._vectors.opening.kept():
            if self._failed_at.get(live.key, -AGAIN_SECONDS) + AGAIN_SECONDS > self._clock.monotonic():
                continue
            try:
                if await self._is_due(record, number, live):
                    await self._due(record.key, number)
                self._failed_at.pop(live.key, None)
            except Exception as error:
                # Whatever it was, all that was acknowledged is there; writers of fenced slots are told to come again.
                known = isinstance(error, ErgonautError)
                log.error("shard not split", shard=str(live.key), error=str(error), exc_info=None if known else error)
                self._failed_at[live.key] = self._clock.monotonic()

    async def _due(self, key: Key, number: int) -> None:
        """Split a shard that was due a moment ago; another split of it, or another node, may have been quicker."""
        async with self._one_by_one, self._used(key.tenant, key.name, number) as (record, live):
            if await self._is_due(record, number, live):
                await self._split(record, number, live)

    @contextlib.asynccontextmanager
    async def _used(self, tenant: str, name: str, number: int) -> AsyncIterator[tuple[Record, LiveShard]]:
        """A shard and its collection as they are now."""
        await self._vectors.look(Key(tenant, name))
        record = (await self._vectors.open(tenant, name)).record
        if not 0 <= number < len(record.shards):
            raise Refused(f"is {number}; the collection has shards 0 to {len(record.shards) - 1}", field="shard")
        with self._vectors.opening.used(record, number) as live:
            await live.wait_for(0)
            yield record, live

    async def _is_due(self, record: Record, number: int, live: LiveShard) -> bool:
        if not live.is_ready:
            return False
        if pending(live.given) is not None or await self.turns.is_begun(record, number):
            return True
        return live.count > self._vectors_max and len(record.shards) < SHARDS_MAX

    async def _look(self) -> None:
        while True:
            await self._clock.sleep(LOOK_EVERY_SECONDS)
            await self.look()

    async def _split(self, record: Record, number: int, live: LiveShard) -> int:
        given = pending(live.given) or await self._fenced(record, number, live)
        shard, slots = given.fence.taken_by, given.fence.slots
        if not given.fence.is_last:
            if shard == len(record.shards):
                record = record.with_split(Split(number, slots), await self._made(record, number, live, given))
            await self._vectors.take_over(record)
            await live.write(Fence(slots, shard, is_last=True))
        await self.turns.end(record, number, given.fence)
        log.info(
            "shard split", collection=str(record.key), shard=number, into=shard, slots=f"{slots.first}-{slots.after}"
        )
        return shard

    async def _fenced(self, record: Record, number: int, live: LiveShard) -> Given:
        """The slots that are given away, fenced by now; another process may have given them meanwhile."""
        slots, shard = await self.turns.begin(record, number)
        if given_to(live.given, shard) is None:
            # So that little is left to bring there once writers wait.
            await _saved(live, live.view.position)
            await live.write(Fence(slots, shard))
        given = given_to(live.given, shard)
        assert given is not None, "its fence was applied"
        return given

    async def _made(self, record: Record, number: int, live: LiveShard, given: Given) -> Begin:
        """Bring the state of the new shard to the shelf and to its place; what an earlier try left there is overwritten."""
        shard = given.fence.taken_by
        digest = name_of(f"{record.uid}.{shard}.{given.position}")
        await _saved(live, given.position)
        with self._shelved.place() as place:
            folder = place / "state"
            await self._threads.run(partial(self._saved.copy, record.store_of(number), folder))
            store = self._saved.open(folder)
            kept = await self._threads.run(store.load)
            if kept is None or kept.head.sequence < given.position:
                raise Broken(f"shard {number} of {record.key} has no saved state behind its fence at {given.position}")
            if given_to(kept.given, shard) != given:
                raise Conflict(f"another node has split shard {number} of {record.key} meanwhile")
            await self._threads.run(partial(store.save, await self._threads.run(partial(kept.taken, given, digest))))
            told = await self._shelved.shard_of(shard, self._clock.now(), folder)
            state = Snapshot("", record.key, record.uid, record.schema, self._clock.now(), (told,))
            await self._shelved.keep(state, [folder])
            async with self._vectors.opening.closed(record.key.of_shard(shard)):
                await self._threads.run(partial(self._saved.put, folder, record.store_of(shard)))
        return Begin(shard, given.position, digest.hex())


async def _saved(live: LiveShard, position: int) -> None:
    """Return when a state as of this position is saved. Raises why it cannot be."""
    await live.save_soon(position)
    if live.failure is not None:
        raise live.failure
