"""The ports in memory, for tests; the contract tests hold them and the adapters to the same behaviour."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Container, Sequence
from functools import partial

from ergonaut.errors import Broken, Conflict, NotFound, Unavailable
from ergonaut.ids import is_name
from ergonaut_vectors.domain.batches import lost_end
from ergonaut_vectors.domain.records import Key, Record
from ergonaut_vectors.domain.replica import Kept
from ergonaut_vectors.domain.segments.work import Done, Work
from ergonaut_vectors.ports import Extent, LogFull, LogMessage


class FakeCollectionBook:
    """A book in a dictionary."""

    def __init__(self) -> None:
        self.records: dict[Key, Record] = {}
        self._changes: list[Key] = []
        self._changed = asyncio.Condition()

    async def all(self) -> Sequence[Record]:
        return list(self.records.values())

    async def find(self, key: Key) -> Record | None:
        assert is_name(key.name), "NATS takes no other keys"
        return self.records.get(key)

    async def add(self, record: Record) -> None:
        if record.key in self.records:
            raise Conflict(f"collection {record.key} is in the book already")
        await self._put(record)

    async def change(self, record: Record, before: Record | None = None) -> None:
        if before is not None and self.records.get(record.key) not in (before, record):
            raise Conflict(f"collection {record.key} was changed meanwhile")
        await self._put(record)

    async def remove(self, record: Record) -> None:
        found = self.records.get(record.key)
        if found is not None and found.uid == record.uid:
            del self.records[record.key]
            await self._tell(record.key)

    async def changes(self) -> AsyncIterator[tuple[Key, Record | None]]:
        at = 0
        while True:
            async with self._changed:
                while at == len(self._changes):
                    await self._changed.wait()
            key = self._changes[at]
            at += 1
            yield key, self.records.get(key)

    async def _put(self, record: Record) -> None:
        self.records[record.key] = record
        await self._tell(record.key)

    async def _tell(self, key: Key) -> None:
        self._changes.append(key)
        async with self._changed:
            self._changed.notify_all()


TOGETHER_MAX = 5
"""Messages that a log gives at a time, so that tests have several of them soon."""


class FakeLog:
    """Logs in lists. `fail_next` is raised by the next append, once, before or after it has written."""

    def __init__(self, bytes_max: int = 64 * 1024 * 1024) -> None:
        self.logs: dict[Key, list[bytes]] = {}
        self.firsts: dict[Key, int] = {}
        """Where logs begin of which something was forgotten; what came before is empty there."""
        self.owners: dict[Key, str] = {}
        self.fail_next: Exception | None = None
        self.fail_after_writing = False
        self._bytes_max = bytes_max
        self._names: dict[tuple[Key, int], str] = {}
        self._grown = asyncio.Condition()

    async def make(self, key: Key, begin: LogMessage | None = None, *, owner: str = "") -> None:
        if self._is_of_another(key, owner):
            raise Conflict(f"the log of {key} is another collection's")
        if key not in self.logs:
            self.logs[key], self.owners[key] = [], owner
            if begin is not None:
                self.logs[key] = [b""] * (begin.sequence - 1) + [begin.content]
                self.firsts[key] = begin.sequence

    async def remove(self, key: Key, *, owner: str = "") -> None:
        if not self._is_of_another(key, owner):
            self.logs.pop(key, None)
            self.firsts.pop(key, None)

    async def last(self, key: Key) -> LogMessage | None:
        messages = self._messages(key)
        return LogMessage(len(messages), messages[-1]) if messages else None

    async def extent(self, key: Key) -> Extent:
        messages = self._messages(key)
        return Extent(self.firsts.get(key, 1), len(messages), sum(map(len, messages)))

    async def trim(self, key: Key, first: int) -> None:
        messages = self._messages(key)
        first = max(min(first, len(messages)), self.firsts.get(key, 1))
        messages[: first - 1] = [b""] * (first - 1)
        self.firsts[key] = first

    async def append(self, key: Key, content: bytes, after: int, *, name: str = "", behind: str = "") -> int:
        error, self.fail_next = self.fail_next, None
        if error is not None and not self.fail_after_writing:
            raise error
        messages = self._messages(key)
        if messages[after : after + 1] == [content]:
            return after + 1
        if after != len(messages) or (behind and self._names.get((key, after)) != behind):
            raise Conflict(f"the log of {key} ends at {len(messages)}, not at {after}")
        if sum(map(len, messages)) + len(content) > self._bytes_max:
            raise LogFull(f"the log of collection {key.name} is full")
        messages.append(content)
        self._names[key, len(messages)] = name
        async with self._grown:
            self._grown.notify_all()
        if error is not None:
            raise error
        return len(messages)

    async def follow(self, key: Key, after: int) -> AsyncGenerator[Sequence[LogMessage], None]:
        while True:
            after = max(after, self.firsts.get(key, 1) - 1)
            async with self._grown:
                await self._grown.wait_for(partial(self._reaches, key, after + 1))
                contents = self._messages(key)[after : after + TOGETHER_MAX]
            yield [LogMessage(sequence, content) for sequence, content in enumerate(contents, after + 1)]
            after += len(contents)

    def _reaches(self, key: Key, sequence: int) -> bool:
        last = len(self._messages(key))
        if last < sequence - 1:
            raise lost_end(last, sequence - 1)
        return last >= sequence

    def _is_of_another(self, key: Key, owner: str) -> bool:
        return key in self.logs and bool(owner) and self.owners.get(key, "") not in ("", owner)

    def _messages(self, key: Key) -> list[bytes]:
        if key not in self.logs:
            raise NotFound(f"collection {key} has no log")
        return self.logs[key]


class FakeStores:
    """Stores in a dictionary."""

    def __init__(self) -> None:
        self.stores: dict[str, FakeStore] = {}

    def of(self, uid: str) -> "FakeStore":
        return self.stores.setdefault(uid, FakeStore())

    def recent(self, limit: int) -> Sequence[str]:
        saved = {uid: store.saved_at for uid, store in self.stores.items() if store.kept is not None}
        return sorted(saved, key=lambda uid: -saved[uid])[:limit]

    def remove(self, uid: str) -> None:
        self.stores.pop(uid, None)

    def retain(self, uids: Container[str]) -> None:
        self.stores = {uid: store for uid, store in self.stores.items() if uid in uids}


class FakeStore:
    """What was saved, in memory. `damage` is raised by the next load, or check."""

    _saves = itertools.count()

    def __init__(self) -> None:
        self.kept: Kept | None = None
        self.saved_at = -1
        self.damage: Broken | None = None
        self.keep_fails = 0
        """How often a segment cannot be written from now on, as on a full disk."""

    def load(self) -> Kept | None:
        if self.damage is not None:
            raise self.damage
        return self.kept

    def check(self, work: Work) -> None:  # noqa: ARG002 - all of it is damaged or none
        if self.damage is not None:
            raise self.damage

    def keep(self, result: Done) -> Done:
        if self.keep_fails:
            self.keep_fails -= 1
            raise Unavailable("the disk is full")
        return result

    def save(self, kept: Kept) -> None:
        self.kept, self.saved_at = kept, next(self._saves)

    def set_aside(self) -> None:
        self.kept, self.damage = None, None


class FakeSpares:
    """States as they were saved, put on the shelf by tests."""

    def __init__(self, stores: FakeStores) -> None:
        self.kept: dict[str, Kept] = {}
        self.away = False
        self._stores = stores

    async def bring(self, record: Record, shard: int) -> bool:
        self._check()
        kept = self.kept.get(record.store_of(shard))
        if kept is not None:
            self._stores.of(record.store_of(shard)).save(kept)
        return kept is not None

    async def forget(self, record: Record) -> None:
        self._check()
        for shard in range(len(record.shards)):
            self.kept.pop(record.store_of(shard), None)

    def _check(self) -> None:
        if self.away:
            raise Unavailable("the shelf is away")


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
