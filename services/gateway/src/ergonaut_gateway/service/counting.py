"""What was served, counted for each version in plain numbers that are read when somebody asks: Prometheus, Triton's statistics,
and the events that tell the ledger."""

import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from ergonaut.events import InferenceServed
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.energy import Meter, Used
from ergonaut_gateway.domain.inference import Fit, InferenceAnswer, InferenceRequest
from ergonaut_gateway.domain.repeats import Repeats
from ergonaut_gateway.domain.tallies import Runs, Statistics, Tally, statistics
from ergonaut_gateway.domain.tensors import Tensor
from ergonaut_gateway.ports import Runner
from ergonaut_gateway.service.batching import Engine
from ergonaut_gateway.service.joint import Joint
from ergonaut_gateway.service.lanes import OVER, Lane, Ticket
from ergonaut_gateway.service.tracing import trace_run

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""The buckets that Prometheus is told."""

ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""The buckets of rows that ran together."""

_LABELS = ("tenant", "model", "version")
Key = tuple[str, str, int]
log = get_logger(__name__)


class Served:
    """One version of a model: its requests' lane, and what it has done."""

    def __init__(self, key: Key, runner: Runner, engine: Engine, repeats: Repeats, clock: Clock) -> None:
        self.key = key
        self.fit = Fit(runner.signature)
        self.lane = Lane(key[0], runner, engine.limits.batch_rows, self._answered, clock)
        self._engine = engine
        self._repeats = repeats
        self._clock = clock
        self._model, self._version = key[1], key[2]
        self._has_rows = bool(runner.signature.inputs) and runner.signature.inputs[0].shape[:1] == (-1,)
        self._first = runner.signature.inputs[0].name if runner.signature.inputs else ""
        self.tally = Tally(clock.now())
        self._before = self.tally.copied(started_at=self.tally.started_at)
        self.is_measured = not runner.traits.accelerated
        self.used = Used()
        """What its requests used, as far as it was shared out."""
        self._used_before = Used()
        self._last_seconds: float | None = None
        self.watch: Callable[[InferenceRequest, Mapping[str, Tensor], float], None] | None = None

    def go_on_from(self, before: "Served") -> None:
        """Count on where another runner of the same version stopped."""
        self.tally, self._before = before.tally, before._before
        self.used, self._used_before = before.used, before._used_before
        self.lane.runs = before.lane.runs

    def turn_away(self, ticket: Ticket, error: Exception, now_seconds: float) -> None:
        """Answer a request that never came to wait."""
        ticket.state = OVER
        self._tell(ticket, error, now_seconds)
        ticket.done = ticket.request = ticket.lane = None

    def answer_again(self, ticket: Ticket, outputs: Mapping[str, Tensor], now_seconds: float) -> bool:
        """Answer a request as it was answered before."""
        self.lane.runs.cache_hits += 1
        ticket.state = OVER
        ticket.repeat = None
        self._tell(ticket, outputs, now_seconds)
        ticket.done = ticket.request = ticket.lane = None
        return True

    def count_at_once(self, joint: Joint, now_seconds: float) -> float:
        """Count requests that ran at once; what each of them took."""
        seconds = now_seconds - joint.came_seconds
        self.tally.add_alike(latency_ms=seconds * 1000, requests=len(joint.rows))
        self._last_seconds = now_seconds
        return seconds

    def told(self, now: datetime) -> InferenceServed | None:
        """What was served since this was last asked; None where nothing was."""
        if self.tally.requests == self._before.requests:
            self._before.started_at = now
            return None
        window = self.tally.since(self._before)
        self._before = self.tally.copied(started_at=now)
        tenant, model, version = self.key
        told = window.told(tenant=tenant, model=model, version=version, ended_at=now)
        used, self._used_before = self.used.since(self._used_before), self.used.copied()
        return told.model_copy(update=used.figures())

    def statistics(self) -> Statistics:
        """All that was served."""
        last_ms = 0
        if self._last_seconds is not None:
            ago = self._clock.monotonic() - self._last_seconds
            last_ms = int((self._clock.now().timestamp() - ago) * 1000)
        told = statistics(self._version, self.tally, self.lane.runs, last_inference_ms=last_ms)
        return replace(told, energy=self.used.figures())

    def _answered(self, ticket: Ticket, result: "Mapping[str, Tensor] | BaseException", now_seconds: float) -> None:
        self._engine.left()
        if ticket.repeat is not None and not isinstance(result, BaseException):
            self.lane.runs.cache_misses += 1
            self._repeats.keep(ticket.repeat, result)
        self._tell(ticket, result, now_seconds)

    def _tell(self, ticket: Ticket, result: "Mapping[str, Tensor] | BaseException", now_seconds: float) -> None:
        """Count a request and give the answer."""
        request, done = ticket.request, ticket.done
        assert request is not None, "answered once"
        assert done is not None, "answered once"
        if request.meter is not None:
            self._meter(request.meter, ticket)
        seconds = now_seconds - ticket.began_seconds
        answer: InferenceAnswer | BaseException
        if isinstance(result, BaseException):
            self.tally.add(latency_ms=seconds * 1000, rows=0, failed=True)
            self.lane.runs.failed_seconds += seconds
            answer = result
        else:
            rows = request.inputs[self._first].shape[0] if self._has_rows else 1
            self.tally.add(latency_ms=seconds * 1000, rows=rows, failed=False)
            self._last_seconds = now_seconds
            answer = InferenceAnswer(request.id, self._model, self._version, result)
        try:
            done(answer)
            if self.watch is not None and not isinstance(result, BaseException):
                self.watch(request, result, seconds)
        except Exception:
            # One caller that cannot be answered must not keep the others of its batch from being so.
            log.exception("answer not given or not watched", model=self._model)

    def _meter(self, meter: Meter, ticket: Ticket) -> None:
        """Count a request's part of its run: by its rows."""
        batch = ticket.batch
        if batch is not None and meter.trace is not None:
            trace_run(ticket, batch, self.key, self._clock.monotonic())
        if batch is not None and batch.cpu_seconds:
            seconds = batch.cpu_seconds + batch.crew_seconds
            meter.count(seconds * (ticket.rows / (batch.rows or 1)), is_measured=self.is_measured)


class Board:
    """The versions that one gateway has served; Prometheus is told of them as long as the gateway lives."""

    def __init__(self) -> None:
        self.served: dict[Key, Served] = {}
        _collector.boards.add(self)


class _Collector(Collector):
    """Reads the counts of all gateways of this process when Prometheus asks, so that counting itself costs nothing more."""

    def __init__(self) -> None:
        self.boards: weakref.WeakSet[Board] = weakref.WeakSet()

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("ergonaut_inference_requests", "Requests that reached a model.", labels=_LABELS)
        failures = CounterMetricFamily(
            "ergonaut_inference_failures", "Of these, those answered with an error.", labels=_LABELS
        )
        repeats = CounterMetricFamily(
            "ergonaut_inference_repeats", "Requests answered from kept answers.", labels=_LABELS
        )
        waiting = GaugeMetricFamily("ergonaut_inference_queue", "Requests that wait for a run.", labels=_LABELS)
        in_flight = GaugeMetricFamily("ergonaut_inference_in_flight", "Requests that wait or run.", labels=_LABELS)
        latency = HistogramMetricFamily(
            "ergonaut_inference_seconds",
            "Time from the decoded request to the answer, waiting included.",
            labels=_LABELS,
        )
        batches = HistogramMetricFamily(
            "ergonaut_inference_batch_rows", "Rows that ran together, by run.", labels=_LABELS
        )
        for served in [served for board in list(self.boards) for served in list(board.served.values())]:
            labels = tuple(str(part) for part in served.key)
            tally, runs = served.tally, served.lane.runs
            requests.add_metric(labels, tally.requests)
            failures.add_metric(labels, tally.failed)
            repeats.add_metric(labels, runs.cache_hits)
            waiting.add_metric(labels, len(served.lane.waiting))
            in_flight.add_metric(labels, served.lane.in_flight)
            latency.add_metric(labels, _latencies(tally), tally.seconds)
            batches.add_metric(labels, _batch_rows(runs), runs.rows)
        yield from (requests, failures, repeats, waiting, in_flight, latency, batches)


def _latencies(tally: Tally) -> list[tuple[str, float]]:
    return [*((str(float(bound)), tally.within(bound)) for bound in SECONDS), ("+Inf", tally.requests)]


def _batch_rows(runs: Runs) -> list[tuple[str, float]]:
    within = [
        (str(float(bound)), sum(count for rows, (count, _) in list(runs.by_rows.items()) if rows <= bound))
        for bound in ROWS
    ]
    return [*within, ("+Inf", runs.runs)]


_collector = _Collector()
REGISTRY.register(_collector)
