"""Writes batches to one log, many under way at once, each behind the one before. Used by `live.py`.

A write does not wait for the one before it to be acknowledged: it is told to stand behind where that one will stand. Where
one fails, all behind it fail with it, since a log takes nothing that does not fit its end; those begin again at the new end.
"""

import asyncio
from collections import deque

from ergonaut.errors import Conflict, Unavailable
from ergonaut_vectors.domain.batches import Batch, Head, digest_of, messages_of
from ergonaut_vectors.domain.records import Key
from ergonaut_vectors.ports import Log

ATTEMPTS_MAX = 5
"""How often a batch is begun again because its place was taken: each time somebody else has written, so the log moves on."""

UNDER_WAY_MAX = 256
"""Messages of one log that wait for their acknowledgement; so many keep the disk of a log busy, and are 64 MiB at most."""


class Appender:
    """The one writer of a log in this process."""

    def __init__(self, key: Key, logs: Log) -> None:
        self._key = key
        self._logs = logs
        self._placing = asyncio.Lock()
        self._room = asyncio.Semaphore(UNDER_WAY_MAX)
        self._under_way: deque[asyncio.Future[int]] = deque()
        # The end of the log when all that is under way has been written; None where it has to be asked for.
        self._head: Head | None = None

    @property
    def position(self) -> int:
        """The end of the log as far as is known here; 0 where it is not."""
        return self._head.sequence if self._head else 0

    async def append(self, batch: Batch) -> int:
        """Write a batch and give its position; it is on disk then. After Unavailable it may or may not have been written."""
        for _ in range(ATTEMPTS_MAX):
            try:
                return await self._attempt(batch)
            except Conflict:
                # Nothing of it stands where it should: it was begun behind something that failed, or another process wrote.
                continue
        raise Unavailable(f"others write to collection {self._key.name} all the time; try again")

    async def _attempt(self, batch: Batch) -> int:
        written: list[asyncio.Future[int]] = []
        async with self._placing:
            head = self._head or await self._found()
            self._head = None  # until all parts are placed
            for content in await asyncio.to_thread(messages_of, batch, head.digest):
                await self._room.acquire()
                written.append(self._begun(content, head.sequence))
                head = Head(head.sequence + 1, digest_of(content))
            if not any(each.done() and each.exception() for each in written):
                self._head = head
        return await self._last(written)

    def _begun(self, content: bytes, after: int) -> "asyncio.Future[int]":
        task = asyncio.ensure_future(self._logs.append(self._key, content, after))
        self._under_way.append(task)
        task.add_done_callback(self._settled)
        return task

    async def _last(self, written: "list[asyncio.Future[int]]") -> int:
        # The caller may leave; what it has begun goes on, and is waited for by whoever asks for the end of the log.
        answers = await asyncio.shield(asyncio.gather(*written, return_exceptions=True))
        errors = [answer for answer in answers if isinstance(answer, BaseException)]
        if errors:
            # The first one says why; those behind it only say that it is missing.
            raise errors[0]
        return max(answer for answer in answers if isinstance(answer, int))

    def _settled(self, task: "asyncio.Future[int]") -> None:
        self._room.release()
        self._under_way.remove(task)
        if task.cancelled() or task.exception() is not None:
            self._head = None

    async def _found(self) -> Head:
        """The end of the log, asked for when nothing is under way any more that could move it."""
        while self._under_way:
            await asyncio.wait(self._under_way)
        last = await self._logs.last(self._key)
        return Head(last.sequence, digest_of(last.content)) if last else Head()
