"""Logs that are trimmed as they grow: nothing acknowledged is lost, wherever the process dies, whatever it loses with it."""

import asyncio
import contextlib
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergonaut.errors import Broken, NotFound, Unavailable
from ergonaut_common.bus import Bus
from ergonaut_vectors.domain.segments.writes import Deletes
from ergonaut_vectors.domain.trimming import Keep, Standing, Trim, next_step
from ergonaut_vectors.opened import Collection

from .sites import Life, Site

ROUNDS = 40
"""Writes of a test, 4 kB each: more than the log takes in all."""


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

        async def dies(*_: Any, **__: Any) -> None:
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


async def test_a_copy_shares_the_files_of_its_source_on_the_shelf_for_as_long_as_one_needs_them(site: Site) -> None:
    files = site.folder / "shelf" / "files"
    async with site.running() as process:
        for at in range(ROUNDS):
            await process.write(at)
            await process.trim()
        kept = await process.archive.make(site.tenant, "digits")
        source = process.collection.record.uid
        before = len(list(files.rglob("*")))
        opened = await process.archive.restore(site.tenant, "digits", "copy", kept.id)
        assert isinstance(opened, Collection)
        assert len(list(files.rglob("*"))) == before
        await process.archive.drop(site.tenant, "digits", kept.id)
        await process.vectors.drop(site.tenant, "digits")
    site.lose_disk()
    async with site.running() as process:
        copy = await process.vectors.open(site.tenant, "copy")
        assert await process.content(copy) == site.truth
        assert list((files / site.tenant / source).iterdir())
        await process.vectors.drop(site.tenant, "copy")
        assert not [path for path in files.rglob("*") if path.is_file()]
