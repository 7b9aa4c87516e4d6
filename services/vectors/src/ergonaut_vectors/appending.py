"""Writes batches to one log, many under way at once, each behind the one before. Used by `live.py`.

A write does not wait for the one before it to be acknowledged: it is told to stand behind where that one will stand. Where
one fails, all behind it fail with it, since a log takes nothing that does not fit its end. Those begin again at the new end,
in the order in which they were begun first, and what came later waits for them: the log keeps the order of its writers.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from functools import partial

from ergonaut.errors import Conflict, Unavailable
from ergonaut_vectors.domain.batches import Batch, Head, check_not_behind, digest_of, messages_of
from ergonaut_vectors.domain.records import Key
from ergonaut_vectors.ports import Log, LogFull, LogMessage

ATTEMPTS_MAX = 5
"""How often a batch is begun again because its place was taken: each time somebody else has written, so the log moves on."""

UNDER_WAY_MAX = 256
"""Messages of one log that wait for their acknowledgement; so many keep the disk of a log busy, and are 64 MiB at most."""

ROOM_AGAIN_SECONDS = 0.5
"""Before a full log is tried again where nobody says that it has room: as often as those who trim look at it."""

Written = asyncio.Future[int]


class Appender:
    """The one writer of a log in this process."""

    def __init__(self, key: Key, logs: Log, applied: Callable[[], Head] = Head, room_seconds: float = 4.0) -> None:
        """`applied` gives what has been read of the log here; `room_seconds` is how long a batch waits for room in a full one."""
        self._key = key
        self._logs = logs
        self._applied = applied
        self._room_seconds = room_seconds
        self._room = asyncio.Semaphore(UNDER_WAY_MAX)
        self._under_way: set[Written] = set()
        # Batches by when they were begun: those that are here, and of these those that do not stand in the log's way yet.
        self._numbers = itertools.count()
        self._open: set[int] = set()
        self._unplaced: set[int] = set()
        self._moved = asyncio.Event()
        self._roomier = asyncio.Event()
        self._is_full = False
        # The end of the log when all that is under way has been written; None where it has to be asked for.
        self._head: Head | None = None
        self._failures = 0

    @property
    def position(self) -> int:
        """The end of the log as far as is known here; 0 where it is not."""
        return self._head.sequence if self._head else 0

    @property
    def under_way(self) -> int:
        """Messages that wait for their acknowledgement."""
        return len(self._under_way)

    @property
    def is_full(self) -> bool:
        """Whether the log had no room for what was tried last, and nobody has said since that it has again."""
        return self._is_full

    async def moved(self) -> None:
        """Return when a batch more was begun, placed or written, or has failed."""
        await self._moved.wait()

    def begin(self) -> int:
        """Take a number, in whose order batches stand in the log; all that is begun later waits for `append`, or `leave`."""
        number = next(self._numbers)
        self._open.add(number)
        self._unplaced.add(number)
        self._move()
        return number

    async def append(self, batch: Batch, number: int | None = None) -> int:
        """Write a batch and give its position; it is on disk then. After Unavailable it may or may not have been written."""
        number = self.begin() if number is None else number
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._room_seconds
        try:
            tries = 0
            while tries < ATTEMPTS_MAX:
                head, roomier = await self._turn(number), self._roomier
                try:
                    return await _last_of(await self._placed(number, batch, head))
                except Conflict:
                    # Nothing of it stands where it should: it was begun behind something that failed, or another process wrote.
                    # Behind what finds no room it begins as often as that tries again.
                    self._unplaced.add(number)
                    if not self._is_full or loop.time() >= give_up_at:
                        tries += 1
                except LogFull as error:
                    # Whatever was begun later waits behind it, so that the order stays.
                    self._unplaced.add(number)
                    await _roomier_by(give_up_at, roomier, error)
            raise Unavailable(f"others write to collection {self._key.name} all the time; try again")
        finally:
            self.leave(number)

    def leave(self, number: int) -> None:
        """Have nothing wait for a batch any more that was begun."""
        self._open.discard(number)
        self._unplaced.discard(number)
        self._move()

    def try_again(self) -> None:
        """The log has room again."""
        self._is_full = False
        self._roomier.set()
        self._roomier = asyncio.Event()

    async def _turn(self, number: int) -> Head:
        """Where this batch belongs, as soon as all that were begun before it are placed."""
        while min(self._unplaced) != number or (self._head is None and self._under_way):
            await self._moved.wait()
        if self._head is None:
            applied = self._applied()
            end = head_of(await self._logs.last(self._key))
            # What is written to a log that has lost its end would be answered by whoever has seen that end, and never be found.
            check_not_behind(end, applied)
            return end
        return self._head

    async def _placed(self, number: int, batch: Batch, head: Head) -> list[Written]:
        """The messages of a batch, each on its way to its place behind the one before."""
        written: list[Written] = []
        failures, self._head = self._failures, None  # whoever is cancelled here leaves an end that has to be asked for
        for content in await asyncio.to_thread(messages_of, batch, head.digest):
            await self._room.acquire()
            if failures != self._failures:
                # What this was to stand behind is not there, and the log may have grown by others to just that position.
                self._room.release()
                await asyncio.gather(*written, return_exceptions=True)
                raise Conflict("what was begun before has failed")
            written.append(self._begun(number, content, head))
            head = Head(head.sequence + 1, digest_of(content))
        if failures == self._failures:
            self._head = head
            self._unplaced.discard(number)
            self._move()
        return written

    def _begun(self, number: int, content: bytes, head: Head) -> Written:
        # The place alone would not do: of what is begun behind a message that gets lost another may come to stand there.
        name, behind = digest_of(content).hex(), head.digest.hex() if self._under_way else ""
        task = asyncio.ensure_future(self._logs.append(self._key, content, head.sequence, name=name, behind=behind))
        self._under_way.add(task)
        task.add_done_callback(partial(self._settled, number))
        return task

    def _settled(self, number: int, task: Written) -> None:
        self._room.release()
        self._under_way.discard(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            self._is_full = False
        else:
            self._is_full = self._is_full or isinstance(error, LogFull)
            self._head = None
            self._failures += 1
            if number in self._open:
                self._unplaced.add(number)
        self._move()

    def _move(self) -> None:
        """Let all who wait for their turn look again."""
        self._moved.set()
        self._moved = asyncio.Event()


def head_of(last: LogMessage | None) -> Head:
    """The end of a log by its last message."""
    return Head(last.sequence, digest_of(last.content)) if last else Head()


async def _roomier_by(give_up_at: float, roomier: asyncio.Event, error: LogFull) -> None:
    """Return when it is worth trying again: another node may trim the log, which tells nobody here. Too late raises the error."""
    now = asyncio.get_running_loop().time()
    if now >= give_up_at:
        raise error from None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(min(now + ROOM_AGAIN_SECONDS, give_up_at)):
            await roomier.wait()


async def _last_of(written: list[Written]) -> int:
    # The caller may leave; what it has begun goes on, and is waited for by whoever asks for the end of the log.
    answers = await asyncio.shield(asyncio.gather(*written, return_exceptions=True))
    errors = [answer for answer in answers if isinstance(answer, BaseException)]
    if errors:
        # The first one says why; those behind it only say that it is missing.
        raise errors[0]
    return max(answer for answer in answers if isinstance(answer, int))
