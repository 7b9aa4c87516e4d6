"""A catalogue of whose collections some shards alone are seen, by the map of another node. The door between nodes asks it."""

import asyncio
from collections.abc import Sequence
from typing import Protocol, cast

from ergonaut.errors import Conflict, Unavailable
from ergonaut_vectors.catalogue import Catalogue, Opened, Positions, Seen, ShardState
from ergonaut_vectors.domain.schema import IndexWish, Schema
from ergonaut_vectors.domain.segments.view import View
from ergonaut_vectors.domain.segments.writes import Write

BEHIND_SECONDS = 5.0
"""How long a replica may take to apply the end of a split that the asker's map knows of: it is on its way in the log."""

LOOK_AGAIN_SECONDS = 0.02
"""Pause before it is looked at again."""


class Parted(Protocol):
    """A collection of which this node may have a part."""

    async def seen_of(self, numbers: Sequence[int], at_least: Positions, *, partial: bool = False) -> Seen:
        """Some of its shards, each as of at least this position of its log."""
        ...

    async def write_to(self, number: int, write: Write, batch_id: str) -> int:
        """Write to one shard; gives where. Raises Conflict where ids of it are another shard's."""
        ...

    def slots_after(self, number: int, view: View) -> int:
        """The slot behind the last one that a shard answers for, as this view of it says."""
        ...


class SomeShards:
    """The catalogue. `slots_after` is where the one shard that is asked ends, by the asker's map; 0 where that is not told."""

    def __init__(self, catalogue: Catalogue, shards: Sequence[int], slots_after: int = 0) -> None:
        self._catalogue = catalogue
        self._shards = shards
        self._slots_after = slots_after

    async def create(self, tenant: str, schema: Schema) -> Opened:
        return await self._catalogue.create(tenant, schema)

    def all(self, tenant: str) -> Sequence[Opened]:
        return self._catalogue.all(tenant)

    async def open(self, tenant: str, name: str) -> Opened:
        return _OpenedSome(await self._catalogue.open(tenant, name), self._shards, self._slots_after)

    async def drop(self, tenant: str, name: str) -> None:
        await self._catalogue.drop(tenant, name)

    async def set_index(self, tenant: str, name: str, wish: IndexWish) -> Opened:
        return await self._catalogue.set_index(tenant, name, wish)


class _OpenedSome:
    """A collection of which some shards alone are seen."""

    def __init__(self, opened: Opened, shards: Sequence[int], slots_after: int) -> None:
        self._opened = opened
        self._part = cast(Parted, opened)
        self._shards = shards
        self._slots_after = slots_after

    @property
    def schema(self) -> Schema:
        return self._opened.schema

    @property
    def count(self) -> int:
        return self._opened.count

    async def seen(self, at_least: Positions, *, partial: bool = False) -> Seen:
        """As `Opened`, of just the slots that the asker means. Raises Conflict where his map is older than the shard's split."""
        give_up_at = asyncio.get_running_loop().time() + BEHIND_SECONDS
        while True:
            seen = await self._part.seen_of(self._shards, at_least, partial=partial)
            if not self._slots_after or not seen.views:
                return seen
            [number], [view] = self._shards, seen.views
            after = self._part.slots_after(number, view)
            if after == self._slots_after:
                return seen
            if after < self._slots_after:
                raise Conflict(
                    f"shard {number} of {self.schema.name} was split; the map by which it was asked is older"
                )
            if asyncio.get_running_loop().time() >= give_up_at:
                raise Unavailable(
                    f"this replica of shard {number} of {self.schema.name} lies behind its split; try again"
                )
            await asyncio.sleep(LOOK_AGAIN_SECONDS)

    async def write(self, write: Write, *, batch_id: str = "") -> Positions:
        [number] = self._shards
        return {number: await self._part.write_to(number, write, batch_id)}

    def states(self) -> Sequence[ShardState]:
        return [state for state in self._opened.states() if state.number in self._shards]
