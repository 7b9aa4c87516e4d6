"""Looks for damage on disk in what open shards have saved, before somebody needs it. `assembly` runs it.

A shard's files are checked whenever it is opened; what is open for long is checked here, slowly. A damaged shard is opened anew,
which sets its files aside and makes its state from the shelf and the log: what it has in memory may be of the same file.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path

from ergonaut.errors import Broken, ErgonautError
from ergonaut_common.clock import Clock
from ergonaut_common.lifetimes import stopped
from ergonaut_common.observe import get_logger
from ergonaut_vectors.archive.ports import Saved
from ergonaut_vectors.archive.shelved import Shelved
from ergonaut_vectors.domain.records import Record
from ergonaut_vectors.opening import Opening
from ergonaut_vectors.workers import Workers

EVERY_SECONDS = 86_400.0
"""Between two rounds. Disks lose a sector in years; the other place that has its content should not have lost it meanwhile."""

BYTES_PER_SECOND = 16 * 1024 * 1024
"""Read on average: a tenth of what a slow disk gives, and a terabyte within a day."""

log = get_logger(__name__)


class Scrubbing:
    """Checks the files of all shards that are open here, of one after the other."""

    def __init__(self, opening: Opening, shelved: Shelved, files: tuple[Saved, Workers], clock: Clock) -> None:
        self._opening = opening
        self._shelved = shelved
        self._saved, self._threads = files
        self._clock = clock

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Check while the block runs, first a while after the start, which has checked what it opened."""
        looking = asyncio.create_task(self._look())
        try:
            yield
        finally:
            await stopped(looking)

    async def round(self) -> Sequence[str]:
        """Check every open shard once, and mend those that are damaged; gives their names."""
        damaged = []
        for record, number, live in self._opening.all():
            try:
                await self._check(record, number)
            except Broken as error:
                log.error("saved state is damaged on disk", shard=str(live.key), error=str(error))
                damaged.append(str(live.key))
                await self._opening.open_anew(live)
            except ErgonautError as error:
                log.warning("saved state not checked", shard=str(live.key), error=str(error))
        return damaged

    async def _look(self) -> None:
        while True:
            await self._clock.sleep(EVERY_SECONDS)
            try:
                damaged = await self.round()
                log.info("saved states checked", damaged=damaged)
            except Exception as error:
                # Whatever it was, the next round looks again.
                log.error("saved states not checked", error=str(error), exc_info=error)

    async def _check(self, record: Record, number: int) -> None:
        """Raise Broken naming the first block that is damaged. Files that go meanwhile are held until they are read."""
        with self._shelved.place() as place:
            folder = place / "state"
            await self._threads.run(partial(self._saved.copy, record.store_of(number), folder))
            for path in await self._threads.run(partial(_paths, folder)):
                await self._threads.run(partial(self._saved.verify, path))
                await self._clock.sleep(path.stat().st_size / BYTES_PER_SECOND)


def _paths(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())
