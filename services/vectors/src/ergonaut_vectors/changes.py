"""Gathers what was written to collections and tells it once a second. The use cases note, `main` lets it run."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol

from ergonaut.errors import ErgonautError
from ergonaut_common.lifetimes import stopped
from ergonaut_common.observe import get_logger
from ergonaut_vectors.catalogue import Kept, Positions
from ergonaut_vectors.domain.records import Key
from ergonaut_vectors.domain.segments.writes import Deletes, Upserts, Write

TELL_SECONDS = 1.0
"""Between two tellings: soon for whoever listens, and no flood where a collection is written to ten thousand times a second."""

UNTOLD_MAX = 10_000
"""Collections with something untold; while the bus is away more than so many are not noted, and their next change is told."""

log = get_logger(__name__)


@dataclass(slots=True)
class Change:
    """What happened to a collection since it was told last."""

    sequences: dict[int, int] = field(default_factory=dict)
    written: int = 0
    removed: int = 0
    payloads_changed: int = 0

    def add(self, write: Write, positions: Positions) -> None:
        """Count a write in."""
        for shard, position in positions.items():
            self.sequences[shard] = max(position, self.sequences.get(shard, 0))
        if isinstance(write, Upserts):
            self.written += len(write.ids)
        elif isinstance(write, Deletes):
            self.removed += len(write.ids)
        else:
            self.payloads_changed += len(write.ids)


class Telling(Protocol):
    """Tells others. Raises Unavailable."""

    async def changed(self, key: Key, change: Change) -> None:
        """A collection was written to."""
        ...

    async def kept(self, tenant: str, kept: Kept) -> None:
        """A snapshot was made."""
        ...


class Changes:
    """What was written and not yet told."""

    def __init__(self, telling: Telling) -> None:
        self._telling = telling
        self._untold: dict[Key, Change] = {}

    def note(self, key: Key, write: Write, positions: Positions) -> None:
        """Take note of a write that is in the log."""
        change = self._untold.get(key)
        if change is None and len(self._untold) < UNTOLD_MAX:
            change = self._untold[key] = Change()
        if change is not None:
            change.add(write, positions)

    def note_end(self, shard: Key, end: int) -> None:
        """Take note of where a log ends that is followed from now on: the process before may have died before it told of that."""
        key = Key(shard.tenant, shard.name)
        if end and (key in self._untold or len(self._untold) < UNTOLD_MAX):
            sequences = self._untold.setdefault(key, Change()).sequences
            sequences[shard.shard] = max(end, sequences.get(shard.shard, 0))

    async def tell(self) -> None:
        """Tell what was noted; what the bus does not take is told with what follows."""
        for key in list(self._untold):
            change = self._untold.pop(key)
            try:
                await self._telling.changed(key, change)
            except ErgonautError as error:
                log.warning("change not told", collection=str(key), error=str(error))
                self._keep(key, change)

    async def kept(self, tenant: str, kept: Kept) -> None:
        """Tell of a snapshot; it is there whether or not that can be told."""
        try:
            await self._telling.kept(tenant, kept)
        except ErgonautError as error:
            log.warning("snapshot not told", collection=kept.collection, error=str(error))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Changes"]:
        """Tell now and then while the block runs, and what is left at its end."""
        task = asyncio.create_task(self._tell_for_ever())
        try:
            yield self
        finally:
            await stopped(task)
            await self.tell()

    async def _tell_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TELL_SECONDS)
            await self.tell()

    def _keep(self, key: Key, change: Change) -> None:
        """Put back what could not be told, beside what has been noted meanwhile."""
        since = self._untold.setdefault(key, Change())
        for shard, position in change.sequences.items():
            since.sequences[shard] = max(position, since.sequences.get(shard, 0))
        since.written += change.written
        since.removed += change.removed
        since.payloads_changed += change.payloads_changed
