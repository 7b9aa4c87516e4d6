"""The archive's past of logs in memory, for tests; a contract test holds it and the adapter to the same behaviour."""

from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime, timedelta

from ergonaut.errors import NotFound
from ergonaut_vectors.archive.ports import PastMessage, Until
from ergonaut_vectors.domain.batches import NO_DIGEST, Batch, digest_of, messages_of
from ergonaut_vectors.domain.records import Key
from ergonaut_vectors.domain.segments.writes import Write

BEGAN_AT = datetime(2026, 1, 1, tzinfo=UTC)


class FakePast:
    """Logs whose messages are each written a second after the one before."""

    def __init__(self) -> None:
        self.logs: dict[Key, list[PastMessage]] = {}
        self.trimmed: dict[Key, int] = {}
        self.now = BEGAN_AT

    def write(self, key: Key, write: Write) -> int:
        """Append what a write makes; gives the position of its last message."""
        messages = self.logs.setdefault(key, [])
        for content in messages_of(Batch(write), digest_of(messages[-1].content) if messages else NO_DIGEST):
            self.now += timedelta(seconds=1)
            messages.append(PastMessage(len(messages) + 1, content, self.now))
        return len(messages)

    async def end(self, key: Key) -> int:
        return len(self._messages(key))

    async def begin(self, key: Key) -> int:
        self._messages(key)
        return self.trimmed.get(key, 0) + 1

    async def written_at(self, key: Key, position: int) -> datetime | None:
        messages = self._messages(key)
        return messages[position - 1].written_at if self.trimmed.get(key, 0) < position <= len(messages) else None

    async def messages(self, key: Key, after: int, until: Until) -> AsyncGenerator[Sequence[PastMessage], None]:
        for message in list(self._messages(key))[max(after, self.trimmed.get(key, 0)) :]:
            if not until.includes(message):
                return
            yield [message]

    def _messages(self, key: Key) -> list[PastMessage]:
        if key not in self.logs:
            raise NotFound(f"collection {key} has no log")
        return self.logs[key]
