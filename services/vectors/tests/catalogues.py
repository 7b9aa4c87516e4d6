"""Collections in memory for tests of the doors: real shards, and writes that are applied as they come."""

from collections.abc import Sequence
from dataclasses import replace

from ergonaut.errors import Conflict, NotFound
from ergonaut_vectors.catalogue import Positions, Seen, ShardState
from ergonaut_vectors.domain.schema import IndexWish, Schema
from ergonaut_vectors.domain.segments.shard import Shard
from ergonaut_vectors.domain.segments.view import View
from ergonaut_vectors.domain.segments.writes import Upserts, Write


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
