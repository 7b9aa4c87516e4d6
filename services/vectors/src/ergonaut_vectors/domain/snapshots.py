"""What is kept of a collection: for each shard the files of one state. Used by `archive`.

Files are named by what is in them, so that those which did not change since the snapshot before are kept once.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from ergonaut.errors import Broken
from ergonaut_vectors.domain.records import Key, Split
from ergonaut_vectors.domain.schema import Schema

VERSION = 1

_FILE_NAME = re.compile(r"[a-z0-9][a-z0-9.]{0,63}")


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file of a shard."""

    name: str
    """In the shard's folder."""
    digest: str
    """BLAKE2b of its content, 128 bits."""
    size_bytes: int
    uid: str = ""
    """The collection that it was kept for; empty where that is the one of the record."""


@dataclass(frozen=True, slots=True)
class KeptShard:
    """The state of one shard."""

    number: int
    position: int
    """The last message of its log that is in it."""
    written_at: datetime | None
    """When that message was written, UTC; None where there is none."""
    digest: str
    """Of ids and positions; a replica stopped at this position has the same."""
    count: int
    files: tuple[KeptFile, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a collection, or, without an id, of one of its shards."""

    id: str
    """Empty for a state, which goes by its shard and position."""
    key: Key
    uid: str
    """Of the collection: one of the same name that was made later is another."""
    schema: Schema
    made_at: datetime
    shards: tuple[KeptShard, ...]
    version: int = VERSION
    splits: tuple[Split, ...] = ()
    """Of the collection, as its record has them."""

    @property
    def count(self) -> int:
        """Vectors in it."""
        return sum(shard.count for shard in self.shards)

    @property
    def size_bytes(self) -> int:
        """Bytes of its files, those too that other snapshots have as well."""
        return sum(file.size_bytes for shard in self.shards for file in shard.files)

    @property
    def files(self) -> dict[str, set[str]]:
        """The digests of the files that it needs, by the collection that they were kept for."""
        found: dict[str, set[str]] = {}
        for shard in self.shards:
            for file in shard.files:
                found.setdefault(file.uid or self.uid, set()).add(file.digest)
        return found

    @property
    def lenders(self) -> list[str]:
        """The other collections whose files it needs."""
        return sorted(uid for uid in self.files if uid != self.uid)

    def checked(self) -> "Snapshot":
        """Itself, where it can be one of this version. Raises Broken."""
        if self.version != VERSION:
            raise Broken(f"snapshot {self.id} is of version {self.version}, which this version does not read")
        if any(not _FILE_NAME.fullmatch(file.name) for shard in self.shards for file in shard.files):
            raise Broken(f"snapshot {self.id} names files that no shard has")
        return self


def states_of(snapshots: Iterable[Snapshot], number: int, moment: datetime | None) -> list[Snapshot]:
    """Those from which a shard comes to a moment, or to now, by replaying a log; the one with the least to replay first."""
    fitting = []
    for each in snapshots:
        for shard in each.shards:
            is_before = moment is None or shard.written_at is None or shard.written_at <= moment
            if shard.number == number and is_before:
                fitting.append((shard.position, each.made_at, each))
    return [each for *_, each in sorted(fitting, key=lambda told: told[:2], reverse=True)]


def needed_by(snapshots: Iterable[Snapshot], uid: str) -> set[str]:
    """The files that these need of a collection."""
    return {digest for each in snapshots for digest in each.files.get(uid, ())}


def kept_for(snapshots: Iterable[Snapshot]) -> dict[str, str]:
    """By the digest of each file the collection that it was kept for."""
    return {digest: uid for each in snapshots for uid, digests in each.files.items() for digest in digests}
