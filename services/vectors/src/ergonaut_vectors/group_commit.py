"""Has small writes that come while a log is busy go into it together: one sync of the disk serves many. Used by `live.py`.

Nobody waits for others to come: where the log is idle a write is on its way at once. Only where the disk has as much to do as
keeps it busy does the next small one wait, and whatever small comes meanwhile joins it. What is not small goes behind those that
were begun before it, as ever, and is not waited for.
"""

import asyncio
from collections.abc import Sequence

import numpy as np

from ergonaut_vectors.appending import Appender
from ergonaut_vectors.domain.batches import ENTRIES_MAX, NO_DIGEST, Batch
from ergonaut_vectors.domain.payload.fields import Payload
from ergonaut_vectors.domain.segments.writes import Upserts

BUSY_MESSAGES = 4
"""So many under way keep a disk at work: while it writes one the next ones are on their way."""

SMALL_MAX = ENTRIES_MAX // 4
"""Vectors of a write that joins others: larger ones are most of a message already."""


class GroupCommit:
    """Writes to one log, the small ones together."""

    def __init__(self, appender: Appender) -> None:
        self._appender = appender
        # The one that was begun last, while others may join it.
        self._open: _Group | None = None

    async def append(self, batch: Batch) -> int:
        """Write a batch and give its position, as `Appender.append`; it stands behind all that were begun before it."""
        write = batch.write
        # What has a name is written once, which is known of whole messages alone.
        if not isinstance(write, Upserts) or len(write.ids) > SMALL_MAX or batch.name != NO_DIGEST:
            self._open = None
            return await self._appender.append(batch)
        if self._open is None or not self._open.has_room_for(write):
            self._open = _Group(self._appender.begin())
            self._open.written = asyncio.ensure_future(self._written(self._open))
            self._open.written.add_done_callback(_seen)
        group = self._open
        group.writes.append(write)
        # Who leaves takes nobody else's write along.
        return await asyncio.shield(group.written)

    async def _written(self, group: "_Group") -> int:
        try:
            while self._open is group and self._appender.under_way >= BUSY_MESSAGES:
                await self._appender.moved()
            if self._open is group:
                self._open = None
            return await self._appender.append(Batch(_together(group.writes)), group.number)
        finally:
            self._appender.leave(group.number)


class _Group:
    """Writes that go together, at the place of the first of them."""

    written: asyncio.Future[int]

    def __init__(self, number: int) -> None:
        self.number = number
        self.writes: list[Upserts] = []

    def has_room_for(self, write: Upserts) -> bool:
        """Whether it still is one message with this."""
        return sum(len(each.ids) for each in self.writes) + len(write.ids) <= ENTRIES_MAX


def _together(writes: Sequence[Upserts]) -> Upserts:
    """One write in the place of several, of which the last one counts where an id stands in more than one."""
    if len(writes) == 1:
        return writes[0]
    ids = [name for write in writes for name in write.ids]
    payloads: list[Payload] = [payload for write in writes for payload in write.payloads or ({},) * len(write.ids)]
    return Upserts(ids, np.concatenate([write.rows for write in writes]), payloads if any(payloads) else ())


def _seen(written: asyncio.Future[int]) -> None:
    """Its outcome is known, also where all who wrote have left."""
    if not written.cancelled():
        written.exception()
