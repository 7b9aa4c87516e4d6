"""What the archive needs of the world: a shelf for files, the past of a log, and what shards have saved."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from typing import Protocol

from ergonaut_vectors.catalogue import Opened
from ergonaut_vectors.domain.records import Key, Record
from ergonaut_vectors.domain.segments.manifest import Manifest
from ergonaut_vectors.ports import Store

CLEARED_MAX = 100
"""Leftovers of one tenant that are removed at a time, for whoever waits is keeping a state; the next ones remove more."""


class Shelf(Protocol):
    """Where files are kept. All methods raise Unavailable where it does not answer. Names are paths of plain characters."""

    async def put(self, name: str, source: Path) -> None:
        """Keep a file; the same name again has the same content or takes the place of what was there, in one step."""
        ...

    async def fetch(self, name: str, target: Path) -> None:
        """Write a kept file there. Raises NotFound, Broken where it is damaged."""
        ...

    async def names(self, prefix: str) -> Sequence[str]:
        """The names of all files that begin so, sorted."""
        ...

    async def drop(self, name: str) -> None:
        """Keep a file no longer; one that is not there is fine."""
        ...

    async def clear(self, tenant: str, before: datetime) -> None:
        """Remove some of what puts left of the tenant's files that ended before they were done, and long before that moment."""
        ...


@dataclass(frozen=True, slots=True)
class PastMessage:
    """A message of a log."""

    sequence: int
    content: bytes
    written_at: datetime


@dataclass(frozen=True, slots=True)
class Until:
    """How far a log is read: whichever comes first."""

    position: int | None = None
    moment: datetime | None = None

    def includes(self, message: PastMessage) -> bool:
        """Whether a message is to be read."""
        is_before = self.position is None or message.sequence <= self.position
        return is_before and (self.moment is None or message.written_at <= self.moment)

    def taken(self, messages: Sequence[PastMessage]) -> Sequence[PastMessage]:
        """Those to be read, up to the first that is not: where a clock went back, what is behind it would follow nothing."""
        return list(takewhile(self.includes, messages))


class Past(Protocol):
    """What was written to logs. All methods raise NotFound where there is no log, Unavailable where it does not answer."""

    async def end(self, key: Key) -> int:
        """The position of the last message; 0 for an empty log."""
        ...

    async def begin(self, key: Key) -> int:
        """The position of the first message that is kept; one behind the end where none is."""
        ...

    async def written_at(self, key: Key, position: int) -> datetime | None:
        """When a message was written; None where it is not kept any more."""
        ...

    def messages(self, key: Key, after: int, until: Until) -> AsyncGenerator[Sequence[PastMessage], None]:
        """The messages behind `after`, in order, as far as told and as there were any when this began."""
        ...


class Saved(Protocol):
    """What the shards of this machine have saved. Methods block, and raise Unavailable, Broken."""

    def copy(self, store: str, target: Path) -> None:
        """Put the newest saved state of a store into an empty folder; nothing where none was saved. No bytes are copied."""
        ...

    def link(self, store: str, name: str, target: Path) -> bool:
        """Have a file of a store, which never changes, elsewhere too; False where it is not there. No bytes are copied."""
        ...

    def manifest(self, folder: Path) -> Manifest | None:
        """Which state the files of a folder are; None of none."""
        ...

    def verify(self, path: Path) -> None:
        """Check every block of a file. Raises Broken."""
        ...

    def put(self, folder: Path, store: str) -> None:
        """Let the files of a folder be what a store comes back to, in place of what it has."""
        ...

    def remove(self, store: str) -> None:
        """Remove all of a store; one that has nothing is fine."""
        ...

    def open(self, folder: Path) -> Store:
        """The store of a folder."""
        ...


class Reviving(Protocol):
    """Who makes collections."""

    async def revive(self, record: Record) -> Opened:
        """A new collection whose shards go on from states on the shelf. Raises Conflict, Refused, Unavailable."""
        ...

    async def open(self, tenant: str, name: str) -> Opened:
        """A collection. Raises NotFound."""
        ...
