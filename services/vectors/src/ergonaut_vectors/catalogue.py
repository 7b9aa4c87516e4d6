"""What the doors need of collections: one is opened, seen at a position, and written to. The service fills this."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from ergonaut_vectors.domain.schema import IndexWish, Schema
from ergonaut_vectors.domain.segments.view import View
from ergonaut_vectors.domain.segments.writes import Write

Positions = Mapping[int, int]
"""Positions of logs by shard."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a request is answered of."""

    views: Sequence[View]
    """Of each shard that answers one state, which never changes."""
    missing: Sequence[int] = ()
    """Shards that do not answer, where that was allowed."""


@dataclass(frozen=True, slots=True)
class ShardState:
    """How a shard stands."""

    number: int
    view: View | None
    """None where it does not answer."""
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """A snapshot of a collection."""

    id: str
    collection: str
    made_at: datetime
    positions: Positions = field(default_factory=dict)
    count: int = 0
    size_bytes: int = 0


class Opened(Protocol):
    """A collection that can be asked and written to. All methods raise Unavailable where it cannot be now."""

    @property
    def schema(self) -> Schema:
        """What it is."""
        ...

    @property
    def count(self) -> int:
        """Vectors in it, as far as is known without asking."""
        ...

    async def seen(self, at_least: Positions, *, partial: bool = False) -> Seen:
        """Its shards, each as of at least this position of its log; those that are not named as they are."""
        ...

    async def write(self, write: Write, *, batch_id: str = "") -> Positions:
        """Write; gives the positions from which on it is seen, of each shard that was written to, when it is seen.

        Writes that are begun one after the other stand in the log in that order, also where none waits for the one before.
        """
        ...

    def states(self) -> Sequence[ShardState]:
        """How its shards stand."""
        ...


class Catalogue(Protocol):
    """The collections of all tenants."""

    async def create(self, tenant: str, schema: Schema) -> Opened:
        """The collection of this schema, made when there is none. Raises Conflict where its name has another schema."""
        ...

    def all(self, tenant: str) -> Sequence[Opened]:
        """The tenant's collections, by name."""
        ...

    async def open(self, tenant: str, name: str) -> Opened:
        """A collection. Raises NotFound."""
        ...

    async def drop(self, tenant: str, name: str) -> None:
        """Remove a collection with all in it. Raises NotFound."""
        ...

    async def set_index(self, tenant: str, name: str, wish: IndexWish) -> Opened:
        """Wish for another index from now on. Raises NotFound."""
        ...


class Splits(Protocol):
    """Who splits shards."""

    async def split(self, tenant: str, name: str, number: int) -> int:
        """Split a shard; gives the new one's number. Raises NotFound, Refused, Unavailable."""
        ...


class Snapshots(Protocol):
    """Collections as they were. All methods raise NotFound for what there is not, Unavailable where the store is away."""

    async def make(self, tenant: str, name: str) -> Kept:
        """Keep a collection as it is now."""
        ...

    async def all(self, tenant: str, name: str) -> Sequence[Kept]:
        """What is kept of a collection, newest first."""
        ...

    async def drop(self, tenant: str, name: str, snapshot_id: str) -> None:
        """Keep a snapshot no longer."""
        ...

    async def restore(self, tenant: str, name: str, new_name: str, moment: "str | datetime | None") -> Opened:
        """A new collection of a snapshot by its id, of a moment, or, for None, of what there is now. Raises Conflict."""
        ...
