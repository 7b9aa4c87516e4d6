"""What is on the shelf: files, named by what is in them, and records that say which belong together. Fills `ports.Spares`.

- `files/<tenant>/<uid>/<digest>`: a file of a shard, kept once however many need it.
- `snapshots/<tenant>/<collection>/<id>`: a collection as somebody wanted it kept.
- `states/<tenant>/<uid>/<shard>/<position>`: a shard's state, from which its log may begin.
- `lent/<tenant>/<uid>/<uid of another>/<shard>/<position>`: the same of another collection that needs files of this one, as a
  copy of it does.

A record is written last, so what has one is whole; files that none needs are removed with the next record that is.
"""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from weakref import WeakValueDictionary

from ergonaut.errors import Broken, ErgonautError, NotFound
from ergonaut_common.observe import get_logger
from ergonaut_vectors.archive.files import digest_of_file, read_snapshot, write_snapshot
from ergonaut_vectors.archive.ports import Saved, Shelf
from ergonaut_vectors.domain.records import Key, Record, store_name
from ergonaut_vectors.domain.snapshots import KeptFile, KeptShard, Snapshot, kept_for, needed_by
from ergonaut_vectors.workers import Workers

SNAPSHOTS_MAX = 10_000
"""Of one collection; whoever makes one an hour has them for a year."""

LEFT_FOR = timedelta(days=1)
"""So long after its last sign of life a put is taken for dead; one that lives gives up or is done within minutes."""

DIGESTS_MAX = 4096
"""Files whose digests are remembered, so that those of a large shard are not read again for each state of it."""

log = get_logger(__name__)


class Shelved:
    """The shelf of all collections, and a place for files on their way to it and from it."""

    def __init__(self, shelf: Shelf, saved: Saved, threads: Workers, folder: Path) -> None:
        self._shelf = shelf
        self._saved = saved
        self._threads = threads
        self._folder = folder
        # Of those that somebody has or waits for; what nobody does is gone with its lock.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._digests: dict[tuple[int, int, int], str] = {}

    def start(self) -> None:
        """Remove what a process left behind that died; before anything else is asked."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextlib.contextmanager
    def place(self) -> Iterator[Path]:
        """A folder that is there while the block runs."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self._folder) as name:
            yield Path(name)

    async def keep(self, snapshot: Snapshot, folders: Sequence[Path]) -> None:
        """Keep what is in the folders, one for each shard, under the snapshot's name; a state where it has none."""
        await self._clear(snapshot.key.tenant, snapshot.made_at)
        async with self._alone(snapshot.uid, *snapshot.lenders):
            for shard, folder in zip(snapshot.shards, folders, strict=True):
                await self._put_missing(snapshot, shard, folder)
            with self.place() as place:
                source = place / "record"
                await self._threads.run(partial(write_snapshot, snapshot, source))
                for name in (*_lent_names(snapshot), _record_name(snapshot)):
                    await self._shelf.put(name, source)
            # Whoever dropped another record meanwhile, on another machine, may have removed what this one was to share with it.
            for shard, folder in zip(snapshot.shards, folders, strict=True):
                await self._put_missing(snapshot, shard, folder)

    async def shard_of(
        self, number: int, written_at: datetime | None, folder: Path, before: Iterable[Snapshot] = ()
    ) -> KeptShard:
        """What is kept of a shard whose state is in a folder, with the files that records have before. Raises Broken without."""
        there = kept_for(before)
        manifest = await self._threads.run(partial(self._saved.manifest, folder))
        if manifest is None:
            raise Broken(f"shard {number} has no state in {folder}, where one was put")
        files = []
        for path in await self._threads.run(partial(_paths, folder)):
            digest = await self._threads.run(partial(self._digest, path))
            files.append(KeptFile(path.name, digest, path.stat().st_size, there.get(digest, "")))
        return KeptShard(number, manifest.position, written_at, str(manifest.digest), manifest.count, tuple(files))

    async def snapshots(self, key: Key) -> list[Snapshot]:
        """Those of a collection and of those of its name before, newest first; what cannot be read is logged."""
        names = await self._shelf.names(f"snapshots/{key.tenant}/{key.name}/")
        found = await self._read(names[-SNAPSHOTS_MAX:])
        return sorted(found, key=lambda each: (each.made_at, each.id), reverse=True)

    async def states(self, record: Record, shard: int) -> list[Snapshot]:
        """The states of a shard, newest first; what cannot be read is logged."""
        names = await self._shelf.names(_states_name(record.key.tenant, record.uid, shard))
        return sorted(await self._read(names), key=lambda each: each.shards[0].position, reverse=True)

    async def fetch(self, snapshot: Snapshot, number: int, folder: Path) -> None:
        """Bring a shard's files into a new folder, and see that they are what was kept. Raises Broken.

        What the shard has here is not brought from far away.
        """
        await self._threads.run(partial(folder.mkdir, parents=True))
        shard = next(each for each in snapshot.shards if each.number == number)
        for file in shard.files:
            if not await self._threads.run(partial(self._linked, snapshot, number, file, folder / file.name)):
                await self._fetch(snapshot, file, folder / file.name)

    async def check(self, state: Snapshot) -> None:
        """See that all files of a state are there. Raises NotFound. What is in them was looked at when they were put there."""
        for uid, digests in state.files.items():
            missing = sorted(digests - await self._there(state.key.tenant, uid))
            if missing:
                told = f"{len(missing)} files of the state {_record_name(state)} are not on the shelf"
                raise NotFound(f"{told}: {missing[0]}")

    async def drop(self, gone: Sequence[Snapshot]) -> None:
        """Keep these records of one collection no longer, nor the files that no other needs."""
        if not gone:
            return
        key, uid = gone[0].key, gone[0].uid
        lenders = sorted({lender for each in gone for lender in each.lenders})
        async with self._alone(uid, *lenders):
            for each in gone:
                for name in (_record_name(each), *_lent_names(each)):
                    await self._shelf.drop(name)
            await self._sweep(key.tenant, uid, f"snapshots/{key.tenant}/{key.name}/")
            for lender in lenders:
                # What it is called, or was, is not known here.
                await self._sweep(key.tenant, lender, f"snapshots/{key.tenant}/")

    async def bring(self, record: Record, shard: int) -> bool:
        """Let the newest state that is whole be what the store of a shard comes back to."""
        for state in await self.states(record, shard):
            with self.place() as place:
                try:
                    await self.fetch(state, shard, place / "state")
                    await self._threads.run(partial(self._saved.put, place / "state", record.store_of(shard)))
                except (Broken, NotFound) as error:
                    log.error("state on the shelf is damaged", state=_record_name(state), error=str(error))
                    continue
            return True
        return False

    async def forget(self, record: Record) -> None:
        """Keep no state of a collection any more."""
        await self.drop(await self._read(await self._shelf.names(f"states/{record.key.tenant}/{record.uid}/")))

    async def _sweep(self, tenant: str, uid: str, snapshots: str) -> None:
        """Keep no file of a collection that no record needs; those of snapshots are below this name."""
        names: list[str] = []
        for prefix in (snapshots, f"states/{tenant}/{uid}/", f"lent/{tenant}/{uid}/"):
            names += await self._shelf.names(prefix)
        left = await self._read(names)
        if len(left) < len(names):
            # Whoever mends the record that cannot be read needs its files.
            log.error("files stay on the shelf", tenant=tenant, uid=uid)
            return
        for digest in sorted(await self._there(tenant, uid) - needed_by(left, uid)):
            await self._shelf.drop(_file_name(tenant, uid, digest))

    async def _clear(self, tenant: str, now: datetime) -> None:
        """Remove what processes left on the shelf that died while they put something there."""
        try:
            await self._shelf.clear(tenant, now - LEFT_FOR)
        except ErgonautError as error:
            # It costs room and no more; S3 may let us keep files and not look for uploads.
            log.warning("leftovers stay on the shelf", tenant=tenant, error=str(error))

    async def _put_missing(self, snapshot: Snapshot, shard: KeptShard, folder: Path) -> None:
        tenant = snapshot.key.tenant
        there = {uid: await self._there(tenant, uid) for uid in (snapshot.uid, *snapshot.lenders)}
        for file in shard.files:
            uid = file.uid or snapshot.uid
            if file.digest not in there[uid]:
                # What is damaged here must not pass for what is kept.
                await self._threads.run(partial(self._saved.verify, folder / file.name))
                await self._shelf.put(_file_name(tenant, uid, file.digest), folder / file.name)
                with self.place() as place:
                    # Once read back, for whoever trims a log by it has no other.
                    await self._fetch(snapshot, file, place / file.name)

    async def _fetch(self, snapshot: Snapshot, file: KeptFile, target: Path) -> None:
        await self._shelf.fetch(_file_name(snapshot.key.tenant, file.uid or snapshot.uid, file.digest), target)
        if await self._threads.run(partial(digest_of_file, target)) != file.digest:
            raise Broken(f"{file.name} in {_record_name(snapshot)} is not what was kept")

    async def _there(self, tenant: str, uid: str) -> set[str]:
        names = await self._shelf.names(_file_name(tenant, uid, ""))
        return {name.rpartition("/")[2] for name in names}

    async def _read(self, names: Sequence[str]) -> list[Snapshot]:
        found = []
        with self.place() as place:
            for name in names:
                target = place / "record"
                try:
                    await self._shelf.fetch(name, target)
                    found.append(await self._threads.run(partial(read_snapshot, target)))
                except (Broken, NotFound) as error:
                    log.error("record not known", name=name, error=str(error))
        return found

    def _linked(self, snapshot: Snapshot, number: int, file: KeptFile, target: Path) -> bool:
        """Whether the shard on this machine still has just this file, and has it there too now."""
        if not self._saved.link(store_name(snapshot.uid, number), file.name, target):
            return False
        if digest_of_file(target) == file.digest:
            return True
        target.unlink()
        return False

    def _digest(self, path: Path) -> str:
        """Of a file that never changes, as those of segments; known again where another folder has a link to it."""
        told = path.stat()
        key = (told.st_ino, told.st_mtime_ns, told.st_size)
        digest = self._digests.pop(key, None) or digest_of_file(path)
        self._digests[key] = digest
        if len(self._digests) > DIGESTS_MAX:
            self._digests.pop(next(iter(self._digests)), None)
        return digest

    @contextlib.asynccontextmanager
    async def _alone(self, *uids: str) -> AsyncIterator[None]:
        """With the files of these collections left alone by all others; in one order, so that nobody waits in a circle."""
        async with contextlib.AsyncExitStack() as stack:
            for uid in sorted(set(uids)):
                await stack.enter_async_context(self._locks.setdefault(uid, asyncio.Lock()))
            yield


def _paths(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def _record_name(snapshot: Snapshot) -> str:
    if snapshot.id:
        return f"snapshots/{snapshot.key.tenant}/{snapshot.key.name}/{snapshot.id}"
    [shard] = snapshot.shards
    return f"{_states_name(snapshot.key.tenant, snapshot.uid, shard.number)}{shard.position:020d}"


def _lent_names(snapshot: Snapshot) -> list[str]:
    """Where those whose files it needs are told of it."""
    place = _record_name(snapshot).partition("/")[2].partition("/")[2]
    return [f"lent/{snapshot.key.tenant}/{lender}/{place}" for lender in snapshot.lenders]


def _states_name(tenant: str, uid: str, shard: int) -> str:
    return f"states/{tenant}/{uid}/{shard}/"


def _file_name(tenant: str, uid: str, digest: str) -> str:
    return f"files/{tenant}/{uid}/{digest}"
