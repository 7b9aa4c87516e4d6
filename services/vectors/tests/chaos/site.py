"""Three nodes and a NATS server as processes, and how they are asked; what a round kills and starts again where it was."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import grpc
import nats

from ergonaut.api.vectors.v1 import shards_pb2, shards_pb2_grpc
from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.api.vectors.v1 import vectors_pb2_grpc as pb_grpc
from ergonaut_common.bus import Bus
from ergonaut_common.testing import LOOKING_OFTEN, KeyRingFile, ServiceProcess, free_port, key_ring_file, nats_server
from ergonaut_vectors.adapters.book import BUCKET as BOOK
from ergonaut_vectors.adapters.book import KeyValueBook
from ergonaut_vectors.adapters.past_log import JetStreamPast
from ergonaut_vectors.adapters.shard_maps import BUCKET as MAPS
from ergonaut_vectors.adapters.shard_maps import KeyValueShardMaps
from ergonaut_vectors.domain.placing.shard_map import ShardMap
from ergonaut_vectors.domain.records import Key, Record

from .truth import Points, Wrong

COLLECTION, DIMENSION, SHARDS = "books", 8, 3

START_SECONDS = 300
"""Where kernels have to be compiled first, on a busy machine."""

CALL_SECONDS = 15
ANSWER_SECONDS = 60
"""Within which somebody answers a question again that nobody answers just now."""

PASSING = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)
"""What a caller may be told while something is away. All else is a fault, for nothing that is sent here is wrong."""

SETTINGS = {
    # So few rows are sealed and merged all the time, and saved: a kill meets any step of it.
    "ERGONAUT_VECTORS_HEAD_ROWS_MAX": "64",
    "ERGONAUT_VECTORS_SEARCH_THREADS": "1",
    "ERGONAUT_VECTORS_WAIT_SECONDS": "8",
}


LOG_BYTES_MAX = 32 * 1024 * 1024
TRIMMED_LOG_BYTES_MAX = 1024 * 1024
"""So small that logs are trimmed every few rounds, by what has reached the shelf."""


class Server:
    """NATS on one port."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._port = folder / "nats", free_port()
        self._running = contextlib.ExitStack()
        self.url = f"nats://127.0.0.1:{self._port}"

    async def start(self) -> None:
        await asyncio.to_thread(self._running.enter_context, nats_server(self.folder, self._port))

    async def kill(self) -> None:
        await asyncio.to_thread(self._running.close)


class Node:
    """A process of the service, and a client of it."""

    def __init__(self, name: str, folder: Path, settings: Mapping[str, str], key_ring: KeyRingFile) -> None:
        self.name = name
        settings = {**settings, "ERGONAUT_VECTORS_NODE_NAME": name}
        self.process = ServiceProcess(
            "vectors", folder / name, settings, key_ring=key_ring, patience_seconds=START_SECONDS
        )
        self.shards = folder / name / "data" / "vectors" / "shards"
        self.weight = 1
        self._channel = grpc.aio.insecure_channel(self.process.address, options=LOOKING_OFTEN)
        self._stub = pb_grpc.VectorsServiceStub(self._channel)
        self._between = shards_pb2_grpc.ShardsServiceStub(self._channel)

    async def start(self) -> None:
        self.process.environment["ERGONAUT_VECTORS_NODE_WEIGHT"] = str(self.weight)
        self.process.start()
        await self.process.wait_healthy()

    async def kill(self) -> None:
        await asyncio.to_thread(self.process.kill)

    async def close(self) -> None:
        await self.kill()
        await self._channel.close()

    async def call(self, method: str, request: Any, seconds: float = CALL_SECONDS) -> Any:
        return await getattr(self._stub, method)(request, metadata=self.process.metadata(), timeout=seconds)

    async def replicas(self, uid: str) -> Mapping[int, Any]:
        """How its replicas stand, as other nodes are told."""
        metadata = [*self.process.metadata("service"), ("x-ergonaut-tenant", "default")]
        request = shards_pb2.GetReplicasRequest(collection=uid)
        answer = await self._between.GetReplicas(request, metadata=metadata, timeout=CALL_SECONDS)
        return {each.shard: each for each in answer.replicas}

    def told(self, words: str) -> int:
        """How often its log says this."""
        return self.process.log.read_text().count(words)


class Site:
    """All of it."""

    def __init__(self, folder: Path, dice: Random, *, trimmed: bool, replicas: int) -> None:
        self.server = Server(folder)
        self.dice = dice
        self.trimmed = trimmed
        self.replicas = replicas
        size = TRIMMED_LOG_BYTES_MAX if trimmed else LOG_BYTES_MAX
        told = {"ERGONAUT_NATS_URL": self.server.url, "ERGONAUT_VECTORS_LOG_BYTES_MAX": str(size)}
        key_ring = key_ring_file(folder)
        self.nodes = [Node(name, folder, {**SETTINGS, **told}, key_ring) for name in ("first", "second", "third")]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Site"]:
        """Started, with the collection; killed when the block ends."""
        await self.server.start()
        try:
            # The first one may have to compile kernels, which the others then find.
            first, *others = self.nodes
            await first.start()
            await asyncio.gather(*(node.start() for node in others))
            schema = pb.Collection(name=COLLECTION, dimension=DIMENSION, shards=SHARDS, replicas=self.replicas)
            await self.ask("CreateCollection", pb.CreateCollectionRequest(collection=schema))
            yield self
        finally:
            for node in self.nodes:
                await node.close()
            await self.server.kill()

    def any(self) -> Node:
        """A node that runs, or was to."""
        alive = [node for node in self.nodes if node.process.lives]
        return self.dice.choice(alive or self.nodes)

    async def ask(self, method: str, request: Any, node: Node | None = None, seconds: float = ANSWER_SECONDS) -> Any:
        """The answer of a node, or of whichever has one, asked again while none has."""
        return await until_told(lambda: (node or self.any()).call(method, request), seconds)

    @contextlib.asynccontextmanager
    async def jetstream(self) -> AsyncIterator[Bus]:
        """NATS, as long as the block runs."""
        connection = await nats.connect(self.server.url)
        try:
            yield Bus(connection)
        finally:
            await connection.close()

    async def record(self) -> Record:
        async with self.jetstream() as bus:
            record = await KeyValueBook(await bus.key_value(BOOK)).find(Key("default", COLLECTION))
        assert record is not None
        return record

    async def map(self, uid: str) -> ShardMap:
        async with self.jetstream() as bus:
            kept = await KeyValueShardMaps(await bus.key_value(MAPS)).find(uid)
        assert kept is not None
        return kept.map

    async def ends(self, now: ShardMap) -> Mapping[int, int]:
        """Of each shard's log the last position."""
        async with self.jetstream() as bus:
            past = JetStreamPast(bus.jetstream)
            return {each.number: await past.end(Key("default", now.name, each.number)) for each in now.owning}


async def until_told(ask: Callable[[], Any], seconds: float = ANSWER_SECONDS) -> Any:
    """What is answered, asked again while there is none."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + seconds
    while True:
        try:
            return await ask()
        except grpc.aio.AioRpcError as error:
            if error.code() not in PASSING:
                raise Wrong(f"answered {error.code().name}: {error.details()}") from error
            if loop.time() > give_up_at:
                raise Wrong(f"nobody answers within {seconds:g} s: {error.details()}") from error
        await asyncio.sleep(0.1)


def points_of(rows: Any) -> Points:
    """What an answer holds, by id."""
    content, width = rows.vectors.rows, 4 * DIMENSION
    vectors = [content[at * width : (at + 1) * width] for at in range(len(rows.ids))]
    payloads = [json.loads(each) if each else {} for each in rows.payloads]
    found = dict(zip(rows.ids, zip(vectors, payloads, strict=True), strict=True))
    if len(found) != len(rows.ids):
        raise Wrong("an id stands twice in one answer")
    return found
