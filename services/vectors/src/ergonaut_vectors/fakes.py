"""The ports in memory, for tests; the contract tests hold them and the adapters to the same behaviour."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Sequence
from functools import partial

from ergonaut.errors import Conflict, NotFound, Refused
from ergonaut.ids import is_name
from ergonaut_vectors.domain.records import Key, Record
from ergonaut_vectors.ports import LogMessage


class FakeCollectionBook:
    """A book in a dictionary."""

    def __init__(self) -> None:
        self.records: dict[Key, Record] = {}

    async def all(self) -> Sequence[Record]:
        return list(self.records.values())

    async def find(self, key: Key) -> Record | None:
        assert is_name(key.name), "NATS takes no other keys"
        return self.records.get(key)

    async def add(self, record: Record) -> None:
        if record.key in self.records:
            raise Conflict(f"collection {record.key} is in the book already")
        self.records[record.key] = record

    async def change(self, record: Record) -> None:
        self.records[record.key] = record

    async def remove(self, key: Key) -> None:
        self.records.pop(key, None)


class FakeLog:
    """Logs in lists. `fail_next` is raised by the next append, once, before or after it has written."""

    def __init__(self, bytes_max: int = 64 * 1024 * 1024) -> None:
        self.logs: dict[Key, list[bytes]] = {}
        self.fail_next: Exception | None = None
        self.fail_after_writing = False
        self._bytes_max = bytes_max
        self._grown = asyncio.Condition()

    async def make(self, key: Key) -> None:
        self.logs.setdefault(key, [])

    async def remove(self, key: Key) -> None:
        self.logs.pop(key, None)

    async def last(self, key: Key) -> LogMessage | None:
        messages = self._messages(key)
        return LogMessage(len(messages), messages[-1]) if messages else None

    async def append(self, key: Key, content: bytes, after: int) -> int:
        error, self.fail_next = self.fail_next, None
        if error is not None and not self.fail_after_writing:
            raise error
        messages = self._messages(key)
        if messages[after : after + 1] == [content]:
            return after + 1
        if after != len(messages):
            raise Conflict(f"the log of {key} ends at {len(messages)}, not at {after}")
        if sum(map(len, messages)) + len(content) > self._bytes_max:
            raise Refused(f"the log of collection {key.name} is full")
        messages.append(content)
        async with self._grown:
            self._grown.notify_all()
        if error is not None:
            raise error
        return len(messages)

    async def follow(self, key: Key, after: int) -> AsyncGenerator[LogMessage, None]:
        for sequence in itertools.count(after + 1):
            async with self._grown:
                await self._grown.wait_for(partial(self._reaches, key, sequence))
                content = self._messages(key)[sequence - 1]
            yield LogMessage(sequence, content)

    def _reaches(self, key: Key, sequence: int) -> bool:
        return len(self._messages(key)) >= sequence

    def _messages(self, key: Key) -> list[bytes]:
        if key not in self.logs:
            raise NotFound(f"collection {key} has no log")
        return self.logs[key]


class FakeAnnouncer:
    """Remembers what it was told, each fact once."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    async def created(self, record: Record) -> None:
        self._tell("created", record)

    async def dropped(self, record: Record) -> None:
        self._tell("dropped", record)

    def _tell(self, what: str, record: Record) -> None:
        if (what, record.uid) not in self.told:
            self.told.append((what, record.uid))
