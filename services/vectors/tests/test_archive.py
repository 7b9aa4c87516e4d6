"""Collections kept and brought back: as they were kept, as they were at any moment, and never other than they were."""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ergonaut.errors import Broken, Conflict, NotFound, Refused
from ergonaut.ids import id_at
from ergonaut_common.clock import SystemClock
from ergonaut_vectors.adapters.saved_shards import SavedShards
from ergonaut_vectors.adapters.shelves import FolderShelf
from ergonaut_vectors.archive.archive import Archive, Sources
from ergonaut_vectors.archive.catching_up import caught_up
from ergonaut_vectors.archive.fakes import BEGAN_AT, FakePast
from ergonaut_vectors.archive.ports import PastMessage, Until
from ergonaut_vectors.archive.shelved import Shelved
from ergonaut_vectors.domain.records import Key, Record, Stage
from ergonaut_vectors.domain.replica import Replica
from ergonaut_vectors.domain.schema import Schema
from ergonaut_vectors.domain.segments.shard import Shard
from ergonaut_vectors.domain.segments.work import Job, Policy, done
from ergonaut_vectors.domain.segments.writes import Deletes, Upserts, Write
from ergonaut_vectors.fakes import FakeCollectionBook
from ergonaut_vectors.workers import Workers

from .catalogues import CatalogueInMemory, OpenedInMemory

KEY = Key("default", "books")
SCHEMA = Schema("books", 4, shards=2)
RECORD = Record(KEY, SCHEMA, id_at("collection", BEGAN_AT, 1), Stage.READY)


class World:
    """A collection with logs, of which a process has saved something now and then."""

    def __init__(self, folder: Path, threads: Workers) -> None:
        self.folder, self.threads = folder, threads
        self.book, self.past = FakeCollectionBook(), FakePast()
        self.saved = SavedShards(folder / "shards")
        self.catalogue = RevivedInMemory(self.saved, folder / "shards")
        self.shelf = FolderShelf(folder / "shelf")
        self.shelved = Shelved(self.shelf, self.saved, threads, folder / "taking")
        sources = Sources(self.book, self.past, self.saved)
        self.archive = Archive(self.shelved, sources, self.catalogue, threads=threads, clock=SystemClock())
        self.book.records[KEY] = RECORD
        for key in RECORD.shards:
            self.past.logs[key] = []

    def write(self, shard: int, write: Write) -> datetime:
        self.past.write(KEY.of_shard(shard), write)
        return self.past.now

    async def save(self, shard: int) -> None:
        """As the process that has the shard does when it has sealed a head."""
        store = self.saved.open(self.folder / "shards" / RECORD.store_of(shard))
        await caught_up(KEY.of_shard(shard), SCHEMA, store, Until(), (self.past, self.threads))

    def at(self, moment: datetime) -> list[Replica]:
        """Replicas that applied all that was written by then."""
        replicas = []
        for key in RECORD.shards:
            replica = Replica(SCHEMA.space, SCHEMA.fields, Policy())
            for message in self.past.logs[key]:
                if message.written_at <= moment:
                    replica.take(message.sequence, message.content)
            replicas.append(replica)
        return replicas


class RevivedInMemory(CatalogueInMemory):
    """Collections whose shards are what was put where they look for it."""

    def __init__(self, saved: SavedShards, root: Path) -> None:
        super().__init__()
        self._saved = saved
        self._root = root
        self.records: list[Record] = []

    async def revive(self, record: Record) -> OpenedInMemory:
        opened = await self.create(record.key.tenant, record.schema)
        for begin in record.begins:
            kept = self._saved.open(self._root / record.store_of(begin.shard)).load()
            assert kept is not None
            assert (kept.head.sequence, kept.head.digest.hex()) == (begin.position, begin.digest)
            opened.shards[begin.shard] = Shard.open(record.schema.space, {}, kept.checkpoint)
        self.records.append(record)
        return opened


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with Workers("archive", threads=2, waiting_max=64) as threads:
        yield World(tmp_path, threads)


def upserts(*names: str, of: float = 1.0) -> Upserts:
    rows = np.array([[of, float(len(name)), float(ord(name[-1])), 1.0] for name in names], np.float32)
    return Upserts(names, rows, [{"title": f"{name} of {of}"} for name in names])


def content_of(opened: OpenedInMemory | Sequence[Replica]) -> dict[str, tuple[list[float], dict[str, Any]]]:
    views = [shard.view for shard in (opened.shards if isinstance(opened, OpenedInMemory) else opened)]
    found = {}
    for view in views:
        for part in view.parts:
            for row in range(part.store.count):
                stored = view.get([name_at(part, row)])[0]
                if stored is not None:
                    found[stored.id] = (view.vectors([stored.place])[0].tolist(), view.payload(stored.place))
    return found


def name_at(part: Any, row: int) -> str:
    table = part.store.table
    return bytes(table.blob[table.offsets[row] : table.offsets[row + 1]]).decode()


async def test_a_snapshot_clears_what_puts_left_that_died_a_day_ago_and_is_made_where_that_fails(world: World) -> None:
    world.write(0, upserts("a"))
    folder = world.folder / "shelf" / "files" / KEY.tenant / RECORD.uid
    folder.mkdir(parents=True)
    old, young, stuck = (folder / f"unfinished-{name}" for name in ("old", "young", "stuck"))
    old.write_bytes(b"a part")
    young.write_bytes(b"a part")
    last_written(old, timedelta(hours=25))
    last_written(young, timedelta(hours=23))
    await world.archive.make("default", "books")
    assert (old.exists(), young.exists()) == (False, True)

    stuck.mkdir()
    last_written(stuck, timedelta(hours=25))
    assert (await world.archive.make("default", "books")).count == 1
    assert stuck.exists()


def last_written(path: Path, ago: timedelta) -> None:
    then_seconds = (datetime.now(UTC) - ago).timestamp()
    os.utime(path, (then_seconds, then_seconds))


async def test_a_snapshot_brings_back_what_was_there_when_it_was_made(world: World) -> None:
    world.write(0, upserts("a", "b"))
    await world.save(0)
    world.write(0, Deletes(["b"]))
    moment = world.write(1, upserts("c", of=2.0))
    kept = await world.archive.make("default", "books")
    assert (kept.count, dict(kept.positions)) == (2, {0: 2, 1: 1})
    world.write(0, upserts("a", "later", of=9.0))
    opened = await world.archive.restore("default", "books", "again", kept.id)
    assert isinstance(opened, OpenedInMemory)
    assert content_of(opened) == content_of(world.at(moment))
    assert not list((world.folder / "taking").iterdir())
    # Without this machine's copy it is the same, of what is on the shelf.
    [record] = world.catalogue.records
    for begin in record.begins:
        world.saved.remove(record.store_of(begin.shard))
        assert await world.shelved.bring(record, begin.shard)
        kept_again = world.saved.open(world.folder / "shards" / record.store_of(begin.shard)).load()
        assert kept_again is not None
        assert kept_again.checkpoint.view.digest == opened.shards[begin.shard].view.digest


async def test_a_copy_is_of_what_there_is_now(world: World) -> None:
    world.write(0, upserts("a", "b"))
    moment = world.write(1, upserts("c"))
    opened = await world.archive.restore("default", "books", "copy", None)
    assert isinstance(opened, OpenedInMemory)
    assert content_of(opened) == content_of(world.at(moment))
    with pytest.raises(Conflict):
        await world.archive.restore("default", "books", "copy", None)


@pytest.mark.parametrize("seed", range(6))
async def test_any_moment_comes_back_as_a_replica_that_stopped_then(world: World, seed: int) -> None:
    chance = random.Random(seed)
    names = [f"point-{at}" for at in range(12)]
    moments = [BEGAN_AT]
    for _ in range(40):
        shard, chosen = chance.randrange(2), chance.sample(names, chance.randint(1, 4))
        moments.append(
            world.write(shard, Deletes(chosen) if chance.random() < 0.3 else upserts(*chosen, of=chance.random()))
        )
        if chance.random() < 0.2:
            await world.save(shard)
        if chance.random() < 0.15:
            await world.archive.make("default", "books")
    for moment in chance.sample(moments, 6):
        async with world.archive.as_of(KEY, moment) as (_, states):
            expected = world.at(moment)
            assert [state.caught.kept.checkpoint.view.digest for state in states] == [
                each.view.digest for each in expected
            ]


async def test_a_snapshot_that_is_made_while_segments_are_merged_holds_what_there_is_at_each_step(world: World) -> None:
    store = world.saved.open(world.folder / "shards" / RECORD.store_of(0))
    replica = Replica(SCHEMA.space, SCHEMA.fields, Policy(merged_together=2))

    async def written(write: Write) -> None:
        world.write(0, write)
        message = world.past.logs[KEY.of_shard(0)][-1]
        replica.take(message.sequence, message.content)
        await kept()

    async def kept() -> None:
        snapshot = await world.archive.make("default", "books")
        async with world.archive.as_of(KEY, snapshot.id) as (_, formers):
            assert formers[0].caught.kept.checkpoint.view.digest == replica.view.digest

    for at in range(2):
        await written(upserts(*(f"{at}-{name}" for name in "abcd")))
        sealing = replica.plan_seal()
        assert sealing is not None
        replica.install(store.keep(done(sealing)))
        store.save(replica.kept())
    [merging] = [work for work in replica.plan() if work.job is Job.MERGE]
    await written(Deletes(["0-a"]))
    merged = store.keep(done(merging))
    await written(upserts("1-a", "later", of=2.0))
    replica.install(merged)
    await written(Deletes(["0-b", "1-b"]))
    store.save(replica.kept())
    await written(upserts("0-c", of=3.0))


@pytest.mark.parametrize("kept", [False, True])
async def test_where_the_clock_of_the_log_went_back_a_moment_is_what_stood_before_it_first_came(
    world: World, kept: bool
) -> None:
    first = world.write(0, upserts("a"))
    world.write(0, upserts("b"))
    world.past.now = first + (world.past.now - first) / 2 - timedelta(seconds=1)
    between = world.write(0, upserts("c"))
    if kept:
        await world.archive.make("default", "books")
    async with world.archive.as_of(KEY, between) as (_, states):
        assert states[0].caught.kept.head.sequence == 1


def test_of_what_is_read_together_nothing_is_left_out_in_the_middle() -> None:
    times = [BEGAN_AT + timedelta(seconds=at) for at in (1, 3, 2)]
    messages = [PastMessage(at, b"", time) for at, time in enumerate(times, 1)]
    assert Until(moment=times[2]).taken(messages) == messages[:1]


async def test_a_moment_before_the_log_begins_comes_back_from_a_snapshot_or_is_told_to_be_lost(world: World) -> None:
    early = world.write(0, upserts("a"))
    await world.archive.make("default", "books")
    moment = world.write(0, upserts("b"))
    world.past.trimmed[KEY] = 1
    opened = await world.archive.restore("default", "books", "again", moment)
    assert isinstance(opened, OpenedInMemory)
    assert set(content_of(opened)) == {"a", "b"}
    [kept] = await world.archive.all("default", "books")
    await world.archive.drop("default", "books", kept.id)
    for lost in (early, moment):
        with pytest.raises((NotFound, Broken)):
            await world.archive.restore("default", "books", f"lost-{lost.second}", lost)
    assert [key for key in world.catalogue.collections if key[1].startswith("lost")] == []


async def test_a_moment_before_the_collection_was_made_or_yet_to_come_is_refused(world: World) -> None:
    world.write(0, upserts("a"))
    with pytest.raises(NotFound, match="was made at 2026-01-01T00:00:00"):
        await world.archive.restore("default", "books", "again", BEGAN_AT - timedelta(minutes=1))
    with pytest.raises(Refused) as refused:
        await world.archive.restore("default", "books", "again", SystemClock().now() + timedelta(minutes=1))
    assert refused.value.field == "at"
    assert world.catalogue.collections == {}


async def test_what_did_not_change_is_kept_once_and_as_long_as_anybody_needs_it(world: World) -> None:
    world.write(0, upserts("a", "b"))
    await world.save(0)
    first = await world.archive.make("default", "books")
    world.write(1, upserts("c"))
    second = await world.archive.make("default", "books")
    assert [each.id for each in await world.archive.all("default", "books")] == [second.id, first.id]
    names = await world.shelf.names("files/default/")
    segments = 2
    manifests = 4 - 1
    assert len(names) == segments + manifests, "the first shard's manifest is the same in both"
    await world.archive.drop("default", "books", first.id)
    async with world.archive.as_of(KEY, second.id) as (_, formers):
        assert sum(former.caught.kept.checkpoint.view.count for former in formers) == 3
    await world.archive.drop("default", "books", second.id)
    assert await world.shelf.names("files/default/") == []
    with pytest.raises(NotFound):
        await world.archive.drop("default", "books", second.id)


async def test_a_dropped_collection_comes_back_from_its_snapshot(world: World) -> None:
    world.write(0, upserts("a"))
    kept = await world.archive.make("default", "books")
    world.past.logs.clear()
    await world.book.remove(world.book.records[KEY])
    opened = await world.archive.restore("default", "books", "books", kept.id)
    assert opened.count == 1
    with pytest.raises(NotFound):
        await world.archive.restore("default", "books", "other", None)


async def test_damage_on_the_shelf_is_always_told_and_makes_no_collection(world: World) -> None:
    world.write(0, upserts("a", "b"))
    kept = await world.archive.make("default", "books")
    for name in await world.shelf.names("files/default/"):
        path = world.folder / "shelf" / name
        content = path.read_bytes()
        for damaged in (content[:-1], bytes([content[0] ^ 1]) + content[1:], b""):
            path.write_bytes(damaged)
            with pytest.raises(Broken):
                await world.archive.restore("default", "books", "again", kept.id)
        path.write_bytes(content)
    assert world.catalogue.collections == {}
    [record] = await world.shelf.names("snapshots/")
    (world.folder / "shelf" / record).write_bytes(b"00000000\n{}")
    assert await world.archive.all("default", "books") == []


async def test_one_snapshot_is_made_while_writes_go_on_and_holds_all_that_came_before_it(world: World) -> None:
    world.write(0, upserts("before"))
    making = asyncio.create_task(world.archive.make("default", "books"))
    for at in range(5):
        await asyncio.sleep(0)
        world.write(1, upserts(f"during-{at}"))
    kept = await making
    opened = await world.archive.restore("default", "books", "again", kept.id)
    assert isinstance(opened, OpenedInMemory)
    assert "before" in content_of(opened)


def test_links_are_made_again_where_a_segment_goes_meanwhile(tmp_path: Path) -> None:
    saved = SavedShards(tmp_path)
    saved.copy("nothing", tmp_path / "target")
    assert list((tmp_path / "target").iterdir()) == []
    store = saved.open(tmp_path / "shard")
    replica = Replica(SCHEMA.space, {}, Policy())
    past = FakePast()
    past.write(KEY, upserts("a"))
    replica.take(1, past.logs[KEY][0].content)
    work = replica.plan_seal()
    assert work is not None
    replica.install(store.keep(done(work)))
    store.save(replica.kept())
    saved.copy("shard", tmp_path / "target")
    kept = saved.open(tmp_path / "target").load()
    assert kept is not None
    assert kept.checkpoint.view.digest == replica.view.digest
