"""What is seen after a round: every acknowledged write at every node, whole; counts; replicas that hold the same."""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence

import grpc
import numpy as np

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut_vectors.domain.placing.shard_map import ReplicaStage, ShardMap

from .site import COLLECTION, DIMENSION, Node, Site, points_of
from .truth import Points, Wrong, check_same, check_whole_or_not
from .writing import Writer, positions_of

EQUAL_SECONDS = 30.0
"""Within which replicas must hold the same."""

SPLIT_SECONDS = 60.0
"""Within which a split is over whose node was killed: another has to find that it is gone."""

PAGE = 1000
"""More than there are ids."""


async def held(site: Site, collection: str, node: Node | None, positions: Mapping[int, int]) -> Points:
    """All that a node answers with, as of these positions."""
    reading = pb.Reading(with_payloads=True, with_vectors=True, sequences_min=dict(positions))
    request = pb.ListPointsRequest(collection=collection, limit=PAGE, reading=reading)
    return points_of((await site.ask("ListPoints", request, node)).points)


async def check_unsettled(site: Site, writers: list[Writer], now: ShardMap) -> None:
    """Raise Wrong where something acknowledged is lost, or a write of unknown outcome is half there."""

    def shards_of(names: Sequence[str]) -> Sequence[int]:
        shards = np.zeros(len(names), int)
        for number, places in now.by_shard(names).items():
            shards[places] = number
        return shards.tolist()

    for node in site.nodes:
        found = await held(site, COLLECTION, node, positions_of(writers))
        for writer in writers:
            mine = {name: point for name, point in found.items() if name.startswith(f"{writer.number}-")}
            where = f"node {node.name}, writer {writer.number}"
            if writer.pending is None:
                check_same(mine, writer.points, where)
            else:
                check_whole_or_not(mine, writer.points, writer.pending, shards_of, where)


async def check_settled(site: Site, writers: list[Writer]) -> Points:
    """Raise Wrong unless every node has just what was written; gives that."""
    expected = {name: point for writer in writers for name, point in writer.points.items()}
    positions = positions_of(writers)
    for node in site.nodes:
        check_same(await held(site, COLLECTION, node, positions), expected, f"node {node.name}")
        reading = pb.Reading(sequences_min=dict(positions))
        counted = await site.ask("GetCount", pb.GetCountRequest(collection=COLLECTION, reading=reading), node)
        if counted.count != len(expected):
            raise Wrong(f"node {node.name} counts {counted.count} points of {len(expected)}")
        await _check_nearest(site, node, expected, positions)
    return expected


async def _check_nearest(site: Site, node: Node, expected: Points, positions: Mapping[int, int]) -> None:
    """Exactly the nearest are found."""
    query = np.random.default_rng(site.dice.randrange(2**32)).standard_normal(DIMENSION).astype("<f4")
    names = sorted(expected)
    rows = np.array([np.frombuffer(expected[name][0], "<f4") for name in names]).reshape(-1, DIMENSION)
    gaps = np.square(rows.astype(np.float64) - query).sum(axis=1)
    nearest = {names[at] for at in np.argsort(gaps)[:10]}
    options = pb.SearchOptions(limit=10, exact=True, reading=pb.Reading(sequences_min=dict(positions)))
    request = pb.SearchRequest(collection=COLLECTION, vectors=pb.Matrix(rows=query.tobytes()), options=options)
    results = (await site.ask("Search", request, node)).results
    found = {each.id for each in results[0].neighbours}
    if found != nearest:
        raise Wrong(f"node {node.name} finds {sorted(found)}, the nearest are {sorted(nearest)}")


async def until_equal(site: Site, uid: str) -> float:
    """Return when all replicas that answer hold the same at the end of their log; gives the seconds that took."""
    begun = time.monotonic()
    while True:
        # NATS may have been killed a moment ago.
        with contextlib.suppress(grpc.aio.AioRpcError):
            apart = await _apart(site, uid)
            if not apart:
                return time.monotonic() - begun
        if time.monotonic() - begun > EQUAL_SECONDS:
            raise Wrong(f"after {EQUAL_SECONDS:g} s replicas are not the same: {apart}")
        await asyncio.sleep(0.1)


async def until_split(site: Site, uid: str) -> ShardMap:
    """The map as soon as no shard is being split, which some node must bring to its end."""
    give_up_at = time.monotonic() + SPLIT_SECONDS
    while (now := await site.map(uid)).splitting is not None:
        if time.monotonic() > give_up_at:
            raise Wrong(f"shard {now.splitting} is still being split after {SPLIT_SECONDS:g} s")
        await asyncio.sleep(0.1)
    return now


async def _apart(site: Site, uid: str) -> list[str]:
    """What is not as it should be yet."""
    now = await site.map(uid)
    ends, told = await site.ends(now), {node.name: await node.replicas(uid) for node in site.nodes}
    apart = []
    for shard in now.owning:
        end = ends[shard.number]
        digests = {}
        for name in shard.nodes(ReplicaStage.READY):
            replica = told[name].get(shard.number)
            digests[name] = dict(replica.digests).get(end, f"at {replica.sequence}") if replica else "not told"
        if len(set(digests.values())) != 1 or any(each.startswith(("at ", "not ")) for each in digests.values()):
            apart.append(f"shard {shard.number}, whose log ends at {end}: {digests}")
    return apart
