"""Any moment comes back as it was, whatever shards do meanwhile: split, merge, get other indexes, forget how their logs began."""

import asyncio
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ergonaut.errors import Broken, NotFound
from ergonaut_common.bus import Bus
from ergonaut_vectors.domain.indexes.port import Kind
from ergonaut_vectors.domain.schema import IndexWish
from ergonaut_vectors.domain.segments.ids import Digest
from ergonaut_vectors.domain.segments.view import Cursor, View

from .sites import Process, Site

ROUNDS = 30
WISHES = (IndexWish(Kind.FLAT), IndexWish(Kind.GRAPH, 0.9), IndexWish(Kind.LISTS, 0.9), IndexWish())


@dataclass(frozen=True, slots=True)
class Moment:
    """What there was, at a time at which nobody wrote."""

    at: datetime
    digest: Digest
    truth: dict[str, float]


def digest_of(views: list[View]) -> Digest:
    """Of shards together, however many they are."""
    return Digest(*(sum(view.digest[at] for view in views) % 2**64 for at in range(2)))


def content_of(views: list[View]) -> dict[str, float]:
    return {
        stored.id: float(view.vectors([stored.place])[0, 0])
        for view in views
        for stored in view.scroll(Cursor(), 10_000)
    }


async def now(process: Process) -> Moment:
    """The moment behind the last write that was answered, and what a replica that stops here has."""
    views = list((await process.collection.seen({})).views)
    assert content_of(views) == process.site.truth
    return Moment(datetime.now(UTC), digest_of(views), dict(process.site.truth))


async def trim(process: Process) -> None:
    for record, number, live in process.vectors.opening.kept():
        await process.trimming.trim(record, number, live)


async def disturb(process: Process, chance: random.Random) -> None:
    """What changes how a collection is held and nothing of what it holds."""
    site, what = process.site, chance.randrange(5)
    if what == 0 and len(process.collection.record.shards) < 4:
        await process.splitting.split(site.tenant, "digits", chance.randrange(len(process.collection.record.shards)))
    elif what == 1:
        await process.vectors.set_index(site.tenant, "digits", chance.choice(WISHES))
    elif what == 2:
        await process.archive.make(site.tenant, "digits")
    elif what == 3:
        for _, _, live in process.vectors.opening.kept():
            await live.save_soon(live.view.position)
    else:
        await trim(process)


async def is_as_it_was(process: Process, moment: Moment) -> bool:
    """Whether a moment comes back; False where it is told to be lost. Never is it another."""
    try:
        async with process.archive.as_of(process.site.key, moment.at) as (_, states):
            views = [state.caught.kept.checkpoint.view for state in states]
            assert (digest_of(views), content_of(views)) == (moment.digest, moment.truth)
    except (NotFound, Broken) as error:
        if "begins at message" not in str(error):
            raise
        return False
    return True


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("log_bytes_max", [2_000_000, 100_000])
async def test_any_moment_comes_back_whatever_shards_do_meanwhile(
    bus: Bus, tmp_path: Path, seed: int, log_bytes_max: int
) -> None:
    """In a log that keeps all, and in one that forgets what came first; of that a moment may be told to be lost."""
    chance, site = random.Random(seed), Site(bus, tmp_path, log_bytes_max)
    async with site.running() as process:
        moments = [await now(process)]
        for at in range(ROUNDS):
            writing = asyncio.create_task(process.write(at))
            if chance.random() < 0.6:
                await disturb(process, chance)
            await writing
            if log_bytes_max < 2_000_000:
                await trim(process)
            moments.append(await now(process))
        came = [await is_as_it_was(process, moment) for moment in [*chance.sample(moments[:-1], 8), moments[-1]]]
        assert came[-1]
        assert all(came) or log_bytes_max < 2_000_000
