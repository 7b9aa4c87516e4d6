"""Which shards are in memory: those that are asked for. The others are a record, a log and a store, and cost nothing here.

So ten thousand small tenants are ten thousand records, of which those have a task and a subscription that work just now.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial

from prometheus_client import Gauge

from ergonaut.errors import Broken, ErgonautError, Unavailable
from ergonaut_common.lifetimes import stopped
from ergonaut_common.observe import get_logger
from ergonaut_vectors.domain.records import Key, Record
from ergonaut_vectors.live import Around, LiveShard, no_spare
from ergonaut_vectors.ports import Stores

CLOSED_EVERY_SECONDS = 30.0
"""How often those that nobody asks for are looked for; small beside how long they stay."""

DAMAGED_MAX = 3
DAMAGED_AGAIN_SECONDS = 600.0
"""A shard that was found damaged is made anew at once, so many times within so long: a disk that damages all that is written to
it would have its log read for ever. From then on it is tried again so often, and says meanwhile what is wrong with it."""

log = get_logger(__name__)

_open = Gauge("ergonaut_vectors_shards_open", "Shards in memory.")


class Opening:
    """Opens shards when they are asked for, and closes those that nobody has asked for lately."""

    def __init__(self, around: Around, stores: Stores, tasks: asyncio.TaskGroup) -> None:
        self._around = around
        self._stores = stores
        self._tasks = tasks
        # The one that was asked for the longest ago first.
        self._live: dict[Key, LiveShard] = {}
        self._of: dict[Key, tuple[Record, int]] = {}
        self._running: dict[Key, asyncio.Task[None]] = {}
        # Those that were told to end and may have a thread at work, for the next one of the same shard to wait for.
        self._ending: dict[Key, asyncio.Task[None]] = {}
        # Those that must not be opened just now, and what is told to who asks: somebody has their files.
        self._closed: dict[Key, ErgonautError] = {}
        self._reopened = asyncio.Condition()
        self._counts: dict[Key, int] = {}
        # When shards were found damaged lately, and what makes them anew.
        self._damages: dict[Key, list[float]] = {}
        self._mending: dict[Key, asyncio.Task[None]] = {}
        self.holds: Callable[[Record, int], bool] = lambda _record, _number: True
        """Whether a shard is one of this node's, where several share collections; others are not opened to be counted."""
        self.keeps: Callable[[Record, int], bool] = lambda _record, _number: True
        """Whether this node is the one that brings a shard's states to the shelf."""
        self.opened: Callable[[Key, int], None] = lambda _key, _end: None
        """Told where the log of a shard ends that is open for the first time."""
        self._closing = tasks.create_task(self._close_now_and_then())

    def stop(self) -> None:
        """Follow no log any more."""
        self._closing.cancel()
        for mending in self._mending.values():
            mending.cancel()
        for running in self._running.values():
            self._end(running)

    def shard(self, record: Record, number: int) -> LiveShard:
        """A shard in memory; what it has is there when it has been waited for. Raises what `closed` was told."""
        key = record.key.of_shard(number)
        self._check_open(key)
        live = self._live.pop(key, None)
        if live is None:
            self._make_room()
            spares = self._around.spares
            bring = no_spare if spares is None else partial(spares.bring, record, number)
            store = self._stores.of(record.store_of(number))
            live = LiveShard(key, record.schema, self._around, store, bring)
            if key not in self._counts:
                live.when_open = lambda end: self.opened(key, end)
            live.when_damaged = partial(self._damaged, live)
            self._of[key] = (record, number)
            self._running[key] = self._tasks.create_task(live.run(self._ending.pop(key, None)))
            _open.set(len(self._live) + 1)
        live.asked_at = asyncio.get_running_loop().time()
        self._live[key] = live
        return live

    @contextlib.contextmanager
    def used(self, record: Record, number: int) -> Iterator[LiveShard]:
        """A shard that stays in memory while the block runs."""
        with self.shard(record, number).used() as live:
            yield live

    def found(self, key: Key) -> LiveShard | None:
        """A shard if it is in memory."""
        return self._live.get(key)

    def kept(self) -> Sequence[tuple[Record, int, LiveShard]]:
        """Those in memory whose states this node brings to the shelf, each with its collection and number."""
        return [(record, number, live) for record, number, live in self.all() if self.keeps(record, number)]

    def all(self) -> Sequence[tuple[Record, int, LiveShard]]:
        """Those in memory, each with its collection and number."""
        return [(*self._of[key], live) for key, live in self._live.items()]

    def count(self, record: Record) -> int:
        """Vectors in a collection as far as is known; what was never seen is opened, so that it is known soon."""
        count = 0
        for number, key in enumerate(record.shards):
            live = self._live.get(key)
            if not self.holds(record, number):
                continue
            if live is None and key not in self._counts and key not in self._closed:
                live = self.shard(record, number)
            count += self._counts.get(key, 0) if live is None else live.count
        return count

    async def close_idle(self, now: float) -> None:
        """Let go of shards that nobody has asked for lately, by the loop's clock; their state is in log and store."""
        too_early = now - self._around.limits.idle_seconds
        for key in [key for key, live in self._live.items() if live.asked_at < too_early and not live.users]:
            await self.close(key)

    async def close(self, key: Key) -> None:
        """Let go of a shard; when this returns nothing of what was in memory is at work any more."""
        async with self.closed(key):
            pass

    async def open_anew(self, live: LiveShard) -> None:
        """Open a shard again whose files are damaged, which sets them aside; one that is not in memory any more is left alone."""
        if self._live.get(live.key) is live:
            record, number = self._of[live.key]
            await self.close(live.key)
            if not self._closing.done():
                # Where somebody has its files now, or there is no room, the next question opens it.
                with contextlib.suppress(ErgonautError):
                    self.shard(record, number)

    @contextlib.asynccontextmanager
    async def closed(self, key: Key, why: ErgonautError | None = None) -> AsyncIterator[None]:
        """Let go of a shard, and let nobody open it while the block runs: its files are the block's alone.

        Who uses it or asks for it meanwhile is told why. One block has a shard at a time.
        """
        async with self._reopened:
            await self._reopened.wait_for(lambda: key not in self._closed)
            told = why or Unavailable(f"collection {key.name} was closed meanwhile; try again")
            self._closed[key] = told
        try:
            live, running = self._forget(key)
            ending = self._ending.get(key) if running is None else running
            if ending is not None:
                await asyncio.wait([ending])
            if live is not None:
                await live.fail(told)
            yield
        finally:
            del self._closed[key]
            async with self._reopened:
                self._reopened.notify_all()

    def forget_count(self, key: Key) -> None:
        """A shard of this key is not there any more."""
        self._counts.pop(key, None)
        self._damages.pop(key, None)

    def _damaged(self, live: LiveShard) -> None:
        if live.key in self._mending:
            # What else is found damaged of it is made anew with it.
            return
        now = asyncio.get_running_loop().time()
        lately = [at for at in self._damages.get(live.key, ()) if at > now - DAMAGED_AGAIN_SECONDS]
        self._damages[live.key] = [*lately, now]
        mending = self._tasks.create_task(self._mend(live, is_hopeless=len(lately) >= DAMAGED_MAX))
        self._mending[live.key] = mending
        mending.add_done_callback(lambda _: self._mending.pop(live.key))

    async def _mend(self, live: LiveShard, *, is_hopeless: bool) -> None:
        if is_hopeless:
            log.error("shard is damaged again and again", shard=str(live.key))
            told = f"collection {live.key.name}: this node's disk has damaged what was written to it {DAMAGED_MAX} times lately"
            await live.fail(Broken(f"{told}; see what is wrong with the disk. Nothing that was acknowledged is lost"))
            await asyncio.sleep(DAMAGED_AGAIN_SECONDS)
        await self.open_anew(live)

    def _check_open(self, key: Key) -> None:
        told = self._closed.get(key)
        if told is not None:
            raise type(told)(str(told))

    def _make_room(self) -> None:
        """Let the one go that was asked for the longest ago, where there are too many."""
        if len(self._live) < self._around.limits.open_max:
            return
        key = next((key for key, live in self._live.items() if not live.users), None)
        if key is None:
            raise Unavailable(f"{len(self._live)} shards are in use, as many as may be at once; try again later")
        self._forget(key)

    def _forget(self, key: Key) -> tuple[LiveShard | None, "asyncio.Task[None] | None"]:
        live, running = self._live.pop(key, None), self._running.pop(key, None)
        self._of.pop(key, None)
        if live is not None:
            self._counts[key] = live.count
        if running is not None:
            self._end(running)
            self._ending[key] = running
            running.add_done_callback(lambda ended: self._ended(key, ended))
        _open.set(len(self._live))
        return live, running

    def _end(self, running: "asyncio.Task[None]") -> None:
        self._tasks.create_task(stopped(running))

    def _ended(self, key: Key, ended: "asyncio.Task[None]") -> None:
        if self._ending.get(key) is ended:
            del self._ending[key]

    async def _close_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(CLOSED_EVERY_SECONDS)
            await self.close_idle(asyncio.get_running_loop().time())
