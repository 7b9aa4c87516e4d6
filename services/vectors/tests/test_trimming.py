"""Logs that are trimmed as they grow: nothing acknowledged is lost, wherever the process dies, whatever it loses with it."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergonaut.errors import Broken, NotFound, Unavailable
from ergonaut.ids import new_id
from ergonaut_common.bus import Bus
from ergonaut_common.clock import SystemClock
from ergonaut_vectors.adapters.log import JetStreamLog
from ergonaut_vectors.adapters.past_log import JetStreamPast
from ergonaut_vectors.adapters.saved_shards import SavedShards
from ergonaut_vectors.adapters.shard_folders import ShardFolders
from ergonaut_vectors.adapters.shelves import FolderShelf
from ergonaut_vectors.archive.archive import Archive, Sources
from ergonaut_vectors.archive.shelved import Shelved
from ergonaut_vectors.archive.trimming import Around, Trimming
from ergonaut_vectors.domain.records import Key
from ergonaut_vectors.domain.schema import Schema
from ergonaut_vectors.domain.segments.view import Cursor
from ergonaut_vectors.domain.segments.work import Policy
from ergonaut_vectors.domain.segments.writes import Deletes, Upserts, Write
from ergonaut_vectors.domain.trimming import Keep, Standing, Trim, next_step
from ergonaut_vectors.fakes import FakeAnnouncer, FakeCollectionBook
from ergonaut_vectors.live import Limits, LiveShard, Threads
from ergonaut_vectors.opened import Collection
from ergonaut_vectors.service import Vectors, open_vectors
from ergonaut_vectors.workers import Workers

LOG_BYTES_MAX = 100_000
SCHEMA = Schema("digits", 32)
LIMITS = Limits(10, 64, 8.0, policy=Policy(head_rows_max=64, merged_together=2), log_bytes_max=LOG_BYTES_MAX)
ROUNDS = 40
"""Writes of a test, 4 kB each: more than the log takes in all."""


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

        async def step(*given: Any) -> Any:
            self._life.spend()
            answer = await method(*given)
            self._life.spend()
            return answer

        return step


class Site:
    """A machine and a shelf beside it; both outlast processes, unless they are lost."""

    def __init__(self, bus: Bus, folder: Path) -> None:
        self.bus, self.folder = bus, folder
        self.book, self.tenant = FakeCollectionBook(), new_id("tenant")
        self.key = Key(self.tenant, "digits")
        self.truth: dict[str, float] = {}

    @contextlib.asynccontextmanager
    async def running(self, life: Life | None = None) -> AsyncIterator["Process"]:
        life = life or Life(1_000_000)
        logs = Mortal(JetStreamLog(self.bus.jetstream, LOG_BYTES_MAX), life, "trim")
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
            vectors = Vectors(self.book, logs, stores, FakeAnnouncer(), LIMITS)
            async with open_vectors(vectors, Threads(searching, applying, building), shelved):
                archive = Archive(shelved, Sources(self.book, past, saved), vectors, threads=building, clock=clock)
                around = Around(logs, past, saved, shelved, building, clock)
                trimming = Trimming(vectors.opening.kept, around, LOG_BYTES_MAX)
                collection = await vectors.create(self.tenant, SCHEMA)
                yield Process(self, collection, vectors, archive, trimming)

    def lose_disk(self) -> None:
        shutil.rmtree(self.folder / "shards", ignore_errors=True)

    async def first(self) -> int:
        return (await JetStreamLog(self.bus.jetstream, LOG_BYTES_MAX).extent(self.key)).first


class Process:
    """A service that runs, and the truth of what it has acknowledged."""

    def __init__(
        self, site: Site, collection: Collection, vectors: Vectors, archive: Archive, trimming: Trimming
    ) -> None:
        self.site, self.collection, self.vectors = site, collection, vectors
        self.archive, self.trimming = archive, trimming

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


@pytest.fixture
def site(bus: Bus, tmp_path: Path) -> Site:
    return Site(bus, tmp_path)


async def test_a_collection_takes_more_than_its_log_and_comes_back_without_its_disk(site: Site) -> None:
    async with site.running() as process, process.trimming.running():
        for at in range(3 * ROUNDS):
            await process.write(at)
        assert await process.content() == site.truth
        assert await site.first() > 1
    async with site.running() as process:
        assert await process.content() == site.truth
    site.lose_disk()
    async with site.running() as process:
        assert await process.content() == site.truth
        await process.write(1000)
        assert await process.content() == site.truth


@pytest.mark.parametrize("lost", [False, True])
async def test_wherever_a_process_dies_while_it_trims_nothing_is_lost(bus: Bus, tmp_path: Path, lost: bool) -> None:
    for steps in range(1, 200, 5):
        site, life = Site(bus, tmp_path / str(steps)), Life(1_000_000)
        async with site.running(life) as process:
            for at in range(ROUNDS // 4):
                await process.write(at)
            await process.trim()
            for at in range(ROUNDS // 4, ROUNDS // 2):
                await process.write(at)
            life.steps = steps
            with contextlib.suppress(Unavailable):
                await process.trim()
            done = life.steps >= 0
        if lost:
            site.lose_disk()
        async with site.running() as process:
            assert await process.content() == site.truth
            await process.trim()
            await process.write(1000)
            assert await process.content() == site.truth
        if done:
            return
    raise AssertionError("it never came to an end")


async def test_what_neither_log_nor_shelf_nor_disk_has_is_told(site: Site) -> None:
    async with site.running() as process:
        for at in range(ROUNDS):
            await process.write(at)
            await process.trim()
    site.lose_disk()
    shutil.rmtree(site.folder / "shelf")
    async with site.running() as process:
        with pytest.raises(Broken, match="bring back the shelf"):
            await process.content()
        with pytest.raises(Broken, match="bring back the shelf"):
            await process.write(0)


async def test_a_state_that_is_damaged_on_the_shelf_is_passed_over_and_the_one_before_serves(site: Site) -> None:
    async with site.running() as process:
        for at in range(ROUNDS):
            await process.write(at)
            await process.trim()
    site.lose_disk()
    states = sorted((site.folder / "shelf" / "states").rglob("000*"))
    assert len(states) > 1
    states[-1].write_bytes(b"00000000\n{}")
    async with site.running() as process:
        assert await process.content() == site.truth


async def test_a_moment_comes_back_as_far_as_the_states_on_the_shelf_reach(site: Site) -> None:
    moments = []
    async with site.running() as process:
        for at in range(ROUNDS):
            await process.write(at)
            moments.append((datetime.now(UTC), dict(site.truth)))
            await process.trim()
        with pytest.raises(NotFound, match="begins at message"):
            await process.archive.restore(site.tenant, "digits", "early", moments[0][0])
        for at, (moment, truth) in enumerate(moments[-6:]):
            opened = await process.archive.restore(site.tenant, "digits", f"again-{at}", moment)
            assert isinstance(opened, Collection)
            assert await process.content(opened) == truth
        await opened.write(Deletes(["again-0"]))
    site.lose_disk()
    async with site.running() as process:
        again = await process.vectors.open(site.tenant, "again-5")
        assert await process.content(again) == {name: at for name, at in truth.items() if name != "again-0"}


async def test_a_dropped_collection_leaves_nothing_on_the_shelf(site: Site) -> None:
    async with site.running() as process:
        for at in range(ROUNDS):
            await process.write(at)
            await process.trim()
        kept = await process.archive.make(site.tenant, "digits")
        await process.vectors.drop(site.tenant, "digits")
        assert not list((site.folder / "shelf" / "states").rglob("000*"))
        opened = await process.archive.restore(site.tenant, "digits", "digits", kept.id)
        assert isinstance(opened, Collection)
        assert await process.content(opened) == site.truth


async def test_a_restore_that_fails_leaves_nothing_and_one_that_dies_is_finished_at_the_next_start(site: Site) -> None:
    async with site.running() as process:
        for at in range(10):
            await process.write(at)
        make: Callable[..., Any] = process.vectors._logs.make

        async def dies(*_: Any) -> None:
            raise Unavailable("NATS is away")

        process.vectors._logs.make = dies
        with pytest.raises(Unavailable):
            await process.archive.restore(site.tenant, "digits", "copy", None)
        process.vectors._logs.make = make
    site.lose_disk()
    async with site.running() as process:
        copy = await process.vectors.open(site.tenant, "copy")
        assert await process.content(copy) == site.truth


@given(
    st.integers(1, 1000),
    st.integers(0, 1000),
    st.integers(0, 10_000),
    st.integers(0, 1000),
    st.lists(st.integers(0, 1000), max_size=6),
)
def test_nothing_is_forgotten_that_is_not_kept(first: int, more: int, size: int, saved: int, kept: list[int]) -> None:
    last = first + more
    kept = sorted(position for position in set(kept) if first - 1 <= position <= last)
    step = next_step(Standing(first, last, size, min(saved, last), kept), 8_000)
    if isinstance(step, Trim):
        assert step.position in kept
        assert first < step.position <= last
    if size >= 4000 and step is None:
        assert kept
        assert kept[-1] >= first
    if not kept and size >= 1000:
        assert isinstance(step, Keep)


async def test_the_threads_of_a_shelf_that_is_away_hold_up_no_search(site: Site) -> None:
    life = Life(1_000_000)
    async with site.running(life) as process:
        for at in range(10):
            await process.write(at)
        life.steps = 0
        with pytest.raises(Unavailable):
            await process.trim()
        async with asyncio.timeout(5):
            assert await process.content() == site.truth
