"""Shards that are split where several nodes share them: nothing acknowledged is lost, doubled or seen too late, whoever dies.

And what else holds on all nodes together: what a tenant may have, and which collections there are.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from grpc import aio

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.errors import ErgonautError
from ergonaut_common.bus import Bus
from ergonaut_vectors.domain.placing.shard_map import ReplicaStage
from ergonaut_vectors.domain.quotas import Quota

from .towns import MANY, Node, Town

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.integration]

DIMENSION = 4
NODES = ("one", "two", "three")
OWN = {"small": Quota(vectors=50, vector_bytes=100_000)}
SOON_SECONDS = 20.0
PAGE = 1000
"""More than there are ids."""


class Books:
    """A collection that is written and read at all nodes, and what it has acknowledged."""

    def __init__(self, town: Town, name: str) -> None:
        self.town, self.name = town, name
        self.truth: dict[str, float] = {}
        self.sequences: dict[int, int] = {}
        self._turn = 0

    @property
    def node(self) -> Node:
        self._turn += 1
        return self.town.nodes[self._turn % len(self.town.nodes)]

    async def create(self, **more: Any) -> None:
        schema = pb.Collection(name=self.name, dimension=DIMENSION, **more)
        await self.node.call("CreateCollection", pb.CreateCollectionRequest(collection=schema))

    async def write(self, at: int) -> None:
        """Thirty vectors, of which some take the places of others; and now and then some go."""
        names = [f"{at % 20}-{i}" for i in range(25)] + [f"again-{i}" for i in range(5)]
        rows = pb.Rows(ids=names, vectors=pb.Matrix(rows=np.full((30, DIMENSION), at, "<f4").tobytes()))
        self._note(await self.node.call("Upsert", pb.UpsertRequest(collection=self.name, rows=rows)))
        self.truth |= dict.fromkeys(names, float(at))
        if at % 3 == 0:
            gone = names[:5]
            for name in gone:
                self.truth.pop(name)
            self._note(await self.node.call("Delete", pb.DeleteRequest(collection=self.name, ids=gone)))

    async def content(self, node: Node) -> dict[str, float]:
        """All that a node answers with, of all that was acknowledged before."""
        reading = pb.Reading(with_vectors=True, sequences_min=dict(self.sequences))
        request = pb.ListPointsRequest(collection=self.name, limit=PAGE, reading=reading)
        points = (await node.call("ListPoints", request)).points
        rows = np.frombuffer(points.vectors.rows, "<f4").reshape(-1, DIMENSION)
        assert len(set(points.ids)) == len(points.ids), "an id is answered for by one shard"
        return dict(zip(points.ids, rows[:, 0].tolist(), strict=True))

    async def check(self) -> None:
        """Every node answers with just what was written."""
        for node in self.town.nodes:
            assert await self.content(node) == self.truth
            reading = pb.Reading(sequences_min=dict(self.sequences))
            asked = pb.GetCountRequest(collection=self.name, reading=reading)
            assert (await node.call("GetCount", asked)).count == len(self.truth)

    @property
    def map(self) -> Any:
        return next(kept.map for kept in self.town.maps.kept.values() if kept.map.name == self.name)

    async def settled(self) -> None:
        """Return when a split that was begun has come to its end, which it must soon."""
        async with asyncio.timeout(SOON_SECONDS):
            while len(self.map.shards) == 1 or self.map.splitting is not None:
                await asyncio.sleep(0.1)

    def ready(self, shard: int) -> list[Node]:
        names = self.map.shard(shard).nodes(ReplicaStage.READY)
        return [node for node in self.town.nodes if node.name in names]

    def _note(self, answer: Any) -> None:
        self.sequences |= dict(answer.sequences)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(nats_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    import nats

    connection = await nats.connect(nats_url)
    made = Town(Bus(connection), tmp_path_factory.mktemp("town"), OWN)
    async with contextlib.AsyncExitStack() as stack:
        made.nodes = await asyncio.gather(*(stack.enter_async_context(made.node(name)) for name in NODES))
        yield made
    await connection.close()


@contextlib.asynccontextmanager
async def looking_on(books: Books) -> AsyncIterator[list[int]]:
    """Somebody looks all the time, at each node: whatever was acknowledged before is there, once."""
    looks: list[int] = []

    async def look(node: Node) -> None:
        while True:
            before = dict(books.truth)
            found = await books.content(node)
            left = before.keys() & books.truth.keys()
            assert left <= found.keys()
            looks.append(len(found))

    tasks = [asyncio.create_task(look(node)) for node in books.town.nodes]
    try:
        yield looks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()


async def test_shards_of_several_nodes_are_split_while_they_are_read_and_written_and_nobody_notices(town: Town) -> None:
    books = Books(town, "watched")
    await books.create(replicas=2)
    for at in range(1, 12):
        await books.write(at)
    async with looking_on(books) as looks:
        for shard in (0, 1):
            asked = pb.SplitShardRequest(collection=books.name, shard=shard)
            # Asked of one that may have no replica.
            splitting = asyncio.create_task(books.node.call("SplitShard", asked))
            at = 20 * (shard + 1)
            while not splitting.done():
                await books.write(at := at + 1)
            assert (await splitting).shard == shard + 1
            await books.write(at + 1)
    assert looks
    assert [(each.slots.first, each.slots.after) for each in books.map.owning] == [(0, 512), (512, 768), (768, 1024)]
    assert books.map.splitting is None
    await books.check()
    async with asyncio.timeout(SOON_SECONDS):
        while any(len(books.map.shard(number).nodes(ReplicaStage.READY)) < 2 for number in range(3)):
            await asyncio.sleep(0.1)
    await books.check()
    assert sorted(books.sequences) == [0, 1, 2]


async def test_wherever_a_node_dies_while_it_splits_another_goes_on(town: Town) -> None:
    for steps in range(1, 100, 4):
        books = Books(town, f"dying-{steps}")
        await books.create(replicas=3)
        for at in range(1, 4):
            await books.write(at)
        first, second, *_ = books.ready(0)
        first.life.steps = steps
        with contextlib.suppress(ErgonautError):
            await first.splitting.split("default", books.name, 0)
        done, first.life.steps = first.life.steps >= 0, MANY
        if not done:
            # Whichever keeps the shard looks for it, too.
            with contextlib.suppress(ErgonautError):
                await second.splitting.split("default", books.name, 0)
        await books.write(50)
        await books.check()
        await books.settled()
        if done:
            return
    raise AssertionError("it never came to an end")


async def test_two_nodes_that_split_a_shard_at_once_split_it_once_or_one_after_the_other(town: Town) -> None:
    books = Books(town, "twice")
    await books.create(replicas=3)
    for at in range(1, 6):
        await books.write(at)
    first, second, *_ = books.ready(0)
    made: Sequence[Any] = await asyncio.gather(
        *(node.splitting.split("default", books.name, 0) for node in (first, second)), return_exceptions=True
    )
    assert all(isinstance(each, int | ErgonautError) for each in made), made
    await books.write(60)
    await books.check()
    await books.settled()


async def test_writers_by_an_older_map_are_sent_on(town: Town) -> None:
    books = Books(town, "older")
    await books.create(replicas=1)
    await books.write(1)
    [holder] = books.ready(0)
    before: Mapping[str, Any] = dict(town.maps.kept)
    await holder.splitting.split("default", books.name, 0)
    newest = dict(town.maps.kept)
    # What is kept is behind for a moment, and what the log says holds.
    town.maps.kept.update({uid: kept for uid, kept in before.items() if kept.map.name == books.name})
    writing = asyncio.create_task(books.write(2))
    await asyncio.sleep(0.2)
    town.maps.kept.update(newest)
    await writing
    await books.check()


async def test_a_shard_that_there_is_not_cannot_be_split(town: Town) -> None:
    books = Books(town, "few")
    await books.create()
    with pytest.raises(aio.AioRpcError, match="the collection has shards 0 to 0") as caught:
        await books.node.call("SplitShard", pb.SplitShardRequest(collection=books.name, shard=1))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_tenant_has_no_more_than_it_may_wherever_its_vectors_are_and_whoever_is_asked(town: Town) -> None:
    async def upsert(node: Node, first: int, count: int) -> None:
        rows = np.zeros((count, DIMENSION), "<f4").tobytes()
        points = pb.Rows(ids=[f"point-{first + at}" for at in range(count)], vectors=pb.Matrix(rows=rows))
        await node.call("Upsert", pb.UpsertRequest(collection="pages", rows=points), "small")

    one, two, three = town.nodes
    schema = pb.Collection(name="pages", dimension=DIMENSION, shards=5)
    await one.call("CreateCollection", pb.CreateCollectionRequest(collection=schema), "small")
    await upsert(one, 0, 40)
    # It knows of none of them, and counts where they are.
    await upsert(two, 40, 10)
    with pytest.raises(aio.AioRpcError, match="50 vectors are there and 1 more would pass the 50") as caught:
        await upsert(three, 50, 1)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    for node in town.nodes:
        used = (await node.call("GetUsage", pb.GetUsageRequest(), "small")).used
        assert (used.collections, used.vectors, used.vector_bytes) == (1, 50, 50 * 4 * DIMENSION)
    await three.call("Delete", pb.DeleteRequest(collection="pages", ids=["point-0"]), "small")
    # Before anybody is refused it is counted again.
    await upsert(three, 50, 1)


async def test_what_is_written_is_told_by_those_who_have_its_shards_whichever_node_was_called(town: Town) -> None:
    books = Books(town, "told")
    await books.create(shards=3, replicas=1)
    for at in (1, 2, 3, 4):
        await books.write(at)
    told = [change for node in town.nodes for change in await node.heard.of(books.name)]
    sequences: dict[int, int] = {}
    for change in told:
        sequences |= {shard: max(at, sequences.get(shard, 0)) for shard, at in change.sequences.items()}
    assert sequences == books.sequences
    assert (sum(change.written for change in told), sum(change.removed for change in told)) == (4 * 30, 5)


async def test_a_collection_that_has_lost_its_log_keeps_nobody_from_counting_the_others(town: Town) -> None:
    for name in ("lost", "whole"):
        await Books(town, name).create(replicas=1)
        await Books(town, name).write(1)
    await town.bus.jetstream.delete_stream("VEC_default_lost")
    async with asyncio.timeout(SOON_SECONDS):
        for node in town.nodes:
            while not await _is_lost(node, "lost"):
                await asyncio.sleep(0.1)
    for node in town.nodes:
        listed = (await node.call("ListCollections", pb.ListCollectionsRequest())).collections
        assert {each.name: each.count for each in listed}["whole"] == 30
        await node.call("GetUsage", pb.GetUsageRequest())


async def test_a_collection_that_was_dropped_is_gone_at_all_nodes_and_another_of_its_name_is_another(
    town: Town,
) -> None:
    books = Books(town, "anew")
    await books.create(shards=3, replicas=2)
    await books.write(1)
    uid = books.map.collection
    await books.check()
    await books.node.call("DropCollection", pb.DropCollectionRequest(collection=books.name))
    async with asyncio.timeout(SOON_SECONDS):
        while True:
            listed = [await _listed(node) for node in town.nodes]
            files = list(town.folder.glob(f"*/shards/{uid}.*"))
            if not files and uid not in town.maps.kept and not any(books.name in names for names in listed):
                break
            await asyncio.sleep(0.01)
    schema = pb.Collection(name=books.name, dimension=DIMENSION + 1, shards=2)
    await books.node.call("CreateCollection", pb.CreateCollectionRequest(collection=schema))
    for node in town.nodes:
        asked = pb.DescribeCollectionRequest(collection=books.name)
        described = (await node.call("DescribeCollection", asked)).collection
        assert (described.dimension, described.count) == (DIMENSION + 1, 0)


async def _is_lost(node: Node, name: str) -> bool:
    try:
        await node.call("GetCount", pb.GetCountRequest(collection=name))
    except aio.AioRpcError as error:
        return error.code() is grpc.StatusCode.INTERNAL
    return False


async def _listed(node: Node) -> list[str]:
    return [each.name for each in (await node.call("ListCollections", pb.ListCollectionsRequest())).collections]
