"""Several nodes in one process, with disks and doors of their own, beside one NATS and one shelf, for tests."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpc import aio

from ergonaut.api.vectors.v1 import vectors_pb2_grpc as pb_grpc
from ergonaut_common.auth import KeyRing
from ergonaut_common.bus import Bus
from ergonaut_common.clock import SystemClock
from ergonaut_common.rpc import serving
from ergonaut_common.testing import free_port, key_ring_file
from ergonaut_vectors.adapters.log import JetStreamLog
from ergonaut_vectors.adapters.node_links import GrpcNodeLinks
from ergonaut_vectors.adapters.past_log import JetStreamPast
from ergonaut_vectors.adapters.saved_shards import SavedShards
from ergonaut_vectors.adapters.shard_folders import ShardFolders
from ergonaut_vectors.adapters.shelves import FolderShelf
from ergonaut_vectors.archive.shelved import Shelved
from ergonaut_vectors.catalogue import Kept
from ergonaut_vectors.changes import Change, Changes
from ergonaut_vectors.cluster.fakes import FakeAnnouncements, FakeShardMaps
from ergonaut_vectors.cluster.node import Own, World, being
from ergonaut_vectors.domain.quotas import Quota
from ergonaut_vectors.domain.records import Key
from ergonaut_vectors.fakes import FakeAnnouncer, FakeCollectionBook
from ergonaut_vectors.live import Limits, Threads
from ergonaut_vectors.quotas import Quotas
from ergonaut_vectors.rpc.door import SERVICE_NAME, behind_of
from ergonaut_vectors.service import Vectors, open_vectors
from ergonaut_vectors.splitting import Splitting
from ergonaut_vectors.workers import Workers

from .sites import Life, Mortal

LIMITS = Limits(100, 64, 8.0)
MANY = 1_000_000


class Heard:
    """What a node tells of what was written at it."""

    def __init__(self) -> None:
        self.changes = Changes(self)
        self._heard: list[tuple[Key, Change]] = []

    async def of(self, collection: str) -> list[Change]:
        """All that it told, and has to tell now, of a collection."""
        await self.changes.tell()
        return [change for key, change in self._heard if key.name == collection]

    async def changed(self, key: Key, change: Change) -> None:
        self._heard.append((key, change))

    async def kept(self, tenant: str, kept: Kept) -> None:
        """Of snapshots there are none here."""


@dataclass(frozen=True)
class Node:
    """A node of the town, and a client of it."""

    name: str
    call: Any
    vectors: Vectors
    splitting: Splitting
    life: Life
    heard: Heard


class Town:
    """Several nodes in one process, with disks of their own, beside one NATS and one shelf."""

    def __init__(self, bus: Bus, folder: Path, own: Mapping[str, Quota]) -> None:
        """`own` are tenants beside the default one, and what they may have."""
        self.bus, self.folder = bus, folder
        self.path, self.keys = key_ring_file(folder, ("default", *own))
        self.service_key, self.quotas = self.keys["service"], dict(own)
        self.book, self.maps, self.announcements = FakeCollectionBook(), FakeShardMaps(), FakeAnnouncements()
        self.nodes: list[Node] = []

    @contextlib.asynccontextmanager
    async def node(self, name: str) -> AsyncIterator[Node]:
        life, root, clock = Life(MANY), self.folder / name / "shards", SystemClock()
        logs = Mortal(JetStreamLog(self.bus.jetstream, 2_000_000), life, "make", "append")
        saved, past = SavedShards(root), JetStreamPast(self.bus.jetstream)
        shelf = Mortal(FolderShelf(self.folder / "shelf"), life, "put")
        async with contextlib.AsyncExitStack() as stack:
            searching, applying, building = [
                await stack.enter_async_context(Workers(each, threads=2, waiting_max=64))
                for each in ("searches", "logs", "segments")
            ]
            shelved = Shelved(shelf, saved, building, self.folder / name / "archive")
            book = Mortal(self.book, life, "change")
            vectors = Vectors(book, logs, ShardFolders(root), FakeAnnouncer(), LIMITS)
            await stack.enter_async_context(open_vectors(vectors, Threads(searching, applying, building), shelved))
            splitting = Splitting(vectors, (shelved, saved, building, clock), MANY)
            heard, quotas = Heard(), Quotas(Quota(), self.quotas)
            behind = behind_of(vectors, quotas, searching, changes=heard.changes, splits=splitting)
            address = f"127.0.0.1:{free_port()}"
            own = Own(name, address, "", 1.0, self.service_key, root)
            maps = Mortal(self.maps, life, "change")
            world = World(maps, self.announcements, GrpcNodeLinks(self.service_key), past, clock)
            add = await stack.enter_async_context(being(own, world, vectors, behind))
            ring = KeyRing.load(self.path)
            await stack.enter_async_context(
                serving(address, service="vectors", add=add, keys=ring, names=[SERVICE_NAME])
            )
            stub = pb_grpc.VectorsServiceStub(await stack.enter_async_context(aio.insecure_channel(address)))

            async def call(method: str, request: Any, tenant: str = "default") -> Any:
                metadata = (("authorization", f"Bearer {self.keys[tenant]}"),)
                return await getattr(stub, method)(request, metadata=metadata, timeout=20)

            yield Node(name, call, vectors, splitting, life, heard)
