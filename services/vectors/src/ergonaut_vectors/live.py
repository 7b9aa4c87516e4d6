"""One shard at work: its log is followed into its replica, writes are appended to the log, and whoever needs to, waits.

A shard is opened when it is asked for: what was saved of it is loaded, and the rest of its log applied. The log's messages
are applied by one thread at a time; segments are built in others meanwhile, and saved as soon as they are in use.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from prometheus_client import Counter

from ergonaut.errors import Broken, Conflict, ErgonautError, NotFound, Unavailable
from ergonaut_common.observe import get_logger
from ergonaut_vectors.appending import Appender, head_of
from ergonaut_vectors.domain.batches import DIGEST_BYTES, Batch, check_not_behind, name_of
from ergonaut_vectors.domain.fences import Fence, Given, given_in, taker_of
from ergonaut_vectors.domain.indexes.port import Stopped
from ergonaut_vectors.domain.records import Key
from ergonaut_vectors.domain.replica import Kept, Replica
from ergonaut_vectors.domain.schema import Schema
from ergonaut_vectors.domain.segments.view import View
from ergonaut_vectors.domain.segments.work import Done, Job, Policy, Work, done
from ergonaut_vectors.domain.segments.writes import Write
from ergonaut_vectors.group_commit import GroupCommit
from ergonaut_vectors.ports import Extent, Log, LogMessage, Spares, Store
from ergonaut_vectors.workers import Workers

LAG_MAX = 4096
"""Messages that were written and not applied yet; beyond, writers are sent away. It takes seconds to apply so many."""

WORK_AGAIN_SECONDS = 5.0
"""Pause before work that failed is planned again, for as long as the collection is open: a full disk may have room again."""

OPEN_AGAIN_SECONDS = 1.0
"""Pause before an opening that got no answer is tried again, for as long as the collection is open."""

QUIET_SECONDS = 5.0
"""After so long without a write it is taken that nobody writes; sooner, work would be done that the next write undoes."""

T = TypeVar("T")

log = get_logger(__name__)

_applied = Counter("ergonaut_vectors_messages_applied_total", "Messages of logs that were applied, replayed ones too.")
_built = Counter("ergonaut_vectors_segments_built_total", "Segments that were built, by what for.", ["job"])
_damaged = Counter(
    "ergonaut_vectors_checkpoints_damaged_total", "Saved states that could not be read and were made anew from the log."
)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may wait, for how long, and when segments are built."""

    collections_max: int
    writes_waiting_max: int
    wait_seconds: float
    open_max: int = 1024
    """Shards in memory at once; the one that was asked the longest ago makes room."""
    idle_seconds: float = 900.0
    """A shard that nobody asked for so long leaves memory."""
    policy: Policy = field(default_factory=Policy)
    log_bytes_max: int = 256 * 1024 * 1024
    """Bytes of one shard's log; long before, what came first is forgotten, where the shard's state is on the shelf."""


@dataclass(frozen=True, slots=True)
class Threads:
    """Where work is done that would hold up the loop."""

    searching: Workers
    applying: Workers
    building: Workers


@dataclass(frozen=True, slots=True)
class Around:
    """What all shards of a process share."""

    logs: Log
    threads: Threads
    limits: Limits
    spares: Spares | None = None
    """None where no state is kept outside of this machine, and so no log is trimmed."""


class GivenAway(Conflict):
    """A batch counted for nothing, since the slots of its ids are another shard's."""


async def no_spare() -> bool:
    """There is no state anywhere else."""
    return False


class LiveShard:
    """A shard that can be written to and searched once its log has been replayed.

    `bring` has the store come back to the newest state that is kept elsewhere, and says whether there is one.
    """

    def __init__(
        self, key: Key, schema: Schema, around: Around, store: Store, bring: Callable[[], Awaitable[bool]] = no_spare
    ) -> None:
        self.key = key
        self.schema = schema
        self.asked_at = 0.0
        """When somebody asked for it last, by the loop's clock."""
        self.when_open: Callable[[int], None] = lambda _end: None
        """Told where its log ends, when that is known."""
        self.when_damaged: Callable[[], None] = lambda: None
        """Told where what it has on disk, and so in memory, is not what was written there: it is to be opened anew."""
        self.users = 0
        """Calls that are using it; it is not closed beneath them."""
        self.log_bytes = 0
        """Of its log, about: what there was when somebody looked last, and what came since."""
        self.saved_position = 0
        """Of the state that its store comes back to."""
        self._logs = around.logs
        self._store = store
        self._bring = bring
        self._threads = around.threads
        self._limits = around.limits
        self._appender = Appender(key, around.logs, lambda: self._replica.head, around.limits.wait_seconds / 2)
        self._group_commit = GroupCommit(self._appender)
        self._policy = policy_for(schema, around.limits.policy)
        self._replica = Replica(schema.space, schema.fields, self._policy)
        self._changed = asyncio.Condition()
        self._save_wanted = asyncio.Event()
        # Applying, planning and installing are the one writer's; saving goes in the order of what is saved.
        self._writing = asyncio.Lock()
        self._saving = asyncio.Lock()
        self._writes_waiting = 0
        self._replay_to: int | None = None
        self._failure: ErgonautError | None = None
        self._leaving = False
        # Why work failed that failed last, for whoever waits for what waits for it; empty where work is done again.
        self._trouble = ""
        # What threads are doing; it goes on when whoever waits for it is cancelled, and the run ends when it has ended.
        self._at_work: set[asyncio.Future[Any]] = set()

    @property
    def view(self) -> View:
        """The newest state."""
        return self._replica.view

    @property
    def count(self) -> int:
        """Vectors that can be found now."""
        return self._replica.view.count

    @property
    def position(self) -> int:
        """How far the log has been applied."""
        return self._replica.position

    @property
    def digests(self) -> dict[int, str]:
        """Of what it held at some of its last positions, the newest one too."""
        view = self._replica.view
        return {**self._replica.digests, view.position: str(view.digest)}

    @property
    def failure(self) -> ErgonautError | None:
        """Why it cannot be asked, if so."""
        return self._failure

    @property
    def is_ready(self) -> bool:
        """Whether it has been opened and can be asked."""
        return self._failure is None and self._reaches(0)

    @contextlib.contextmanager
    def used(self) -> Iterator["LiveShard"]:
        """Stays open while the block runs."""
        self.users += 1
        try:
            yield self
        finally:
            self.users -= 1
            self.asked_at = asyncio.get_running_loop().time()

    async def run(self, after: "asyncio.Future[None] | None" = None) -> None:
        """Open, and apply the log until cancelled; what cannot be applied ends this shard, no other.

        `after` is the same shard's run before this one, whose last work may still be writing to the store.
        """
        try:
            if after is not None:
                # Its work is this one's to wait for, also where this one is told to leave before it has begun.
                self._at_work.add(after)
                after.add_done_callback(self._ended)
                await asyncio.wait([after])
            async with asyncio.TaskGroup() as building:
                await self._open()
                tidying = building.create_task(self._tidy(building))
                while True:
                    async with contextlib.aclosing(self._logs.follow(self.key, self.position)) as messages:
                        async for some in messages:
                            if await self._was_passed_by(some[0]):
                                break
                            await self._take(some, building)
                        else:
                            break
                    await self._open()
                tidying.cancel()
        except Exception as error:
            # Whatever it was, the other collections are well; this one says what is wrong with it to everybody who asks.
            cause = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
            # What is no kind of ours is a fault of the code, and its place helps; of ours the words say all.
            log.error(
                "shard failed",
                shard=str(self.key),
                error=str(cause),
                exc_info=None if isinstance(cause, ErgonautError) else cause,
            )
            await self.fail(_told(cause, self.key))
        finally:
            self._leaving = True
            while self._at_work:
                # Told to leave again it still waits: threads cannot be told.
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait(self._at_work)

    @property
    def given(self) -> tuple[Given, ...]:
        """Slots that the newest state has given to other shards, or has fenced for them."""
        return given_of(self._replica.view)

    async def write(self, write: Write | Fence, name: str = "") -> int:
        """Append a batch and wait until it is seen; gives its position. One of a name that is known is not written again.

        Raises GivenAway where an id of it belongs to a shard that was split off; nothing is written then."""
        if self._writes_waiting >= self._limits.writes_waiting_max:
            message = f"{self._writes_waiting} writes to collection {self.key.name} wait already; try again later"
            raise Unavailable(message)
        self._writes_waiting += 1
        try:
            await self.wait_for(0)
            lag = self._appender.position - self.position
            if lag > LAG_MAX:
                message = f"collection {self.key.name} has {lag} messages yet to apply; try again later"
                raise Unavailable(message)
            batch = Batch(write, name_of(name))
            sequence = self._replica.repeated(batch.name)
            if sequence is None:
                # What is known to count for nothing is not written: who waits for a split tries again and again.
                self._check_kept(None if isinstance(write, Fence) else taker_of(self.given, write.ids))
                sequence = await self._group_commit.append(batch)
            await self.wait_for(sequence)
        finally:
            self._writes_waiting -= 1
        self._check_kept(self._replica.given_by(sequence))
        return sequence

    def _check_kept(self, taken_by: int | None) -> None:
        """Raise GivenAway where that is another shard."""
        if taken_by is not None:
            told = f"ids of this batch are in shard {taken_by} of collection {self.key.name} from now on"
            raise GivenAway(f"{told}; write again")

    async def aim(self, schema: Schema) -> None:
        """Work towards the index that the schema wishes for now; it is begun when nobody writes, or with the next write."""
        self.schema, self._policy = schema, policy_for(schema, self._limits.policy)
        async with self._writing:
            self._replica.aim(self._policy)

    async def wait_for(self, sequence: int) -> None:
        """Return when all up to this position, and all that was in the log at the start, can be found."""
        if not self._reaches(sequence):
            await self._wait(sequence)
        if self._failure is not None:
            raise type(self._failure)(str(self._failure))

    async def save_soon(self, position: int) -> None:
        """Return when a state as of this position, or a later one, is saved; until then it is worked at."""
        while self.saved_position < position and self._failure is None:
            self._save_wanted.set()
            async with self._changed:
                await self._changed.wait_for(partial(self._is_saved_beyond, self.saved_position))

    @property
    def is_log_full(self) -> bool:
        """Whether there was no room for a write, and nobody has looked since how far the log goes."""
        return self._appender.is_full

    def trimmed(self, extent: Extent) -> None:
        """The log goes from here to there now: who waits for room tries again."""
        self.log_bytes = extent.size_bytes
        self._appender.try_again()

    def _is_saved_beyond(self, position: int) -> bool:
        return self.saved_position > position or self._failure is not None

    async def fail(self, failure: ErgonautError) -> None:
        """From now on every question is answered with this."""
        self._failure = failure
        async with self._changed:
            self._changed.notify_all()

    async def _in(self, workers: Workers, work: Callable[[], T]) -> T:
        """What work gives that is done in a thread."""
        future = asyncio.ensure_future(workers.run(work))
        self._at_work.add(future)
        future.add_done_callback(self._ended)
        return await asyncio.shield(future)

    def _ended(self, future: "asyncio.Future[Any]") -> None:
        self._at_work.discard(future)
        if not future.cancelled():
            future.exception()  # somebody has been told of it, or has left

    def _reaches(self, sequence: int) -> bool:
        if self._failure is not None:
            return True
        return self._replay_to is not None and self.position >= max(sequence, self._replay_to)

    async def _wait(self, sequence: int) -> None:
        try:
            async with asyncio.timeout(self._limits.wait_seconds), self._changed:
                await self._changed.wait_for(partial(self._reaches, sequence))
        except TimeoutError as error:
            wanted = max(sequence, self._replay_to or 0)
            message = (
                f"collection {self.key.name} has applied {self.position} of {wanted} messages of its log; "
                "what was written stays written, try again later"
            )
            raise Unavailable(message + (f"; {self._trouble}" if self._trouble else "")) from error

    async def _open(self) -> None:
        """Load what was saved, and find out how far the log has to be replayed before anything is answered."""
        kept = await self._loaded()
        last = await self._answered(partial(self._logs.last, self.key))
        extent = await self._answered(partial(self._logs.extent, self.key))
        if extent.first > _position_of(kept) + 1 and await self._answered(self._bring):
            log.info("state brought from the shelf", shard=str(self.key), log_first=extent.first)
            kept = await self._loaded()
        if extent.first > _position_of(kept) + 1:
            raise Broken(_lost(extent, _position_of(kept)))
        self.log_bytes, self.saved_position = extent.size_bytes, _position_of(kept)
        if kept is not None:
            check_not_behind(head_of(last), kept.head)
            self._replica = Replica(self.schema.space, self.schema.fields, self._policy, kept)
        self._replay_to = last.sequence if last else 0
        self.when_open(self._replay_to)
        async with self._changed:
            self._changed.notify_all()

    async def _answered(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What is asked for, as soon as whoever has it answers."""
        while True:
            try:
                return await ask()
            except Unavailable as error:
                log.warning("shard not opened yet", shard=str(self.key), error=str(error))
                await asyncio.sleep(OPEN_AGAIN_SECONDS)

    async def _was_passed_by(self, first: LogMessage) -> bool:
        """Whether the log was trimmed beyond what was applied here, as of a replica that came to lie far behind."""
        behind = first.sequence > self.position + 1
        return behind and (await self._logs.extent(self.key)).first > self.position + 1

    async def _loaded(self) -> Kept | None:
        try:
            return await self._in(self._threads.applying, self._store.load)
        except Broken as error:
            # The log has it all; what is damaged stays on disk for somebody to look at.
            _damaged.inc()
            log.error("saved state is damaged and made anew", shard=str(self.key), error=str(error))
            await self._in(self._threads.applying, self._store.set_aside)
            return None

    async def _take(self, messages: Sequence[LogMessage], building: asyncio.TaskGroup) -> None:
        async with self._writing:
            await self._in(self._threads.applying, partial(self._apply, messages))
        _applied.inc(len(messages))
        self.log_bytes += sum(len(message.content) for message in messages)
        async with self._changed:
            self._changed.notify_all()
        await self._plan(building)
        if self._replica.crowded:
            # Taken on only when there is room, so that memory and the time of searches stay bounded; the log holds the rest.
            async with self._changed:
                await self._changed.wait_for(lambda: not self._replica.crowded)

    def _apply(self, messages: Sequence[LogMessage]) -> None:
        for message in messages:
            self._replica.take(message.sequence, message.content)

    async def _tidy(self, building: asyncio.TaskGroup) -> None:
        """Plan what was left of the last time, and now and then, while nobody writes, what makes searches faster."""
        await self._plan(building)
        while True:
            before = self.position
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(QUIET_SECONDS):
                    await self._save_wanted.wait()
            if self._save_wanted.is_set():
                self._save_wanted.clear()
                await self._seal(building)
            elif self.position == before:
                await self._plan(building, idle=True)

    async def _seal(self, building: asyncio.TaskGroup) -> None:
        """Save the state of now, however little came since the last one; one that is sealed at the moment will be saved."""
        async with self._writing:
            work = self._replica.plan_seal()
        if work is not None:
            building.create_task(self._do(work, building))
        else:
            await self._save()

    async def _plan(self, building: asyncio.TaskGroup, *, idle: bool = False) -> None:
        async with self._writing:
            planned = self._replica.plan(idle=idle)
        for work in planned:
            building.create_task(self._do(work, building))

    async def _do(self, work: Work, building: asyncio.TaskGroup) -> None:
        """Do work and what comes of it; a failure costs speed until it is done again, nothing else."""
        try:
            # Writers wait for a seal, who opens for a load: neither may stand behind the minutes of another shard's merge.
            workers = self._threads.applying if work.job is Job.SEAL else self._threads.building
            result = await self._in(workers, partial(self._result, work))
            async with self._writing:
                self._replica.install(result)
            _built.labels(str(work.job)).inc()
            await self._save()
            self._trouble = ""
        except Stopped:
            return
        except Broken as error:
            log.error("saved state is damaged on disk", shard=str(self.key), error=str(error))
            self.when_damaged()
            return
        except Exception as error:
            known = isinstance(error, ErgonautError)
            log.error("work failed", shard=str(self.key), error=str(error), exc_info=None if known else error)
            self._trouble = f"it cannot save its state: {error}"
            await asyncio.sleep(WORK_AGAIN_SECONDS)
            async with self._writing:
                self._replica.abandon(work)
        async with self._changed:
            self._changed.notify_all()
        await self._plan(building)

    def _result(self, work: Work) -> Done:
        # Before, since damage may have the work fail in any way, and behind, since it may come meanwhile.
        self._store.check(work)
        result = done(work, lambda _: not self._leaving)
        self._store.check(work)
        return self._store.keep(result)

    async def _save(self) -> None:
        async with self._saving:
            async with self._writing:
                kept = self._replica.kept()
            await self._in(self._threads.applying, partial(self._store.save, kept))
            self.saved_position = kept.head.sequence
        async with self._changed:
            self._changed.notify_all()


def given_of(view: View) -> tuple[Given, ...]:
    """Slots that a state has given to other shards, or has fenced for them."""
    return given_in(view.mark or b"", DIGEST_BYTES)


def policy_for(schema: Schema, policy: Policy) -> Policy:
    """When work is due on a collection's shards, and which indexes come of it."""
    return replace(policy, wish=schema.index, links=schema.links, candidates_build=schema.candidates_build)


def _position_of(kept: Kept | None) -> int:
    return kept.head.sequence if kept else 0


def _lost(extent: Extent, position: int) -> str:
    return (
        f"it begins at message {extent.first}, and of what came before only {position} messages are in a state that is saved, "
        "here or on the shelf; bring back the shelf (ERGONAUT_VECTORS_SNAPSHOTS) or this node's data, or restore a snapshot"
    )


def _told(cause: Exception, key: Key) -> Broken:
    if isinstance(cause, NotFound):
        return Broken(f"the log of collection {key} is gone; drop the collection, or restore it")
    return Broken(f"collection {key} cannot be read from its log: {cause}")
