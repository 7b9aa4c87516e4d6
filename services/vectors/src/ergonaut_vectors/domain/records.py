"""What is written down about a collection beside its log, and the stages of its life."""

from dataclasses import dataclass, replace
from enum import StrEnum

from ergonaut_vectors.domain.schema import Schema


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Which collection, or which shard of it: a tenant's, by name. All is fit for subjects, keys and the names of streams."""

    tenant: str
    name: str
    shard: int = 0
    """The first shard goes by the collection's own key, as the one of a collection did that could have no other."""

    def __str__(self) -> str:
        return f"{self.tenant}.{self.name}" + (f".{self.shard}" if self.shard else "")

    def of_shard(self, shard: int) -> "Key":
        """The key of a shard."""
        return replace(self, shard=shard)


class Stage(StrEnum):
    """How far a collection's making or dropping has come; what was begun is finished after a crash."""

    MAKING = "making"
    """It is to be: its log may be missing."""
    READY = "ready"
    """It is: a missing log means that data was lost."""
    DROPPING = "dropping"
    """It is no more: its log may still be there."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Where the log of a shard begins that goes on from a state on the shelf."""

    shard: int
    position: int
    """Of the last message in the state; the log's first one stands behind it."""
    digest: str
    """Of that message, in hexadecimal."""


@dataclass(frozen=True, slots=True)
class Record:
    """A collection as the book has it."""

    key: Key
    schema: Schema
    uid: str
    """Tells two collections of one name apart, of which the first was dropped."""
    stage: Stage
    begins: tuple[Begin, ...] = ()
    """Of the shards that did not begin empty, as those of a collection that was restored."""

    @property
    def shards(self) -> list[Key]:
        """The keys of its shards."""
        return [self.key.of_shard(shard) for shard in range(self.schema.shards)]

    def store_of(self, shard: int) -> str:
        """How the store of a shard is called."""
        return f"{self.uid}.{shard}"

    def at(self, stage: Stage) -> "Record":
        """The same collection at another stage."""
        return replace(self, stage=stage)
