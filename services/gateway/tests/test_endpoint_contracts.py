"""What every book of endpoints and of their figures promises, held by the fakes and by the adapters on a real NATS."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from ergonaut.errors import Broken, Conflict
from ergonaut_common.bus import Bus, open_bus
from ergonaut_common.settings import PlatformSettings
from ergonaut_gateway.adapters.endpoints import KvEndpointBook, KvFiguresBook
from ergonaut_gateway.domain.endpoints.figures import GONE, EndpointFigures, RouteFigures
from ergonaut_gateway.domain.endpoints.records import EndpointEntry, EndpointRecord, Revision
from ergonaut_gateway.domain.endpoints.spec import Endpoint, Mirror, Route
from ergonaut_gateway.fakes import FakeEndpointBook, FakeFiguresBook
from ergonaut_gateway.ports import EndpointBook, FiguresBook

AT = datetime(2026, 1, 1, 12, 30, 0, 250, tzinfo=UTC)
WHOLE = Endpoint(
    "digits",
    (Route("champion", "digits", "1", 99.5), Route("canary", "digits", "champion", 0.5)),
    (Mirror("other", share=0.1),),
    key_parameter="user",
    slow_milliseconds=20.0,
)
RECORD = EndpointRecord(
    "default", "digits", Revision(2, WHOLE, "ann", AT, "why not"), (Revision(1, WHOLE, "bob", AT),), is_told=True
)
FIGURES = EndpointFigures("p-1", 2, {"champion": RouteFigures(5, 4, 3, 2, 1, 1, 0.25)})


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    async with open_bus(PlatformSettings(nats_url=nats_url), "test") as opened:
        yield opened


@pytest.fixture(params=["fake", "nats"])
async def book(request: pytest.FixtureRequest, bus: Bus) -> EndpointBook:
    if request.param == "fake":
        return FakeEndpointBook()
    return KvEndpointBook(await bus.key_value(f"endpoints-{uuid4().hex}"))


@pytest.fixture(params=["fake", "nats"])
async def figures(request: pytest.FixtureRequest, bus: Bus) -> FiguresBook:
    if request.param == "fake":
        return FakeFiguresBook()
    return KvFiguresBook(await bus.key_value(f"figures-{uuid4().hex}"))


async def test_a_record_is_read_as_it_was_written(book: EndpointBook) -> None:
    assert await book.get("default", "digits") is None
    entry = await book.put(RECORD, revision=0)
    assert await book.get("default", "digits") == entry == EndpointEntry(RECORD, entry.revision)
    gone = await book.put(replace(RECORD, removed_at=AT), revision=entry.revision)
    assert await book.entries() == [gone]


async def test_a_writer_that_comes_second_is_told_and_changes_nothing(book: EndpointBook) -> None:
    first = await book.put(RECORD, revision=0)
    for stale in (0, first.revision + 5):
        with pytest.raises(Conflict):
            await book.put(replace(RECORD, is_told=False), revision=stale)
    assert await book.get("default", "digits") == first


async def test_changes_begin_with_what_is_there_and_follow_what_comes(book: EndpointBook) -> None:
    seen: list[EndpointEntry] = []

    async def watch() -> None:
        async for entry in book.changes(seconds=3.0):
            seen.append(entry)

    first = await book.put(RECORD, revision=0)
    watching = asyncio.create_task(watch())
    async with asyncio.timeout(30):
        while not seen:
            await asyncio.sleep(0.01)
    second = await book.put(replace(RECORD, is_told=False), revision=first.revision)
    async with asyncio.timeout(30):
        await watching
    assert seen == [first, second]


async def test_a_damaged_record_keeps_no_other_away_and_is_named_to_who_asks_for_it(bus: Bus) -> None:
    bucket = await bus.key_value(f"endpoints-{uuid4().hex}")
    await bucket.put("default.broken", b"{")
    book = KvEndpointBook(bucket)
    entry = await book.put(RECORD, revision=0)
    assert await book.entries() == [entry]
    with pytest.raises(Broken, match=r"default\.broken"):
        await book.get("default", "broken")


async def test_each_processs_newest_figures_of_an_endpoint_are_kept_until_they_are_forgotten(
    figures: FiguresBook,
) -> None:
    newer = replace(FIGURES, routes={"champion": RouteFigures(9)})
    for told in (FIGURES, newer, replace(FIGURES, process="p-2")):
        await figures.tell("default", "digits", told)
    await figures.tell("other", "digits", FIGURES)
    assert {each.process: each for each in await figures.told("default", "digits")} == {
        "p-1": newer,
        "p-2": replace(FIGURES, process="p-2"),
    }
    await figures.forget("default", "digits", "p-1")
    assert [each.process for each in await figures.told("default", "digits")] == ["p-2"]
    assert await figures.told("other", "digits") == [FIGURES]


async def test_the_sum_of_processes_that_are_gone_is_replaced_only_by_who_knows_what_it_replaces(
    figures: FiguresBook,
) -> None:
    sums = EndpointFigures(GONE, 2, FIGURES.routes, {"p-1": FIGURES.routes})
    await figures.tell("default", "digits", FIGURES)
    await figures.put("default", "digits", sums, revision=0)
    with pytest.raises(Conflict):
        await figures.put("default", "digits", sums, revision=0)
    kept = {each.figures.process: each for each in await figures.entries()}
    assert {(each.tenant, each.name) for each in kept.values()} == {("default", "digits")}
    assert kept[GONE].figures == sums
    assert kept["p-1"].figures == FIGURES
    newer = replace(sums, revision=3)
    await figures.put("default", "digits", newer, revision=kept[GONE].revision)
    assert [each.figures for each in await figures.entries() if each.figures.process == GONE] == [newer]
    await figures.forget("default", "digits", GONE)
    await figures.put("default", "digits", sums, revision=0)
    assert sums in await figures.told("default", "digits")
