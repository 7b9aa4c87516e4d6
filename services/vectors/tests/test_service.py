"""The service over fakes: what is acknowledged is found, whatever dies in between, and trouble is told."""

import asyncio

import numpy as np
import pytest

from ergonaut.errors import Broken, Conflict, NotFound, Refused, Unavailable
from ergonaut.ids import new_id
from ergonaut_vectors.domain.batches import Batch, digest_of, messages_of
from ergonaut_vectors.domain.records import Key, Record, Stage
from ergonaut_vectors.domain.schema import Schema
from ergonaut_vectors.domain.segments.view import Question, View
from ergonaut_vectors.domain.segments.writes import Deletes, Upserts
from ergonaut_vectors.domain.space import Metric
from ergonaut_vectors.fakes import FakeCollectionBook, FakeLog
from ergonaut_vectors.group_commit import SMALL_MAX
from ergonaut_vectors.live import Limits
from ergonaut_vectors.service import Vectors

KEY = Key("acme", "digits")
SCHEMA = Schema("digits", 4)


def points(count: int, *, first: int = 0, dimension: int = 4) -> Upserts:
    rows = np.random.default_rng(first).normal(size=(count, dimension)).astype(np.float32)
    names = range(first, first + count)
    return Upserts([f"p{at}" for at in names], rows, [{"n": str(at)} for at in names])


async def write(vectors: Vectors, what: Upserts | Deletes, *, tenant: str = "acme", name: str = "digits") -> int:
    collection = await vectors.open(tenant, name)
    (position,) = (await collection.write(what)).values()
    return position


async def seen(vectors: Vectors, *, sequence_min: int = 0, tenant: str = "acme") -> View:
    collection = await vectors.open(tenant, "digits")
    (view,) = (await collection.seen({0: sequence_min})).views
    return view


async def found(vectors: Vectors, *, sequence_min: int = 0, tenant: str = "acme", dimension: int = 4) -> set[str]:
    """Every id in the collection."""
    view = await seen(vectors, sequence_min=sequence_min, tenant=tenant)
    (hits,) = view.search(np.zeros((1, dimension), np.float32), Question(1000, exact=True))
    return {hit.id for hit in hits}


async def test_what_was_upserted_is_found_with_its_attributes(vectors: Vectors) -> None:
    await vectors.create("acme", SCHEMA)
    written = points(20)
    sequence = await write(vectors, written)
    view = await seen(vectors, sequence_min=sequence)
    for exact in (True, False):
        rows = view.search(written.rows, Question(1, exact=exact))
        told = [(row[0].id, round(row[0].distance, 4), view.payload(row[0].place)) for row in rows]
        assert told == [(name, 0.0, payload) for name, payload in zip(written.ids, written.payloads, strict=True)]


async def test_what_was_deleted_is_not_found(vectors: Vectors) -> None:
    await vectors.create("acme", SCHEMA)
    await write(vectors, points(5))
    assert await write(vectors, Deletes(["p1", "p3", "unknown"])) == 2
    assert await found(vectors) == {"p0", "p2", "p4"}


async def test_a_new_process_finds_all_that_was_acknowledged(world) -> None:
    async with world.running() as before:
        await before.create("acme", SCHEMA)
        await write(before, points(50))
        await write(before, Deletes(["p7"]))
        await write(before, points(5, first=48))
    async with world.running() as after:
        assert await found(after) == {f"p{i}" for i in range(53)} - {"p7"}
        assert [collection.count for collection in after.all("acme")] == [52]


async def test_many_writers_at_once_are_all_applied_in_one_order(world) -> None:
    async with world.running(Limits(3, 64, 5.0)) as vectors:
        await vectors.create("acme", SCHEMA)
        each = SMALL_MAX + 1
        writes = [write(vectors, points(each, first=each * at)) for at in range(30)]
        assert sorted(await asyncio.gather(*writes)) == list(range(1, 31))
        assert len(await found(vectors)) == 30 * each


async def test_many_small_writes_at_once_are_few_messages_and_all_found(world) -> None:
    async with world.running(Limits(3, 64, 5.0)) as vectors:
        await vectors.create("acme", SCHEMA)
        positions = await asyncio.gather(*(write(vectors, points(1, first=at)) for at in range(60)))
        assert max(positions) == len(world.logs.logs[KEY]) < 10
        assert len(await found(vectors)) == 60


async def test_more_writes_than_may_wait_are_sent_away(world) -> None:
    async with world.running(Limits(3, 2, 5.0)) as vectors:
        await vectors.create("acme", SCHEMA)
        writes = [write(vectors, points(1, first=at)) for at in range(10)]
        answers = await asyncio.gather(*writes, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, Unavailable)]
        assert refused
        assert "writes to collection digits wait already" in str(refused[0])
        assert len(await found(vectors)) == 10 - len(refused)


@pytest.mark.parametrize("written", [False, True])
async def test_after_a_write_of_unknown_outcome_the_next_ones_go_on(world, vectors: Vectors, written: bool) -> None:
    await vectors.create("acme", SCHEMA)
    await write(vectors, points(1))
    world.logs.fail_next, world.logs.fail_after_writing = Unavailable("no answer"), written
    with pytest.raises(Unavailable):
        await write(vectors, points(1, first=1))
    sequence = await write(vectors, points(1, first=2))
    assert await found(vectors, sequence_min=sequence) == ({"p0", "p1", "p2"} if written else {"p0", "p2"})


async def test_a_batch_of_many_messages_applies_all_or_nothing(world) -> None:
    schema = Schema("digits", 4096)
    async with world.running() as before:
        await before.create("acme", schema)
        await write(before, points(200, dimension=4096))
        assert len(world.logs.logs[KEY]) == 14
        assert len(await found(before, dimension=4096)) == 200
    del world.logs.logs[KEY][9:]
    async with world.running() as after:
        assert await found(after, dimension=4096) == set()
        await write(after, points(2, dimension=4096))
        assert await found(after, dimension=4096) == {"p0", "p1"}


async def test_a_hole_in_the_log_is_told_to_everybody_who_asks_and_spares_other_collections(world) -> None:
    async with world.running() as before:
        await before.create("acme", SCHEMA)
        await before.create("acme", Schema("whole", 4))
        for at in range(4):
            await write(before, points(1, first=at))
    del world.logs.logs[KEY][1]
    async with world.running() as after:
        for attempt in (found(after), write(after, points(1))):
            with pytest.raises(Broken, match=r"acme\.digits cannot be read from its log: message 2 .* has a hole"):
                await attempt
        assert await write(after, points(1), name="whole") == 1
        await after.drop("acme", "digits")
        assert KEY not in world.logs.logs


async def test_a_log_that_ends_in_rubbish_is_told_and_spares_other_collections(world) -> None:
    async with world.running() as before:
        await before.create("acme", SCHEMA)
        await before.create("acme", Schema("whole", 4))
    world.logs.logs[KEY].append(b"x")
    async with world.running() as after:
        with pytest.raises(Broken, match=r"acme\.digits cannot be read from its log"):
            await found(after)
        assert await write(after, points(1), name="whole") == 1


async def test_a_log_that_is_gone_is_not_taken_for_an_empty_one(world) -> None:
    async with world.running() as before:
        await before.create("acme", SCHEMA)
        await write(before, points(1))
    del world.logs.logs[KEY]
    async with world.running() as after:
        with pytest.raises(Broken, match=r"the log of collection acme\.digits is gone"):
            await found(after)


async def test_a_write_by_another_process_is_seen_and_not_written_over(world, vectors: Vectors) -> None:
    await vectors.create("acme", SCHEMA)
    await write(vectors, points(3))
    async with world.running() as other:
        await write(other, Deletes(["p1"]))
    await write(vectors, points(1, first=9))
    assert await found(vectors) == {"p0", "p2", "p9"}


async def test_a_search_for_a_position_that_never_comes_ends(world) -> None:
    async with world.running(Limits(3, 4, 0.05)) as vectors:
        await vectors.create("acme", SCHEMA)
        with pytest.raises(Unavailable, match="has applied 0 of 7 messages"):
            await found(vectors, sequence_min=7)


async def test_a_full_log_refuses_and_changes_nothing(world) -> None:
    world.logs._bytes_max = 2000
    async with world.running() as vectors:
        await vectors.create("acme", SCHEMA)
        await write(vectors, points(10))
        with pytest.raises(Unavailable, match="full"):
            await write(vectors, points(100, first=10))
        assert len(await found(vectors)) == 10
        await write(vectors, points(1, first=500))
        assert len(await found(vectors)) == 11


async def test_the_same_schema_again_changes_nothing_and_another_is_a_conflict(world, vectors: Vectors) -> None:
    first = await vectors.create("acme", SCHEMA)
    assert await vectors.create("acme", SCHEMA) is first
    for other, told in (
        (Schema("digits", 5), "dimension 4, not 5"),
        (Schema("digits", 4, Metric.COSINE), "metric l2, not cosine"),
        (Schema("digits", 4, links=8), "links 16, not 8"),
    ):
        with pytest.raises(Conflict, match=told):
            await vectors.create("acme", other)
    assert [what for what, _ in world.announced.told] == ["created"]


async def test_a_tenant_has_a_bounded_number_of_collections(vectors: Vectors) -> None:
    for name in ("a", "b", "c"):
        await vectors.create("acme", Schema(name, 4))
    with pytest.raises(Refused, match="has 3 collections, the most it may have"):
        await vectors.create("acme", Schema("d", 4))
    await vectors.create("other", Schema("d", 4))


async def test_tenants_do_not_see_each_other(vectors: Vectors) -> None:
    await vectors.create("acme", SCHEMA)
    await vectors.create("other", SCHEMA)
    await write(vectors, points(2))
    assert await found(vectors, tenant="other") == set()
    await vectors.drop("other", "digits")
    assert await found(vectors) == {"p0", "p1"}
    assert list(vectors.all("other")) == []


async def test_a_dropped_collection_is_gone_and_its_name_free(world, vectors: Vectors) -> None:
    await vectors.create("acme", SCHEMA)
    await write(vectors, points(2))
    await vectors.drop("acme", "digits")
    assert (world.book.records, world.logs.logs) == ({}, {})
    for attempt in (found(vectors), vectors.drop("acme", "digits"), write(vectors, points(1))):
        with pytest.raises(NotFound, match="there is no collection 'digits'"):
            await attempt
    await vectors.create("acme", Schema("digits", 2))
    assert [what for what, _ in world.announced.told] == ["created", "dropped", "created"]


@pytest.mark.parametrize("name", ["", "no such", "*", ">", "a.b"])
async def test_what_can_be_no_name_is_not_found_when_it_is_dropped(vectors: Vectors, name: str) -> None:
    await vectors.create("acme", SCHEMA)
    with pytest.raises(NotFound, match="there is no collection"):
        await vectors.drop("acme", name)
    assert len(vectors.all("acme")) == 1


@pytest.mark.parametrize("log_is_there", [True, False])
async def test_a_drop_that_was_cut_short_is_finished_at_the_next_start(world, log_is_there: bool) -> None:
    async with world.running() as before:
        await before.create("acme", SCHEMA)
    await world.book.change(world.book.records[KEY].at(Stage.DROPPING))
    if not log_is_there:
        await world.logs.remove(KEY)
    async with world.running() as after:
        assert list(after.all("acme")) == []
    assert (world.book.records, world.logs.logs) == ({}, {})
    assert [what for what, _ in world.announced.told] == ["created", "dropped"]


class HeldLog(FakeLog):
    """The first removal goes on when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.held, self.let_go = asyncio.Event(), asyncio.Event()
        self.removals = 0

    async def remove(self, key: Key, *, owner: str = "") -> None:
        self.removals += 1
        if not self.held.is_set():
            self.held.set()
            await self.let_go.wait()
        await super().remove(key, owner=owner)


async def test_a_drop_that_was_held_up_takes_nothing_of_the_collection_that_was_made_meanwhile(
    world, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ergonaut_vectors.service.DROPPED_LOOKS_MAX", 1)
    world.logs = HeldLog()
    async with world.running() as slow, world.aside().running() as other:
        await slow.create("acme", SCHEMA)
        async with asyncio.TaskGroup() as tasks:
            dropping = tasks.create_task(slow.drop("acme", "digits"))
            await world.logs.held.wait()
            await other.create("acme", SCHEMA)
            await write(other, points(3))
            world.logs.let_go.set()
            await dropping
        assert await found(other) == {"p0", "p1", "p2"}
        assert await write(other, points(1, first=3)) == 2
        assert world.book.records[KEY].stage is Stage.READY


async def test_a_drop_is_finished_though_its_caller_leaves(world) -> None:
    world.logs = HeldLog()
    async with world.running() as vectors:
        await vectors.create("acme", SCHEMA)
        dropping = asyncio.create_task(vectors.drop("acme", "digits"))
        await world.logs.held.wait()
        dropping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dropping
        world.logs.let_go.set()
        async with asyncio.timeout(10):
            while world.book.records:
                await asyncio.sleep(0.001)
        assert world.logs.logs == {}
        assert await vectors.create("acme", SCHEMA)


async def test_a_collection_is_made_when_another_process_has_dropped_the_one_before(world) -> None:
    world.logs = HeldLog()
    async with world.running() as slow, world.aside().running() as other:
        before = (await slow.create("acme", SCHEMA)).record.uid
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(slow.drop("acme", "digits"))
            await world.logs.held.wait()
            making = tasks.create_task(other.create("acme", SCHEMA))
            await asyncio.sleep(0)
            world.logs.let_go.set()
        assert making.result().record.uid != before
        assert world.logs.removals == 1, "who makes it leaves the dropping to who drops it"
        assert [what for what, _ in world.announced.told] == ["created", "dropped", "created"]


async def test_a_log_that_one_before_it_left_behind_is_none_of_a_new_collection(world, vectors: Vectors) -> None:
    await world.logs.make(KEY, owner="collection-before")
    await world.logs.append(KEY, b"left", 0)
    await vectors.create("acme", SCHEMA)
    assert await write(vectors, points(1)) == 1
    assert await found(vectors) == {"p0"}


class PartlyDamaged(FakeCollectionBook):
    """A book with one record that cannot be read when it is looked for."""

    async def find(self, key: Key) -> Record | None:
        if key.name == "damaged":
            raise Broken("the record cannot be read")
        return await super().find(key)


async def test_who_cannot_read_one_record_still_hears_of_the_others(world) -> None:
    world.book = PartlyDamaged()
    async with world.running() as vectors:
        for name in ("damaged", "whole"):
            await world.book.add(Record(Key("acme", name), Schema(name, 4), new_id("collection"), Stage.READY))
        async with asyncio.timeout(10):
            while not vectors.all("acme"):
                await asyncio.sleep(0)
        assert [each.schema.name for each in vectors.all("acme")] == ["whole"]


async def test_a_making_that_was_cut_short_is_finished_at_the_next_start(world) -> None:
    async with world.running() as before:
        await before.create("acme", SCHEMA)
    await world.book.change(world.book.records[KEY].at(Stage.MAKING))
    await world.logs.remove(KEY)
    async with world.running() as after:
        assert await write(after, points(1)) == 1
    assert world.book.records[KEY].stage is Stage.READY


async def test_a_message_that_follows_the_end_is_applied_when_it_comes_from_elsewhere(world, vectors: Vectors) -> None:
    await vectors.create("acme", SCHEMA)
    await write(vectors, points(2))
    last = await world.logs.last(KEY)
    await world.logs.append(KEY, messages_of(Batch(Deletes(("p0",))), digest_of(last.content))[0], 1)
    assert await found(vectors, sequence_min=2) == {"p1"}
