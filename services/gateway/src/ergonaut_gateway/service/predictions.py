"""Predictions made and counted: find the model, check the request, run, and tell every few seconds how much was served."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Histogram

from ergonaut.errors import ErgonautError, Unavailable
from ergonaut.events import Event
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.inference import (
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

    async def infer(self, tenant: str, model: str, version: str, request: InferenceRequest) -> InferenceAnswer:
        """Predict. Raises NotFound for a model that is not served, Refused for a request that does not fit it."""
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
