"""Answers requests by a pipeline's graph, by callbacks on the event loop: no task a step. What a step asks goes through the same
queue as if a caller had asked it, so that batching, limits and counts hold for it."""

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from ergonaut.errors import ErgonautError, Refused, Unavailable
from ergonaut_common.clock import Clock
from ergonaut_gateway.domain.inference import Busy, Fit, InferenceAnswer, InferenceRequest, row_count
from ergonaut_gateway.domain.models import ModelRecord, Signature
from ergonaut_gateway.domain.pipelines.combining import combined, drawn, key_of, point_of
from ergonaut_gateway.domain.pipelines.conditions import holds
from ergonaut_gateway.domain.pipelines.graph import Call, Graph, ModelCall
from ergonaut_gateway.domain.pipelines.records import PipelineRecord
from ergonaut_gateway.domain.pipelines.spec import Combine, Kind
from ergonaut_gateway.domain.pipelines.troubles import told_in_place
from ergonaut_gateway.domain.tallies import Runs, Statistics, Tally, statistics
from ergonaut_gateway.domain.tensors import Tensor
from ergonaut_gateway.service.lanes import OVER_ALREADY, Done
from ergonaut_gateway.service.pipeline_whole import WholeRequest
from ergonaut_gateway.service.plans import Cancellable
from ergonaut_gateway.service.predictions import Wish

RETRY_SECONDS_MIN = 0.01
"""Nobody is told to come back sooner, however fast the pipeline."""

FUSED = "fused"
"""What the one model in the place of all steps of a node is called where steps are told."""

Tensors = Mapping[str, Tensor]
Then = Callable[[Tensors | BaseException], None]
"""Takes what a step or node gives by its names, or why it gives nothing."""

Submit = Callable[[Wish, InferenceRequest, Done], Cancellable]
Find = Callable[[str, str, str], ModelRecord]
"""The version that a tenant's wish for a model leads to. Raises NotFound, Unavailable."""


@dataclass(frozen=True, slots=True)
class Engine:
    """What pipelines ask their models by, and their bounds."""

    submit_model: Submit
    find: Find
    clock: Clock
    in_flight_max: int = 514
    """Requests of one pipeline at work; each waits in one or more queues that have bounds of their own."""
    run_timeout_seconds: float = 30.0
    chance: Callable[[], float] = random.random
    """A number from 0 to 1, for splitters without a key."""

    def monotonic(self) -> float:
        """The time by which durations are told."""
        return self.clock.monotonic()

    def unix_seconds(self, monotonic_seconds: float) -> float:
        """When that was, by the calendar."""
        return self.clock.now().timestamp() - (self.clock.monotonic() - monotonic_seconds)


class StepCounts:
    """What one step did."""

    __slots__ = ("failures", "node", "requests", "seconds", "step")

    def __init__(self, call: Call) -> None:
        self.node = call.node
        self.step = call.step
        self.requests = 0
        self.failures = 0
        self.seconds = 0.0


class PipelinePlan:
    """Fills `Plan`: one pipeline as this process serves it."""

    def __init__(self, record: PipelineRecord, engine: Engine) -> None:
        self.told = record
        self.graph = record.graph()
        self.engine = engine
        self.in_flight = 0
        self.tally = Tally(record.now.changed_at)
        self.failed_seconds = 0.0
        self.last_seconds: float | None = None
        self.name = record.name
        self.version = str(record.now.revision)
        self.fit = Fit(record.signature)
        self.fused = _fused_calls(self.graph)
        calls = (*self.graph.all_calls(), *self.fused.values())
        self.counts = {call.index: StepCounts(call) for call in calls}
        self.wanted = {call.index: _wanted(call.asks) for call in calls if isinstance(call.asks, ModelCall)}

    @property
    def record(self) -> ModelRecord:
        """What the pages of its name tell. Raises Unavailable where a model that it needs cannot be asked."""
        self._check_ready(self.graph)
        return self.told.as_model()

    def statistics(self) -> Statistics:
        """What this revision did here. What its steps did is counted with their models."""
        runs = Runs(failed_seconds=self.failed_seconds)
        last_ms = 0 if self.last_seconds is None else int(1000 * self.engine.unix_seconds(self.last_seconds))
        return statistics(self.told.now.revision, self.tally, runs, last_inference_ms=last_ms)

    def count(self, request: InferenceRequest, seconds: float, *, failed: bool) -> None:
        """Count one request."""
        rows = 0 if failed else row_count(request, self.told.signature)
        self.tally.add(latency_ms=seconds * 1000, rows=rows, failed=failed)
        if failed:
            self.failed_seconds += seconds
        else:
            self.last_seconds = self.engine.monotonic()

    def submit(self, wish: Wish, request: InferenceRequest, done: Done) -> Cancellable:
        """Answer a request; `done` is called exactly once, maybe before this returns."""
        try:
            outputs = self.fit.outputs(request)
            if self.in_flight >= self.engine.in_flight_max:
                raise self._busy()
        except ErgonautError as error:
            done(error)
            return OVER_ALREADY
        if self.graph.fused and self.is_ready(self.graph.fused):
            whole = WholeRequest(self, request, done)
            return whole.begun(wish, self.fused[self.graph.path])
        run = _Run(self, wish, request, (outputs, done))
        run.begin()
        return run

    def is_ready(self, model: str) -> bool:
        """Whether a fused model can be asked; where it cannot, the steps are."""
        try:
            self.engine.find(self.told.tenant, model, "")
        except ErgonautError:
            return False
        return True

    def changed_model(self) -> str:
        """A model that takes or gives something else now than when the pipeline was applied; empty where there is none."""
        for use in self.told.uses:
            try:
                record = self.engine.find(self.told.tenant, use.model, use.version)
            except ErgonautError:
                continue
            if record.signature != use.signature:
                return use.model
        return ""

    def _check_ready(self, graph: Graph) -> None:
        if graph.fused and self.is_ready(graph.fused):
            return
        for call in graph.calls:
            if isinstance(call.asks, Graph):
                self._check_ready(call.asks)
            elif call.asks is not None and not call.is_soft:
                try:
                    self.engine.find(self.told.tenant, call.asks.model, call.asks.version)
                except ErgonautError as error:
                    raise Unavailable(f"pipeline {self.name} cannot answer: {call.place}: {error}") from error

    def _busy(self) -> Busy:
        seconds = self.tally.seconds / self.tally.requests if self.tally.requests else 0.0
        return Busy(
            f"{self.in_flight} requests are at work in pipeline {self.name}, which is the most; ask again",
            retry_after_seconds=max(seconds, RETRY_SECONDS_MIN),
        )


class _Run:
    """One request on its way through the graph."""

    __slots__ = ("_began_seconds", "_done", "_live", "_outputs", "over", "plan", "request", "spared", "wish")

    def __init__(
        self, plan: PipelinePlan, wish: Wish, request: InferenceRequest, wanted: tuple[tuple[str, ...], Done]
    ) -> None:
        self.plan = plan
        self.wish = wish
        self.request = request
        self.over = False
        self.spared: BaseException | None = None
        """The newest failure of a soft step."""
        self._outputs, self._done = wanted
        self._live: set[_Asked] = set()
        self._began_seconds = plan.engine.monotonic()

    def begin(self) -> None:
        """Ask the first steps."""
        self.plan.in_flight += 1
        try:
            self.graph(self.plan.graph, self.request.inputs, self._end)
        except Exception as error:
            self.broken(error)

    def cancel(self) -> None:
        """Drop the request, and what its steps have under way. Nothing if it is over."""
        self._end(asyncio.CancelledError("the caller wants no answer any more"))

    def broken(self, error: Exception) -> None:
        """Take what nobody foresaw, which must not leave the caller without an answer."""
        if self.over:
            # It is the caller's own way of taking the answer that failed.
            raise error
        self._end(error)

    def graph(self, graph: Graph, there: Tensors, then: Then) -> None:
        """Ask a node, given what is there."""
        if graph.fused and self.plan.is_ready(graph.fused):
            self.call(self.plan.fused[graph.path], there, then)
        elif graph.kind is Kind.SEQUENCE:
            _Sequence(self, graph, there, then).go()
        elif graph.kind is Kind.ENSEMBLE:
            _Ensemble(self, graph, there, then).go()
        else:
            self.call(self._branch(graph, there), there, then)

    def call(self, call: Call, there: Tensors, then: Then) -> None:
        """Ask a step."""
        asks = call.asks
        if asks is None:
            then({here: there[own] for own, here in call.gives})
            return
        asked = _Asked(self, call, then)
        if asked.began_seconds - self._began_seconds > self.plan.engine.run_timeout_seconds:
            asked(Unavailable(f"the pipeline took longer than {self.plan.engine.run_timeout_seconds:g} s"))
            return
        if isinstance(asks, Graph):
            self.graph(asks, {**there, **{own: there[here] for own, here in call.takes}}, asked)
            return
        wish = self.wish
        inputs = {own: there[here] for own, here in call.takes}
        ticket = self.plan.engine.submit_model(
            Wish(wish.tenant, asks.model, asks.version, wish.deadline_seconds, wish.priority),
            InferenceRequest(self.request.id, inputs, self.plan.wanted[call.index], self.request.meter),
            asked.answered,
        )
        if not asked.over:
            asked.ticket = ticket
            self._live.add(asked)

    def let_go(self, asked: "_Asked") -> None:
        """A step was answered."""
        self._live.discard(asked)

    def _branch(self, graph: Graph, there: Tensors) -> Call:
        if graph.kind is Kind.SWITCH:
            parameters = self.wish.parameters or {}
            return next(call for call in graph.calls if call.when is None or holds(call.when, there, parameters))
        key = None
        if graph.key_parameter:
            key = key_of((self.wish.parameters or {}).get(graph.key_parameter))
        elif graph.key_tensor:
            key = key_of(there[graph.key_tensor])
        at = self.plan.engine.chance() if key is None else point_of(key)
        return graph.calls[drawn([call.weight for call in graph.calls], at)]

    def _end(self, outcome: Tensors | BaseException) -> None:
        """Answer the caller, once."""
        if self.over:
            return
        self.over = True
        plan = self.plan
        plan.in_flight -= 1
        live, self._live = self._live, set()
        for asked in live:
            assert asked.ticket is not None, "what is under way has a ticket"
            asked.ticket.cancel()
        plan.count(
            self.request, plan.engine.monotonic() - self._began_seconds, failed=isinstance(outcome, BaseException)
        )
        if isinstance(outcome, BaseException):
            self._done(outcome)
        else:
            outputs = {name: outcome[name] for name in self._outputs}
            self._done(InferenceAnswer(self.request.id, plan.name, plan.told.now.revision, outputs))


class _Asked:
    """A step that was asked."""

    __slots__ = ("_call", "_counts", "_run", "_then", "began_seconds", "over", "ticket")

    def __init__(self, run: _Run, call: Call, then: Then) -> None:
        self._run = run
        self._call = call
        self._then = then
        self._counts = run.plan.counts[call.index]
        self.began_seconds = run.plan.engine.monotonic()
        self.ticket: Cancellable | None = None
        self.over = False

    def answered(self, outcome: InferenceAnswer | BaseException) -> None:
        """Take what a model answers."""
        self.over = True
        run = self._run
        run.let_go(self)
        try:
            if not isinstance(outcome, BaseException):
                self(outcome.outputs)
            elif not run.over:
                self(self._in_place(outcome))
        except Exception as error:
            run.broken(error)

    def __call__(self, outcome: Tensors | BaseException) -> None:
        """Take what a step gives by its own names, and hand it on by those here."""
        run, call, counts = self._run, self._call, self._counts
        counts.requests += 1
        counts.seconds += run.plan.engine.monotonic() - self.began_seconds
        if isinstance(outcome, BaseException):
            counts.failures += 1
        if run.over:
            return
        if not isinstance(outcome, BaseException):
            try:
                given = {here: outcome[own] for own, here in call.gives}
            except KeyError as error:
                self._then(Unavailable(f"{call.place}: the model gives no {error} any more; apply the pipeline anew"))
                return
            self._then(given)
        elif call.is_soft and not isinstance(outcome, asyncio.CancelledError):
            run.spared = outcome
            self._then({})
        else:
            self._then(outcome)

    def _in_place(self, error: BaseException) -> BaseException:
        """The same error, saying where it came from."""
        if not isinstance(error, ErgonautError):
            return error
        place = self._call.place
        if isinstance(error, Refused) and (changed := self._run.plan.changed_model()):
            return Unavailable(
                f"{place}: model {changed} takes or gives something else than when the pipeline was applied; "
                "apply the pipeline anew"
            )
        return told_in_place(error, place)


class _Sequence:
    """A sequence on its way."""

    __slots__ = ("_at", "_graph", "_run", "_then", "_there")

    def __init__(self, run: _Run, graph: Graph, there: Tensors, then: Then) -> None:
        self._run = run
        self._graph = graph
        self._then = then
        self._there = dict(there)
        self._at = 0

    def go(self) -> None:
        """Ask the next step, or give what the sequence gives."""
        calls = self._graph.calls
        if self._at == len(calls):
            self._then({name: self._there[name] for name in self._graph.names})
            return
        self._at += 1
        self._run.call(calls[self._at - 1], self._there, self._took)

    def _took(self, outcome: Tensors | BaseException) -> None:
        if isinstance(outcome, BaseException):
            self._then(outcome)
            return
        self._there.update(outcome)
        self.go()


class _Ensemble:
    """An ensemble on its way."""

    __slots__ = ("_given", "_graph", "_left", "_over", "_run", "_then", "_there")

    def __init__(self, run: _Run, graph: Graph, there: Tensors, then: Then) -> None:
        self._run = run
        self._graph = graph
        self._then = then
        self._there = there
        self._given: list[Tensors] = [{}] * len(graph.calls)
        self._left = len(graph.calls)
        self._over = False

    def go(self) -> None:
        """Ask all branches."""
        for at, call in enumerate(self._graph.calls):
            if self._over:
                return
            self._run.call(call, self._there, partial(self._took, at))

    def _took(self, at: int, outcome: Tensors | BaseException) -> None:
        if self._over:
            return
        if isinstance(outcome, BaseException):
            self._over = True
            self._then(outcome)
            return
        self._given[at] = outcome
        self._left -= 1
        if not self._left:
            self._over = True
            self._then(self._combined())

    def _combined(self) -> Tensors | BaseException:
        graph = self._graph
        if graph.combine is Combine.NAMES:
            return {name: tensor for given in self._given for name, tensor in given.items()}
        answers = [(given, call.weight) for given, call in zip(self._given, graph.calls, strict=True) if given]
        if not answers:
            assert self._run.spared is not None, "what failed softly was noted"
            return self._run.spared
        weights = [weight for _, weight in answers]
        try:
            return {
                name: combined([given[name] for given, _ in answers], graph.combine, weights, graph.axis)
                for name in graph.names
            }
        except ValueError as error:
            return Refused(f"node {graph.node}: the answers of its branches do not fit together: {error}")


def _wanted(asks: ModelCall) -> tuple[str, ...]:
    """The outputs to ask for: none named where all are of use, which is cheaper to check."""
    return () if asks.outputs == tuple(spec.name for spec in asks.signature.outputs) else asks.outputs


def _fused_calls(whole: Graph) -> dict[str, Call]:
    """By the paths of nodes, the calls of the models that compute them at once."""
    first_index = sum(1 for _ in whole.all_calls())
    calls: dict[str, Call] = {}
    for graph in whole.walk():
        if graph.fused:
            asks = ModelCall(graph.fused, "", Signature(graph.inputs, graph.outputs), graph.names)
            takes = tuple((spec.name, spec.name) for spec in graph.inputs)
            gives = tuple((name, name) for name in graph.names)
            calls[graph.path] = Call(first_index + len(calls), graph.node, 0, FUSED, asks, takes, gives)
    return calls
