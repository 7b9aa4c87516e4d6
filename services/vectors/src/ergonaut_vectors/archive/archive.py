"""Keeps collections as they are and brings them back as they were. Fills `catalogue.Snapshots`; the doors call.

What is on the shelf is `shelved.py`'s. A restore writes nothing anew: its shards begin with the files of a state, and their logs
behind that state's position.
"""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from ergonaut.errors import Broken, Conflict, NotFound, Refused
from ergonaut.ids import is_name, new_id, time_of
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_vectors.archive.catching_up import Caught, caught_up
from ergonaut_vectors.archive.ports import Past, Reviving, Saved, Until
from ergonaut_vectors.archive.shelved import Shelved
from ergonaut_vectors.catalogue import Kept, Opened
from ergonaut_vectors.domain.fences import Fence
from ergonaut_vectors.domain.records import Begin, Key, Record, Stage
from ergonaut_vectors.domain.snapshots import Snapshot, states_of
from ergonaut_vectors.ports import CollectionBook
from ergonaut_vectors.workers import Workers

CLOCKS_APART = timedelta(seconds=5)
"""By so much the clocks of those who ask, of NATS, which tells when a message was written, and of this machine may differ."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a collection is found: its record, its log, and what was saved of it."""

    book: CollectionBook
    past: Past
    saved: Saved


@dataclass(frozen=True, slots=True)
class Former:
    """A shard as it was, in a folder."""

    number: int
    folder: Path
    caught: Caught


class Archive:
    """The snapshots of all collections. One of a collection is made, dropped or restored at a time."""

    def __init__(
        self, shelved: Shelved, sources: Sources, collections: Reviving, *, threads: Workers, clock: Clock
    ) -> None:
        self._shelved = shelved
        self._sources = sources
        self._collections = collections
        self._threads = threads
        self._clock = clock
        self._locks: dict[Key, asyncio.Lock] = {}

    async def make(self, tenant: str, name: str) -> Kept:
        """Keep a collection as it is now."""
        record = await self._record(tenant, name)
        async with self._alone(record.key):
            snapshot = await self._made(record)
        log.info("snapshot made", collection=str(record.key), snapshot=snapshot.id, points=snapshot.count)
        return _told(snapshot)

    async def all(self, tenant: str, name: str) -> Sequence[Kept]:
        """What is kept of a collection, newest first."""
        return [_told(each) for each in await self._shelved.snapshots(_key(tenant, name))]

    async def drop(self, tenant: str, name: str, snapshot_id: str) -> None:
        """Keep a snapshot no longer, nor the files that no other needs."""
        key = _key(tenant, name)
        async with self._alone(key):
            await self._shelved.drop([_found(await self._shelved.snapshots(key), key, snapshot_id)])

    async def restore(self, tenant: str, name: str, new_name: str, moment: "str | datetime | None") -> Opened:
        """A new collection of a snapshot by its id, of a moment, or, for None, of what there is now. Raises Conflict."""
        key = _key(tenant, name)
        await self._check_new(tenant, new_name)
        async with self._alone(key), self.as_of(key, moment) as (record, formers):
            opened = await self._revived(Key(tenant, new_name), record, formers)
            # Whoever is told of it finds all of it, and counts it.
            await opened.seen({})
        points = sum(former.caught.kept.checkpoint.view.count for former in formers)
        log.info("collection restored", collection=f"{tenant}.{new_name}", source=str(key), points=points)
        return opened

    @contextlib.asynccontextmanager
    async def as_of(self, key: Key, moment: "str | datetime | None") -> AsyncIterator[tuple[Record, Sequence[Former]]]:
        """A collection as it was, in folders that are there while the block runs."""
        with self._shelved.place() as place:
            if isinstance(moment, str):
                snapshot = _found(await self._shelved.snapshots(key), key, moment)
                record = Record(snapshot.key, snapshot.schema, snapshot.uid, Stage.READY, splits=snapshot.splits)
                numbers = [shard.number for shard in snapshot.shards]
                formers = [await self._as_kept(snapshot, number, place / str(number)) for number in numbers]
            else:
                record = await self._record(key.tenant, key.name)
                _check_was_there(record, moment, self._clock.now())
                until = Until(moment=moment)
                formers = await self._all_brought_up(record, place, until)
            yield record, formers

    async def _all_brought_up(self, record: Record, place: Path, until: Until) -> list[Former]:
        """All shards that there were: of those that were split off others, as many as the logs of these say."""
        formers: list[Former] = []
        for number in range(len(record.shards)):
            split = record.split_of(number)
            given = formers[split.source].caught.kept.given if split else ()
            if split is not None and not any(each.fence == Fence(split.slots, number, is_last=True) for each in given):
                break
            formers.append(await self._brought_up(record, number, place / str(number), until))
        return formers

    async def _made(self, record: Record) -> Snapshot:
        made_at = self._clock.now()
        # All ends first: what is written from now on is in no shard's part.
        ends = [await self._sources.past.end(key) for key in record.shards]
        with self._shelved.place() as place:
            shards, folders = [], [place / str(number) for number in range(len(ends))]
            for number, (end, folder) in enumerate(zip(ends, folders, strict=True)):
                caught = (await self._brought_up(record, number, folder, Until(position=end))).caught
                before = await self._shelved.states(record, number)
                shards.append(await self._shelved.shard_of(number, caught.written_at, folder, before))
            snapshot = Snapshot(
                new_id("snapshot"), record.key, record.uid, record.schema, made_at, tuple(shards), splits=record.splits
            )
            await self._shelved.keep(snapshot, folders)
        return snapshot

    async def _as_kept(self, snapshot: Snapshot, number: int, folder: Path) -> Former:
        """As it was kept; its log may be gone."""
        await self._shelved.fetch(snapshot, number, folder)
        kept = await self._threads.run(self._sources.saved.open(folder).load)
        if kept is None:
            raise Broken(f"snapshot {snapshot.id} of {snapshot.key} has no state of shard {number}")
        return Former(number, folder, Caught(kept, None))

    async def _brought_up(self, record: Record, number: int, folder: Path, until: Until) -> Former:
        """By its log, from the newest state before: what this machine has saved, or what is on the shelf."""
        await self._begun(record, number, folder, until)
        store = self._sources.saved.open(folder)
        key = record.key.of_shard(number)
        caught = await caught_up(key, record.schema, store, until, (self._sources.past, self._threads))
        return Former(number, folder, caught)

    async def _begun(self, record: Record, number: int, folder: Path, until: Until) -> None:
        """Put the state into a folder that has the least to replay; none where the log begins with its first message."""
        first = await self._sources.past.begin(record.key.of_shard(number))
        if until.moment is None:
            await self._threads.run(partial(self._sources.saved.copy, record.store_of(number), folder))
            manifest = await self._threads.run(partial(self._sources.saved.manifest, folder))
            if first <= (manifest.position if manifest else 0) + 1:
                return
        snapshots = [each for each in await self._shelved.snapshots(record.key) if each.uid == record.uid]
        if first > 1:
            snapshots += await self._shelved.states(record, number)
        states = states_of(snapshots, number, until.moment)
        if states:
            with contextlib.suppress(FileNotFoundError):
                await asyncio.to_thread(shutil.rmtree, folder)
            await self._shelved.fetch(states[0], number, folder)

    async def _revived(self, key: Key, source: Record, formers: Sequence[Former]) -> Opened:
        """A new collection of these states: brought to the shelf first, since its logs will not hold what is in them."""
        schema = replace(source.schema, name=key.name)
        schema.check()
        begins = tuple(_begin(former) for former in formers if former.caught.kept.head.sequence)
        splits = source.splits[: len(formers) - schema.shards]
        record = Record(key, schema, new_id("collection"), Stage.MAKING, begins, splits)
        try:
            for former in formers:
                if former.caught.kept.head.sequence:
                    await self._handed_over(record, former, source)
            return await self._collections.revive(record)
        except BaseException:
            with contextlib.suppress(Exception):
                if await self._sources.book.find(key) is None:
                    await self._shelved.forget(record)
                    for former in formers:
                        await self._threads.run(partial(self._sources.saved.remove, record.store_of(former.number)))
            raise

    async def _handed_over(self, record: Record, former: Former, source: Record) -> None:
        """Bring a state to the shelf as the first one of another collection, and to where its shard will look for it."""
        begun = former.caught.kept.without_names
        await self._threads.run(partial(self._sources.saved.open(former.folder).save, begun))
        # The new collection was not there before: no earlier moment of it can be come back to.
        before = [each for each in await self._shelved.snapshots(source.key) if each.uid == source.uid]
        before += await self._shelved.states(source, former.number)
        shard = await self._shelved.shard_of(former.number, self._clock.now(), former.folder, before)
        state = Snapshot("", record.key, record.uid, record.schema, self._clock.now(), (shard,))
        await self._shelved.keep(state, [former.folder])
        await self._threads.run(partial(self._sources.saved.put, former.folder, record.store_of(former.number)))

    async def _record(self, tenant: str, name: str) -> Record:
        record = await self._sources.book.find(_key(tenant, name))
        if record is None:
            raise NotFound(f"collection: there is no collection {name!r}")
        return record

    async def _check_new(self, tenant: str, name: str) -> None:
        try:
            await self._collections.open(tenant, name)
        except NotFound:
            return
        raise Conflict(f"collection {name} exists; restore under another name, or drop it first")

    @contextlib.asynccontextmanager
    async def _alone(self, key: Key) -> AsyncIterator[None]:
        async with self._locks.setdefault(key, asyncio.Lock()):
            yield


def _check_was_there(record: Record, moment: datetime | None, now: datetime) -> None:
    """Raise Refused for a moment that is yet to come, NotFound for one before the collection was made."""
    if moment is None:
        return
    if moment > now + CLOCKS_APART:
        raise Refused(
            f"is {moment.isoformat()}, and now it is {now.isoformat()}; nobody knows what will be", field="at"
        )
    began_at = time_of(record.uid)
    if moment < began_at - CLOCKS_APART:
        told = f"the collection {record.key.name} of today was made at {began_at.isoformat()}"
        raise NotFound(f"collection: {told}, after {moment.isoformat()}; of one before it there are but snapshots")


def _begin(former: Former) -> Begin:
    head = former.caught.kept.head
    return Begin(former.number, head.sequence, head.digest.hex())


def _key(tenant: str, name: str) -> Key:
    if not is_name(name):
        raise NotFound(f"collection: there is no collection {name!r}")
    return Key(tenant, name)


def _found(snapshots: Sequence[Snapshot], key: Key, snapshot_id: str) -> Snapshot:
    for each in snapshots:
        if each.id == snapshot_id:
            return each
    raise NotFound(f"snapshot: there is no snapshot {snapshot_id!r} of {key.name}; list those that there are")


def _told(snapshot: Snapshot) -> Kept:
    positions = {shard.number: shard.position for shard in snapshot.shards}
    return Kept(snapshot.id, snapshot.key.name, snapshot.made_at, positions, snapshot.count, snapshot.size_bytes)
