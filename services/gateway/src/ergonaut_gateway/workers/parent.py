"""The parent of several workers: forks them, replaces those that die, tells their metrics on one page, and ends last.

Workers are forked from a parent that has imported everything and opened nothing: a new one is there within a fraction of a
second, and what was imported is in memory once. A fork copies the calling thread only, so the parent has no other: its loop runs
nothing in threads, and rests while it forks.
"""

import asyncio
import contextlib
import faulthandler
import gc
import os
import selectors
import signal
import socket
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import msgspec
from prometheus_client import REGISTRY

from ergonaut_common.entrance import bound
from ergonaut_common.lifetimes import EXIT_BAD_SETTINGS
from ergonaut_common.observe import get_logger, serving_metrics
from ergonaut_gateway import memory
from ergonaut_gateway.settings import Settings
from ergonaut_gateway.workers.board import Board
from ergonaut_gateway.workers.channel import Channel, Kind
from ergonaut_gateway.workers.merging import Family, Merged, Sample, growing, merged, told
from ergonaut_gateway.workers.place import GRACE_SECONDS, Seat
from ergonaut_gateway.workers.pulse import STACK_SECONDS, Because, Pulse, innermost, look_seconds, stack_file

FIRST_PAUSE_SECONDS = 0.1
LAST_PAUSE_SECONDS = 5.0
"""Pauses before a worker that died soon is replaced, growing; one that lived long is replaced at once."""

LIVED_LONG_SECONDS = 10.0

METRICS_SECONDS_MAX = 2.0
"""How long workers may take to tell their metrics; those of one that is later are as it told them last."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)

log = get_logger(__name__)

_left_behind: list["Parent"] = []
"""In a worker, its copy of the parent: kept, since to let go of its loop would reset signals that are the worker's by then."""


@dataclass(eq=False, slots=True)
class Worker:
    """One worker, as its parent knows it."""

    number: int
    row: int
    pid: int
    line: socket.socket
    stack: IO[bytes]
    pulse: Pulse
    born_seconds: float
    replaces: "Worker | None" = None
    channel: Channel | None = None
    is_ready: bool = False
    is_leaving: bool = False
    because: Because = Because.ENDED
    """Why it is replaced, where it is."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it becomes ready, tells its metrics, or ends."""
    has_ended: bool = False
    page: list[Family] = field(default_factory=list)
    pages: int = 0


@dataclass(frozen=True, slots=True)
class _Start:
    """Fork a worker."""

    number: int
    replaces: Worker | None = None


class Parent:
    """Keeps so many workers running. Raises Unavailable, when it is made, where an address is taken."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._http = (bound(settings.http_address), settings.http_address)
        self._grpc = (bound(settings.grpc_address), settings.grpc_address)
        self._metrics = bound(settings.metrics_address)
        # Twice as many rows as workers, for one and its replacement live side by side.
        self._board = Board(2 * settings.workers)
        self._workers: list[Worker] = []
        self._gone: list[Family] = []
        self._pauses = [FIRST_PAUSE_SECONDS] * settings.workers
        self._loop = asyncio.SelectorEventLoop(selectors.PollSelector())
        """With poll, since what epoll watches would be shared with workers."""
        self._wishes: asyncio.Queue[_Start | int] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._exit_code = 0
        self._replaced_because: Counter[Because] = Counter()
        self._was_ready = False
        self._rolling = False
        self._roll_again = False

    def run(self) -> Seat | int:
        """Return in each worker with its seat, and in the parent, when no worker is left, with an exit code."""
        for number in range(self._settings.workers):
            self._wishes.put_nowait(_Start(number))
        self._loop.run_until_complete(self._begin())
        # What is loaded by now is shared with all workers, as long as no collection writes to it.
        gc.collect()
        gc.freeze()
        memory.give_back()
        while isinstance(wish := self._loop.run_until_complete(self._wishes.get()), _Start):
            seat = self._fork(wish)
            if seat is not None:
                return seat
        self._loop.run_until_complete(self._end())
        self._loop.close()
        return wish

    async def _begin(self) -> None:
        for number, callback in (
            (signal.SIGTERM, self._stop),
            (signal.SIGINT, self._stop),
            (signal.SIGHUP, self._roll),
            (signal.SIGCHLD, self._reap),
        ):
            self._loop.add_signal_handler(number, callback)
        self._do(self._serve_metrics())
        if self._settings.stuck_seconds:
            self._do(self._keep_looking())
        log.info("workers start", service="gateway", workers=self._settings.workers)

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Starting.

    def _fork(self, wish: _Start) -> Seat | None:
        """A seat in the new worker, nothing in the parent."""
        if self._stopping:
            return None
        ours, theirs = socket.socketpair()
        row = next(row for row in range(self._board.rows) if row not in {each.row for each in self._workers})
        self._board.begin(row)
        stack = stack_file()
        # A signal for the new worker must not be taken for one of the parent's, whose way to tell it is still there.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            pid = os.fork()
        except OSError as error:
            ours.close()
            stack.close()
            pid = -1
            log.error("worker not started", worker=wish.number, error=str(error))
            self._loop.call_later(LAST_PAUSE_SECONDS, self._wishes.put_nowait, wish)
        if pid == 0:
            ours.close()
            self._leave_behind()
            faulthandler.register(signal.SIGUSR1, stack)
            return Seat(wish.number, row, self._board, self._http, self._grpc, theirs, stack)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        theirs.close()
        if pid > 0:
            pulse = Pulse(self._settings.stuck_seconds)
            worker = Worker(wish.number, row, pid, ours, stack, pulse, self._loop.time(), wish.replaces)
            self._workers.append(worker)
            self._do(self._hear(worker))
        return None

    def _leave_behind(self) -> None:
        """In a new worker: have nothing of the parent's but what is given."""
        _left_behind.append(self)
        signal.set_wakeup_fd(-1)
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        # What is sent to a whole group of processes is for the parent, who replaces workers one by one.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        self._metrics.close()
        for worker in self._workers:
            # Were this end held by a worker too, its neighbour would not notice the parent's death.
            worker.line.close()
            worker.stack.close()

    # Looking after.

    async def _hear(self, worker: Worker) -> None:
        worker.channel = channel = Channel(*await asyncio.open_unix_connection(sock=worker.line))
        while (said := await channel.next()) is not None:
            kind, content = said
            if kind is Kind.READY:
                worker.is_ready = self._was_ready = True
            elif kind is Kind.METRICS:
                worker.page = msgspec.msgpack.decode(content, type=list[Family])
                worker.pages += 1
            worker.changed.set()
        channel.close()

    def _reap(self) -> None:
        """Workers have ended."""
        for worker in list(self._workers):
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                self._ended(worker, os.waitstatus_to_exitcode(status))

    def _ended(self, worker: Worker, code: int) -> None:
        self._workers.remove(worker)
        self._board.leave(worker.row)
        worker.stack.close()
        self._gone = merged([self._gone, growing(worker.page)])
        worker.has_ended = True
        worker.changed.set()
        if self._stopping:
            if not self._workers:
                self._wishes.put_nowait(self._exit_code)
        elif code == EXIT_BAD_SETTINGS or not self._was_ready:
            # It would end so again and again: whoever started the gateway shall know.
            self._stop_with(code if code > 0 else 1)
        elif worker.is_leaving:
            log.info("worker left", worker=worker.number, pid=worker.pid, exit_code=code)
        elif any(each.number == worker.number and not each.is_leaving for each in self._workers):
            # One of two that stand for each other while it is replaced; the other is there, or will be.
            log.error("worker died", worker=worker.number, pid=worker.pid, exit_code=code)
        else:
            self._replace(worker, code)

    def _replace(self, worker: Worker, code: int) -> None:
        self._replaced_because[worker.because] += 1
        lived_seconds = self._loop.time() - worker.born_seconds
        pause_seconds = 0.0
        if lived_seconds > LIVED_LONG_SECONDS:
            self._pauses[worker.number] = FIRST_PAUSE_SECONDS
        else:
            pause_seconds = self._pauses[worker.number]
            self._pauses[worker.number] = min(2 * pause_seconds, LAST_PAUSE_SECONDS)
        log.error("worker died", worker=worker.number, pid=worker.pid, exit_code=code, pause_seconds=pause_seconds)
        self._loop.call_later(pause_seconds, self._wishes.put_nowait, _Start(worker.number))

    # Noticing those that are stuck.

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(look_seconds(self._settings.stuck_seconds))
            for worker in [each for each in self._workers if not (each.is_leaving or self._stopping)]:
                row = worker.row
                because = worker.pulse.look(self._board.beats(row), self._board.overdue_seconds(row))
                if because is Because.SILENT and worker.because is not because:
                    worker.because = because
                    self._do(self._end_silent(worker))
                elif because is Because.OVERDUE and not self._rolling:
                    self._relieve(worker)

    async def _end_silent(self, worker: Worker) -> None:
        """End a worker whose loop stands still, and tell where; its callers are cut off, and may ask again."""
        if not worker.has_ended:
            os.kill(worker.pid, signal.SIGUSR1)
            await asyncio.sleep(STACK_SECONDS)
        if not worker.has_ended:
            log.error(
                "worker stuck",
                worker=worker.number,
                pid=worker.pid,
                because=f"its event loop stood still for {self._settings.stuck_seconds:g} s",
                at=innermost(worker.stack) or "not told, as by a process that the system has stopped",
            )
            self._kill(worker)

    def _relieve(self, worker: Worker) -> None:
        """Have another take the place of a worker that still answers, but has a thread less."""
        because = f"a run is at work {self._settings.stuck_seconds:g} s after it was told to end"
        log.error("worker stuck", worker=worker.number, pid=worker.pid, because=because)
        worker.because = Because.OVERDUE
        self._replaced_because[worker.because] += 1
        self._rolling = True
        self._do(self._replace_each([worker]))

    # Replacing all, one by one.

    def _roll(self) -> None:
        """Replace each worker by a new one, which reads keys and routes anew; asked again meanwhile, all over again."""
        if self._stopping:
            return
        if self._rolling:
            self._roll_again = True
            return
        self._rolling = True
        log.info("workers are replaced", service="gateway", workers=self._settings.workers)
        self._do(self._replace_each(sorted(self._workers, key=lambda each: each.number)))

    async def _replace_each(self, workers: Sequence[Worker]) -> None:
        for old in workers:
            if not old.has_ended and not await self._replaced(old):
                log.error("workers not replaced", beginning_with=old.number)
                break
        self._rolling = False
        if self._roll_again:
            self._roll_again = False
            self._roll()

    async def _replaced(self, old: Worker) -> bool:
        """Have another take a worker's place. Whether that came to be ready; else the old one stays."""
        self._wishes.put_nowait(_Start(old.number, replaces=old))
        while not (news := [each for each in self._workers if each.replaces is old]):
            if self._stopping:
                return False
            await asyncio.sleep(FIRST_PAUSE_SECONDS)
        new = news[0]
        while not (new.is_ready or new.has_ended):
            await _next_change(new)
        if not new.is_ready:
            return False
        old.is_leaving = True
        if old.channel is not None:
            old.channel.send(Kind.LEAVE)
        try:
            async with asyncio.timeout(2 * self._settings.stop_seconds + GRACE_SECONDS):
                while not old.has_ended:
                    await _next_change(old)
        except TimeoutError:
            self._kill(old)
        return True

    # Stopping.

    def _stop(self) -> None:
        self._stop_with(0)

    def _stop_with(self, code: int) -> None:
        """End all workers, and then the parent, with this exit code."""
        if self._stopping:
            return
        self._stopping, self._exit_code = True, code
        # Nobody shall wait here for workers that are not to come.
        self._http[0].close()
        self._grpc[0].close()
        if not self._workers:
            self._wishes.put_nowait(code)
        for worker in self._workers:
            os.kill(worker.pid, signal.SIGTERM)
            self._loop.call_later(self._settings.stop_seconds + GRACE_SECONDS, self._kill, worker)

    def _kill(self, worker: Worker) -> None:
        if not worker.has_ended:
            log.warning("worker killed", worker=worker.number, pid=worker.pid)
            os.kill(worker.pid, signal.SIGKILL)

    # Metrics.

    async def _serve_metrics(self) -> None:
        async with serving_metrics(self._settings.metrics_address, listener=self._metrics, collected=self._collected):
            await asyncio.Event().wait()

    async def _collected(self) -> Merged:
        """The metrics of all workers, those that are gone included."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(METRICS_SECONDS_MAX):
                await asyncio.gather(*(_has_told(worker) for worker in list(self._workers)))
        own = [family for family in told(REGISTRY.collect()) if family.name.startswith("process_")]
        return Merged(merged([own, [self._replacements()], self._gone, *(worker.page for worker in self._workers)]))

    def _replacements(self) -> Family:
        name, documentation = "ergonaut_gateway_workers_replaced", "Workers that were replaced, by why."
        samples = [
            Sample(f"{name}_total", {"because": because}, float(self._replaced_because[because])) for because in Because
        ]
        return Family(name, documentation, "counter", samples)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _has_told(worker: Worker) -> None:
    """Return when a worker has told its metrics as they are now, or has ended."""
    if worker.channel is None or not worker.is_ready:
        return
    pages = worker.pages
    worker.channel.send(Kind.COUNT)
    while worker.pages == pages and not worker.has_ended:
        await _next_change(worker)


async def _next_change(worker: Worker) -> None:
    worker.changed.clear()
    await worker.changed.wait()
