"""Damage on disk beneath a shard at work: found, told, and mended from what the log and the shelf have."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ergonaut_common.bus import Bus
from ergonaut_vectors.adapters.segment_files import MANIFEST
from ergonaut_vectors.domain.segments.writes import Deletes, Upserts

from .sites import LIMITS, Site

STILL = replace(LIMITS.policy, merged_together=1_000, dead_fraction_max=1.0, tidied_ratio_max=0)
"""Nothing is merged, so that files stay as they are until they are looked at."""


@pytest.fixture
def site(bus: Bus, tmp_path: Path) -> Site:
    site = Site(bus, tmp_path)
    site.limits = replace(LIMITS, policy=STILL)
    return site


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]


def cut_off(content: bytes) -> bytes:
    return content[:-100]


@pytest.mark.parametrize("harm", [flipped, cut_off])
@pytest.mark.parametrize("name", ["*.segment", MANIFEST])
@pytest.mark.parametrize("writes", [1, 40])
async def test_damage_beneath_an_open_shard_is_found_and_mended(
    site: Site, harm: Callable[[bytes], bytes], name: str, writes: int
) -> None:
    """One write is in the log; of forty the first ones are on the shelf alone."""
    async with site.running() as process:
        for at in range(writes):
            await process.write(at)
            await process.trim()
        await process.live.save_soon(process.live.view.position)
        assert (await site.first() > 1) == (writes > 1)
        live = process.live
        assert await process.scrubbing.round() == []
        assert process.live is live
        folder = site.folder / "shards" / process.collection.record.store_of(0)
        path = sorted(folder.glob(name))[0]
        path.write_bytes(harm(path.read_bytes()))
        assert await process.scrubbing.round() == [str(site.key)]
        assert await process.content() == site.truth
        assert folder.with_name(f"{folder.name}.damaged").exists()
        assert await process.scrubbing.round() == []
        await process.write(1000)
        assert await process.content() == site.truth


async def test_what_is_damaged_is_not_merged_into_what_looks_whole(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a file of some size is mapped, so that a bit that flips on disk flips in memory."""
    monkeypatch.setattr("ergonaut_vectors.adapters.segment_files.READ_BYTES_MAX", 0)
    site.limits = replace(LIMITS, policy=replace(STILL, dead_fraction_max=0.2))
    names = [f"point-{at}" for at in range(64)]
    async with site.running() as process:
        await process.collection.write(Upserts(names, np.ones((64, 32), np.float32)))
        await process.live.save_soon(1)
        live = process.live
        folder = site.folder / "shards" / process.collection.record.store_of(0)
        [path] = folder.glob("*.segment")
        place = path.read_bytes().index(np.ones(32, np.float32).tobytes())
        with path.open("r+b") as file:
            file.seek(place + 3)
            file.write(bytes([0x3F ^ 4]))
        assert set((await process.content()).values()) != {1.0}
        # It has so many dead now that it is built anew.
        await process.collection.write(Deletes(names[32:]))
        async with asyncio.timeout(20):
            while process.vectors.opening.found(site.key) in (live, None):
                await asyncio.sleep(0.005)
        assert await process.content() == dict.fromkeys(names[:32], 1.0)
        assert folder.with_name(f"{folder.name}.damaged").exists()
