"""What the service needs of the world: a book of collections, a log and a place on disk for each, and somebody to tell."""

from collections.abc import AsyncGenerator, AsyncIterator, Container, Sequence
from dataclasses import dataclass
from typing import Protocol

from ergonaut.errors import Unavailable
from ergonaut_vectors.domain.records import Key, Record
from ergonaut_vectors.domain.replica import Kept
from ergonaut_vectors.domain.segments.work import Done, Work


@dataclass(frozen=True, slots=True)
class LogMessage:
    """A message of a log, and its position; the first is 1."""

    sequence: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Extent:
    """What a log has."""

    first: int
    """Position of its first message; one behind the last where there is none."""
    last: int
    size_bytes: int


class LogFull(Unavailable):
    """A log takes nothing more until what came first is forgotten."""


class CollectionBook(Protocol):
    """Which collections there are. All methods raise Unavailable when the book does not answer."""

    async def all(self) -> Sequence[Record]:
        """Every collection of every tenant, at whatever stage."""
        ...

    async def find(self, key: Key) -> Record | None:
        """The record of one."""
        ...

    async def add(self, record: Record) -> None:
        """Write a new record down. Raises Conflict where there is one of this key."""
        ...

    async def change(self, record: Record, before: Record | None = None) -> None:
        """Write a record over the one of its key. Raises Conflict where that is not `before`, if it is told."""
        ...

    def changes(self) -> AsyncIterator[tuple[Key, Record | None]]:
        """Each record that there is, and then each that is changed, or None where it was struck out, without end."""
        ...

    async def remove(self, record: Record) -> None:
        """Strike out the record of this collection, at whatever stage; where there is none, or another one's, that is fine."""
        ...


class Log(Protocol):
    """The logs of the collections, which outlast every process. All methods raise Unavailable when a log does not answer."""

    async def make(self, key: Key, begin: LogMessage | None = None, *, owner: str = "") -> None:
        """Make a log, with this as its first message where it goes on from a state; one that is there is fine.

        `owner` is the uid of the collection that it is to be of. Raises Conflict where the log that is there is another
        one's, Refused where there is no room for another.
        """
        ...

    async def remove(self, key: Key, *, owner: str = "") -> None:
        """Remove a log and all in it; one that is not there is fine, and one of another owner, if it is told, stays."""
        ...

    async def last(self, key: Key) -> LogMessage | None:
        """The last message, None in an empty log. Raises NotFound where there is no log."""
        ...

    async def extent(self, key: Key) -> Extent:
        """From where to where it goes. Raises NotFound where there is no log."""
        ...

    async def trim(self, key: Key, first: int) -> None:
        """Forget the messages before this one; the last one stays in any case."""
        ...

    async def append(self, key: Key, content: bytes, after: int, *, name: str = "", behind: str = "") -> int:
        """Write behind the message at `after` and give the new position; it is on disk then. Several may be under way, begun in
        the order of their places.

        `name` is the message's own, which no other has; `behind` is that of the message at `after`, where it was written
        lately and may not have arrived. The same again at the same place is written once. Raises Conflict where something
        else stands there or behind it, LogFull where there is no room; nothing is written then. After any other Unavailable it
        may or may not have been written.
        """
        ...

    def follow(self, key: Key, after: int) -> AsyncGenerator[Sequence[LogMessage], None]:
        """The messages behind `after`, in order, as many at a time as are there, and then new ones, without end.

        Raises NotFound without a log, Broken within seconds where it does not reach to `after` any more.
        """
        ...


class Store(Protocol):
    """Where a shard's state is kept between starts. All methods block, and raise Unavailable where the disk does not do it."""

    def load(self) -> Kept | None:
        """What was saved last, None where nothing was. Raises Broken where it is damaged."""
        ...

    def check(self, work: Work) -> None:
        """See that the segments that work is done on are what was written down. Raises Broken naming what is damaged."""
        ...

    def keep(self, result: Done) -> Done:
        """Write a segment down, and give it as it is to be used from then on."""
        ...

    def save(self, kept: Kept) -> None:
        """Let this be what the next start comes back to. All of its segments were given to `keep`."""
        ...

    def set_aside(self) -> None:
        """Move what is damaged out of the way, for somebody to look at."""
        ...


class Stores(Protocol):
    """A store for each collection, by its uid."""

    def of(self, uid: str) -> Store:
        """The store of a collection; nothing is made before something is kept."""
        ...

    def recent(self, limit: int) -> Sequence[str]:
        """The collections that were saved last, newest first."""
        ...

    def remove(self, uid: str) -> None:
        """Remove all of a collection; one that has nothing is fine."""
        ...

    def retain(self, uids: Container[str]) -> None:
        """Remove all of collections other than these."""
        ...


class Spares(Protocol):
    """States of shards that are kept outside of this machine too. All methods raise Unavailable."""

    async def bring(self, record: Record, shard: int) -> bool:
        """Let the newest one be what the shard's store comes back to; False where there is none that is whole."""
        ...

    async def forget(self, record: Record) -> None:
        """Keep none of a collection any more."""
        ...


class Announcer(Protocol):
    """Tells others what happened to collections; telling twice is fine. Raises Unavailable."""

    async def created(self, record: Record) -> None:
        """A collection can be written to."""
        ...

    async def dropped(self, record: Record) -> None:
        """A collection is gone."""
        ...
