"""The contract of each port, over the fake and over a real NATS server."""

import asyncio
from contextlib import aclosing

import pytest

from ergonaut.errors import Broken, Conflict, NotFound
from ergonaut.events import CollectionCreated, CollectionDropped
from ergonaut.ids import new_id
from ergonaut_common.bus import Bus
from ergonaut_vectors.adapters.announcing import BusAnnouncer
from ergonaut_vectors.adapters.book import BUCKET, KeyValueBook
from ergonaut_vectors.adapters.log import JetStreamLog
from ergonaut_vectors.domain.records import Key, Record, Stage
from ergonaut_vectors.domain.schema import Schema
from ergonaut_vectors.domain.space import Metric
from ergonaut_vectors.fakes import FakeAnnouncer, FakeCollectionBook, FakeLog
from ergonaut_vectors.ports import Announcer, CollectionBook, Log, LogFull, LogMessage

LOG_BYTES_MAX = 1_000_000

KINDS = pytest.mark.parametrize("kind", ["fake", "nats"])


@pytest.fixture
async def logs(kind: str, bus: Bus) -> Log:
    return FakeLog(LOG_BYTES_MAX) if kind == "fake" else JetStreamLog(bus.jetstream, LOG_BYTES_MAX)


@pytest.fixture
async def book(kind: str, bus: Bus) -> CollectionBook:
    return FakeCollectionBook() if kind == "fake" else KeyValueBook(await bus.key_value(BUCKET))


@pytest.fixture
def key() -> Key:
    return Key(new_id("tenant"), "digits")


def record_of(key: Key, stage: Stage = Stage.MAKING) -> Record:
    return Record(key, Schema(key.name, 64, Metric.COSINE, links=8, candidates_build=50), new_id("collection"), stage)


async def taken(logs: Log, key: Key, after: int, count: int) -> list[LogMessage]:
    """The next messages of a log, which must come soon."""
    found: list[LogMessage] = []
    async with asyncio.timeout(30), aclosing(logs.follow(key, after)) as messages:
        async for some in messages:
            found += some
            if len(found) >= count:
                break
    return found[:count]


@KINDS
async def test_a_record_is_found_as_it_was_written(book: CollectionBook, key: Key) -> None:
    assert await book.find(key) is None
    record = record_of(key)
    await book.add(record)
    assert await book.find(key) == record
    assert record in await book.all()


@KINDS
async def test_a_key_has_one_record(book: CollectionBook, key: Key) -> None:
    record = record_of(key)
    await book.add(record)
    with pytest.raises(Conflict):
        await book.add(record_of(key))
    await book.change(record.at(Stage.READY))
    assert await book.find(key) == record.at(Stage.READY)


@KINDS
async def test_a_record_is_changed_only_where_it_is_as_its_changer_knows_it(book: CollectionBook, key: Key) -> None:
    record = record_of(key)
    await book.add(record)
    ready = record.at(Stage.READY)
    await book.change(ready, record)
    await book.change(ready, record)
    with pytest.raises(Conflict):
        await book.change(record.at(Stage.DROPPING), record)
    assert await book.find(key) == ready


@KINDS
async def test_whoever_watches_a_book_sees_what_is_there_and_what_becomes_of_it(book: CollectionBook, key: Key) -> None:
    record = record_of(key)
    await book.add(record)
    async with asyncio.timeout(10), aclosing(book.changes()) as changes:
        seen = (change async for found, change in changes if found == key)
        assert await anext(seen) == record
        await book.change(record.at(Stage.READY))
        assert await anext(seen) == record.at(Stage.READY)
        await book.remove(record)
        assert await anext(seen) is None


@KINDS
async def test_a_removed_record_makes_room_for_another(book: CollectionBook, key: Key) -> None:
    first = record_of(key)
    await book.add(first)
    await book.remove(first.at(Stage.DROPPING))
    await book.remove(first)
    assert await book.find(key) is None
    assert all(record.key != key for record in await book.all())
    second = record_of(key)
    await book.add(second)
    await book.remove(first)
    assert await book.find(key) == second


@KINDS
async def test_a_log_gives_back_what_was_appended_in_order_and_what_comes_later(logs: Log, key: Key) -> None:
    await logs.make(key)
    await logs.make(key)
    assert await logs.last(key) is None
    assert [await logs.append(key, content, at) for at, content in enumerate([b"one", b"two"])] == [1, 2]
    assert await logs.last(key) == LogMessage(2, b"two")
    waiting = asyncio.create_task(taken(logs, key, 1, 2))
    await asyncio.sleep(0)
    assert await logs.append(key, b"three", 2) == 3
    assert await waiting == [LogMessage(2, b"two"), LogMessage(3, b"three")]
    assert await taken(logs, key, 0, 1) == [LogMessage(1, b"one")]


@KINDS
async def test_who_has_read_more_than_a_log_has_is_told_that_it_lost_its_end(logs: Log, key: Key) -> None:
    await logs.make(key)
    await logs.append(key, b"first", 0)
    with pytest.raises(Broken, match="it ends at message 1, but message 3 was applied once: the log has lost its end"):
        await taken(logs, key, after=3, count=1)


@KINDS
async def test_of_two_writers_at_one_place_only_one_succeeds(logs: Log, key: Key) -> None:
    await logs.make(key)
    await logs.append(key, b"mine", 0)
    with pytest.raises(Conflict):
        await logs.append(key, b"yours", 0)
    assert await logs.last(key) == LogMessage(1, b"mine")


@KINDS
async def test_a_full_log_refuses_and_forgets_nothing(logs: Log, key: Key) -> None:
    await logs.make(key)
    await logs.append(key, b"a" * 600_000, 0)
    with pytest.raises(LogFull, match="log of collection digits is full"):
        await logs.append(key, b"b" * 600_000, 1)
    assert [message.sequence for message in await taken(logs, key, 0, 1)] == [1]


@KINDS
async def test_a_log_that_is_trimmed_goes_on_where_it_was_and_keeps_its_last_message(logs: Log, key: Key) -> None:
    await logs.make(key)
    for at in range(4):
        await logs.append(key, b"a" * 240_000, at)
    assert (await logs.extent(key)).first == 1
    with pytest.raises(LogFull):
        await logs.append(key, b"b" * 240_000, 4)
    await logs.trim(key, 3)
    extent = await logs.extent(key)
    assert (extent.first, extent.last) == (3, 4)
    assert 480_000 <= extent.size_bytes < 490_000
    assert await logs.append(key, b"b" * 240_000, 4) == 5
    assert [message.sequence for message in await taken(logs, key, 0, 3)] == [3, 4, 5]
    await logs.trim(key, 9)
    await logs.trim(key, 2)
    assert (await logs.extent(key)).first == 5
    assert await logs.last(key) == LogMessage(5, b"b" * 240_000)


@KINDS
async def test_a_log_that_goes_on_from_a_state_begins_behind_it(logs: Log, key: Key) -> None:
    for _ in range(2):
        await logs.make(key, LogMessage(1001, b"first"))
        assert await logs.last(key) == LogMessage(1001, b"first")
    assert await logs.append(key, b"second", 1001) == 1002
    await logs.make(key, LogMessage(1001, b"first"))
    assert (await logs.extent(key)).first == 1001
    assert [message.sequence for message in await taken(logs, key, 1000, 2)] == [1001, 1002]


@KINDS
async def test_a_removed_log_is_gone_and_can_be_made_again_empty(logs: Log, key: Key) -> None:
    await logs.make(key)
    await logs.append(key, b"old", 0)
    await logs.remove(key)
    await logs.remove(key)
    with pytest.raises(NotFound):
        await logs.last(key)
    with pytest.raises(NotFound):
        await taken(logs, key, 0, 1)
    await logs.make(key)
    assert await logs.last(key) is None


@KINDS
async def test_a_log_is_made_and_removed_for_its_own_collection_alone(logs: Log, key: Key) -> None:
    await logs.make(key, owner="second")
    await logs.make(key, owner="second")
    await logs.append(key, b"kept", 0)
    with pytest.raises(Conflict, match="another collection's"):
        await logs.make(key, owner="first")
    await logs.remove(key, owner="first")
    assert await logs.last(key) == LogMessage(1, b"kept")
    await logs.remove(key, owner="second")
    with pytest.raises(NotFound):
        await logs.last(key)


@KINDS
async def test_an_append_that_is_tried_again_is_stored_once(logs: Log, key: Key) -> None:
    await logs.make(key)
    assert await logs.append(key, b"same", 0) == 1
    assert await logs.append(key, b"same", 0) == 1
    assert await logs.append(key, b"same", 1) == 2
    assert await logs.last(key) == LogMessage(2, b"same")


@KINDS
async def test_a_write_that_belongs_behind_another_does_not_stand_behind_anything_else(logs: Log, key: Key) -> None:
    await logs.make(key)
    assert await logs.append(key, b"first", 0, name="one") == 1
    with pytest.raises(Conflict):
        await logs.append(key, b"second", 1, name="two", behind="another")
    assert await logs.append(key, b"second", 1, name="two", behind="one") == 2
    assert await logs.append(key, b"second", 1, name="two", behind="one") == 2
    assert await logs.last(key) == LogMessage(2, b"second")


@KINDS
async def test_many_writes_may_be_begun_at_once_each_behind_the_one_before(logs: Log, key: Key) -> None:
    await logs.make(key)
    names = ["", *(str(at) for at in range(1, 101))]
    writes = (
        logs.append(key, names[at].encode(), at - 1, name=names[at], behind=names[at - 1]) for at in range(1, 101)
    )
    assert await asyncio.gather(*writes) == list(range(1, 101))
    assert [message.content.decode() for message in await taken(logs, key, 0, 100)] == names[1:]


@pytest.mark.parametrize("kind", ["nats"])
async def test_a_log_takes_more_when_the_settings_allow_more(logs: Log, key: Key, bus: Bus) -> None:
    await logs.make(key)
    await logs.append(key, b"a" * 900_000, 0)
    larger = JetStreamLog(bus.jetstream, 3 * LOG_BYTES_MAX)
    await larger.last(key)
    assert await larger.append(key, b"b" * 900_000, 1) == 2


@KINDS
async def test_what_is_announced_twice_is_told_once(kind: str, bus: Bus, key: Key) -> None:
    fake = FakeAnnouncer()
    announcer: Announcer = fake if kind == "fake" else BusAnnouncer(bus)
    await bus.ensure_streams("vectors")
    before = (await bus.jetstream.stream_info("ERGONAUT_VECTORS")).state.messages
    record = record_of(key)
    for _ in range(2):
        await announcer.created(record)
        await announcer.dropped(record)
    after = (await bus.jetstream.stream_info("ERGONAUT_VECTORS")).state.messages
    assert (len(fake.told) if kind == "fake" else after - before) == 2


async def test_the_events_say_what_was_made_and_dropped(bus: Bus, key: Key) -> None:
    await bus.ensure_streams("vectors")
    subscription = await bus.connection.subscribe(f"ergonaut.v1.{key.tenant}.vectors.>")
    record = record_of(key)
    await BusAnnouncer(bus).created(record)
    await BusAnnouncer(bus).dropped(record)
    created = CollectionCreated.model_validate_json((await subscription.next_msg(5)).data)
    dropped = CollectionDropped.model_validate_json((await subscription.next_msg(5)).data)
    assert (created.tenant, created.collection, created.dimension, created.metric) == (
        key.tenant,
        "digits",
        64,
        "cosine",
    )
    assert (dropped.tenant, dropped.collection) == (key.tenant, "digits")


async def test_one_damaged_record_keeps_no_other_collection_away(bus: Bus, key: Key) -> None:
    bucket = await bus.key_value(BUCKET)
    book, record = KeyValueBook(bucket), record_of(key)
    damaged = Key(key.tenant, "damaged")
    await book.add(record)
    await bucket.put(str(damaged), b"{}")
    found = [each.key for each in await book.all()]
    assert key in found
    assert damaged not in found
    with pytest.raises(Broken, match="damaged"):
        await book.find(damaged)
