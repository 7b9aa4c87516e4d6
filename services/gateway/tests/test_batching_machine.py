"""The engine under any order of requests, cancellations, deadlines, finished runs and a stop: each is answered exactly once."""

import asyncio
import math
import queue
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ergonaut.errors import Refused, Unavailable
from ergonaut_gateway.domain.batching import Traits
from ergonaut_gateway.domain.inference import Busy, DeadlineExceeded, InferenceAnswer, InferenceRequest
from ergonaut_gateway.domain.tensors import Tensor
from ergonaut_gateway.fakes import FakeModelLoader, FakeRunner
from ergonaut_gateway.ports import Stop
from ergonaut_gateway.service import EngineLimits, Ticket, Wish

from .conftest import Gateways

THREADS, WAITING, MODEL_WAITING, ROWS = 2, 12, 8, 5

TRAITS = {
    "inline": Traits(joinable=True, steady=True, first_runs=((1, 1e-6), (16, 1.1e-6))),
    "together": Traits(joinable=True, steady=True, first_runs=((1, 0.01), (16, 0.011))),
    "apart": Traits(joinable=True, steady=True, first_runs=((1, 0.01), (16, 0.16))),
    "alone": Traits(),
}


class Stepped(FakeRunner):
    """A runner each of whose runs in a thread needs a step to end."""

    def __init__(self, traits: Traits, steps: "queue.SimpleQueue[None]") -> None:
        super().__init__(traits)
        self._steps = steps

    def compute(self, inputs: Mapping[str, Tensor], outputs: Sequence[str], stop: Stop | None) -> dict[str, Tensor]:
        while stop is not None:
            try:
                self._steps.get(timeout=0.001)
                break
            except queue.Empty:
                if stop.terminate:
                    raise Unavailable("the run was stopped") from None
        return super().compute(inputs, outputs, stop)


class Engine(RuleBasedStateMachine):
    """Asks, gives up, lets time pass and runs end, and looks at every answer."""

    @initialize(names=st.permutations(list(TRAITS)))
    def begin(self, names: list[str]) -> None:
        # A gateway of the tests holds three models.
        self.names = names[:3]
        self.folder = TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        self.steps: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.asked: list[tuple[float, int, list[Any], Ticket]] = []
        self.runners: dict[str, Stepped] = {}
        self.closed = False
        self.loop.run_until_complete(self._begin())

    async def _begin(self) -> None:
        machine = self

        class Loader(FakeModelLoader):
            async def load(self, path: Path) -> FakeRunner:
                name = machine.names[len(machine.runners)]
                machine.runners[name] = Stepped(TRAITS[name], machine.steps)
                return machine.runners[name]

        self.gateways = Gateways(Path(self.folder.name))
        limits = EngineLimits(
            threads=THREADS, waiting=WAITING, model_waiting=MODEL_WAITING, batch_rows=ROWS, cache_bytes=5_000
        )
        self.gateway = self.gateways.another(Loader(), limits=limits)
        for name in self.names:
            await self.gateway.deploy(b"model " + name.encode(), name, tenant=name[0])

    @rule(
        model=st.integers(0, 2),
        value=st.sampled_from([1.0, 2.0, 3.0, float("nan")]),
        rows=st.integers(0, 4),
        after_seconds=st.sampled_from([None, -1.0, 0.5, 5.0]),
        priority=st.integers(0, 3),
    )
    def ask(self, model: int, value: float, rows: int, after_seconds: float | None, priority: int) -> None:
        self.loop.run_until_complete(self._ask(self.names[model], value, rows, after_seconds, priority))

    async def _ask(self, name: str, value: float, rows: int, after_seconds: float | None, priority: int) -> None:
        deadline = None if after_seconds is None else self.gateways.clock.monotonic() + after_seconds
        answers: list[Any] = []
        request = InferenceRequest(str(value), {"x": np.full((rows, 3), value, dtype="<f4")})
        wish = Wish(name[0], name, deadline_seconds=deadline, priority=priority)
        ticket = self.gateway.predictions.submit(wish, request, answers.append)
        self.asked.append((value, rows, answers, ticket))

    @rule(number=st.integers(0, 1_000))
    @precondition(lambda self: self.asked)
    def cancel(self, number: int) -> None:
        _, _, answers, ticket = self.asked[number % len(self.asked)]
        ticket.cancel()
        assert answers, "what is cancelled is answered at once"

    @rule(runs=st.integers(1, 5))
    def end_runs(self, runs: int) -> None:
        for _ in range(runs):
            self.steps.put(None)
        self.loop.run_until_complete(asyncio.sleep(0.003))

    @rule(seconds=st.sampled_from([0.1, 1.0, 10.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.loop.run_until_complete(self.gateways.clock.advance(seconds))

    @rule()
    @precondition(lambda self: len(self.asked) > 5)
    def close(self) -> None:
        self.loop.run_until_complete(self._close())

    async def _close(self) -> None:
        self.gateway.predictions.close()
        self.closed = True

    @invariant()
    def nobody_is_answered_twice_or_wrongly(self) -> None:
        for value, rows, answers, ticket in getattr(self, "asked", ()):
            assert len(answers) <= 1
            assert ticket.over == bool(answers)
            if answers:
                _check(answers[0], value, rows)

    @invariant()
    def bounds_hold(self) -> None:
        if hasattr(self, "asked"):
            assert sum(not answers for _, _, answers, _ in self.asked) <= WAITING + THREADS
            assert all(max(runner.batches, default=0) <= ROWS for runner in self.runners.values())

    def teardown(self) -> None:
        if hasattr(self, "asked"):
            self.loop.run_until_complete(self._end())
            self.loop.close()
            self.folder.cleanup()

    async def _end(self) -> None:
        try:
            if not self.closed:
                for _ in range(200):
                    self.steps.put(None)
                async with asyncio.timeout(30):
                    while not all(answers for _, _, answers, _ in self.asked):
                        await asyncio.sleep(0.001)
            self.nobody_is_answered_twice_or_wrongly()
            assert all(answers for _, _, answers, _ in self.asked), "everybody is answered"
        finally:
            self.gateway.predictions.close()


def _check(answer: object, value: float, rows: int) -> None:
    if isinstance(answer, InferenceAnswer):
        assert answer.id == str(value)
        np.testing.assert_array_equal(answer.outputs["y"], np.full((rows, 3), 2 * value))
        assert rows == 0 or not math.isnan(value), "a NaN is refused"
    else:
        assert isinstance(answer, Refused | Busy | DeadlineExceeded | Unavailable | asyncio.CancelledError)
        assert not isinstance(answer, Refused) or math.isnan(value), "nobody fails for a neighbour"


Engine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestEngine = Engine.TestCase
