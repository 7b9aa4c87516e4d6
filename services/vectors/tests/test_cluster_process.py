"""Nodes as processes beside one NATS server: a collection spread over them answers at each, whole, also after one was killed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import nats
import numpy as np
import pytest

from ergonaut.api.vectors.v1 import shards_pb2, shards_pb2_grpc
from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.api.vectors.v1 import vectors_pb2_grpc as pb_grpc
from ergonaut_common.bus import Bus
from ergonaut_common.testing import KeyRingFile, ServiceProcess, key_ring_file
from ergonaut_vectors.adapters.book import BUCKET, KeyValueBook
from ergonaut_vectors.adapters.shard_maps import BUCKET as MAPS
from ergonaut_vectors.adapters.shard_maps import KeyValueShardMaps
from ergonaut_vectors.domain.placing.shard_map import ShardMap
from ergonaut_vectors.domain.records import Key

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

DIMENSION, SHARDS, COUNT = 8, 6, 300
START_SECONDS = 90
SEEN_SECONDS = 60
ROWS = np.random.default_rng(5).standard_normal((COUNT, DIMENSION)).astype("<f4")
NAMES = [f"point-{at}" for at in range(COUNT)]


class Node:
    """A process, and a client of it."""

    def __init__(
        self, name: str, folder: Path, nats_url: str, key_ring: KeyRingFile, collection: str = "books"
    ) -> None:
        self.collection = collection
        settings = {"ERGONAUT_NATS_URL": nats_url, "ERGONAUT_VECTORS_NODE_NAME": name}
        self.name = name
        self.process = ServiceProcess(
            "vectors", folder / name, settings, key_ring=key_ring, patience_seconds=START_SECONDS
        )

    async def call(self, method: str, request: Any) -> Any:
        async with grpc.aio.insecure_channel(self.process.address) as channel:
            stub = pb_grpc.VectorsServiceStub(channel)
            return await getattr(stub, method)(request, metadata=self.process.metadata(), timeout=30)

    async def stream(self, *batches: list[str]) -> int:
        """Write batches over one call, far from everything; gives how many were answered."""
        far = np.full((1, DIMENSION), 50, "<f4").tobytes()
        requests = [
            pb.UpsertManyRequest(
                batch=pb.UpsertRequest(
                    collection=self.collection, rows=pb.Rows(ids=ids, vectors=pb.Matrix(rows=far * len(ids)))
                )
            )
            for ids in batches
        ]
        async with grpc.aio.insecure_channel(self.process.address) as channel:
            stub = pb_grpc.VectorsServiceStub(channel)
            call = stub.UpsertMany(iter(requests), metadata=self.process.metadata(), timeout=30)
            return len([answer async for answer in call])

    async def replicas(self, uid: str) -> dict[int, Any]:
        """How its replicas stand, as other nodes are told."""
        metadata = [*self.process.metadata("service"), ("x-ergonaut-tenant", "default")]
        async with grpc.aio.insecure_channel(self.process.address) as channel:
            stub = shards_pb2_grpc.ShardsServiceStub(channel)
            request = shards_pb2.GetReplicasRequest(collection=uid)
            return {
                each.shard: each for each in (await stub.GetReplicas(request, metadata=metadata, timeout=10)).replicas
            }

    async def nearest(self, query: np.ndarray[Any, Any], **more: Any) -> list[str]:
        request = pb.SearchRequest(
            collection=self.collection,
            vectors=pb.Matrix(rows=query.tobytes()),
            options=pb.SearchOptions(limit=10, exact=True, **more),
        )
        return [each.id for each in (await self.call("Search", request)).results[0].neighbours]


def expected(query: np.ndarray[Any, Any], names: list[str], rows: np.ndarray[Any, Any]) -> list[str]:
    distances = np.square(rows.astype(np.float64) - query).sum(axis=1)
    return [names[at] for at in np.argsort(distances, kind="stable")[:10]]


async def seen(what: Callable[[], Any]) -> None:
    """Return when this is true, which it must be soon; failures of calls count as not yet."""
    async with asyncio.timeout(SEEN_SECONDS):
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                if await what():
                    return
            await asyncio.sleep(0.2)


@contextlib.asynccontextmanager
async def running(*nodes: Node) -> AsyncIterator[None]:
    with contextlib.ExitStack() as stack:
        for node in nodes:
            stack.enter_context(node.process.running())
        await asyncio.gather(*(node.process.wait_healthy() for node in nodes))
        yield


async def test_a_collection_on_three_nodes_answers_whole_at_each_and_after_one_is_killed(
    tmp_path: Path, nats_url: str
) -> None:
    key_ring = key_ring_file(tmp_path)
    first, second, third = (Node(name, tmp_path, nats_url, key_ring) for name in ("first", "second", "third"))
    async with running(first, second, third):
        schema = pb.Collection(name="books", dimension=DIMENSION, shards=SHARDS, replicas=2)
        await first.call("CreateCollection", pb.CreateCollectionRequest(collection=schema))
        rows = pb.Rows(ids=NAMES, vectors=pb.Matrix(rows=ROWS.tobytes()))
        written = await second.call("Upsert", pb.UpsertRequest(collection="books", rows=rows))
        assert set(written.sequences) == set(range(SHARDS))

        query = ROWS[7] + np.float32(0.01)
        reading = pb.Reading(sequences_min=dict(written.sequences))
        for node in (first, second, third):
            assert await node.nearest(query, reading=reading) == expected(query, NAMES, ROWS)
            counted = await node.call("GetCount", pb.GetCountRequest(collection="books"))
            assert counted.count == COUNT
            got = await node.call(
                "GetPoints", pb.GetPointsRequest(collection="books", ids=["point-9", "none", "point-2"])
            )
            assert list(got.points.ids) == ["point-9", "point-2"]
        assert await listed(third) == sorted(NAMES)
        liked = pb.SearchByExampleRequest(
            collection="books", positive=[NAMES[7]], options=pb.SearchOptions(limit=9, exact=True, reading=reading)
        )
        for node in (first, second, third):
            like = await node.call("SearchByExample", liked)
            assert [each.id for each in like.result.neighbours] == expected(ROWS[7], NAMES, ROWS)[1:]
        assert await first.stream(["streamed-1"], ["streamed-2"]) == 2
        assert await listed(second) == sorted([*NAMES, "streamed-1", "streamed-2"])
        await third.call("Delete", pb.DeleteRequest(collection="books", ids=["streamed-1", "streamed-2"]))

        third.process.kill()
        deleted = await first.call("Delete", pb.DeleteRequest(collection="books", ids=NAMES[:50]))
        assert deleted.count == 50
        left = NAMES[50:]
        reading = pb.Reading(sequences_min=dict(deleted.sequences))
        for node in (first, second):
            assert await node.nearest(query, reading=reading) == expected(query, left, ROWS[50:])


async def test_a_node_that_comes_takes_its_share_and_replicas_hold_the_same(tmp_path: Path, nats_url: str) -> None:
    key_ring = key_ring_file(tmp_path)
    first, second = (Node(name, tmp_path, nats_url, key_ring, "papers") for name in ("one", "two"))
    async with running(first):
        schema = pb.Collection(name="papers", dimension=DIMENSION, shards=SHARDS, replicas=2)
        await first.call("CreateCollection", pb.CreateCollectionRequest(collection=schema))
        rows = pb.Rows(ids=NAMES, vectors=pb.Matrix(rows=ROWS.tobytes()))
        await first.call("Upsert", pb.UpsertRequest(collection="papers", rows=rows))
        uid = await uid_of(nats_url)
        async with running(second):

            async def all_there() -> bool:
                here, there = await first.replicas(uid), await second.replicas(uid)
                return set(there) == set(range(SHARDS)) and all(
                    dict(here[shard].digests).items() & dict(there[shard].digests).items() for shard in there
                )

            await seen(all_there)
            query = ROWS[3]

            async def answers() -> bool:
                return await second.nearest(query) == expected(query, NAMES, ROWS)

            await seen(answers)
            first.process.kill()
            await seen(answers)


async def test_shards_move_to_a_node_that_comes_and_is_killed_meanwhile_while_writes_go_on(
    tmp_path: Path, nats_url: str
) -> None:
    key_ring = key_ring_file(tmp_path)
    first, second = (Node(name, tmp_path, nats_url, key_ring, "moving") for name in ("alpha", "beta"))
    written: list[str] = []

    async def write(stop: asyncio.Event) -> None:
        """Write on and on; what is answered counts."""
        while not stop.is_set():
            name = f"moving-{len(written)}"
            rows = pb.Rows(ids=[name], vectors=pb.Matrix(rows=ROWS[0].tobytes()))
            with contextlib.suppress(grpc.aio.AioRpcError):
                await first.call("Upsert", pb.UpsertRequest(collection="moving", rows=rows))
                written.append(name)

    async def begun() -> bool:
        return bool(await second.replicas(await uid_of(nats_url, "moving")))

    async def moved() -> bool:
        uid = await uid_of(nats_url, "moving")
        here, there = await first.replicas(uid), await second.replicas(uid)
        return bool(there) and not set(here) & set(there) and set(here) | set(there) == set(range(SHARDS))

    async def all_found() -> bool:
        counts = [await node.call("GetCount", pb.GetCountRequest(collection="moving")) for node in (first, second)]
        return [each.count for each in counts] == [len(written)] * 2

    async with running(first):
        schema = pb.Collection(name="moving", dimension=DIMENSION, shards=SHARDS, replicas=1)
        await first.call("CreateCollection", pb.CreateCollectionRequest(collection=schema))
        stop = asyncio.Event()
        writing = asyncio.create_task(write(stop))
        async with running(second):
            await seen(begun)
            second.process.kill()
            second.process.start()
            await second.process.wait_healthy()
            await seen(moved)
            stop.set()
            await writing
            await seen(all_found)
            described = await second.call("DescribeCollection", pb.DescribeCollectionRequest(collection="moving"))
            assert sum(shard.count for shard in described.shards) == described.collection.count == len(written)
    assert len(written) > 20


async def test_a_split_ends_and_writes_go_on_where_the_node_that_splits_is_killed(
    tmp_path: Path, nats_url: str
) -> None:
    key_ring = key_ring_file(tmp_path)
    nodes = [Node(name, tmp_path, nats_url, key_ring, "splitting") for name in ("red", "green", "blue")]

    async def upsert(node: Node, names: list[str]) -> bool:
        rows = pb.Rows(ids=names, vectors=pb.Matrix(rows=ROWS[: len(names)].tobytes()))
        await node.call("Upsert", pb.UpsertRequest(collection="splitting", rows=rows))
        return True

    async with running(*nodes):
        schema = pb.Collection(name="splitting", dimension=DIMENSION, replicas=3)
        await nodes[0].call("CreateCollection", pb.CreateCollectionRequest(collection=schema))
        await upsert(nodes[0], NAMES)
        uid = await uid_of(nats_url, "splitting")
        name = (await map_of(nats_url, uid)).kept_by(0, {node.name for node in nodes})
        killed = next(node for node in nodes if node.name == name)
        left, other = [node for node in nodes if node is not killed]
        asked = pb.SplitShardRequest(collection="splitting")
        splitting = asyncio.create_task(left.call("SplitShard", asked))
        while (await map_of(nats_url, uid)).splitting is None and not splitting.done():
            await asyncio.sleep(0)
        killed.process.kill()
        await seen(lambda: upsert(other, ["late-1", "late-2"]))
        with contextlib.suppress(grpc.aio.AioRpcError):
            await splitting

        async def split() -> bool:
            now = await map_of(nats_url, uid)
            return len(now.shards) == 2 and now.splitting is None

        async def the_same() -> bool:
            here, there = await left.replicas(uid), await other.replicas(uid)
            return set(here) == set(there) == {0, 1} and all(
                dict(here[shard].digests).items() & dict(there[shard].digests).items() for shard in here
            )

        await seen(split)
        await seen(the_same)
        for node in (left, other):
            counted = await node.call("GetCount", pb.GetCountRequest(collection="splitting"))
            assert counted.count == COUNT + 2
            assert await node.nearest(ROWS[3]) == expected(ROWS[3], NAMES, ROWS)


async def map_of(nats_url: str, uid: str) -> ShardMap:
    connection = await nats.connect(nats_url)
    try:
        kept = await KeyValueShardMaps(await Bus(connection).key_value(MAPS)).find(uid)
        assert kept is not None
        return kept.map
    finally:
        await connection.close()


async def listed(node: Node) -> list[str]:
    """All ids, page by page."""
    ids: list[str] = []
    after = ""
    while True:
        request = pb.ListPointsRequest(collection="books", limit=70, after=after)
        page = await node.call("ListPoints", request)
        ids += page.points.ids
        after = page.next
        if not after:
            return sorted(ids)


async def uid_of(nats_url: str, name: str = "papers") -> str:
    connection = await nats.connect(nats_url)
    try:
        record = await KeyValueBook(await Bus(connection).key_value(BUCKET)).find(Key("default", name))
        assert record is not None
        return record.uid
    finally:
        await connection.close()
