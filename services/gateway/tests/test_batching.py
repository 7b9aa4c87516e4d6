"""Requests joined, spread, bounded and given up: nothing is answered twice, never, or differently for its neighbours."""

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ergonaut.errors import Refused, Unavailable
from ergonaut_common.clock import SystemClock
from ergonaut_gateway.adapters.onnx import OnnxLoader
from ergonaut_gateway.domain.batching import Traits
from ergonaut_gateway.domain.inference import Busy, DeadlineExceeded, InferenceAnswer, InferenceRequest
from ergonaut_gateway.domain.tensors import Tensor
from ergonaut_gateway.fakes import FakeModelLoader, FakeRunner
from ergonaut_gateway.ports import ModelLoader, Stop
from ergonaut_gateway.service import EngineLimits, Ticket, Wish
from ergonaut_gateway.settings import Settings

from .conftest import Gateway, Gateways
from .onnx_models import counting, doubling, pairing

SHORT = Traits(joinable=True, steady=True, first_runs=((1, 1e-5), (16, 1.1e-5)))
"""What is learned of a small network: it runs on the event loop, and joining pays."""

APART = Traits(joinable=True, steady=True, first_runs=((1, 0.01), (16, 0.16)))
"""What is learned of a convolution: it runs in threads, and joining does not pay."""

TOGETHER = Traits(joinable=True, steady=True, first_runs=((1, 0.01), (16, 0.011)))
"""It runs in threads, and joining pays."""

ALONE = Traits(joinable=False, steady=False)
"""Nothing is known: one request after another, in threads."""


class Gated(FakeRunner):
    """A runner whose runs end when they may."""

    def __init__(self, traits: Traits = TOGETHER) -> None:
        super().__init__(traits)
        self.gate = threading.Event()
        self.begun = threading.Semaphore(0)
        self.order: list[float] = []

    def compute(self, inputs: Mapping[str, Tensor], outputs: Sequence[str], stop: Stop | None) -> dict[str, Tensor]:
        self.order.extend(inputs["x"][:, 0].tolist())
        self.begun.release()
        while not self.gate.wait(0.001):
            if stop is not None and stop.terminate:
                raise Unavailable("the run was stopped")
        return super().compute(inputs, outputs, stop)


class Loader(FakeModelLoader):
    """Gives these runners in turn."""

    def __init__(self, *runners: FakeRunner) -> None:
        self._runners = list(runners)

    async def load(self, path: Path) -> FakeRunner:
        return self._runners.pop(0)


@asynccontextmanager
async def serving(loader: ModelLoader, content: bytes = b"model", **limits: Any) -> AsyncIterator[Gateway]:
    """A gateway that serves `digits`."""
    with TemporaryDirectory() as folder:
        gateways = Gateways(Path(folder))
        gateways.clock = SystemClock()  # type: ignore[assignment]
        gateway = gateways.another(loader, limits=EngineLimits(**limits))
        await gateway.deploy(content)
        try:
            yield gateway
        finally:
            gateway.predictions.close()


def request(value: float, rows: int = 1, outputs: tuple[str, ...] = ()) -> InferenceRequest:
    return InferenceRequest(str(value), {"x": np.full((rows, 3), value, dtype="<f4")}, outputs)


class Answers:
    """Takes answers by number."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.given: dict[int, list[InferenceAnswer | BaseException]] = {}

    def ask(self, wanted: InferenceRequest, name: str = "digits", **wish: Any) -> Ticket:
        answers: list[InferenceAnswer | BaseException] = []
        self.given[len(self.given)] = answers
        return self._gateway.predictions.submit(Wish("default", name, **wish), wanted, answers.append)

    async def all(self) -> list[InferenceAnswer | BaseException]:
        async with asyncio.timeout(20):
            while not all(self.given.values()):
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert all(len(answers) == 1 for answers in self.given.values()), "nobody is answered twice"
        return [answers[0] for answers in self.given.values()]


async def test_a_lone_caller_is_answered_on_the_next_turn_of_the_loop() -> None:
    async with serving(Loader(FakeRunner(SHORT))) as gateway:
        answers = Answers(gateway)
        answers.ask(request(1))
        assert answers.given[0] == []
        await asyncio.sleep(0)
        assert len(answers.given[0]) == 1


async def test_what_comes_within_one_turn_runs_together_and_each_gets_its_rows() -> None:
    runner = FakeRunner(SHORT)
    async with serving(Loader(runner)) as gateway:
        answers = Answers(gateway)
        for number in range(1, 6):
            answers.ask(request(number, rows=number))
        given = await answers.all()
    assert runner.batches == [15]
    for number, answer in enumerate(given, 1):
        assert isinstance(answer, InferenceAnswer)
        assert answer.id == str(number)
        np.testing.assert_array_equal(answer.outputs["y"], np.full((number, 3), 2 * number))


async def test_a_batch_never_has_more_rows_than_it_may_and_a_larger_request_runs_alone() -> None:
    runner = FakeRunner(SHORT)
    async with serving(Loader(runner), batch_rows=8) as gateway:
        answers = Answers(gateway)
        for rows in (3, 3, 3, 20, 8, 1):
            answers.ask(request(1, rows=rows))
        await answers.all()
    assert runner.batches == [6, 3, 20, 8, 1]


async def test_requests_of_a_model_whose_rows_are_not_independent_never_run_together() -> None:
    runner = FakeRunner(Traits(joinable=False, steady=True, first_runs=((1, 1e-5),)))
    async with serving(Loader(runner)) as gateway:
        answers = Answers(gateway)
        for _ in range(3):
            answers.ask(request(1, rows=2))
        await answers.all()
    assert runner.batches == [2, 2, 2]


async def test_where_joining_does_not_pay_each_runs_by_itself() -> None:
    runner = FakeRunner(APART)
    async with serving(Loader(runner)) as gateway:
        answers = Answers(gateway)
        for _ in range(6):
            answers.ask(request(1))
        await answers.all()
    assert runner.batches == [1] * 6


async def test_what_comes_while_a_batch_runs_in_a_thread_makes_the_next_batch() -> None:
    runner = Gated(TOGETHER)
    async with serving(Loader(runner), threads=1) as gateway:
        answers = Answers(gateway)
        answers.ask(request(1))
        await asyncio.to_thread(runner.begun.acquire)
        for _ in range(4):
            answers.ask(request(2))
            await asyncio.sleep(0)
        runner.gate.set()
        await answers.all()
    assert runner.batches == [1, 4]


async def test_nobody_fails_for_a_neighbour() -> None:
    runner = FakeRunner(SHORT)
    async with serving(Loader(runner)) as gateway:
        answers = Answers(gateway)
        for value in (1.0, float("nan"), 3.0):
            answers.ask(request(value))
        first, second, third = await answers.all()
    assert isinstance(first, InferenceAnswer)
    assert isinstance(second, Refused)
    assert isinstance(third, InferenceAnswer)
    np.testing.assert_array_equal(third.outputs["y"], np.full((1, 3), 6))


async def test_a_caller_whose_answer_cannot_be_taken_keeps_no_neighbour_from_its_own() -> None:
    async with serving(Loader(FakeRunner(SHORT))) as gateway:
        answers = Answers(gateway)

        def gone(_: object) -> None:
            raise ConnectionResetError("the peer went away")

        gateway.predictions.submit(Wish("default", "digits"), request(1), gone)
        answers.ask(request(2))
        assert isinstance((await answers.all())[0], InferenceAnswer)


async def test_more_than_may_wait_is_told_when_to_come_back_and_disturbs_nobody() -> None:
    runner = Gated(APART)
    async with serving(Loader(runner), threads=1, waiting=3) as gateway:
        answers = Answers(gateway)
        for _ in range(6):
            answers.ask(request(1))
        refused = [given[0] for given in answers.given.values() if given]
        assert [str(error) for error in refused] == [
            "4 requests are at work or waiting, which is the most; ask again"
        ] * 2
        assert all(isinstance(error, Busy) and error.retry_after_seconds >= 0.03 for error in refused)
        runner.gate.set()
        given = await answers.all()
        assert sum(isinstance(answer, InferenceAnswer) for answer in given) == 4


async def test_a_crowd_at_one_model_leaves_room_for_another() -> None:
    crowded, other = Gated(APART), Gated(APART)
    async with serving(Loader(crowded, other), threads=1, model_waiting=3) as gateway:
        await gateway.deploy(b"model b", "other")
        answers = Answers(gateway)
        for _ in range(6):
            answers.ask(request(1))
        answers.ask(request(2), "other")
        crowded.gate.set()
        other.gate.set()
        given = await answers.all()
        assert [type(answer) for answer in given[4:]] == [Busy, Busy, InferenceAnswer]


async def test_models_take_turns_where_threads_are_contended() -> None:
    order: list[str] = []

    class Noting(Gated):
        def __init__(self, name: str) -> None:
            super().__init__(ALONE)
            self.name = name

        def compute(self, inputs, outputs, stop):
            order.append(self.name)
            return super().compute(inputs, outputs, stop)

    runners = [Noting("digits"), Noting("other")]
    async with serving(Loader(*runners), threads=1) as gateway:
        await gateway.deploy(b"model b", "other")
        answers = Answers(gateway)
        for _ in range(4):
            answers.ask(request(1))
        for _ in range(2):
            answers.ask(request(1), "other")
        for runner in runners:
            runner.gate.set()
        await answers.all()
    assert order == ["digits", "other", "digits", "other", "digits", "digits"]


async def test_higher_priorities_go_first_and_equal_ones_in_order() -> None:
    runner = Gated(ALONE)
    async with serving(Loader(runner), threads=1) as gateway:
        answers = Answers(gateway)
        answers.ask(request(0))
        await asyncio.to_thread(runner.begun.acquire)
        for value, priority in ((1, 0), (2, 20), (3, 2), (4, 1), (5, 2), (6, 0)):
            answers.ask(request(value), priority=priority)
        runner.gate.set()
        await answers.all()
    assert runner.order == [0, 4, 3, 5, 1, 6, 2]


async def test_what_cannot_start_before_its_deadline_is_told_so_and_never_runs() -> None:
    runner = Gated(ALONE)
    async with serving(Loader(runner), threads=1) as gateway:
        now = asyncio.get_running_loop().time()
        answers = Answers(gateway)
        answers.ask(request(0))
        await asyncio.to_thread(runner.begun.acquire)
        answers.ask(request(1), deadline_seconds=now + 0.05)
        answers.ask(request(2), deadline_seconds=now + 1000)
        answers.ask(request(3), deadline_seconds=now - 1)
        assert isinstance(answers.given[3][0], DeadlineExceeded)
        async with asyncio.timeout(30):
            while not answers.given[1]:
                await asyncio.sleep(0.01)
        runner.gate.set()
        given = await answers.all()
    assert [type(answer) for answer in given] == [InferenceAnswer, DeadlineExceeded, InferenceAnswer, DeadlineExceeded]
    assert runner.order == [0, 2]


async def test_a_cancelled_request_that_waits_never_runs_and_its_neighbours_do() -> None:
    runner = FakeRunner(SHORT)
    async with serving(Loader(runner)) as gateway:
        answers = Answers(gateway)
        tickets = [answers.ask(request(number)) for number in range(3)]
        tickets[1].cancel()
        tickets[1].cancel()
        given = await answers.all()
        tickets[0].cancel()
    assert [type(answer) for answer in given] == [InferenceAnswer, asyncio.CancelledError, InferenceAnswer]
    assert runner.batches == [2]


async def test_a_run_is_stopped_when_nobody_waits_for_it_any_more_and_not_before() -> None:
    runner = Gated(TOGETHER)
    async with serving(Loader(runner), threads=1) as gateway:
        answers = Answers(gateway)
        alone = answers.ask(request(0))
        await asyncio.to_thread(runner.begun.acquire)
        pair = [answers.ask(request(number)) for number in (1, 2)]
        await asyncio.sleep(0)
        alone.cancel()
        await asyncio.to_thread(runner.begun.acquire)
        pair[0].cancel()
        await asyncio.sleep(0.01)
        assert not answers.given[2]
        runner.gate.set()
        given = await answers.all()
    assert isinstance(given[2], InferenceAnswer)
    assert runner.batches == [2]


async def test_a_run_that_takes_too_long_is_stopped_and_those_who_wait_are_told() -> None:
    runner = Gated(ALONE)
    async with serving(Loader(runner), threads=1, run_timeout_seconds=0.05) as gateway:
        answers = Answers(gateway)
        answers.ask(request(0))
        answers.ask(request(1))
        given = await answers.all()
        assert [str(error) for error in given] == ["the model took longer than 0.05 s"] * 2
        runner.gate.set()
        async with asyncio.timeout(20):
            # A busy machine may take as long itself now and then.
            while not isinstance((await answers.all())[-1], InferenceAnswer):
                answers.ask(request(2))


async def test_those_who_still_wait_at_a_stop_are_told() -> None:
    runner = Gated(ALONE)
    async with serving(Loader(runner), threads=1) as gateway:
        answers = Answers(gateway)
        for number in range(3):
            answers.ask(request(number))
        await asyncio.to_thread(runner.begun.acquire)
        await gateway.predictions.finish(within_seconds=0.01)
        gateway.predictions.close()
        given = await answers.all()
        assert {str(error) for error in given} == {"the gateway stopped before the answer was there; ask again"}
        answers.ask(request(9))
        assert isinstance((await answers.all())[3], Unavailable)


@pytest.mark.parametrize("traits", [SHORT, APART, TOGETHER, ALONE])
async def test_a_finished_request_is_let_go_of_though_its_ticket_is_kept(traits: Traits) -> None:
    async with serving(Loader(FakeRunner(traits))) as gateway:
        wanted = request(1)
        gone = weakref.ref(wanted.inputs["x"])
        answers = Answers(gateway)
        ticket = answers.ask(wanted)
        await answers.all()
        del wanted
        await gateway.predictions.infer("default", "digits", "", request(2))
        gc.collect()
        assert ticket.over
        assert gone() is None


async def test_a_repeated_request_is_answered_from_what_is_kept_where_that_is_wanted() -> None:
    runner = FakeRunner(SHORT)
    async with serving(Loader(runner, runner), cache_bytes=100_000) as gateway:
        first = await gateway.predictions.infer("default", "digits", "", request(1))
        again = await gateway.predictions.infer("default", "digits", "", InferenceRequest("b", request(1).inputs))
        assert runner.batches == [1]
        assert again.id == "b"
        np.testing.assert_array_equal(first.outputs["y"], again.outputs["y"])
        told = gateway.predictions.statistics("default", "digits")
        assert (told.cache_hit.count, told.cache_miss.count, told.success.count, told.executions) == (1, 1, 2, 1)
        await gateway.deploy(b"model b")
        await gateway.predictions.infer("default", "digits", "", request(1))
        assert runner.batches == [1, 1]


async def test_a_request_that_is_not_repeated_is_never_kept_unless_that_is_wanted() -> None:
    runner = FakeRunner(SHORT)
    async with serving(Loader(runner)) as gateway:
        for _ in range(2):
            await gateway.predictions.infer("default", "digits", "", request(1))
    assert runner.batches == [1, 1]


async def test_a_value_that_makes_a_loop_run_on_never_holds_the_event_loop_up() -> None:
    async with serving(OnnxLoader(), counting()) as gateway:
        for rounds in (1, 2, 3):
            inputs = {"rounds": np.array(rounds, dtype="<i8")}
            await gateway.predictions.infer("default", "digits", "", InferenceRequest("", inputs))
        answers = Answers(gateway)
        ticket = answers.ask(InferenceRequest("", {"rounds": np.array(10**12, dtype="<i8")}))
        await asyncio.sleep(0.05)
        ticket.cancel()
        assert isinstance((await answers.all())[0], asyncio.CancelledError)


mixes = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from([(), ("y",), ("z",), ("z", "y")]),
        st.integers(0, 2),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=25,
)


async def _mixed(mix: list[tuple[int, tuple[str, ...], int, int]], gateway: Gateway, outputs: tuple[str, ...]) -> None:
    random = np.random.default_rng(len(mix))
    answers, expected = Answers(gateway), []
    for rows, wanted, pause, priority in mix:
        named = tuple(name for name in wanted if name in outputs) or outputs
        x = random.standard_normal((rows, 3)).astype("<f4")
        answers.ask(InferenceRequest("", {"x": x}, named if wanted else ()), priority=priority)
        expected.append((named, {"y": 2 * x, "z": -x}))
        for _ in range(pause):
            await asyncio.sleep(0)
    for answer, (named, by_name) in zip(await answers.all(), expected, strict=True):
        assert isinstance(answer, InferenceAnswer)
        assert tuple(answer.outputs) == named
        for name in named:
            np.testing.assert_allclose(answer.outputs[name], by_name[name], rtol=1e-6)


@pytest.mark.parametrize("traits", [SHORT, APART, TOGETHER, ALONE])
@given(mixes)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_batching_never_changes_an_answer(traits: Traits, mix: list[tuple[int, tuple[str, ...], int, int]]) -> None:
    async def story() -> None:
        runner = FakeRunner(traits)
        async with serving(Loader(runner), batch_rows=7) as gateway:
            await _mixed(mix, gateway, ("y",))
        assert max(runner.batches, default=0) <= 7

    asyncio.run(story())


@given(mixes)
@settings(max_examples=30, deadline=None)
def test_batching_never_changes_an_answer_of_onnxruntime(mix: list[tuple[int, tuple[str, ...], int, int]]) -> None:
    async def story() -> None:
        async with serving(OnnxLoader(), doubling(), batch_rows=7) as gateway:
            await _mixed(mix, gateway, ("y", "z"))

    asyncio.run(story())


pairs = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 2), st.integers(1, 2), st.integers(0, 1)),
    min_size=1,
    max_size=20,
)


@given(pairs)
@settings(max_examples=30, deadline=None)
def test_requests_of_any_shapes_get_what_they_would_get_alone(asked: list[tuple[int, int, int, int, int]]) -> None:
    async def story() -> None:
        random = np.random.default_rng(len(asked))
        async with serving(OnnxLoader(), pairing(), batch_rows=6) as gateway:
            runner = gateway.catalogue.find("default", "digits").runner
            answers, expected = Answers(gateway), []
            for rows_a, rows_b, width_a, width_b, pause in asked:
                inputs = {
                    "a": random.standard_normal((rows_a, width_a)).astype("<f4"),
                    "b": random.standard_normal((rows_b, width_b)).astype("<f4"),
                }
                try:
                    expected.append(runner.compute(inputs, ["y"], None)["y"])
                except Refused as error:
                    expected.append(error)
                answers.ask(InferenceRequest("", inputs))
                for _ in range(pause):
                    await asyncio.sleep(0)
            for answer, alone in zip(await answers.all(), expected, strict=True):
                if isinstance(alone, Refused):
                    assert isinstance(answer, Refused)
                else:
                    assert isinstance(answer, InferenceAnswer)
                    np.testing.assert_allclose(answer.outputs["y"], alone, rtol=1e-6)

    asyncio.run(story())


def test_providers_are_set_by_names_parted_by_commas() -> None:
    assert Settings().providers == ("cpu",)
    assert Settings(providers="cuda, cpu").providers == ("cuda", "cpu")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="providers"):
        Settings(providers="abacus")  # type: ignore[arg-type]
