"""The contracts of the cluster's ports, over the fakes and over a real NATS server."""

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime

import nats
import pytest

from ergonaut.errors import Broken, Conflict, Unavailable
from ergonaut.ids import new_id
from ergonaut_common.bus import Bus
from ergonaut_common.bus.announcements import NatsAnnouncements
from ergonaut_vectors.adapters.shard_maps import BUCKET, KeyValueShardMaps
from ergonaut_vectors.cluster.announced import ANNOUNCEMENTS, NodeAnnounced
from ergonaut_vectors.cluster.fakes import FakeAnnouncements, FakeShardMaps
from ergonaut_vectors.cluster.nodes import telling
from ergonaut_vectors.cluster.ports import KeptMap, NodeAnnouncements, ShardMaps
from ergonaut_vectors.domain.placing.choosing import Node
from ergonaut_vectors.domain.placing.shard_map import ReplicaStage, ShardMap, first_map
from ergonaut_vectors.domain.placing.slots import equal_ranges

KINDS = pytest.mark.parametrize("kind", ["fake", "nats"])
PATIENCE_SECONDS = 30


@pytest.fixture
async def maps(kind: str, bus: Bus) -> ShardMaps:
    return FakeShardMaps() if kind == "fake" else KeyValueShardMaps(await bus.key_value(BUCKET))


@pytest.fixture
def announcements(kind: str, bus: Bus) -> NodeAnnouncements:
    return FakeAnnouncements() if kind == "fake" else NatsAnnouncements(bus, "the services' key", ANNOUNCEMENTS)


def a_map() -> ShardMap:
    return first_map(new_id("collection"), equal_ranges(4), 2, {name: Node(name) for name in "abc"})


def moved(now: ShardMap, node: str) -> ShardMap:
    return now.with_shards([now.shard(0).at(node, ReplicaStage.COPYING)])


@KINDS
async def test_a_map_is_found_as_it_was_kept(maps: ShardMaps) -> None:
    first = a_map()
    assert await maps.find(first.collection) is None
    kept = await maps.add(first)
    assert kept.map == first
    assert await maps.add(first) == kept
    assert await maps.find(first.collection) == kept
    assert kept in await maps.all()


@KINDS
async def test_of_two_who_change_a_map_one_is_told_to_look_again(maps: ShardMaps) -> None:
    kept = await maps.add(a_map())
    mine, yours = moved(kept.map, "d"), moved(kept.map, "e")
    changed = await maps.change(mine, kept.revision)
    assert await maps.change(mine, kept.revision) == changed
    with pytest.raises(Conflict):
        await maps.change(yours, kept.revision)
    with pytest.raises(Conflict):
        await maps.add(yours)
    assert await maps.find(kept.map.collection) == changed


@KINDS
async def test_a_removed_map_is_gone(maps: ShardMaps) -> None:
    kept = await maps.add(a_map())
    await maps.remove(kept.map.collection)
    await maps.remove(kept.map.collection)
    assert await maps.find(kept.map.collection) is None
    with pytest.raises(Conflict):
        await maps.change(moved(kept.map, "d"), kept.revision)


@KINDS
async def test_who_watches_sees_what_there_is_and_what_comes(maps: ShardMaps) -> None:
    first = await maps.add(a_map())
    mine: list[KeptMap] = []

    async def watch() -> None:
        async with aclosing(maps.changes()) as changes:  # type: ignore[type-var]
            async for kept in changes:
                if kept.map.collection == first.map.collection:
                    mine.append(kept)
                    if len(mine) == 1:
                        seen.set()
                    if len(mine) == 2:
                        return

    seen = asyncio.Event()
    watching = asyncio.create_task(watch())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await seen.wait()
        second = await maps.change(moved(first.map, "d"), first.revision)
        await watching
    assert mine == [first, second]


async def test_a_damaged_map_keeps_no_other_away(bus: Bus) -> None:
    bucket = await bus.key_value(BUCKET)
    maps, first = KeyValueShardMaps(bucket), a_map()
    damaged = new_id("collection")
    await bucket.put(damaged, b"{}")
    kept = await maps.add(first)
    assert kept in await maps.all()
    with pytest.raises(Broken, match=damaged):
        await maps.find(damaged)
    await bucket.delete(damaged)


@KINDS
async def test_what_a_node_tells_all_hear_who_have_its_key(
    kind: str, bus: Bus, announcements: NodeAnnouncements
) -> None:
    heard: asyncio.Queue[NodeAnnounced] = asyncio.Queue()
    told = telling(new_id("node"), "127.0.0.1:1")(datetime.now(UTC))
    async with announcements.heard(heard.put_nowait):
        if kind == "nats":
            await NatsAnnouncements(bus, "another key", ANNOUNCEMENTS).tell(
                told.model_copy(update={"address": "evil:1"})
            )
        await announcements.tell(told)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await heard.get() == told
    assert heard.empty()


async def test_nothing_is_told_while_nats_is_away(nats_url: str) -> None:
    connection = await nats.connect(nats_url)
    announcements = NatsAnnouncements(Bus(connection), "key", ANNOUNCEMENTS)
    await connection.close()
    with pytest.raises(Unavailable):
        await announcements.tell(telling("a", "a:1")(datetime.now(UTC)))
