"""What one process does to collections is seen by the others that share its book, within a moment."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from ergonaut.errors import Conflict, NotFound
from ergonaut_vectors.domain.indexes.port import Kind
from ergonaut_vectors.domain.records import Key, Record, Stage
from ergonaut_vectors.domain.schema import IndexWish, Schema
from ergonaut_vectors.fakes import FakeCollectionBook
from ergonaut_vectors.service import Vectors

from .conftest import World

SOON_SECONDS = 5.0
SCHEMA, KEY = Schema("digits", 2), Key("acme", "digits")


async def seen(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON_SECONDS):
        while not what():
            await asyncio.sleep(0)


@pytest.fixture
def beside(world: World) -> World:
    return world.aside()


@pytest.fixture
async def other(beside: World) -> AsyncIterator[Vectors]:
    async with beside.running() as service:
        yield service


async def test_collections_that_another_made_are_listed_and_one_that_it_dropped_is_not(
    vectors: Vectors, other: Vectors, beside: World
) -> None:
    await vectors.create("acme", SCHEMA)
    await seen(lambda: len(other.all("acme")) == 1)
    opened = await other.open("acme", "digits")
    await opened.seen({})
    store = opened.record.store_of(0)
    assert store in beside.stores.stores
    await vectors.drop("acme", "digits")
    await seen(lambda: not other.all("acme"))
    await seen(lambda: store not in beside.stores.stores)
    with pytest.raises(NotFound, match="there is no collection"):
        await other.open("acme", "digits")


async def test_an_index_that_is_wished_for_at_one_is_aimed_at_by_all(vectors: Vectors, other: Vectors) -> None:
    await vectors.create("acme", SCHEMA)
    opened = await other.open("acme", "digits")
    await opened.seen({})
    wish = IndexWish(Kind.GRAPH, 0.9)
    await vectors.set_index("acme", "digits", wish)
    await seen(lambda: other.all("acme")[0].schema.index == wish)
    live = other.opening.found(KEY)
    await seen(lambda: live is not None and live.schema.index == wish)


async def test_one_that_was_made_anew_is_never_taken_for_the_one_before(vectors: Vectors, other: Vectors) -> None:
    await vectors.create("acme", SCHEMA)
    before = (await other.open("acme", "digits")).record.uid
    gone: list[str] = []

    async def note(record: Record) -> None:
        gone.append(record.uid)

    other.gone = note
    await vectors.drop("acme", "digits")
    await vectors.create("acme", Schema("digits", 5))
    # It has heard of nothing yet, and asks before it makes what is there.
    opened = await other.create("acme", Schema("digits", 5))
    assert opened.schema.dimension == 5
    assert gone == [before]
    await other.look(KEY)
    assert (await other.open("acme", "digits")).record == (await vectors.open("acme", "digits")).record


async def test_a_process_leaves_though_the_first_word_to_end_gets_lost(world: World) -> None:
    class Deaf(FakeCollectionBook):
        async def changes(self) -> AsyncIterator[tuple[Key, Record | None]]:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            async for change in super().changes():
                yield change

    world.book = Deaf()
    async with asyncio.timeout(10), world.running():
        await asyncio.sleep(0)


async def test_of_two_that_change_a_record_at_once_one_is_told(world: World, vectors: Vectors) -> None:
    record = (await vectors.create("acme", SCHEMA)).record
    await world.book.change(record.at(Stage.DROPPING), record)
    with pytest.raises(Conflict, match="changed meanwhile"):
        await world.book.change(record, record)
