"""A machine, its shelf and its NATS, on which processes run and die, for tests of what outlasts them."""

import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np

from ergonaut.errors import Unavailable
from ergonaut.ids import new_id
from ergonaut_common.bus import Bus
from ergonaut_common.clock import SystemClock
from ergonaut_vectors.adapters.log import JetStreamLog
from ergonaut_vectors.adapters.past_log import JetStreamPast
from ergonaut_vectors.adapters.saved_shards import SavedShards
from ergonaut_vectors.adapters.shard_folders import ShardFolders
from ergonaut_vectors.adapters.shelves import FolderShelf
from ergonaut_vectors.archive.archive import Archive, Sources
from ergonaut_vectors.archive.scrubbing import Scrubbing
from ergonaut_vectors.archive.shelved import Shelved
from ergonaut_vectors.archive.trimming import Around, Trimming
from ergonaut_vectors.domain.records import Key
from ergonaut_vectors.domain.schema import Schema
from ergonaut_vectors.domain.segments.view import Cursor
from ergonaut_vectors.domain.segments.work import Policy
from ergonaut_vectors.domain.segments.writes import Deletes, Upserts, Write
from ergonaut_vectors.fakes import FakeAnnouncer, FakeCollectionBook
from ergonaut_vectors.live import Limits, LiveShard, Threads
from ergonaut_vectors.opened import Collection
from ergonaut_vectors.service import Vectors, open_vectors
from ergonaut_vectors.splitting import Splitting
from ergonaut_vectors.workers import Workers

LOG_BYTES_MAX = 100_000
SCHEMA = Schema("digits", 32)
VECTORS_MAX = 500
"""Of a shard, before it is split."""

LIMITS = Limits(10, 64, 8.0, policy=Policy(head_rows_max=64, merged_together=2), log_bytes_max=LOG_BYTES_MAX)


class Life:
    """How many more steps a process takes before it dies."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def spend(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise Unavailable("the process has died")


class Mortal:
    """A port whose calls each are a step, before they do anything, and another one after it was done."""

    def __init__(self, inner: Any, life: Life, *names: str) -> None:
        self._inner, self._life, self._names = inner, life, names

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name not in self._names:
            return method

        async def step(*given: Any, **named: Any) -> Any:
            self._life.spend()
            answer = await method(*given, **named)
            self._life.spend()
            return answer

        return step


class Site:
    """A machine and a shelf beside it; both outlast processes, unless they are lost."""

    def __init__(self, bus: Bus, folder: Path, log_bytes_max: int = LOG_BYTES_MAX) -> None:
        self.bus, self.folder, self.log_bytes_max = bus, folder, log_bytes_max
        self.limits = LIMITS
        self.book, self.tenant = FakeCollectionBook(), new_id("tenant")
        self.key = Key(self.tenant, "digits")
        self.truth: dict[str, float] = {}

    @contextlib.asynccontextmanager
    async def running(self, life: Life | None = None) -> AsyncIterator["Process"]:
        life = life or Life(1_000_000)
        logs = Mortal(JetStreamLog(self.bus.jetstream, self.log_bytes_max), life, "trim", "make")
        book = Mortal(self.book, life, "change")
        shelf = Mortal(FolderShelf(self.folder / "shelf"), life, "put", "fetch", "names", "drop")
        saved, past, clock = SavedShards(self.folder / "shards"), JetStreamPast(self.bus.jetstream), SystemClock()
        async with (
            Workers("searches", threads=2, waiting_max=64) as searching,
            Workers("logs", threads=1, waiting_max=64) as applying,
            Workers("segments", threads=2, waiting_max=64) as building,
        ):
            shelved = Shelved(shelf, saved, building, self.folder / "archive")
            shelved.start()
            stores = ShardFolders(self.folder / "shards")
            vectors = Vectors(book, logs, stores, FakeAnnouncer(), self.limits)
            async with open_vectors(vectors, Threads(searching, applying, building), shelved):
                archive = Archive(shelved, Sources(book, past, saved), vectors, threads=building, clock=clock)
                around = Around(logs, past, saved, shelved, building, clock)
                trimming = Trimming(vectors.opening.kept, around, self.log_bytes_max)
                collection = await vectors.create(self.tenant, SCHEMA)
                splitting = Splitting(vectors, (shelved, saved, building, clock), VECTORS_MAX)
                scrubbing = Scrubbing(vectors.opening, shelved, (saved, building), clock)
                yield Process(self, collection, vectors, archive, trimming, splitting, scrubbing)

    def lose_disk(self) -> None:
        shutil.rmtree(self.folder / "shards", ignore_errors=True)

    async def first(self) -> int:
        return (await JetStreamLog(self.bus.jetstream, self.log_bytes_max).extent(self.key)).first


class Process:
    """A service that runs, and the truth of what it has acknowledged."""

    def __init__(self, site: Site, collection: Collection, vectors: Vectors, *parts: Any) -> None:
        self.site, self.collection, self.vectors = site, collection, vectors
        self.archive: Archive
        self.trimming: Trimming
        self.splitting: Splitting
        self.scrubbing: Scrubbing
        self.archive, self.trimming, self.splitting, self.scrubbing = parts

    @property
    def live(self) -> LiveShard:
        found = self.vectors.opening.found(self.site.key)
        assert found is not None
        return found

    async def write(self, at: int) -> None:
        """Thirty vectors, of which some take the places of others; now and then some go."""
        gone = [f"{at - 3}-{i}" for i in range(5)] if at % 3 == 0 else []
        names = [f"{at}-{i}" for i in range(25)] + [f"again-{i}" for i in range(5)]
        await self._written(Upserts(names, np.full((30, 32), at, np.float32)))
        self.site.truth |= dict.fromkeys(names, float(at))
        if gone:
            await self._written(Deletes(gone))
            for name in gone:
                self.site.truth.pop(name, None)

    async def trim(self) -> None:
        await self.trimming.trim(self.collection.record, 0, self.live)

    async def content(self, collection: Collection | None = None) -> dict[str, float]:
        found = {}
        for view in (await (collection or self.collection).seen({})).views:
            for stored in view.scroll(Cursor(), 10_000):
                found[stored.id] = float(view.vectors([stored.place])[0, 0])
        return found

    async def _written(self, write: Write) -> None:
        await self.collection.write(write)
