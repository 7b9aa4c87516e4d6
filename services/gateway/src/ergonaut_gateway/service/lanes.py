"""What waits for one version of a model, in the order in which it will run, and what of it runs together next."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from ergonaut_common.clock import Clock
from ergonaut_gateway.domain.batching import (
    INLINE_SECONDS_MAX,
    PORTION_SECONDS,
    first_cost,
    has_fixed_rows,
    joined,
    parted,
    unit_elements,
)
from ergonaut_gateway.domain.inference import DeadlineExceeded, InferenceAnswer, InferenceRequest
from ergonaut_gateway.domain.repeats import Key
from ergonaut_gateway.domain.tallies import Runs
from ergonaut_gateway.domain.tensors import Tensor
from ergonaut_gateway.ports import Runner, Stop
from ergonaut_gateway.service.dozing import Dozing

WAITING, RUNNING, OVER = range(3)
"""A request's life."""

WARY_RUNS = 100
"""After a run that held the event loop up, so many runs go to threads before it is tried there again."""

LEARNED_EVERY = 4
"""Of runs that are all of one size, which tell the same, one in so many is learned from; it takes as long as a third of a run of
a small model."""

TRIED_EVERY = 64
"""Where joining is not known to pay it is tried once in so many times."""

HELD_UP_SECONDS = 10 * INLINE_SECONDS_MAX
"""A run on the event loop that took longer held it up."""

Done = Callable[[InferenceAnswer | BaseException], None]
"""Takes the answer to a request, or why there is none."""


class Ticket:
    """A request that was submitted, until it is answered."""

    __slots__ = (
        "batch",
        "began_seconds",
        "deadline_seconds",
        "done",
        "key",
        "lane",
        "level",
        "outputs",
        "repeat",
        "request",
        "rows",
        "state",
        "units",
    )

    def __init__(self, lane: "Lane | None", request: InferenceRequest | None, done: Done | None) -> None:
        self.lane = lane
        self.request = request
        self.done = done
        self.outputs: tuple[str, ...] = ()
        self.key: object = None
        self.repeat: Key | None = None
        self.rows = 1
        self.units = 1.0
        self.level = 0
        self.began_seconds = 0.0
        self.deadline_seconds: float | None = None
        self.batch: Batch | None = None
        self.state = WAITING

    @property
    def over(self) -> bool:
        """Whether the answer was given."""
        return self.state == OVER

    def cancel(self) -> None:
        """Drop the request: it is answered with CancelledError before this returns, and its run, if it has one of its own,
        is stopped. Does nothing when it is over."""
        if self.state != OVER:
            assert self.lane is not None, "what is not over has a lane"
            self.lane.give_up(self, asyncio.CancelledError("the caller wants no answer any more"))


OVER_ALREADY = Ticket(None, None, None)
"""The ticket of every request that was answered before `submit` returned."""
OVER_ALREADY.state = OVER


class Batch:
    """Requests that run as one."""

    __slots__ = ("cpu_seconds", "crew_seconds", "input_seconds", "is_traced", "lane", "output_seconds", "results", "rows",
                 "seconds", "started_seconds", "stop", "tickets", "together", "units", "waited_for")  # fmt: skip

    def __init__(self, lane: "Lane", tickets: list[Ticket]) -> None:
        self.lane = lane
        self.tickets = tickets
        self.rows = 0
        """How many rows ran."""
        self.units = 0.0
        """How much that was."""
        self.waited_for = len(tickets)
        self.stop: Stop | None = None
        self.started_seconds = 0.0
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self.crew_seconds = 0.0
        """Of the model's own threads meanwhile; they may have worked for other runs of it as well."""
        self.input_seconds = 0.0
        self.output_seconds = 0.0
        self.together = False
        self.is_traced = False
        self.results: Sequence[Mapping[str, Tensor] | Exception] = ()

    @property
    def is_running(self) -> bool:
        """Whether some thread is at it."""
        return bool(self.started_seconds and self.tickets) and not self.results

    def compute(self, monotonic: Callable[[], float]) -> None:
        """Run, in whichever thread; what comes of it is left in `results`, one for each request."""
        requests = self._begun()
        cpu_clock = self.lane.cpu_clock
        crew_begun = self.lane.runner.crew_seconds() if self.lane.crew_before is not None else None
        cpu_begun = cpu_clock()
        begun = self.started_seconds = monotonic()
        pieces = self._together(requests, monotonic) if len(requests) > 1 else None
        self.together = pieces is not None or len(requests) == 1
        self.results = pieces if pieces is not None else list(map(self._apart, self.tickets, requests))
        self.seconds = monotonic() - begun
        self.cpu_seconds = cpu_clock() - cpu_begun
        if crew_begun is not None:
            self.crew_seconds = (self.lane.runner.crew_seconds() or 0.0) - crew_begun

    def _begun(self) -> list[InferenceRequest]:
        """The requests that shall run still."""
        live: list[Ticket] = []
        requests: list[InferenceRequest] = []
        for ticket in self.tickets:
            # A request that was given up meanwhile has let go of its inputs.
            if (request := ticket.request) is not None:
                live.append(ticket)
                requests.append(request)
                self.rows += ticket.rows
                self.units += ticket.units
        self.tickets = live
        return requests

    def _together(
        self, requests: list[InferenceRequest], monotonic: Callable[[], float]
    ) -> Sequence[Mapping[str, Tensor]] | None:
        """Each request's outputs, or None where they cannot run together."""
        try:
            inputs = {name: joined([request.inputs[name] for request in requests]) for name in requests[0].inputs}
            joined_at = monotonic()
            outputs = self.lane.runner.compute(inputs, self.tickets[0].outputs, self.stop)
            computed_at = monotonic()
            pieces = parted(outputs, [ticket.rows for ticket in self.tickets])
        except Exception:
            # One of them is at fault. Which one shows when each runs by itself, so that none fails for a neighbour.
            return None
        if pieces is None:
            self.lane.joinable = False
            return None
        self.input_seconds = joined_at - self.started_seconds
        self.output_seconds = monotonic() - computed_at
        return pieces

    def _apart(self, ticket: Ticket, request: InferenceRequest) -> Mapping[str, Tensor] | Exception:
        if ticket.state == OVER:
            return {}
        try:
            return self.lane.runner.compute(request.inputs, ticket.outputs, self.stop)
        except Exception as error:
            return error


class Lane:
    """One version of a model: what waits for it, and what is known of it."""

    def __init__(self, tenant: str, runner: Runner, rows_max: int, answered: "Answered", clock: Clock) -> None:
        self.tenant = tenant
        self.runner = runner
        self.dozing = runner if isinstance(runner, Dozing) else None
        if self.dozing is not None:
            self.dozing.lanes.add(self)
        self.rows_max = rows_max
        self.joinable = runner.traits.joinable
        self.cost = first_cost(runner.traits.first_runs)
        self.runs = Runs()
        self.threads = runner.traits.threads
        self.crew_before = runner.crew_seconds() if self.threads > 1 else None
        """What the threads of its own had used when it began, where it has such and that is known."""
        has_clock = self.threads == 1 or self.crew_before is not None
        self.cpu_clock = time.thread_time if has_clock else time.process_time
        """Around a run: its thread's CPU time, those of its own being counted apart. Where their time is not known the whole
        process's, which has that of others at the same time too, so that the sum is put right against the process's where CPU
        time is shared out."""
        self.waiting: deque[Ticket] = deque()
        self.in_flight = 0
        self.due = False
        self._answered = answered
        self._monotonic = clock.monotonic
        self._deadlines = False
        self._steady = runner.traits.steady
        self._wary = 0
        self._times_apart = 0
        self._units_learned = 0.0
        names = tuple(spec.name for spec in runner.signature.inputs)
        self._first, self._others = names[0] if names else "", names[1:]
        self._fixed_rows = has_fixed_rows(runner.signature)
        self._unit_elements = unit_elements(runner.signature)

    @property
    def cpu_seconds(self) -> float:
        """CPU time of its runs so far, that of threads of its own included."""
        crew = self.runner.crew_seconds() if self.crew_before is not None else None
        return self.runs.cpu_seconds + (0.0 if crew is None else crew - (self.crew_before or 0.0))

    @property
    def threads_timed(self) -> int:
        """How many threads' time a run that is at work has taken that is not in `cpu_seconds` yet."""
        return self.threads if self.crew_before is None else 1

    def add(self, ticket: Ticket, request: InferenceRequest) -> None:
        """Let a request wait its turn: behind those of its level and above."""
        if self._first:
            first = request.inputs[self._first]
            ticket.units = first.size / self._unit_elements
            if self.joinable:
                ticket.rows = first.shape[0]
                ticket.key = self._key(ticket, request)
        self.in_flight += 1
        self._deadlines = self._deadlines or ticket.deadline_seconds is not None
        waiting = self.waiting
        if not waiting or waiting[-1].level <= ticket.level:
            waiting.append(ticket)
            return
        place = next(index for index, other in enumerate(waiting) if other.level > ticket.level)
        waiting.insert(place, ticket)

    def answer(self, ticket: Ticket, result: "Mapping[str, Tensor] | BaseException", now_seconds: float) -> None:
        """Answer a request and let go of it; the second answer and all others are dropped."""
        if ticket.state != OVER:
            ticket.state = OVER
            self.in_flight -= 1
            self._answered(ticket, result, now_seconds)
            ticket.done = ticket.request = ticket.lane = ticket.batch = None

    def give_up(self, ticket: Ticket, why: BaseException) -> None:
        """Answer a request before its time; where no other waits for its run, that is stopped. Nothing if it is over."""
        batch = ticket.batch
        if ticket.state == WAITING and ticket.lane is self:
            self.waiting.remove(ticket)
        elif batch is not None:
            batch.waited_for -= 1
            if batch.waited_for == 0 and batch.stop is not None:
                batch.stop.terminate = True
        self.answer(ticket, why, self._monotonic())

    def drop_late(self, now_seconds: float) -> None:
        """Answer those whose deadline passed."""
        if self._deadlines:
            for ticket in [ticket for ticket in self.waiting if _is_late(ticket, now_seconds)]:
                self.give_up(ticket, DeadlineExceeded("the deadline passed before the request's turn came"))
            self._deadlines = any(ticket.deadline_seconds is not None for ticket in self.waiting)

    def fits_inline(self, seconds: float) -> bool:
        """Whether all that waits is known to take at most so long."""
        if not self._steady or not self.cost.runs:
            return False
        if self._wary:
            self._wary -= 1
            return False
        count = len(self.waiting)
        units = self._units_waiting() if count > 1 else self.waiting[0].units
        runs = 1 if self.joinable and self.cost.joining_pays(units, count) else count
        return self.cost.seconds(units, runs=runs) <= seconds

    def fits_at_once(self, rows: Tensor, seconds: float) -> bool:
        """Whether requests of one row each would now run here, by themselves, together, within so long."""
        count = len(rows)
        if (
            self.waiting
            or count > self.rows_max
            or not (self.joinable and self._steady and self.cost.runs)
            or self._wary
        ):
            return False
        if self.dozing is not None and self.dozing.asleep:
            return False
        units = rows.size / self._unit_elements
        return self.cost.seconds(units) <= seconds and (count == 1 or self._joins(units, count))

    def learn_at_once(self, rows: Tensor, seconds: float) -> None:
        """Take into account how long such requests ran."""
        self._learn(len(rows), rows.size / self._unit_elements, seconds)
        self.held_up(seconds)

    def held_up(self, seconds: float) -> None:
        """Take into account how long the event loop was held up."""
        if seconds > HELD_UP_SECONDS:
            self._wary = WARY_RUNS

    def pull(self, now_seconds: float, *, threads_free: int) -> list[Batch]:
        """What one thread should run next, in this order; nothing where nothing waits. Late ones are answered instead."""
        self.drop_late(now_seconds)
        count = len(self.waiting)
        if not count:
            return []
        units = sum(ticket.units for ticket in self.waiting)
        together = self.cost.units_together(units, count) if self.joinable else 0.0
        if together <= 0.0:
            return self._singles(-(-count // max(threads_free, 1)))
        # Where the run is long, the rows are spread over the threads that have nothing to do.
        parts = max(1, min(threads_free, int(self.cost.seconds(units) / INLINE_SECONDS_MAX)))
        rows = sum(ticket.rows for ticket in self.waiting)
        return [self._batch(min(self.rows_max, math.ceil(rows / parts), math.ceil(rows * together / units)))]

    def pull_all(self, now_seconds: float) -> list[Batch]:
        """All that waits."""
        self.drop_late(now_seconds)
        batches: list[Batch] = []
        joins = self.joinable and len(self.waiting) > 1 and self._joins(self._units_waiting(), len(self.waiting))
        rows_max = self.rows_max if joins else 0
        while self.waiting:
            batches.append(self._batch(rows_max))
        return batches

    def _units_waiting(self) -> float:
        return sum([ticket.units for ticket in self.waiting])

    def _joins(self, units: float, count: int) -> bool:
        """Whether so many should run as one; now and then they do against all that is known, or nothing new would be."""
        if self.cost.joining_pays(units, count):
            return True
        self._times_apart += 1
        return self._times_apart % TRIED_EVERY == 0

    def settle(self, batch: Batch, now_seconds: float) -> None:
        """Answer the requests of a batch that ran, and learn from it."""
        results, runs = batch.results, self.runs
        if batch.together and not isinstance(results[0], Exception):
            self._learn(batch.rows, batch.units, batch.seconds)
        ran, waited_seconds = 0, 0.0
        for ticket, result in zip(batch.tickets, results, strict=True):
            if not batch.together and not isinstance(result, Exception):
                runs.add(rows=ticket.rows, seconds=batch.seconds / len(results))
            if ticket.state != OVER:
                ran += 1
                waited_seconds += batch.started_seconds - ticket.began_seconds
                self.answer(ticket, result, now_seconds)
        runs.ran += ran
        runs.waited_seconds += waited_seconds
        runs.ran_seconds += ran * batch.seconds
        runs.input_seconds += ran * batch.input_seconds
        runs.output_seconds += ran * batch.output_seconds
        runs.cpu_seconds += batch.cpu_seconds

    def _learn(self, rows: int, units: float, seconds: float) -> None:
        runs = self.runs
        runs.add(rows=rows, seconds=seconds)
        if units != self._units_learned or runs.runs % LEARNED_EVERY == 0:
            self._units_learned = units
            self.cost.learn(units, seconds)

    def _key(self, ticket: Ticket, request: InferenceRequest) -> object:
        """What requests must have in common to run together."""
        inputs, rows = request.inputs, ticket.rows
        # Rows that do not match within a request could match by chance within a batch; and none are no row to run for.
        if rows == 0 or (self._others and any(inputs[name].shape[0] != rows for name in self._others)):
            return object()
        if self._fixed_rows:
            return ticket.outputs
        others = [inputs[name].shape[1:] for name in self._others]
        return (ticket.outputs, inputs[self._first].shape[1:], *others)

    def _batch(self, rows_max: int) -> Batch:
        """The first that waits, and those behind it that can run together with it."""
        waiting = self.waiting
        first = waiting.popleft()
        tickets, rows, passed = [first], first.rows, deque[Ticket]()
        while waiting and rows < rows_max:
            ticket = waiting.popleft()
            if ticket.key != first.key:
                passed.append(ticket)
            elif rows + ticket.rows > rows_max:
                passed.append(ticket)
                break
            else:
                tickets.append(ticket)
                rows += ticket.rows
        waiting.extendleft(reversed(passed))
        return self._begun(tickets)

    def _singles(self, count_max: int) -> list[Batch]:
        """So many runs of one request each as fill a thread for a moment."""
        batches: list[Batch] = []
        seconds = 0.0
        while self.waiting and len(batches) < count_max and seconds < PORTION_SECONDS:
            ticket = self.waiting.popleft()
            batches.append(self._begun([ticket]))
            # Where the cost is not known before, one at a time.
            seconds += self.cost.seconds(ticket.units) if self._steady and self.cost.runs else PORTION_SECONDS
        return batches

    def _begun(self, tickets: list[Ticket]) -> Batch:
        batch = Batch(self, tickets)
        for ticket in tickets:
            ticket.state = RUNNING
            ticket.batch = batch
        return batch


Answered = Callable[[Ticket, Mapping[str, Tensor] | BaseException, float], None]
"""Told of each answer, once: the request, the outputs or why there are none, and the time."""


def _is_late(ticket: Ticket, now_seconds: float) -> bool:
    return ticket.deadline_seconds is not None and now_seconds > ticket.deadline_seconds
