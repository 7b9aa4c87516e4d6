"""Shards at work, over fakes: what is saved and come back to, repeats, failures of work, and what is in memory."""

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from ergonaut.errors import Broken, Conflict, Unavailable
from ergonaut_vectors.appending import Appender
from ergonaut_vectors.domain.batches import NO_DIGEST, Batch, digest_of, messages_of
from ergonaut_vectors.domain.records import Key
from ergonaut_vectors.domain.repeats import REMEMBERED_MESSAGES, Repeats
from ergonaut_vectors.domain.replica import Kept
from ergonaut_vectors.domain.schema import IndexWish, Schema
from ergonaut_vectors.domain.segments.view import Cursor, View
from ergonaut_vectors.domain.segments.work import Policy, Work
from ergonaut_vectors.domain.segments.writes import Deletes, Write
from ergonaut_vectors.fakes import FakeLog, FakeStore
from ergonaut_vectors.live import Around, Limits, LiveShard
from ergonaut_vectors.opened import Collection
from ergonaut_vectors.opening import DAMAGED_MAX
from ergonaut_vectors.ports import LogMessage
from ergonaut_vectors.service import Vectors

from .hindered import KEY, Hindered, Uncertain, ids_of, rows

SCHEMA = Schema("digits", 4)
SMALL = Policy(head_rows_max=8, merged_together=2, replay_max=50)
LIMITS = Limits(collections_max=300, writes_waiting_max=64, wait_seconds=5.0, policy=SMALL)


async def write(collection: Collection, what: Write, batch_id: str = "") -> int:
    return max((await collection.write(what, batch_id=batch_id)).values())


async def views(collection: Collection) -> list[View]:
    return list((await collection.seen({})).views)


async def content(collection: Collection) -> dict[str, float]:
    """The first number of each vector."""
    found = {}
    for view in await views(collection):
        for stored in view.scroll(Cursor(), 10_000):
            found[stored.id] = float(view.vectors([stored.place])[0, 0])
    return found


async def until_saved(world, collection: Collection, position: int) -> None:
    """Until the state at a position, or a later one, is what the next start comes back to."""
    store = world.stores.stores[collection.record.store_of(0)]
    async with asyncio.timeout(20):
        while store.kept is None or store.kept.checkpoint.view.position < position:
            await asyncio.sleep(0.005)


async def test_a_restart_comes_back_to_what_was_saved_and_replays_the_rest_alone(world) -> None:
    async with world.running(LIMITS) as before:
        collection = await before.create("acme", SCHEMA)
        for at in range(6):
            last = await write(collection, rows(*(f"{at}-{i}" for i in range(5)), value=at))
        await until_saved(world, collection, 2)
        await write(collection, Deletes(["0-0", "5-4"]))
        truth, (view,) = await content(collection), await views(collection)
    kept = world.stores.stores[collection.record.store_of(0)].kept
    assert 2 <= kept.checkpoint.view.position <= last
    # What the saved state holds is not read again: it may be gone.
    log = world.logs.logs[KEY]
    log[: kept.checkpoint.view.position - 1] = [b"gone"] * (kept.checkpoint.view.position - 1)
    async with world.running(LIMITS) as after:
        collection = await after.open("acme", "digits")
        assert await content(collection) == truth
        assert (await views(collection))[0].digest == view.digest
        assert await write(collection, rows("new")) == last + 2


async def test_a_damaged_state_is_made_anew_from_the_log(world) -> None:
    async with world.running(LIMITS) as before:
        collection = await before.create("acme", SCHEMA)
        for at in range(4):
            await write(collection, rows(*(f"{at}-{i}" for i in range(5))))
        await until_saved(world, collection, 2)
        truth = await content(collection)
    world.stores.stores[collection.record.store_of(0)].damage = Broken("a segment is damaged in block 3")
    async with world.running(LIMITS) as after:
        assert await content(await after.open("acme", "digits")) == truth


class DamagingStore(FakeStore):
    """What is written to it is found damaged, until the disk is another."""

    def __init__(self) -> None:
        super().__init__()
        self.loads, self.is_damaging = 0, True

    def load(self) -> Kept | None:
        self.loads += 1
        return super().load()

    def check(self, work: Work) -> None:
        if self.is_damaging:
            raise Broken("a segment is damaged in block 3")
        super().check(work)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.005)


async def test_a_shard_that_is_damaged_again_and_again_says_so_and_is_tried_later(
    world, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ergonaut_vectors.opening.DAMAGED_AGAIN_SECONDS", 1.0)
    names = [str(at) for at in range(9)]
    async with world.running(LIMITS) as vectors:
        collection = await vectors.create("acme", SCHEMA)
        store = world.stores.stores[collection.record.store_of(0)] = DamagingStore()
        await write(collection, rows(*names))
        await until(lambda: bool(collection.states()[0].failure))
        assert "disk has damaged what was written to it 3 times" in collection.states()[0].failure
        assert store.loads == 1 + DAMAGED_MAX
        store.is_damaging = False
        await until(lambda: collection.states()[0].view is not None)
        assert await content(collection) == dict.fromkeys(names, 1.0)


async def test_a_service_leaves_at_once_though_a_shard_waits_to_be_tried_again(world) -> None:
    async with asyncio.timeout(20), world.running(LIMITS) as vectors:
        collection = await vectors.create("acme", SCHEMA)
        world.stores.stores[collection.record.store_of(0)] = DamagingStore()
        await write(collection, rows(*(str(at) for at in range(9))))
        await until(lambda: "disk has damaged" in collection.states()[0].failure)


@pytest.mark.parametrize("lost", ["end", "history"])
async def test_a_log_that_lost_what_was_applied_is_told(world, lost: str) -> None:
    async with world.running(LIMITS) as before:
        collection = await before.create("acme", SCHEMA)
        for at in range(4):
            await write(collection, rows(*(f"{at}-{i}" for i in range(10))))
        await until_saved(world, collection, 4)
    log = world.logs.logs[KEY]
    del log[-1]
    if lost == "history":
        log += messages_of(Batch(rows("another")), digest_of(log[-1]))
    async with world.running(LIMITS) as after:
        with pytest.raises(Broken, match=f"the log has (lost its|another) {lost}"):
            await content(await after.open("acme", "digits"))


async def kept_and_trimmed(world, collection: Collection, position: int) -> Kept:
    """What is saved, brought to the shelf, with a log that begins with its last message."""
    await until_saved(world, collection, position)
    store = collection.record.store_of(0)
    kept = world.spares.kept[store] = world.stores.stores[store].kept
    await world.logs.trim(KEY, kept.head.sequence)
    return kept


@pytest.mark.parametrize("lost", [False, True])
async def test_what_a_trimmed_log_has_not_any_more_comes_from_here_or_from_the_shelf(world, lost: bool) -> None:
    async with world.running(LIMITS) as before:
        collection = await before.create("acme", SCHEMA)
        for at in range(6):
            await write(collection, rows(*(f"{at}-{i}" for i in range(5)), value=at))
        kept = await kept_and_trimmed(world, collection, 3)
        await write(collection, Deletes(["0-0", "5-4"]))
        truth, (view,) = await content(collection), await views(collection)
    assert kept.head.sequence > 1
    if lost:
        world.stores.stores.clear()
    async with world.running(LIMITS) as after:
        collection = await after.open("acme", "digits")
        assert await content(collection) == truth
        assert (await views(collection))[0].digest == view.digest


async def test_a_trimmed_log_of_which_nobody_has_the_rest_is_told_and_never_served_as_empty(world) -> None:
    async with world.running(LIMITS) as before:
        collection = await before.create("acme", SCHEMA)
        for at in range(4):
            await write(collection, rows(*(f"{at}-{i}" for i in range(5))))
        await kept_and_trimmed(world, collection, 3)
    world.stores.stores.clear()
    world.spares.kept.clear()
    async with world.running(LIMITS) as after:
        with pytest.raises(Broken, match=r"begins at message [34], and of what came before only 0 messages"):
            await content(await after.open("acme", "digits"))


async def test_a_replica_that_a_trimmed_log_has_passed_by_begins_anew_from_the_shelf(world) -> None:
    async with world.running(LIMITS) as one:
        slow = await one.create("acme", SCHEMA)
        await write(slow, rows("first"))
        live = one.opening.found(KEY)
        assert live is not None
        there = world.aside()
        async with there.running(LIMITS) as other:
            # As another node does, while this one takes nothing.
            async with live._writing:
                fast = await other.open("acme", "digits")
                for at in range(12):
                    await write(fast, rows(*(f"{at}-{i}" for i in range(5)), value=at))
                    if at == 1:
                        held_up = asyncio.create_task(live.wait_for(13))
                await kept_and_trimmed(there, fast, 8)
            await held_up
            truth = await content(fast)
        assert await content(slow) == truth


async def test_writers_wait_for_room_in_a_full_log_and_stand_in_it_in_their_order(world) -> None:
    world.logs._bytes_max = 2000
    async with world.running(LIMITS) as vectors:
        collection = await vectors.create("acme", SCHEMA)
        async with asyncio.TaskGroup() as tasks:
            writes = [tasks.create_task(write(collection, rows(f"{at}"), f"batch-{at}")) for at in range(40)]
            live = vectors.opening.found(KEY)
            while not all(each.done() for each in writes):
                await asyncio.sleep(0.01)
                live = live or vectors.opening.found(KEY)
                if live is not None:
                    await world.logs.trim(KEY, live.position)
                    live.trimmed(await world.logs.extent(KEY))
        assert [each.result() for each in writes] == list(range(1, 41))
        assert len(await content(collection)) == 40


async def test_a_log_that_loses_its_end_while_it_is_written_takes_no_more_writes(world, vectors: Vectors) -> None:
    collection = await vectors.create("acme", SCHEMA)
    for name in ("x", "y", "z"):
        await write(collection, rows(name))
    del world.logs.logs[KEY][1:]
    with pytest.raises(Broken, match="ends at message 1, but message 3 was applied once: the log has lost its end"):
        await write(collection, rows("unseen"))
    assert len(world.logs.logs[KEY]) == 1


async def test_a_batch_of_a_known_name_changes_nothing_however_late_it_comes(world) -> None:
    async with world.running(LIMITS) as before:
        collection = await before.create("acme", SCHEMA)
        first = await write(collection, rows("x", value=1), "mine")
        await write(collection, rows("x", value=2))
        assert await write(collection, rows("x", value=1), "mine") == first
        await write(collection, rows(*(f"more-{i}" for i in range(20))))
        await until_saved(world, collection, first + 1)
    async with world.running(LIMITS) as after:
        collection = await after.open("acme", "digits")
        assert await write(collection, rows("x", value=1), "mine") == first
        assert (await content(collection))["x"] == 2


async def test_of_two_writers_who_send_one_name_at_once_one_is_applied(world) -> None:
    async with world.running(LIMITS) as vectors:
        collection = await vectors.create("acme", SCHEMA)
        writes = [write(collection, rows("x", value=at), "mine") for at in range(3)]
        await asyncio.gather(*writes)
        assert (await content(collection))["x"] == 0


async def test_work_that_fails_costs_no_write(world, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ergonaut_vectors.live.WORK_AGAIN_SECONDS", 0.0)
    async with world.running(LIMITS) as vectors:
        collection = await vectors.create("acme", SCHEMA)
        world.stores.of(collection.record.store_of(0)).keep_fails = 3
        for at in range(30):
            last = await write(collection, rows(*(f"{at}-{i}" for i in range(5)), value=at))
        assert len(await content(collection)) == 150
        await until_saved(world, collection, last // 2)


async def test_who_waits_because_no_state_can_be_saved_is_told_why(world) -> None:
    async with world.running(replace(LIMITS, wait_seconds=0.5)) as vectors:
        collection = await vectors.create("acme", SCHEMA)
        world.stores.of(collection.record.store_of(0)).keep_fails = 1000
        await write(collection, rows(*(f"first-{i}" for i in range(32))))
        with pytest.raises(Unavailable, match="try again later; it cannot save its state: the disk is full"):
            await write(collection, rows("second"))
        assert len(await content(collection)) == 32


async def test_shards_share_the_ids_of_a_collection(world) -> None:
    schema = replace(SCHEMA, shards=3)
    async with world.running(LIMITS) as before:
        collection = await before.create("acme", schema)
        positions = await collection.write(rows(*(str(i) for i in range(100))))
        assert positions.keys() == {0, 1, 2}
        await collection.write(Deletes(["7", "8"]))
        counts = [view.count for view in await views(collection)]
        assert sum(counts) == collection.count == 98
        assert min(counts) > 10
    assert {key.shard for key in world.logs.logs} == {0, 1, 2}
    async with world.running(LIMITS) as after:
        collection = await after.open("acme", "digits")
        assert set(await content(collection)) == {str(i) for i in range(100)} - {"7", "8"}
        await after.drop("acme", "digits")
    assert world.logs.logs == {}


async def test_a_shard_that_cannot_be_read_is_missing_where_that_is_allowed(world) -> None:
    async with world.running(LIMITS) as before:
        await before.create("acme", replace(SCHEMA, shards=3))
    world.logs.logs[KEY.of_shard(1)].append(b"rubbish")
    async with world.running(LIMITS) as after:
        collection = await after.open("acme", "digits")
        seen = await collection.seen({}, partial=True)
        assert (len(seen.views), seen.missing) == (2, [1])
        assert [state.failure != "" for state in collection.states()] == [False, True, False]
        with pytest.raises(Broken, match=r"acme\.digits\.1 cannot be read"):
            await collection.seen({})


async def test_what_nobody_asks_for_leaves_memory_and_comes_back(world) -> None:
    async with world.running(LIMITS) as vectors:
        collection = await vectors.create("acme", SCHEMA)
        await write(collection, rows("x", "y"))
        now = asyncio.get_running_loop().time()
        await vectors.opening.close_idle(now)
        assert vectors.opening.found(KEY) is not None
        await vectors.opening.close_idle(now + 10_000)
        assert vectors.opening.found(KEY) is None
        assert collection.count == 2
        assert vectors.opening.found(KEY) is None
        assert set(await content(collection)) == {"x", "y"}


async def test_where_a_log_ends_is_told_when_it_is_opened_for_the_first_time(world) -> None:
    async with world.running(LIMITS) as before:
        await write(await before.create("acme", SCHEMA), rows("x", "y"))
    async with world.running(LIMITS) as vectors:
        told: list[tuple[Key, int]] = []
        vectors.opening.opened = lambda key, end: told.append((key, end))
        for _ in range(2):
            assert set(await content(await vectors.open("acme", "digits"))) == {"x", "y"}
            await vectors.opening.close(KEY)
        assert told == [(KEY, 1)]


async def test_of_many_collections_as_many_are_in_memory_as_may_be(world) -> None:
    async with world.running(replace(LIMITS, open_max=8)) as vectors:
        made = [await vectors.create("acme", Schema(f"small-{at}", 4)) for at in range(50)]
        await asyncio.gather(*(write(collection, rows("x", value=at)) for at, collection in enumerate(made[:8])))
        for at, collection in enumerate(made):
            await write(collection, rows("x", value=at))
        assert [await content(collection) for collection in made] == [{"x": float(at)} for at in range(50)]
        assert sum(vectors.opening.found(collection.record.key) is not None for collection in made) == 8


async def test_more_in_use_than_may_be_is_told(world) -> None:
    async with world.running(replace(LIMITS, open_max=1)) as vectors:
        first, second = [await vectors.create("acme", Schema(name, 4)) for name in ("a", "b")]
        with vectors.opening.used(first.record, 0), pytest.raises(Unavailable, match="as many as may be"):
            await second.seen({})
        assert await content(second) == {}


async def test_while_somebody_has_a_shards_files_nobody_opens_it(world, vectors: Vectors) -> None:
    collection = await vectors.create("acme", SCHEMA)
    await write(collection, rows("x"))
    async with vectors.opening.closed(KEY, Conflict("it moves")):
        for attempt in (write(collection, rows("y")), content(collection)):
            with pytest.raises(Conflict, match="it moves"):
                await attempt
        assert collection.count == 1
        again = asyncio.create_task(vectors.opening.close(KEY))
        await asyncio.sleep(0)
        assert not again.done()
    await again
    assert set(await content(collection)) == {"x"}


async def test_a_shard_that_leaves_before_it_has_begun_still_waits_for_the_work_of_the_one_before(world) -> None:
    around = Around(world.logs, None, LIMITS)  # type: ignore[arg-type]
    before = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(LiveShard(KEY, SCHEMA, around, world.stores.of("x")).run(before))
    await asyncio.sleep(0)
    running.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not running.done()
    before.set_result(None)
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_shard_ends_though_the_first_cancellation_gets_lost(world, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ergonaut_common.lifetimes.CANCEL_AGAIN_SECONDS", 0.01)
    asked = asyncio.Event()

    class Deaf(FakeLog):
        async def last(self, key: Key) -> LogMessage | None:
            asked.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            return await super().last(key)

    world.logs = Deaf()
    async with world.running(LIMITS) as vectors:
        collection = await vectors.create("acme", SCHEMA)
        vectors.opening.shard(collection.record, 0)
        await asked.wait()
        await vectors.opening.close(KEY)
        asked.clear()
        vectors.opening.shard(collection.record, 0)
        await asked.wait()


async def test_another_index_may_be_wished_for(world, vectors: Vectors) -> None:
    await vectors.create("acme", SCHEMA)
    collection = await vectors.set_index("acme", "digits", IndexWish(recall=0.99))
    assert collection.schema.index.recall == 0.99
    assert (await vectors.create("acme", SCHEMA)).schema.index.recall == 0.99
    assert world.book.records[KEY].schema.index.recall == 0.99


async def test_writes_do_not_wait_for_one_another() -> None:
    log = Hindered()
    await log.make(KEY)
    appender = Appender(KEY, log)
    writes = [asyncio.create_task(appender.append(Batch(rows(str(at))))) for at in range(20)]
    await log.has_begun(20)
    log.go.set()
    assert await asyncio.gather(*writes) == list(range(1, 21))
    assert ids_of(log) == [[str(at)] for at in range(20)]


async def test_what_was_begun_behind_a_write_that_failed_is_begun_again() -> None:
    log = Hindered()
    await log.make(KEY)
    log.fails = {3}
    appender = Appender(KEY, log)
    writes = [asyncio.create_task(appender.append(Batch(rows(str(at))))) for at in range(8)]
    await log.has_begun(8)
    log.go.set()
    answers = await asyncio.gather(*writes, return_exceptions=True)
    assert isinstance(answers[3], Unavailable)
    assert [answer for answer in answers if isinstance(answer, int)] == list(range(1, 8))
    assert ids_of(log) == [[str(at)] for at in range(8) if at != 3]


@pytest.mark.parametrize("writers", [1, 2, 3])
@pytest.mark.parametrize("seed", range(10))
async def test_whatever_fails_what_was_written_stands_whole_and_in_the_order_of_its_writer(
    seed: int, writers: int
) -> None:
    dice = random.Random(seed)
    log = Uncertain(dice)
    await log.make(KEY)
    appenders = [Appender(KEY, log) for _ in range(writers)]
    writes = []
    for at in range(60):
        batch = Batch(rows(*(f"{at}-{i}" for i in range(1 + at % 3 * 64))))
        writes.append(asyncio.create_task(appenders[at % writers].append(batch)))
        for _ in range(dice.randrange(4)):
            await asyncio.sleep(0)
    answers = await asyncio.gather(*writes, return_exceptions=True)
    assert all(isinstance(answer, int | Unavailable) for answer in answers)
    found = [int(ids[0].split("-")[0]) for ids in ids_of(log)]
    assert len(found) == len(set(found))
    for writer in range(writers):
        mine = [at for at in found if at % writers == writer]
        assert mine == sorted(mine)
    assert {at for at, answer in enumerate(answers) if isinstance(answer, int)} <= set(found)


async def test_who_never_gets_a_place_is_told() -> None:
    class Contended(FakeLog):
        async def append(self, key: Key, content: bytes, after: int, *, name: str = "", behind: str = "") -> int:
            raise Conflict("somebody was faster")

    log = Contended()
    await log.make(KEY)
    with pytest.raises(Unavailable, match="others write to collection digits all the time"):
        await Appender(KEY, log).append(Batch(rows("x")))


def test_a_name_is_known_for_so_many_messages_and_across_restarts() -> None:
    repeats = Repeats()
    repeats.add(b"a" * 16, 1)
    repeats.add(b"b" * 16, 10)
    repeats.add(NO_DIGEST, 11)
    again = Repeats.read(repeats.written(5))
    for each, knows in ((repeats, True), (again, False)):
        assert each.first_of(b"a" * 16, REMEMBERED_MESSAGES + 1) == 1
        assert each.first_of(b"a" * 16, REMEMBERED_MESSAGES + 2) is None
        assert each.first_of(b"b" * 16, 20) == (10 if knows else None)
        assert each.first_of(NO_DIGEST, 12) is None
    repeats.forget(REMEMBERED_MESSAGES + 5)
    assert repeats.first_of(b"a" * 16, 2) is None
    assert repeats.first_of(b"b" * 16, 20) == 10
