"""What is written down about a collection beside its log, and the stages of its life."""

from dataclasses import dataclass, replace
from enum import StrEnum

from ergonaut_vectors.domain.placing.slots import SlotRange, equal_ranges
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


def store_name(uid: str, shard: int) -> str:
    """How the store of a collection's shard is called."""
    return f"{uid}.{shard}"


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
class Split:
    """A shard that was split off another; its number is the next one. From when on it answers, the other's log says."""

    source: int
    slots: SlotRange


@dataclass(frozen=True, slots=True)
class Record:
    """A collection as the book has it."""

    key: Key
    schema: Schema
    uid: str
    """Tells two collections of one name apart, of which the first was dropped."""
    stage: Stage
    begins: tuple[Begin, ...] = ()
    """Of the shards that did not begin empty, as those of a collection that was restored, or that were split off others."""
    splits: tuple[Split, ...] = ()
    """In the order in which they were made."""

    @property
    def shards(self) -> list[Key]:
        """The keys of its shards."""
        return [self.key.of_shard(shard) for shard in range(self.schema.shards + len(self.splits))]

    @property
    def ranges(self) -> list[SlotRange]:
        """The slots of each shard, all splits done."""
        ranges = equal_ranges(self.schema.shards)
        for split in self.splits:
            ranges[split.source] = SlotRange(ranges[split.source].first, split.slots.first)
            ranges.append(split.slots)
        return ranges

    def split_of(self, shard: int) -> Split | None:
        """How a shard came to be that was split off another."""
        return self.splits[shard - self.schema.shards] if shard >= self.schema.shards else None

    def with_split(self, split: Split, begin: Begin) -> "Record":
        """With one shard more."""
        return replace(self, begins=(*self.begins, begin), splits=(*self.splits, split))

    def store_of(self, shard: int) -> str:
        """How the store of a shard is called."""
        return store_name(self.uid, shard)

    def at(self, stage: Stage) -> "Record":
        """The same collection at another stage."""
        return replace(self, stage=stage)
