"""Shards that are split while they are read and written: nothing acknowledged is lost, doubled or seen too late."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ergonaut.errors import Refused, Unavailable
from ergonaut_common.bus import Bus
from ergonaut_vectors.domain.batches import NO_DIGEST, Batch, digest_of, messages_of
from ergonaut_vectors.domain.fences import Fence, given_in, mark_of, pending, with_fence
from ergonaut_vectors.domain.placing.slots import SLOTS, SlotRange, slots_of
from ergonaut_vectors.domain.replica import Replica
from ergonaut_vectors.domain.schema import Schema
from ergonaut_vectors.domain.segments.ids import Digest
from ergonaut_vectors.domain.segments.view import Cursor, View
from ergonaut_vectors.domain.segments.work import Policy
from ergonaut_vectors.domain.segments.writes import Deletes, Upserts, Write
from ergonaut_vectors.opened import Collection

from .sites import Life, Process, Site

ROUNDS = 16
LARGE = 2_000_000
"""Bytes of a log that is not trimmed meanwhile."""


@pytest.fixture
def site(bus: Bus, tmp_path: Path) -> Site:
    return Site(bus, tmp_path, LARGE)


async def filled(process: Process, rounds: int = ROUNDS) -> None:
    for at in range(rounds):
        await process.write(at)


@contextlib.asynccontextmanager
async def looking_on(process: Process) -> AsyncIterator[list[int]]:
    """Somebody looks all the time: whatever was acknowledged before is there, once. Nothing may be removed meanwhile."""
    looks: list[int] = []

    async def look() -> None:
        while True:
            before = dict(process.site.truth)
            views = (await process.collection.seen({})).views
            every = [stored.id for view in views for stored in view.scroll(Cursor(), 10_000)]
            assert len(every) == len(set(every)), "an id is answered for by one shard"
            assert set(before) <= set(every)
            looks.append(len(every))
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    try:
        yield looks
    finally:
        looking.cancel()
        await asyncio.wait([looking])
    if not looking.cancelled():
        looking.result()


async def test_a_shard_is_split_while_it_is_read_and_written_and_nobody_notices(site: Site) -> None:
    async with site.running() as process:
        await filled(process)
        async with looking_on(process) as looks:
            splitting = asyncio.create_task(process.splitting.split(site.tenant, "digits", 0))
            at = ROUNDS + 1
            while not splitting.done():
                await process.write(at := at + 3)
            assert await splitting == 1
            first = process.collection.record
            await process.splitting.split(site.tenant, "digits", 1)
            await process.write(at + 3)
        assert looks
        assert [(each.first, each.after) for each in first.ranges] == [(0, 512), (512, SLOTS)]
        views = (await process.collection.seen({})).views
        assert len(views) == 3
        assert sum(view.count for view in views) == len(site.truth)
        assert await process.content() == site.truth
    site.lose_disk()
    async with site.running() as process:
        assert await process.content() == site.truth
        await process.write(1000)
        assert await process.content() == site.truth


async def test_wherever_a_process_dies_while_it_splits_the_next_one_goes_on(bus: Bus, tmp_path: Path) -> None:
    for steps in range(1, 100, 3):
        site, life = Site(bus, tmp_path / str(steps), LARGE), Life(1_000_000)
        async with site.running(life) as process:
            await filled(process)
            life.steps = steps
            with contextlib.suppress(Unavailable):
                await process.splitting.split(site.tenant, "digits", 0)
            done = life.steps >= 0
        if steps % 2:
            site.lose_disk()
        async with site.running() as process:
            assert await process.content() == site.truth
            if pending(process.live.given) is not None:
                writing = asyncio.create_task(process.write(500))
                await process.splitting.look()
                await writing
            await process.write(501)
            assert await process.content() == site.truth
            views = (await process.collection.seen({})).views
            assert sum(view.count for view in views) == len(site.truth)
        if done:
            return
    raise AssertionError("it never came to an end")


async def test_a_shard_that_is_too_large_is_split_by_itself_and_one_that_is_not_is_left_alone(site: Site) -> None:
    async with site.running() as process:
        await filled(process)
        await process.splitting.look()
        assert len(process.collection.record.shards) == 1
        await filled(process, 30)
        await process.splitting.look()
        assert len(process.collection.record.shards) == 2
        await process.splitting.look()
        assert len(process.collection.record.shards) == 2
        assert await process.content() == site.truth
        with pytest.raises(Refused, match="has shards 0 to 1"):
            await process.splitting.split(site.tenant, "digits", 2)


async def test_copies_and_moments_of_a_collection_that_was_split_are_whole(site: Site) -> None:
    async with site.running() as process:
        await filled(process)
        before, moment = dict(site.truth), datetime.now(UTC)
        await process.splitting.split(site.tenant, "digits", 0)
        kept = await process.archive.make(site.tenant, "digits")
        held = dict(site.truth)
        await process.write(600)
        for at, (when, truth) in enumerate([(None, site.truth), (kept.id, held), (moment, before)]):
            opened = await process.archive.restore(site.tenant, "digits", f"copy-{at}", when)
            assert isinstance(opened, Collection)
            assert await process.content(opened) == truth
            assert len(opened.record.shards) == (1 if when is moment else 2)
            await opened.write(Deletes(["again-0", "again-1", "again-2"]))
            assert len(await process.content(opened)) == len(truth) - 3
        await process.vectors.drop(site.tenant, "digits")
        assert not list((site.folder / "shelf" / "states").rglob(f"{process.collection.record.uid}/*/0*"))


async def test_writes_that_wait_for_a_split_stand_behind_it_in_the_order_in_which_they_came(site: Site) -> None:
    async with site.running() as process:
        await filled(process)
        splitting = asyncio.create_task(process.splitting.split(site.tenant, "digits", 0))
        writes: list[asyncio.Task[object]] = []
        at = 0
        while not splitting.done():
            at += 1
            rows = np.full((64, 32), at, np.float32)
            batch = Upserts([f"same-{i}" for i in range(64)], rows)
            writes.append(asyncio.create_task(process.collection.write(batch)))
            if at % 8 == 0:
                await writes[-1]
            await asyncio.sleep(0)
        await splitting
        await asyncio.gather(*writes)
        found = await process.content()
        assert {found[f"same-{i}"] for i in range(64)} == {float(at)}


SPACE = Schema("digits", 4).space
NAMES = [f"point-{at}" for at in range(40)]
UPPER = SlotRange(SLOTS // 2, SLOTS)
IN_UPPER = {name for name, slot in zip(NAMES, slots_of(NAMES).tolist(), strict=True) if slot in UPPER}
batches = st.lists(
    st.tuples(st.booleans(), st.lists(st.sampled_from(NAMES), min_size=1, max_size=6, unique=True)), max_size=25
)


def entries_of(written: list[tuple[bool, list[str]]], fence: int, last: int) -> list[Write | Fence]:
    entries: list[Write | Fence] = [
        Deletes(names) if is_removal else Upserts(names, np.full((len(names), 4), at, np.float32))
        for at, (is_removal, names) in enumerate(written)
    ]
    entries.insert(min(fence, len(entries)), Fence(UPPER, 1))
    entries.insert(min(fence + 1 + last, len(entries)), Fence(UPPER, 1, is_last=True))
    return entries


@settings(deadline=None, max_examples=30)
@given(batches, st.integers(0, 25), st.integers(0, 25))
def test_a_shard_and_what_is_split_off_it_hold_together_what_was_there(
    written: list[tuple[bool, list[str]]], fence: int, last: int
) -> None:
    replica, truth, digest, fenced = Replica(SPACE, {}, Policy()), dict[str, int](), NO_DIGEST, False
    for sequence, entry in enumerate(entries_of(written, fence, last), 1):
        before = replica.view
        [message] = messages_of(Batch(entry), digest)
        digest = digest_of(message)
        replica.take(sequence, message)
        if isinstance(entry, Fence):
            fenced = True
            assert replica.view.digest == (before.without(UPPER) if entry.is_last else before).digest
            continue
        is_void = fenced and not IN_UPPER.isdisjoint(entry.ids)
        assert (replica.given_by(sequence) is not None) == is_void
        if not is_void and isinstance(entry, Deletes):
            truth = {name: at for name, at in truth.items() if name not in set(entry.ids)}
        elif not is_void:
            truth |= dict.fromkeys(entry.ids, sequence)
        here, there = replica.view.without(UPPER), replica.view.without(SlotRange(0, UPPER.first))
        assert _sum(here.digest, there.digest) == replica.view.digest
        assert _held(here) == {name: at for name, at in truth.items() if name not in IN_UPPER}
        if not any(each.fence.is_last for each in given_in(replica.view.mark, 16)):
            assert _held(there) == {name: at for name, at in truth.items() if name in IN_UPPER}


def _held(view: View) -> dict[str, int]:
    return {stored.id: stored.sequence for stored in view.scroll(Cursor(), 1000)}


def _sum(one: Digest, other: Digest) -> Digest:
    return Digest((one.first + other.first) % 2**64, (one.second + other.second) % 2**64)


def test_a_mark_says_what_was_given_and_nothing_of_names_behind_it() -> None:
    given = with_fence((), Fence(SlotRange(512, 1024), 1), 7)
    given = with_fence(given, Fence(SlotRange(256, 512), 2), 9)
    assert pending(given) is given[0]
    given = with_fence(given, Fence(SlotRange(512, 1024), 1, is_last=True), 11)
    mark = b"d" * 16 + mark_of(given) + b"name" * 6
    assert given_in(mark, 16) == given
    assert [each.position for each in given] == [7, 9]
    assert given_in(b"d" * 16 + b"name" * 6, 16) == ()
