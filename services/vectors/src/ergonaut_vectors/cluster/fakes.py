"""The cluster's ports in memory, for tests; the contract tests hold them and the adapters to the same behaviour."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from ergonaut.errors import Conflict, Unavailable
from ergonaut_vectors.cluster.announced import NodeAnnounced
from ergonaut_vectors.cluster.ports import Asking, KeptMap, NodeLink
from ergonaut_vectors.domain.placing.moving import ReplicaReport
from ergonaut_vectors.domain.placing.shard_map import ShardMap


class FakeShardMaps:
    """Maps in a dictionary."""

    def __init__(self) -> None:
        self.kept: dict[str, KeptMap] = {}
        self._changes: list[KeptMap] = []
        self._changed = asyncio.Condition()

    async def find(self, collection: str) -> KeptMap | None:
        return self.kept.get(collection)

    async def all(self) -> Sequence[KeptMap]:
        return list(self.kept.values())

    async def add(self, first: ShardMap) -> KeptMap:
        found = self.kept.get(first.collection)
        if found is not None and found.map != first:
            raise Conflict(f"collection {first.collection} has a map already")
        return found or await self._keep(first)

    async def change(self, after: ShardMap, revision: int) -> KeptMap:
        found = self.kept.get(after.collection)
        if found is not None and found.map == after:
            return found
        if found is None or found.revision != revision:
            raise Conflict(f"the map of {after.collection} was changed meanwhile")
        return await self._keep(after)

    async def remove(self, collection: str) -> None:
        self.kept.pop(collection, None)

    async def changes(self) -> AsyncIterator[KeptMap]:
        at = 0
        while True:
            async with self._changed:
                while at == len(self._changes):
                    await self._changed.wait()
            at += 1
            if self._changes[at - 1].map.collection in self.kept:
                yield self._changes[at - 1]

    async def _keep(self, now: ShardMap) -> KeptMap:
        kept = KeptMap(now, len(self._changes) + 1)
        self.kept[now.collection] = kept
        self._changes.append(kept)
        async with self._changed:
            self._changed.notify_all()
        return kept


class FakeAnnouncements:
    """All who listen here hear all that is told here."""

    def __init__(self) -> None:
        self.away = False
        self._hearers: list[Callable[[NodeAnnounced], None]] = []

    async def tell(self, announced: NodeAnnounced) -> None:
        if self.away:
            raise Unavailable("telling other nodes of this one: NATS is away")
        for hear in list(self._hearers):
            hear(announced)

    @asynccontextmanager
    async def heard(self, hear: Callable[[NodeAnnounced], None]) -> AsyncIterator[None]:
        self._hearers.append(hear)
        try:
            yield
        finally:
            self._hearers.remove(hear)


class FakeLink:
    """A link to a node of the same process; a node that is not in the dictionary does not answer."""

    def __init__(self, address: str, nodes: Mapping[str, NodeLink]) -> None:
        self._address = address
        self._nodes = nodes
        self.closed = False

    async def ask(self, asking: Asking) -> bytes:
        return await self._node().ask(asking)

    async def reports(self, tenant: str, collection: str) -> Mapping[int, ReplicaReport]:
        return await self._node().reports(tenant, collection)

    async def download(self, tenant: str, collection: str, shard: int, folder: Path) -> None:
        await self._node().download(tenant, collection, shard, folder)

    async def rebuild(self, tenant: str, collection: str, shard: int) -> None:
        await self._node().rebuild(tenant, collection, shard)

    def close(self) -> None:
        self.closed = True

    def _node(self) -> NodeLink:
        if self._address not in self._nodes:
            raise Unavailable(f"the node at {self._address} does not answer")
        return self._nodes[self._address]


class FakeLinks:
    """Links to nodes of the same process, by their addresses."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeLink] = {}

    def open(self, address: str) -> FakeLink:
        return FakeLink(address, self.nodes)
