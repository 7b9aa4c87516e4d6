"""Keeps collections as they are and brings them back as they were. Fills `catalogue.Snapshots`; the doors call.

On the shelf: `files/<tenant>/<uid>/<digest>` the files, and `snapshots/<tenant>/<collection>/<id>` what belongs together,
written last. So a snapshot that is there is whole; files of one that was not finished are removed with the next that is dropped.
"""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from ergonaut.errors import Broken, Conflict, NotFound
from ergonaut.ids import is_name, new_id
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_vectors.archive.catching_up import Caught, caught_up
from ergonaut_vectors.archive.files import digest_of_file, read_snapshot, write_snapshot
from ergonaut_vectors.archive.ports import Past, Saved, Shelf, Until
from ergonaut_vectors.catalogue import Catalogue, Kept, Opened
from ergonaut_vectors.domain.contents import contents
from ergonaut_vectors.domain.records import Key, Record, Stage
from ergonaut_vectors.domain.segments.view import View
from ergonaut_vectors.domain.segments.writes import Upserts
from ergonaut_vectors.domain.snapshots import KeptFile, KeptShard, Snapshot, newest_by, unneeded
from ergonaut_vectors.ports import CollectionBook
from ergonaut_vectors.workers import Workers

SNAPSHOTS_MAX = 10_000
"""Of one collection; whoever makes one an hour has them for a year."""

ROWS_AT_ONCE = 512
"""Vectors of one write of a copy."""

WRITES_AT_ONCE = 8
"""Writes of a copy under way at once: the log takes them one behind the other, and each waits for the disk."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a collection is found: its record, its log, and what was saved of it."""

    book: CollectionBook
    past: Past
    saved: Saved


class Archive:
    """The snapshots of all collections. One of a collection is made, dropped or restored at a time."""

    def __init__(
        self, shelf: Shelf, sources: Sources, catalogue: Catalogue, *, threads: Workers, folder: Path, clock: Clock
    ) -> None:
        self._shelf = shelf
        self._sources = sources
        self._catalogue = catalogue
        self._threads = threads
        self._folder = folder
        self._clock = clock
        self._locks: dict[Key, asyncio.Lock] = {}

    def start(self) -> None:
        """Remove what a process left behind that died; before anything else is asked."""
        shutil.rmtree(self._folder, ignore_errors=True)

    async def make(self, tenant: str, name: str) -> Kept:
        """Keep a collection as it is now."""
        record = await self._record(tenant, name)
        async with self._alone(record.key):
            snapshot = await self._made(record)
        log.info("snapshot made", collection=str(record.key), snapshot=snapshot.id, points=snapshot.count)
        return _told(snapshot)

    async def all(self, tenant: str, name: str) -> Sequence[Kept]:
        """What is kept of a collection, newest first."""
        return [_told(each) for each in await self._snapshots(_key(tenant, name))]

    async def drop(self, tenant: str, name: str, snapshot_id: str) -> None:
        """Keep a snapshot no longer, nor the files that no other needs."""
        key = _key(tenant, name)
        async with self._alone(key):
            snapshots = await self._snapshots(key)
            dropped = _found(snapshots, key, snapshot_id)
            await self._shelf.drop(_snapshot_name(key, dropped.id))
            mine = [each for each in snapshots if each.uid == dropped.uid]
            needed = {digest for each in mine if each.id != dropped.id for digest in each.digests}
            left_behind = {each.rpartition("/")[2] for each in await self._shelf.names(_file_name(dropped, ""))}
            for digest in (unneeded(dropped, mine) | left_behind) - needed:
                await self._shelf.drop(_file_name(dropped, digest))

    async def restore(self, tenant: str, name: str, new_name: str, moment: "str | datetime | None") -> Opened:
        """A new collection of a snapshot by its id, of a moment, or, for None, of what there is now. Raises Conflict."""
        key = _key(tenant, name)
        await self._check_new(tenant, new_name)
        async with self._alone(key), self.as_of(key, moment) as (record, states):
            opened = await self._catalogue.create(tenant, replace(record.schema, name=new_name))
            try:
                for caught in states:
                    await self._copy(caught.kept.checkpoint.view, opened)
            except BaseException:
                # Half a copy under the name would be taken for the whole.
                with contextlib.suppress(Exception):
                    await self._catalogue.drop(tenant, new_name)
                raise
        log.info("collection restored", collection=f"{tenant}.{new_name}", source=str(key), points=opened.count)
        return opened

    async def check(self, tenant: str, name: str, snapshot_id: str) -> int:
        """Fetch a snapshot and read every block of it, as a restore does; gives its vectors. Raises Broken."""
        key = _key(tenant, name)
        async with self._alone(key), self.as_of(key, snapshot_id) as (_, states):
            return sum(caught.kept.checkpoint.view.count for caught in states)

    @contextlib.asynccontextmanager
    async def as_of(self, key: Key, moment: "str | datetime | None") -> AsyncIterator[tuple[Record, Sequence[Caught]]]:
        """A collection as it was, in folders that are there while the block runs."""
        snapshot: Snapshot | None
        with self._place() as folder:
            if isinstance(moment, str):
                snapshot = _found(await self._snapshots(key), key, moment)
                record = Record(snapshot.key, snapshot.schema, snapshot.uid, Stage.READY)
                untils = {shard.number: Until(position=shard.position) for shard in snapshot.shards}
            else:
                record = await self._record(key.tenant, key.name)
                mine = [each for each in await self._snapshots(key) if each.uid == record.uid]
                snapshot = newest_by(mine, moment) if moment is not None else None
                untils = {number: Until(moment=moment) for number in range(len(record.shards))}
            states = []
            for number, until in untils.items():
                target = folder / str(number)
                if snapshot is not None:
                    await self._fetch(snapshot, number, target)
                elif moment is None:
                    await self._threads.run(partial(self._sources.saved.copy, record.store_of(number), target))
                states.append(await self._caught(record, number, target, until, of_snapshot=isinstance(moment, str)))
            yield record, states

    async def _made(self, record: Record) -> Snapshot:
        made_at = self._clock.now()
        # All ends first: what is written from now on is in no shard's part.
        ends = [await self._sources.past.end(key) for key in record.shards]
        with self._place() as folder:
            shards = []
            for number, end in enumerate(ends):
                target = folder / str(number)
                await self._threads.run(partial(self._sources.saved.copy, record.store_of(number), target))
                caught = await self._caught(record, number, target, Until(position=end))
                shards.append(await self._put(record, number, caught, target))
            snapshot = Snapshot(new_id("snapshot"), record.key, record.uid, record.schema, made_at, tuple(shards))
            source = folder / "snapshot"
            await self._threads.run(partial(write_snapshot, snapshot, source))
            await self._shelf.put(_snapshot_name(record.key, snapshot.id), source)
            # Whoever dropped another snapshot meanwhile, on another machine, may have removed what this one was to share with it.
            there = set(await self._shelf.names(_file_name(snapshot, "")))
            for shard in snapshot.shards:
                for file in shard.files:
                    if _file_name(snapshot, file.digest) not in there:
                        await self._shelf.put(_file_name(snapshot, file.digest), folder / str(shard.number) / file.name)
        return snapshot

    async def _caught(
        self, record: Record, number: int, folder: Path, until: Until, *, of_snapshot: bool = False
    ) -> Caught:
        store = self._sources.saved.open(folder)
        if of_snapshot:
            # It is as it was kept; its log may be gone.
            kept = await self._threads.run(store.load)
            if kept is None:
                raise Broken(f"the snapshot of shard {number} of {record.key} has no state")
            return Caught(kept, None)
        key = record.key.of_shard(number)
        return await caught_up(key, record.schema, store, until, (self._sources.past, self._threads))

    async def _put(self, record: Record, number: int, caught: Caught, folder: Path) -> KeptShard:
        """Bring a shard's files to the shelf, those that are not there yet."""
        prefix = f"files/{record.key.tenant}/{record.uid}/"
        there = set(await self._shelf.names(prefix))
        files = []
        for path in await self._threads.run(partial(_paths, folder)):
            digest = await self._threads.run(partial(digest_of_file, path))
            files.append(KeptFile(path.name, digest, path.stat().st_size))
            if prefix + digest not in there:
                await self._shelf.put(prefix + digest, path)
        view = caught.kept.checkpoint.view
        return KeptShard(number, view.position, caught.written_at, str(view.digest), view.count, tuple(files))

    async def _fetch(self, snapshot: Snapshot, number: int, folder: Path) -> None:
        """Bring a shard's files from the shelf, and see that they are what was kept. Raises Broken."""
        await self._threads.run(partial(folder.mkdir, parents=True))
        shard = next(each for each in snapshot.shards if each.number == number)
        for file in shard.files:
            target = folder / file.name
            await self._shelf.fetch(_file_name(snapshot, file.digest), target)
            if await self._threads.run(partial(digest_of_file, target)) != file.digest:
                raise Broken(f"{file.name} of shard {number} in snapshot {snapshot.id} is not what was kept")

    async def _copy(self, view: View, opened: Opened) -> None:
        """Write all that a view holds into a collection."""
        writes: set[asyncio.Task[object]] = set()
        pieces = contents(view, ROWS_AT_ONCE)
        try:
            while (piece := await self._threads.run(partial(_next, pieces))) is not None:
                writes.add(asyncio.create_task(_written(opened, piece)))
                if len(writes) >= WRITES_AT_ONCE:
                    done, writes = await asyncio.wait(writes, return_when=asyncio.FIRST_COMPLETED)
                    for each in done:
                        each.result()
            await asyncio.gather(*writes)
        finally:
            for each in writes:
                each.cancel()

    async def _snapshots(self, key: Key) -> list[Snapshot]:
        """Those of a collection and of those of its name before, newest first; what cannot be read is logged."""
        found = []
        names = await self._shelf.names(_snapshot_name(key, ""))
        with self._place() as folder:
            for name in names[-SNAPSHOTS_MAX:]:
                target = folder / "snapshot"
                try:
                    await self._shelf.fetch(name, target)
                    found.append(await self._threads.run(partial(read_snapshot, target)))
                except (Broken, NotFound) as error:
                    log.error("snapshot not known", name=name, error=str(error))
        return sorted(found, key=lambda each: (each.made_at, each.id), reverse=True)

    async def _record(self, tenant: str, name: str) -> Record:
        record = await self._sources.book.find(_key(tenant, name))
        if record is None:
            raise NotFound(f"collection: there is no collection {name!r}")
        return record

    async def _check_new(self, tenant: str, name: str) -> None:
        try:
            await self._catalogue.open(tenant, name)
        except NotFound:
            return
        raise Conflict(f"collection {name} exists; restore under another name, or drop it first")

    @contextlib.asynccontextmanager
    async def _alone(self, key: Key) -> AsyncIterator[None]:
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            yield

    @contextlib.contextmanager
    def _place(self) -> Iterator[Path]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self._folder) as name:
            yield Path(name)


async def _written(opened: Opened, piece: Upserts) -> None:
    await opened.write(piece)


def _paths(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def _next(pieces: Iterator[Upserts]) -> Upserts | None:
    return next(pieces, None)


def _key(tenant: str, name: str) -> Key:
    if not is_name(name):
        raise NotFound(f"collection: there is no collection {name!r}")
    return Key(tenant, name)


def _found(snapshots: Sequence[Snapshot], key: Key, snapshot_id: str) -> Snapshot:
    for each in snapshots:
        if each.id == snapshot_id:
            return each
    raise NotFound(f"snapshot: nothing is kept of {key} under {snapshot_id!r}")


def _snapshot_name(key: Key, snapshot_id: str) -> str:
    return f"snapshots/{key.tenant}/{key.name}/{snapshot_id}"


def _file_name(snapshot: Snapshot, digest: str) -> str:
    return f"files/{snapshot.key.tenant}/{snapshot.uid}/{digest}"


def _told(snapshot: Snapshot) -> Kept:
    positions = {shard.number: shard.position for shard in snapshot.shards}
    return Kept(snapshot.id, snapshot.key.name, snapshot.made_at, positions, snapshot.count, snapshot.size_bytes)
