"""One collection at work: its log is followed into the index, writes are appended to the log, and whoever needs to, waits."""

import asyncio
import contextlib
from dataclasses import dataclass
from functools import partial

from prometheus_client import Counter

from ergonaut.errors import Broken, Conflict, ErgonautError, NotFound, Unavailable
from ergonaut_common.observe import get_logger
from ergonaut_vectors.domain.batches import Chain, Head, checksum_of, messages_of
from ergonaut_vectors.domain.index import VectorIndex
from ergonaut_vectors.domain.records import Record
from ergonaut_vectors.domain.schema import Batch
from ergonaut_vectors.ports import Log, LogMessage
from ergonaut_vectors.workers import Workers

log = get_logger(__name__)

_applied = Counter("ergonaut_vectors_messages_applied_total", "Messages of logs that were applied, replayed ones too.")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may wait, and for how long."""

    collections_max: int
    writes_waiting_max: int
    wait_seconds: float


class LiveCollection:
    """A collection that can be written to and searched once its log has been replayed."""

    def __init__(self, record: Record, logs: Log, applying: Workers, limits: Limits) -> None:
        self.record = record
        self.index = VectorIndex(record.schema)
        self._logs = logs
        self._applying = applying
        self._limits = limits
        self._chain = Chain()
        self._changed = asyncio.Condition()
        self._in_order = asyncio.Lock()
        self._writes_waiting = 0
        self._replay_to = 0
        self._failure: ErgonautError | None = None
        # The end of the log as far as this process knows; None after a write whose outcome is not known.
        self._head: Head | None = None

    async def open(self) -> None:
        """Find out how far the log has to be replayed before anything is answered."""
        try:
            self._head = await self._find_head()
        except NotFound:
            await self.fail(
                Broken(f"the log of collection {self.record.key} is gone; drop the collection, or restore it")
            )
            return
        except Broken as error:
            await self.fail(Broken(f"collection {self.record.key} cannot be read from its log: {error}"))
            return
        self._replay_to = self._head.sequence

    async def follow(self) -> None:
        """Apply the log, message by message, until cancelled; what cannot be applied ends this collection, no other."""
        if self._failure is not None:
            return
        try:
            async with contextlib.aclosing(self._logs.follow(self.record.key, 0)) as messages:
                async for message in messages:
                    await self._applying.run(partial(self._apply, message))
                    _applied.inc()
                    async with self._changed:
                        self._changed.notify_all()
                    if message.sequence == self._replay_to:
                        log.info("collection is ready", collection=str(self.record.key), points=self.index.count)
        except Exception as error:
            # Whatever it was, the other collections are well; this one says what is wrong with it to everybody who asks.
            log.exception("collection failed", collection=str(self.record.key))
            await self.fail(Broken(f"collection {self.record.key} cannot be read from its log: {error}"))

    async def write(self, batch: Batch) -> int:
        """Append a batch and wait until it is seen; gives its position."""
        if self._writes_waiting >= self._limits.writes_waiting_max:
            message = (
                f"{self._writes_waiting} writes to collection {self.record.key.name} wait already; try again later"
            )
            raise Unavailable(message)
        self._writes_waiting += 1
        try:
            await self.wait_for(0)
            async with self._in_order:
                sequence = await self._append(batch)
            await self.wait_for(sequence)
        finally:
            self._writes_waiting -= 1
        return sequence

    async def wait_for(self, sequence: int) -> None:
        """Return when all up to this position, and all that was in the log at the start, can be found."""
        sequence = max(sequence, self._replay_to)
        try:
            async with asyncio.timeout(self._limits.wait_seconds), self._changed:
                await self._changed.wait_for(lambda: self._failure or self.index.position >= sequence)
        except TimeoutError as error:
            message = (
                f"collection {self.record.key.name} has applied {self.index.position} of {sequence} messages of its log; "
                "what was written stays written, try again later"
            )
            raise Unavailable(message) from error
        if self._failure is not None:
            raise type(self._failure)(str(self._failure))

    async def fail(self, failure: ErgonautError) -> None:
        """From now on every question is answered with this."""
        self._failure = failure
        async with self._changed:
            self._changed.notify_all()

    def _apply(self, message: LogMessage) -> None:
        batch = self._chain.take(message.sequence, message.content)
        if batch is None:
            self.index.pass_over(message.sequence)
        else:
            self.index.apply(batch, message.sequence)

    async def _append(self, batch: Batch) -> int:
        head = self._head or await self._find_head()
        self._head = None
        for content in await asyncio.to_thread(messages_of, batch, head.checksum):
            try:
                sequence = await self._logs.append(self.record.key, content, head.sequence)
            except Conflict as error:
                raise Unavailable(f"collection {self.record.key.name} was written to meanwhile; try again") from error
            head = Head(sequence, checksum_of(content))
        self._head = head
        return head.sequence

    async def _find_head(self) -> Head:
        last = await self._logs.last(self.record.key)
        return Head(last.sequence, checksum_of(last.content)) if last else Head()
