"""Predictions made and counted: find the model, check the request, run, and tell every few seconds how much was served."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from prometheus_client import Counter, Histogram

from ergonaut.errors import ErgonautError, Unavailable
from ergonaut.events import Event
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.inference import (
    DeadlineExceeded,
    InferenceAnswer,
    InferenceRequest,
    check_inputs,
    outputs_wanted,
    row_count,
)
from ergonaut_gateway.domain.models import ModelRecord
from ergonaut_gateway.domain.tallies import Tally
from ergonaut_gateway.ports import Announcer
from ergonaut_gateway.service.catalogue import Catalogue

UNTOLD_MAX = 1_000
"""Facts kept while nobody can be told: hours for a few models. Beyond that the oldest are dropped, which the log says."""

log = get_logger(__name__)
_LABELS = ("tenant", "model", "version")
_requests = Counter("ergonaut_inference_requests_total", "Requests that reached a model.", _LABELS)
_failures = Counter("ergonaut_inference_failures_total", "Of these, those answered with an error.", _LABELS)
_seconds = Histogram(
    "ergonaut_inference_seconds",
    "Time from the decoded request to the answer, waiting included.",
    _LABELS,
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
)


Done = Callable[[InferenceAnswer | BaseException], None]
"""Takes the answer to a request, or why there is none."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Who wants which model and how soon. The deadline is a time of the event loop's clock. As with Triton, priority 1 goes
    first, then 2 and so on; 0 is the default."""

    tenant: str
    model: str
    version: str = ""
    deadline_seconds: float | None = None
    priority: int = 0


class Ticket:
    """A request that was submitted."""

    __slots__ = ("_done", "_task")

    def __init__(self, done: Done) -> None:
        self._done: Done | None = done
        self._task: asyncio.Task[None] | None = None

    @property
    def over(self) -> bool:
        """Whether the answer was given."""
        return self._done is None

    def cancel(self) -> None:
        """Drop the request if it still waits; it is answered with CancelledError at once. Does nothing when it is over."""
        self.answer(asyncio.CancelledError("the caller wants no answer any more"))
        if self._task is not None:
            self._task.cancel()

    def answer(self, answer: InferenceAnswer | BaseException) -> None:
        """Give the answer, the first time only."""
        done, self._done = self._done, None
        if done is not None:
            done(answer)

    def begin(self, task: "asyncio.Task[None]") -> None:
        """Remember what to stop."""
        self._task = task


class Predictions:
    """Answers requests with the models of the catalogue."""

    def __init__(self, catalogue: Catalogue, announcer: Announcer, clock: Clock) -> None:
        self._catalogue = catalogue
        self._announcer = announcer
        self._clock = clock
        self._tallies: dict[tuple[str, str, int], Tally] = {}
        self._untold: deque[Event] = deque()
        self._in_flight = 0
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        return not self._stopping

    def submit(self, wish: Wish, request: InferenceRequest, done: Done) -> Ticket:
        """Predict, on the event loop; `done` is called exactly once on it, maybe before this returns. It gets the answer,
        or NotFound, Refused, DeadlineExceeded or another Unavailable, which may have `retry_after_seconds`."""
        ticket = Ticket(done)
        ticket.begin(asyncio.get_running_loop().create_task(self._answer(wish, request, ticket)))
        return ticket

    async def _answer(self, wish: Wish, request: InferenceRequest, ticket: Ticket) -> None:
        try:
            if wish.deadline_seconds is not None and self._clock.monotonic() > wish.deadline_seconds:
                raise DeadlineExceeded("the deadline passed before the request's turn came")
            ticket.answer(await self._infer(wish.tenant, wish.model, wish.version, request))
        except BaseException as error:
            ticket.answer(error)

    async def infer(self, tenant: str, model: str, version: str, request: InferenceRequest) -> InferenceAnswer:
        """Predict. Raises NotFound for a model that is not served, Refused for a request that does not fit it."""
        answer: asyncio.Future[InferenceAnswer] = asyncio.get_running_loop().create_future()
        ticket = self.submit(Wish(tenant, model, version), request, partial(_settle, answer))
        try:
            return await answer
        finally:
            ticket.cancel()

    async def _infer(self, tenant: str, model: str, version: str, request: InferenceRequest) -> InferenceAnswer:
        if self._stopping:
            raise Unavailable("the gateway is stopping; ask again")
        ready = self._catalogue.find(tenant, model, version)
        with self._counted(ready.record, request):
            signature = ready.runner.signature
            check_inputs(request.inputs, signature)
            outputs = await ready.runner.run(request.inputs, outputs_wanted(request, signature))
        return InferenceAnswer(request.id, model, ready.record.version, outputs)

    async def finish(self, *, within_seconds: float) -> None:
        """Take no more requests, and wait until those at work are answered, but not longer than this."""
        self._stopping = True
        try:
            async with asyncio.timeout(within_seconds):
                await self._idle.wait()
        except TimeoutError:
            log.warning("requests cut off", requests=self._in_flight, waited_seconds=within_seconds)

    async def report(self) -> None:
        """Tell what was served since the last report, and what could not be told before."""
        ended_at = self._clock.now()
        tallies, self._tallies = self._tallies, {}
        for (tenant, model, version), tally in tallies.items():
            self._untold.append(tally.told(tenant=tenant, model=model, version=version, ended_at=ended_at))
        dropped = max(0, len(self._untold) - UNTOLD_MAX)
        for _ in range(dropped):
            self._untold.popleft()
        if dropped:
            log.error("served requests not told", dropped=dropped)
        while self._untold:
            await self._announcer.publish(self._untold[0])
            self._untold.popleft()

    async def keep_reporting(self, *, every_seconds: float) -> None:
        """Report again and again, for ever."""
        while True:
            await self._clock.sleep(every_seconds)
            await self.try_report()

    async def try_report(self) -> None:
        """Report; what cannot be told now is told with the next report."""
        try:
            await self.report()
        except ErgonautError as error:
            log.warning("served requests not told yet", waiting=len(self._untold), error=str(error))

    @contextmanager
    def _counted(self, record: ModelRecord, request: InferenceRequest) -> Iterator[None]:
        self._in_flight += 1
        self._idle.clear()
        began, failed = self._clock.monotonic(), True
        try:
            yield
            failed = False
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()
            self._count(record, seconds=self._clock.monotonic() - began, request=None if failed else request)

    def _count(self, record: ModelRecord, *, seconds: float, request: InferenceRequest | None) -> None:
        """Count one request that was answered, or, where none is given, one that failed."""
        key = (record.tenant, record.name, record.version)
        if key not in self._tallies:
            self._tallies[key] = Tally(self._clock.now())
        rows = row_count(request, record.signature) if request is not None else 0
        self._tallies[key].add(latency_ms=seconds * 1000, rows=rows, failed=request is None)
        labels = (record.tenant, record.name, str(record.version))
        _requests.labels(*labels).inc()
        _seconds.labels(*labels).observe(seconds)
        if request is None:
            _failures.labels(*labels).inc()


def _settle(future: "asyncio.Future[InferenceAnswer]", answer: InferenceAnswer | BaseException) -> None:
    if future.done():
        return
    if isinstance(answer, BaseException):
        future.set_exception(answer)
    else:
        future.set_result(answer)
