"""Runs what waits for all models: short work on the next turn of the event loop, long work in a few threads.

Requests that come within one turn of the loop run together on the next one; there is no timer, so nobody waits for somebody
who may not come. While the threads are busy, what comes meanwhile waits and then runs together. Where they are contended, tenants
take turns, and the models of a tenant take turns; within a model priorities count.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue

from ergonaut.errors import Unavailable
from ergonaut_common.clock import Clock
from ergonaut_gateway.domain.batching import INLINE_SECONDS_MAX, Turns
from ergonaut_gateway.domain.inference import Busy, DeadlineExceeded, InferenceRequest
from ergonaut_gateway.domain.tensors import Tensor
from ergonaut_gateway.service.holding import Holding
from ergonaut_gateway.service.joint import Joint, run_at_once
from ergonaut_gateway.service.lanes import Batch, Lane, Ticket

SWEEP_SECONDS_MAX = 0.25
"""How often it is looked, while threads are at work, whether something takes too long."""

RETRY_SECONDS_MIN = 0.01
"""Nobody is told to come back sooner, however fast the model."""


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """How much runs and waits at once."""

    threads: int = 2
    waiting: int = 1_024
    """Requests of all models that may wait, beside one for each thread."""

    model_waiting: int = 512
    """Requests of one model that may wait, beside one for each thread."""

    batch_rows: int = 64
    run_timeout_seconds: float = 30.0
    cache_bytes: int = 0
    """How much the answers may take that are kept for repeated requests; with 0 none are."""


class Engine:
    """Runs what waits. All of it but `Batch.compute` happens on the event loop."""

    def __init__(self, limits: EngineLimits, clock: Clock) -> None:
        self.limits = limits
        self.in_flight = 0
        self._monotonic = clock.monotonic
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle: asyncio.Event | None = None
        self._due: list[Lane] = []
        self._turn_comes = False
        self._turn_seconds = 0.0
        """What runs took on this turn so far."""
        self._gathering: list[Callable[[], None]] = []
        self._turns: Turns[Lane] = Turns()
        self._held = Holding(self._woken, self._monotonic)
        self._threads = _Threads(limits.threads, self._monotonic)
        self._at_work: set[_Work] = set()
        self._sweep: asyncio.TimerHandle | None = None

    def submit(self, lane: Lane, ticket: Ticket, request: InferenceRequest) -> None:
        """Let a request wait its turn. Raises Busy where too many wait."""
        limits = self.limits
        if self.in_flight >= limits.waiting + limits.threads or lane.in_flight >= limits.model_waiting + limits.threads:
            raise self._busy(lane)
        self.in_flight += 1
        lane.add(ticket, request)
        if not lane.due:
            lane.due = True
            self._due.append(lane)
        self.expect_turn()

    def before_turn(self, come: Callable[[], None]) -> None:
        """Have this called as each turn begins: by who gathers what comes within one, and submits it or has it run then."""
        self._gathering.append(come)

    def expect_turn(self) -> None:
        """Have a turn come, whether anything was submitted or not."""
        if not self._turn_comes:
            self._turn_comes = True
            loop = self._loop
            if loop is None:
                loop = self._loop = asyncio.get_running_loop()
            loop.call_soon(self._turn)

    def gather(self) -> None:
        """Take in what was gathered, which nobody counts until then."""
        for come in self._gathering:
            come()

    def run_at_once(self, lane: Lane, joint: Joint, wanted: Sequence[str]) -> dict[str, Tensor] | None:
        """The outputs of requests that were gathered, where they can run on this turn; None where they must be submitted."""
        limits, count = self.limits, len(joint.rows)
        waiting_max = min(limits.waiting - self.in_flight, limits.model_waiting - lane.in_flight) + limits.threads
        if count > waiting_max:
            return None
        begun = self._monotonic()
        outputs = run_at_once(lane, joint, wanted, self._monotonic, INLINE_SECONDS_MAX - self._turn_seconds)
        self._turn_seconds += self._monotonic() - begun
        return outputs

    def left(self) -> None:
        """Count one request less. Whoever answers for a lane tells this."""
        self.in_flight -= 1
        if self._idle is not None and not self.in_flight:
            self._idle.set()

    def unfinished_seconds(self) -> float:
        """About how much CPU time the runs have taken that are at work now."""
        now = self._monotonic()
        running = [batch for work in self._at_work for batch in work.batches if batch.is_running]
        ran = [batch for work in self._at_work for batch in list(work.ran)]
        seconds = sum(batch.lane.threads_timed * (now - batch.started_seconds) for batch in running)
        return seconds + sum(batch.cpu_seconds for batch in ran)

    def overdue_seconds(self, lane: Lane | None = None) -> float:
        """How long the oldest run, of a lane or of all, is at work since all who waited for it were answered otherwise; 0 where
        there is none."""
        ended = [
            work.ended_seconds
            for work in self._at_work
            if work.ended_seconds is not None and lane in (None, work.batches[0].lane)
        ]
        return self._monotonic() - min(ended) if ended else 0.0

    async def idle(self) -> None:
        """Wait until all are answered."""
        if self.in_flight:
            self._idle = asyncio.Event()
            await self._idle.wait()

    def close(self, why: Exception) -> None:
        """Answer whatever is left, stop the threads and take no more. The threads end when their runs do."""
        if self._sweep is not None:
            self._sweep.cancel()
        self._held.close()
        for lane in {*self._turns, *self._due, *self._held}:
            for ticket in list(lane.waiting):
                lane.give_up(ticket, why)
        for work in self._at_work:
            _give_up(work.batches, why)
        self._threads.close()

    def _turn(self) -> None:
        """One turn of the loop: run what is short, and let the rest wait for threads."""
        self._turn_seconds = 0.0
        try:
            self.gather()
        finally:
            self._turn_comes = False
        due, self._due = self._due, []
        now = self._monotonic()
        begun = now - self._turn_seconds
        for lane in due:
            lane.due = False
        for lane in due:
            if not lane.waiting:
                continue
            if lane.dozing is not None and lane.dozing.asleep:
                self._hold(lane)
            elif lane.fits_inline(INLINE_SECONDS_MAX - (now - begun)):
                now = self._run_here(lane, now)
            else:
                self._turns.add(lane.tenant, lane)
        if self._turns:
            self._feed()

    def _hold(self, lane: Lane) -> None:
        self._held.hold(lane)
        if self._sweep is None:
            self._sweep_later()

    def _woken(self, lane: Lane) -> None:
        if lane.waiting:
            self._turns.add(lane.tenant, lane)
            self._feed()

    def _run_here(self, lane: Lane, now: float) -> float:
        for batch in lane.pull_all(now):
            batch.compute(self._monotonic)
            now = self._monotonic()
            lane.settle(batch, now)
            lane.held_up(batch.seconds)
        return now

    def _feed(self) -> None:
        """Give the threads that are free something to do."""
        while self._threads.free > 0:
            lane = self._turns.next()
            if lane is None:
                return
            batches = lane.pull(self._monotonic(), threads_free=self._threads.free)
            if lane.waiting:
                self._turns.add(lane.tenant, lane)
            if batches:
                self._begin(lane, batches)

    def _begin(self, lane: Lane, batches: list[Batch]) -> None:
        for batch in batches:
            batch.stop = lane.runner.stop()
        work = _Work(batches, self._collect)
        self._at_work.add(work)
        self._threads.put(work)
        if self._sweep is None:
            self._sweep_later()

    def _collect(self, work: "_Work") -> None:
        """Answer what a thread has done so far. Told by the thread, on the loop."""
        while work.ran:
            batch = work.ran.popleft()
            batch.lane.settle(batch, self._monotonic())
        if work.over and work in self._at_work:
            self._at_work.discard(work)
            self._threads.free += 1
            self._feed()

    def _sweep_later(self) -> None:
        assert self._loop is not None, "what is at work was submitted on a loop"
        seconds = min(self.limits.run_timeout_seconds / 4, SWEEP_SECONDS_MAX)
        self._sweep = self._loop.call_later(seconds, self._sweep_now)

    def _sweep_now(self) -> None:
        """Answer those whose time is over, waiting and running ones. A thread goes on until its run notices."""
        self._sweep = None
        now = self._monotonic()
        began_before = now - self.limits.run_timeout_seconds
        why = Unavailable(f"the model took longer than {self.limits.run_timeout_seconds:g} s")
        for lane in (*self._turns, *self._held):
            lane.drop_late(now)
            for ticket in [ticket for ticket in lane.waiting if ticket.began_seconds < began_before]:
                lane.give_up(ticket, why)
        for work in list(self._at_work):
            _give_up(work.batches, why, began_before)
            _drop_late(work.batches, now)
            work.notice_end(now)
        if self._at_work or self._held:
            self._sweep_later()

    def _busy(self, lane: Lane) -> Busy:
        """Too many wait, of this model or of all; and for how long, by what their runs cost until now."""
        lanes = {lane} if lane.in_flight >= self.limits.model_waiting else {lane, *self._turns, *self._due}
        seconds = sum(
            waiting.cost.seconds(sum(ticket.units for ticket in waiting.waiting), runs=len(waiting.waiting))
            for waiting in lanes
        )
        count = lane.in_flight if len(lanes) == 1 else self.in_flight
        return Busy(
            f"{count} requests are at work or waiting, which is the most; ask again",
            retry_after_seconds=max(seconds / self.limits.threads, RETRY_SECONDS_MIN),
        )


class _Work:
    """What one thread does next, and what it has done of it."""

    def __init__(self, batches: list[Batch], told: "Callable[[_Work], None]") -> None:
        self.batches = batches
        self.ran: deque[Batch] = deque()
        self.over = False
        self.loop = asyncio.get_running_loop()
        self._told = told
        self.ended_seconds: float | None = None
        """Since when its run has been told to end, if it is still at work."""
        self._is_told = False
        """Whether the loop was told and has not come to look yet, so that it need not be woken again."""

    def notice_end(self, now_seconds: float) -> None:
        """Take into account whether the run that is at work now was told to end."""
        ending = any(batch.stop.terminate for batch in self.batches if batch.is_running and batch.stop is not None)
        self.ended_seconds = (self.ended_seconds or now_seconds) if ending else None

    def perform(self, monotonic: Callable[[], float]) -> None:
        """Run all, in a thread; each is told of as soon as it is there."""
        last = len(self.batches) - 1
        for index, batch in enumerate(self.batches):
            batch.compute(monotonic)
            self.ran.append(batch)
            # Only now, so that whoever finds this over finds the last batch as well.
            self.over = index == last
            if not self._is_told:
                self._is_told = True
                self.loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        # First, so that whatever is ready after the look wakes the loop again.
        self._is_told = False
        self._told(self)


class _Threads:
    """A few threads, begun when they are first needed."""

    def __init__(self, count: int, monotonic: Callable[[], float]) -> None:
        self.free = count
        self._count = count
        self._monotonic = monotonic
        self._work: SimpleQueue[_Work | None] = SimpleQueue()
        self._started: list[threading.Thread] = []

    def put(self, work: _Work) -> None:
        """Have something done."""
        self.free -= 1
        if len(self._started) < self._count - self.free:
            # A run that cannot be stopped must not keep the process from ending.
            thread = threading.Thread(target=self._serve, name=f"run-{len(self._started)}", daemon=True)
            self._started.append(thread)
            thread.start()
        self._work.put(work)

    def close(self) -> None:
        """Let the threads end."""
        self.free = 0
        for _ in self._started:
            self._work.put(None)

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                work.perform(self._monotonic)
            except RuntimeError:
                # The loop is closed: the process ends, and nobody waits any more.
                return
            del work


def _drop_late(batches: list[Batch], now_seconds: float) -> None:
    for batch in batches:
        for ticket in batch.tickets:
            if not ticket.over and ticket.deadline_seconds is not None and ticket.deadline_seconds < now_seconds:
                batch.lane.give_up(ticket, DeadlineExceeded("the deadline passed while the request was at work"))


def _give_up(batches: list[Batch], why: Exception, began_before: float = float("inf")) -> None:
    for batch in batches:
        for ticket in batch.tickets:
            if not ticket.over and ticket.began_seconds < began_before:
                batch.lane.give_up(ticket, why)
