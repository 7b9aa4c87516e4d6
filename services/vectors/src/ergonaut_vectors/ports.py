"""What the service needs of the world: a book of collections, a log for each, and somebody to tell."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ergonaut_vectors.domain.records import Key, Record


@dataclass(frozen=True, slots=True)
class LogMessage:
    """A message of a log, and its position; the first is 1."""

    sequence: int
    content: bytes


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

    async def change(self, record: Record) -> None:
        """Write a record over the one of its key."""
        ...

    async def remove(self, key: Key) -> None:
        """Strike a record out; one that is not there is fine."""
        ...


class Log(Protocol):
    """The logs of the collections, which outlast every process. All methods raise Unavailable when a log does not answer."""

    async def make(self, key: Key) -> None:
        """Make a log; one that is there is fine. Raises Refused where there is no room for another."""
        ...

    async def remove(self, key: Key) -> None:
        """Remove a log and all in it; one that is not there is fine."""
        ...

    async def last(self, key: Key) -> LogMessage | None:
        """The last message, None in an empty log. Raises NotFound where there is no log."""
        ...

    async def append(self, key: Key, content: bytes, after: int) -> int:
        """Write behind the message at `after` and give the new position; it is on disk then.

        The same again at the same place is written once. Raises Conflict where something else stands behind `after`, Refused
        where the log is full; nothing is written then. After Unavailable it may or may not have been written.
        """
        ...

    def follow(self, key: Key, after: int) -> AsyncGenerator[LogMessage, None]:
        """The messages behind `after`, in order, and then each new one, without end. Raises NotFound without a log."""
        ...


class Announcer(Protocol):
    """Tells others what happened to collections; telling twice is fine. Raises Unavailable."""

    async def created(self, record: Record) -> None:
        """A collection can be written to."""
        ...

    async def dropped(self, record: Record) -> None:
        """A collection is gone."""
        ...
