"""Keeps logs small: brings the states of open shards to the shelf as their logs grow, and has forgotten what came before.

What a process that dies here leaves is a file on the shelf that nobody needs, a state there that no log begins at, or a log that
is longer than it has to be: what is to be forgotten is on the shelf, and was read back from there, before it is. `main` runs it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from prometheus_client import Counter

from ergonaut.errors import ErgonautError, Unavailable
from ergonaut_common.clock import Clock
from ergonaut_common.lifetimes import stopped
from ergonaut_common.observe import get_logger
from ergonaut_vectors.archive.ports import Past, Saved
from ergonaut_vectors.archive.shelved import Shelved
from ergonaut_vectors.domain.records import Record
from ergonaut_vectors.domain.snapshots import Snapshot
from ergonaut_vectors.domain.trimming import Keep, Standing, Trim, next_step
from ergonaut_vectors.live import LiveShard
from ergonaut_vectors.ports import Log
from ergonaut_vectors.workers import Workers

LOOK_EVERY_SECONDS = 0.5
"""Between two looks at which logs have grown, by what is known here: at full speed a log takes a tenth of its bound meanwhile."""

GROWN_PART = 16
"""By this part of its bound a log has to grow before it is looked at again: what is on the shelf is listed for that."""

AT_ONCE = 4
"""Shards whose states are on their way to the shelf at a time: all share the way there."""

STEPS_MAX = 16
"""Of one shard before the others are looked at."""

SAVED_WITHIN_SECONDS = 120.0
"""For a state to be saved that was asked for; after that it is asked for again at the next look."""

AGAIN_SECONDS = 5.0
"""Pause before a shard is tried again where the shelf did not answer."""

Open = Sequence[tuple[Record, int, LiveShard]]

log = get_logger(__name__)

_states = Counter("ergonaut_vectors_states_kept_total", "States of shards that were brought to the shelf.")
_trims = Counter("ergonaut_vectors_logs_trimmed_total", "Times that the beginning of a log was forgotten.")


@dataclass(frozen=True, slots=True)
class Around:
    """What trimming needs."""

    logs: Log
    past: Past
    saved: Saved
    shelved: Shelved
    threads: Workers
    clock: Clock


class Trimming:
    """Trims the logs of shards that are open here, since no other grows. Of several nodes one does it for the others."""

    def __init__(self, shards: Callable[[], Open], around: Around, log_bytes_max: int) -> None:
        self._shards = shards
        self._around = around
        self._bytes_max = log_bytes_max
        self._room = asyncio.Semaphore(AT_ONCE)
        self._at_work: dict[str, asyncio.Task[None]] = {}
        # Bytes of the logs in which nothing was due when they were looked at last.
        self._rested: dict[str, int] = {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Trim while the block runs."""
        async with asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(self._look(tasks))
            try:
                yield
            finally:
                for each in [looking, *self._at_work.values()]:
                    await stopped(each)

    async def trim(self, record: Record, number: int, live: LiveShard) -> int:
        """Take the steps that are due on one shard; gives the bytes of its log when none was left, 0 where one still is.

        Raises what the log or the shelf raises.
        """
        logs, key = self._around.logs, record.key.of_shard(number)
        states = {state.shards[0].position: state for state in await self._around.shelved.states(record, number)}
        for _ in range(STEPS_MAX):
            extent = await logs.extent(key)
            live.trimmed(extent)
            kept = sorted(position for position in states if position + 1 >= extent.first)
            now = Standing(extent.first, extent.last, extent.size_bytes, live.saved_position, kept)
            step = next_step(now, self._bytes_max)
            if isinstance(step, Trim):
                await self._forget(record, number, states[step.position])
                await self._around.shelved.drop([states.pop(at) for at in list(states) if at < step.position])
            elif isinstance(step, Keep):
                state = await self._keep(record, number, live, states, save_first=step.save_first)
                if state is None:
                    break
                states[state.shards[0].position] = state
            else:
                return extent.size_bytes
        return 0

    async def _look(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            await self._around.clock.sleep(LOOK_EVERY_SECONDS)
            shards = {record.store_of(number): (record, number, live) for record, number, live in self._shards()}
            self._rested = {store: rested for store, rested in self._rested.items() if store in shards}
            for store, (record, number, live) in shards.items():
                grown = live.log_bytes - self._rested.get(store, 0)
                is_due = live.is_log_full or grown * GROWN_PART >= self._bytes_max
                if live.is_ready and store not in self._at_work and is_due:
                    self._at_work[store] = tasks.create_task(self._trimmed(record, number, live))

    async def _trimmed(self, record: Record, number: int, live: LiveShard) -> None:
        try:
            async with self._room:
                with live.used():
                    rested = self._rested[record.store_of(number)] = await self.trim(record, number, live)
            if not rested:
                await self._newer(live)
        except Exception as error:
            # Whatever it was, the log still has all; where it gets full its writers are told.
            known = isinstance(error, ErgonautError | TimeoutError)
            log.warning("log not trimmed", shard=str(live.key), error=str(error), exc_info=None if known else error)
            await self._around.clock.sleep(AGAIN_SECONDS)
        finally:
            del self._at_work[record.store_of(number)]

    async def _newer(self, live: LiveShard) -> None:
        """Return when there is something newer than what is saved, or has not been for long: the shelf is not asked in vain."""
        with contextlib.suppress(Unavailable), live.used():
            await live.wait_for(live.saved_position + 1)

    async def _forget(self, record: Record, number: int, state: Snapshot) -> None:
        """Have the log begin with the last message that is in a state, so that what follows can be seen to follow."""
        await self._around.shelved.check(state)
        position = state.shards[0].position
        await self._around.logs.trim(record.key.of_shard(number), position)
        _trims.inc()
        log.info("log trimmed", shard=str(record.key.of_shard(number)), first=position)

    async def _keep(
        self, record: Record, number: int, live: LiveShard, before: Mapping[int, Snapshot], *, save_first: bool
    ) -> Snapshot | None:
        """Bring the state that was saved last to the shelf; None where nothing is saved that is not there."""
        around = self._around
        if save_first:
            async with asyncio.timeout(SAVED_WITHIN_SECONDS):
                await live.save_soon(live.view.position)
        if live.saved_position in before:
            return None
        with around.shelved.place() as place:
            folder = place / "state"
            await around.threads.run(partial(around.saved.copy, record.store_of(number), folder))
            manifest = await around.threads.run(partial(around.saved.manifest, folder))
            if manifest is None or manifest.position in before:
                return None
            written_at = await around.past.written_at(record.key.of_shard(number), manifest.position)
            shard = await around.shelved.shard_of(number, written_at, folder, before.values())
            state = Snapshot("", record.key, record.uid, record.schema, around.clock.now(), (shard,))
            await around.shelved.keep(state, [folder])
        _states.inc()
        log.info("state kept", shard=str(record.key.of_shard(number)), position=manifest.position)
        return state
