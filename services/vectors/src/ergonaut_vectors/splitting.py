"""Splits shards that have grown large, while they are read and written: half of a shard's slots become another shard.

Fills `catalogue.Splits`.

1. A fence in the shard's log: from there on nothing is written to these slots; who tries is told, and waits.
2. The state behind the fence, of these slots alone, goes to the shelf and to the new shard's place: the same files, with other
   rows living. The record of the collection names the new shard and where its log begins, and the log is made.
3. A last fence in the shard's log: from there on the other shard answers, and the shard's rows of these slots are gone. Whoever
   reads or writes goes by what the log of a shard says, so there is no moment between.

Whatever moment the process dies at, what the log and the record say is enough to go on: `main` has `Splitting` look for it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial

from ergonaut.errors import Broken, ErgonautError, Refused
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_vectors.archive.ports import Saved
from ergonaut_vectors.archive.shelved import Shelved
from ergonaut_vectors.domain.fences import Fence, Given, pending
from ergonaut_vectors.domain.records import Begin, Record, Split
from ergonaut_vectors.domain.replica import Kept
from ergonaut_vectors.domain.schema import SHARDS_MAX
from ergonaut_vectors.domain.snapshots import Snapshot
from ergonaut_vectors.live import LiveShard
from ergonaut_vectors.service import Vectors
from ergonaut_vectors.workers import Workers

LOOK_EVERY_SECONDS = 1.0
"""Between two looks for shards that are to be split, or were being split by a process that died: their writers wait for it."""

AGAIN_SECONDS = 5.0
"""Pause after a split that failed, as where the shelf is away."""

log = get_logger(__name__)


Around = tuple[Shelved, Saved, Workers, Clock]
"""What a split needs beside the service: the shelf, what is saved here, threads for files, and a clock."""


class Splitting:
    """Splits shards of more than so many vectors, one at a time."""

    def __init__(self, vectors: Vectors, around: Around, vectors_max: float) -> None:
        self._vectors = vectors
        self._shelved, self._saved, self._threads, self._clock = around
        self._vectors_max = vectors_max
        self._one_by_one = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Splitting"]:
        """Look for what is to be split while the block runs."""
        looking = asyncio.create_task(self._look())
        try:
            yield self
        finally:
            looking.cancel()
            await asyncio.wait([looking])

    async def split(self, tenant: str, name: str, number: int) -> int:
        """Split a shard; gives the new one's number. Raises Refused where it cannot be split."""
        async with self._one_by_one:
            record = (await self._vectors.open(tenant, name)).record
            if not 0 <= number < len(record.shards):
                raise Refused(f"is {number}; the collection has shards 0 to {len(record.shards) - 1}", field="shard")
            with self._vectors.opening.used(record, number) as live:
                await live.wait_for(0)
                return await self._split(record, number, live)

    async def look(self) -> None:
        """Split what is due, and go on with what was begun."""
        for record, number, live in self._vectors.opening.kept():
            due = live.is_ready and (live.count > self._vectors_max or pending(live.given) is not None)
            if due and len(record.shards) < SHARDS_MAX:
                await self.split(record.key.tenant, record.key.name, number)

    async def _look(self) -> None:
        while True:
            await self._clock.sleep(LOOK_EVERY_SECONDS)
            try:
                await self.look()
            except Exception as error:
                # Whatever it was, all that was acknowledged is there; writers of fenced slots are told to come again.
                known = isinstance(error, ErgonautError)
                log.error("shard not split", error=str(error), exc_info=None if known else error)
                await self._clock.sleep(AGAIN_SECONDS)

    async def _split(self, record: Record, number: int, live: LiveShard) -> int:
        given = pending(live.given)
        if given is None:
            _, upper = record.ranges[number].halves
            # So that little is left to bring there once writers wait.
            await _saved(live, live.view.position)
            await live.write(Fence(upper, len(record.shards)))
            given = pending(live.given)
            assert given is not None, "its fence was applied"
        slots, shard = given.fence.slots, given.fence.taken_by
        if shard == len(record.shards):
            begin = await self._made(record, number, live, given)
            record = record.with_split(Split(number, slots), begin)
        await self._vectors.take_over(record)
        await live.write(Fence(slots, shard, is_last=True))
        log.info(
            "shard split", collection=str(record.key), shard=number, into=shard, slots=f"{slots.first}-{slots.after}"
        )
        return shard

    async def _made(self, record: Record, number: int, live: LiveShard, given: Given) -> Begin:
        """Bring the state of the new shard to the shelf and to its place; what an earlier try left there is overwritten."""
        shard = given.fence.taken_by
        await _saved(live, given.position)
        with self._shelved.place() as place:
            folder = place / "state"
            await self._threads.run(partial(self._saved.copy, record.store_of(number), folder))
            store = self._saved.open(folder)
            kept = await self._threads.run(store.load)
            if kept is None or kept.head.sequence < given.position:
                raise Broken(f"shard {number} of {record.key} has no saved state behind its fence at {given.position}")
            mine: Kept = await self._threads.run(partial(kept.only, given.fence.slots))
            await self._threads.run(partial(store.save, mine))
            told = await self._shelved.shard_of(shard, self._clock.now(), folder)
            state = Snapshot("", record.key, record.uid, record.schema, self._clock.now(), (told,))
            await self._shelved.keep(state, [folder])
            await self._threads.run(partial(self._saved.put, folder, record.store_of(shard)))
        return Begin(shard, mine.head.sequence, mine.head.digest.hex())


async def _saved(live: LiveShard, position: int) -> None:
    """Return when a state as of this position is saved. Raises why it cannot be."""
    await live.save_soon(position)
    if live.failure is not None:
        raise live.failure
