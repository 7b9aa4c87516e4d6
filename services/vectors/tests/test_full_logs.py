"""Logs that have no room for a while: whoever waits for it goes on as soon as there is, and whoever makes it is told of need."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ergonaut_common.bus import Bus
from ergonaut_vectors import appending
from ergonaut_vectors.appending import ATTEMPTS_MAX, Appender
from ergonaut_vectors.archive.trimming import Trimming
from ergonaut_vectors.domain.batches import Batch
from ergonaut_vectors.domain.records import Key
from ergonaut_vectors.domain.segments.writes import Upserts
from ergonaut_vectors.fakes import FakeLog
from ergonaut_vectors.ports import LogFull

from .hindered import KEY, ids_of, rows
from .sites import Site

PAGE = 30


class Refusing(FakeLog):
    """A log that has no room for what it is sent first, so many times, and tells of being trimmed before it answers."""

    def __init__(self, times: int = 1) -> None:
        super().__init__()
        self.refusals = times
        self.trimmed: Callable[[], None] = lambda: None

    async def append(self, key: Key, content: bytes, after: int, *, name: str = "", behind: str = "") -> int:
        if self.refusals and not after:
            self.refusals -= 1
            self.trimmed()
            raise LogFull("the log is full")
        return await super().append(key, content, after, name=name, behind=behind)


@pytest.mark.parametrize("is_told", [True, False])
async def test_a_write_that_was_refused_goes_on_when_there_is_room(
    is_told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where this node trims the log it is told at once, also when that was while it was refused; else it tries now and then."""
    monkeypatch.setattr(appending, "ROOM_AGAIN_SECONDS", 600 if is_told else 0.01)
    log = Refusing()
    await log.make(KEY)
    appender = Appender(KEY, log, room_seconds=600)
    if is_told:
        log.trimmed = appender.try_again
    async with asyncio.timeout(10):
        assert await appender.append(Batch(rows("x"))) == 1


async def test_writes_behind_one_that_finds_no_room_wait_as_long_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appending, "ROOM_AGAIN_SECONDS", 0.01)
    log = Refusing(2 * ATTEMPTS_MAX)
    await log.make(KEY)
    appender = Appender(KEY, log, room_seconds=600)
    async with asyncio.timeout(10):
        positions = await asyncio.gather(*(appender.append(Batch(rows(f"{at}"))) for at in range(3)))
    assert positions == [1, 2, 3]
    assert ids_of(log) == [["0"], ["1"], ["2"]]


async def test_a_write_for_which_there_is_never_room_is_told_so() -> None:
    log = FakeLog()
    log._bytes_max = 10
    await log.make(KEY)
    with pytest.raises(LogFull):
        await Appender(KEY, log, room_seconds=0.05).append(Batch(rows("x")))


class Repeats:
    """Moments of messages. While one is asked for that was asked for before, something else happens."""

    def __init__(self, past: Any, meanwhile: Callable[[], Awaitable[None]]) -> None:
        self._past, self._meanwhile = past, meanwhile
        self._asked: set[int] = set()

    async def written_at(self, key: Key, position: int) -> Any:
        if position in self._asked:
            await self._meanwhile()
        self._asked.add(position)
        return await self._past.written_at(key, position)


async def test_a_log_that_fills_behind_a_state_that_is_on_the_shelf_is_looked_at_again(
    bus: Bus, tmp_path: Path
) -> None:
    site = Site(bus, tmp_path)
    async with site.running() as process:
        for at in range(4):
            await process.collection.write(page(at))
        live, around, told = process.live, process.trimming._around, asyncio.Event()
        live._appender._room_seconds = 60  # a slow machine is not what this is about

        async def applied() -> None:
            told.set()
            await live.wait_for((await around.logs.extent(site.key)).last)

        await live.save_soon(live.view.position)
        past = Repeats(around.past, applied)
        trimming = Trimming(process.vectors.opening.kept, replace(around, past=past), site.log_bytes_max)
        # Nothing is applied for a while, so that nothing newer can be saved while the log fills.
        async with trimming.running(), asyncio.TaskGroup() as tasks, live._writing:
            for at in range(4, 30):
                tasks.create_task(process.collection.write(page(at)))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(told.wait(), 2)
        assert len(await process.content()) == 30 * PAGE


def page(at: int) -> Upserts:
    """A write of 4 kB."""
    return Upserts([f"{at}-{i}" for i in range(PAGE)], np.full((PAGE, 32), at, np.float32))
