"""Collections in memory behind a real door, for tests of it: real shards, and writes that are applied as they come."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

from ergonaut.client import AsyncClient, Connection
from ergonaut.errors import Conflict, NotFound
from ergonaut_common.auth import KeyRing
from ergonaut_common.h2 import serving
from ergonaut_common.testing import key_ring_file
from ergonaut_vectors.catalogue import Positions, Seen, ShardState
from ergonaut_vectors.domain.quotas import Quota
from ergonaut_vectors.domain.schema import IndexWish, Schema
from ergonaut_vectors.domain.segments.shard import Shard
from ergonaut_vectors.domain.segments.view import View
from ergonaut_vectors.domain.segments.writes import Upserts, Write
from ergonaut_vectors.quotas import Quotas
from ergonaut_vectors.rpc.door import SERVICE_NAME, door
from ergonaut_vectors.workers import Workers


class OpenedInMemory:
    """A collection whose ids are dealt out to its shards by their last character."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.shards = [Shard(schema.space, schema.fields) for _ in range(schema.shards)]
        self.batch_ids: list[str] = []
        self.away: set[int] = set()

    @property
    def count(self) -> int:
        return sum(shard.view.count for shard in self.shards)

    async def seen(self, at_least: Positions, *, partial: bool = False) -> Seen:
        assert all(self.shards[shard].position >= position for shard, position in at_least.items())
        views: list[View] = [shard.view for at, shard in enumerate(self.shards) if at not in self.away]
        assert partial or not self.away
        return Seen(views, sorted(self.away))

    async def write(self, write: Write, *, batch_id: str = "") -> Positions:
        self.batch_ids.append(batch_id)
        positions = {}
        for number, shard in enumerate(self.shards):
            chosen = [at for at, name in enumerate(write.ids) if ord(name[-1]) % len(self.shards) == number]
            if chosen:
                positions[number] = shard.position + 1
                shard.apply(_only(write, chosen), positions[number])
        return positions

    def states(self) -> Sequence[ShardState]:
        return [ShardState(number, shard.view) for number, shard in enumerate(self.shards)]


class CatalogueInMemory:
    """Collections by tenant and name."""

    def __init__(self) -> None:
        self.collections: dict[tuple[str, str], OpenedInMemory] = {}

    async def create(self, tenant: str, schema: Schema) -> OpenedInMemory:
        schema.check()
        opened = self.collections.setdefault((tenant, schema.name), OpenedInMemory(schema))
        if opened.schema != schema:
            raise Conflict(f"collection {schema.name} exists with another schema")
        return opened

    def all(self, tenant: str) -> Sequence[OpenedInMemory]:
        return [opened for key, opened in sorted(self.collections.items()) if key[0] == tenant]

    async def open(self, tenant: str, name: str) -> OpenedInMemory:
        if (tenant, name) not in self.collections:
            raise NotFound(f"collection: there is no collection {name!r}; create it first")
        return self.collections[tenant, name]

    async def drop(self, tenant: str, name: str) -> None:
        await self.open(tenant, name)
        del self.collections[tenant, name]

    async def set_index(self, tenant: str, name: str, wish: IndexWish) -> OpenedInMemory:
        opened = await self.open(tenant, name)
        opened.schema = replace(opened.schema, index=wish)
        return opened


def _only(write: Write, chosen: Sequence[int]) -> Write:
    ids = [write.ids[at] for at in chosen]
    if isinstance(write, Upserts):
        payloads = [write.payloads[at] for at in chosen] if write.payloads else ()
        return Upserts(ids, write.rows[chosen], payloads)
    if hasattr(write, "payloads"):
        return replace(write, ids=ids, payloads=[write.payloads[at] for at in chosen])
    return replace(write, ids=ids)


class House:
    """A door with a clock that tests set, and the client before it."""

    def __init__(self, catalogue: CatalogueInMemory, connection: Connection, client: AsyncClient) -> None:
        self.catalogue = catalogue
        self.connection = connection
        self.vectors = client.vectors
        self.now = 0.0


@contextlib.asynccontextmanager
async def house_of(folder: Path, quota: Quota | None = None) -> AsyncIterator[House]:
    """A door that is open while the block runs."""
    path, keys = key_ring_file(folder, ("acme",))
    catalogue = CatalogueInMemory()
    quotas = Quotas(quota or Quota(), clock=lambda: made.now)
    async with (
        Workers("searches", threads=2, waiting_max=64) as searching,
        serving(
            "127.0.0.1:0",
            service="vectors",
            add=door(catalogue, quotas, searching),
            keys=KeyRing.load(path),
            names=[SERVICE_NAME],
        ) as port,
    ):
        connection = Connection({"vectors": f"127.0.0.1:{port}"}, keys["acme"])
        async with AsyncClient(connection) as client:
            made = House(catalogue, connection, client)
            yield made
