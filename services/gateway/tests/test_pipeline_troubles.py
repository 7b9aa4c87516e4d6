"""What becomes of a pipeline's requests when a step is full, late, broken or not wanted any more."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from ergonaut.errors import Refused, Unavailable
from ergonaut_common.clock import FakeClock
from ergonaut_gateway.domain.batching import Traits
from ergonaut_gateway.domain.inference import Busy, DeadlineExceeded, InferenceAnswer, InferenceRequest
from ergonaut_gateway.domain.pipelines.spec import Combine, Pipeline
from ergonaut_gateway.fakes import FakeFuser, FakeModelLoader, FakePipelineBook, FakeRunner
from ergonaut_gateway.service import EngineLimits, Wish

from .conftest import Gateways
from .pipeline_forms import node, step, to
from .pipeline_models import House, house_of

ONE = np.ones((1, 3), dtype="<f4")
NAN = np.full((1, 3), np.nan, dtype="<f4")


def slow_runner() -> FakeRunner:
    """Runs in a thread, since nothing is known of its cost."""
    return FakeRunner(Traits(joinable=False, steady=False, providers=("fake",), first_runs=()))


class SlowLoader(FakeModelLoader):
    async def load(self, path: object) -> FakeRunner:  # type: ignore[override]
        await asyncio.sleep(0)
        return slow_runner()


def made(
    gateways: Gateways, limits: EngineLimits | None = None, loader: FakeModelLoader | None = None, **more: object
) -> House:
    loader = loader or FakeModelLoader()
    fuser = FakeFuser()
    fuser.refuses = "this is about steps"
    gateway = gateways.another(loader, limits=limits, models_max=20)
    return house_of(gateway, loader, FakePipelineBook(), fuser, **more)


async def two(house: House, **second: object) -> None:
    await house.deploy(first=b"model a", second=b"model b")
    await house.apply(Pipeline("checked", (node("sequence", step("first"), step("second", **second)),)))


async def outcome(house: House, x: np.ndarray, **wish: object) -> InferenceAnswer | BaseException:
    answers: list[InferenceAnswer | BaseException] = []
    wanted = Wish("default", "checked", **wish)  # type: ignore[arg-type]
    house.gateway.predictions.submit(wanted, InferenceRequest("7", {"x": x}), answers.append)
    async with asyncio.timeout(30):
        while not answers:
            await asyncio.sleep(0)
    return answers[0]


async def test_a_step_that_cannot_compute_is_named_and_the_caller_is_at_fault(gateways: Gateways) -> None:
    house = made(gateways)
    await two(house)
    error = await outcome(house, NAN)
    assert isinstance(error, Refused)
    assert str(error) == "node main, step 1 (first): inputs: the model cannot compute this: a NaN"
    (tally,) = [plan.tally for plan in house.gateway.predictions.plans.values()]  # type: ignore[attr-defined]
    assert (tally.requests, tally.failed) == (1, 1)


async def test_a_request_goes_on_without_a_soft_step(gateways: Gateways) -> None:
    house = made(gateways)
    await house.deploy(first=b"model a", second=b"model b")
    steps = (step("first", is_soft=True, outputs={"y": "x"}), step("second", is_soft=True, outputs={"y": "x"}))
    await house.apply(Pipeline("checked", (node("sequence", *steps, outputs=("x",)),)))
    answer = await outcome(house, NAN)
    assert isinstance(answer, InferenceAnswer)
    assert np.isnan(answer.outputs["x"]).all()
    answer = await outcome(house, ONE)
    assert isinstance(answer, InferenceAnswer)
    assert float(answer.outputs["x"][0, 0]) == 4.0


async def test_a_mean_is_of_those_that_answer_and_none_is_a_failure(gateways: Gateways) -> None:
    house = made(gateways)
    await house.deploy(first=b"model a", second=b"model b", third=b"model c")
    nodes = (
        node(
            "ensemble",
            to("broken", is_soft=True, weight=3.0),
            step("third", is_soft=True),
            combine=Combine.WEIGHTED_MEAN,
        ),
        node("sequence", step("first"), step("second", inputs={"x": "y"}), name="broken"),
    )
    await house.apply(Pipeline("checked", nodes))
    answer = await outcome(house, ONE)
    assert isinstance(answer, InferenceAnswer)
    np.testing.assert_allclose(answer.outputs["y"], [[(3 * 4 + 2) / 4] * 3])
    error = await outcome(house, NAN)
    assert isinstance(error, Refused)
    assert "a NaN" in str(error)


async def test_a_full_queue_of_a_step_is_the_pipelines_with_a_time_to_come_back(gateways: Gateways) -> None:
    house = made(gateways, EngineLimits(threads=1, waiting=0), SlowLoader())
    await two(house)
    answers: list[object] = []
    for _ in range(3):
        house.gateway.predictions.submit(Wish("default", "checked"), InferenceRequest("", {"x": ONE}), answers.append)
    error = answers[0]
    assert isinstance(error, Busy)
    assert str(error).startswith("node main, step 1 (first): 1 requests are at work or waiting, which is the most")
    assert error.retry_after_seconds > 0
    async with asyncio.timeout(30):
        while len(answers) < 3:
            await asyncio.sleep(0)
    assert sum(isinstance(each, InferenceAnswer) for each in answers) == 1


async def test_a_pipeline_takes_so_many_requests_and_no_more(gateways: Gateways) -> None:
    house = made(gateways, in_flight_max=2)
    await two(house)
    answers: list[object] = []
    for _ in range(3):
        house.gateway.predictions.submit(Wish("default", "checked"), InferenceRequest("", {"x": ONE}), answers.append)
    (error,) = answers
    assert isinstance(error, Busy)
    assert str(error) == "2 requests are at work in pipeline checked, which is the most; ask again"
    async with asyncio.timeout(30):
        while len(answers) < 3:
            await asyncio.sleep(0)
    assert isinstance(await outcome(house, ONE), InferenceAnswer)


async def test_the_deadline_is_that_of_each_step(gateways: Gateways) -> None:
    house = made(gateways)
    await two(house)
    error = await outcome(house, ONE, deadline_seconds=-1.0)
    assert isinstance(error, DeadlineExceeded)
    assert str(error) == "node main, step 1 (first): the deadline passed before the request's turn came"
    assert isinstance(await outcome(house, ONE, deadline_seconds=house.gateway.clock.monotonic() + 5), InferenceAnswer)


class Ticking(FakeClock):
    """Each look at it takes a second."""

    ticks = 0

    def monotonic(self) -> float:
        self.ticks += 1
        return float(self.ticks)


async def test_a_pipeline_that_takes_too_long_is_given_up(gateways: Gateways) -> None:
    house = made(gateways, run_timeout_seconds=2.0)
    await two(house)
    plan = house.gateway.predictions.plans["default", "checked"]
    plan.engine = replace(plan.engine, clock=Ticking())  # type: ignore[attr-defined]
    error = await outcome(house, ONE)
    assert isinstance(error, Unavailable)
    assert str(error) == "the pipeline took longer than 2 s"


async def test_whoever_goes_away_is_answered_at_once_and_no_more_steps_are_asked(gateways: Gateways) -> None:
    house = made(gateways)
    await two(house)
    answers: list[object] = []
    ticket = house.gateway.predictions.submit(
        Wish("default", "checked"), InferenceRequest("", {"x": ONE}), answers.append
    )
    ticket.cancel()
    ticket.cancel()
    assert [type(each) for each in answers] == [asyncio.CancelledError]
    for _ in range(5):
        await asyncio.sleep(0)
    assert house.gateway.catalogue.find("default", "second").runner.batches == []  # type: ignore[attr-defined]
    assert isinstance(await outcome(house, ONE), InferenceAnswer)


async def test_a_model_that_is_gone_is_no_fault_of_the_caller(gateways: Gateways) -> None:
    house = made(gateways)
    await two(house)
    house.gateway.catalogue._held.pop(("default", "second"))
    error = await outcome(house, ONE)
    assert isinstance(error, Unavailable)
    assert str(error) == "node main, step 2 (second): no model second is served"
    with pytest.raises(Unavailable, match=r"pipeline checked cannot answer: node main, step 2 \(second\): no model"):
        house.gateway.predictions.record_of("default", "checked")


async def test_requests_of_one_turn_run_together_at_each_step(gateways: Gateways) -> None:
    house = made(gateways)
    await two(house)
    answers: list[object] = []
    for _ in range(4):
        house.gateway.predictions.submit(Wish("default", "checked"), InferenceRequest("", {"x": ONE}), answers.append)
    async with asyncio.timeout(30):
        while len(answers) < 4:
            await asyncio.sleep(0)
    batches = [house.gateway.catalogue.find("default", name).runner.batches for name in ("first", "second")]  # type: ignore[attr-defined]
    assert batches[0] == batches[1]
    assert sum(batches[1]) == 4


async def test_a_stop_lets_pipelines_finish_all_their_steps(gateways: Gateways) -> None:
    house = made(gateways)
    await two(house)
    answers: list[object] = []
    house.gateway.predictions.submit(Wish("default", "checked"), InferenceRequest("", {"x": ONE}), answers.append)
    async with asyncio.timeout(30):
        await house.gateway.predictions.finish(within_seconds=5)
    (answer,) = answers
    assert isinstance(answer, InferenceAnswer)


async def test_why_a_node_is_no_model_is_told_and_what_passes_is_asked_again(gateways: Gateways) -> None:
    house = made(gateways)
    await house.deploy(first=b"model a", second=b"model b")
    nodes = (node("sequence", step("first", version="1"), step("second", version="1")),)
    record = await house.apply(Pipeline("checked", nodes))
    assert [each.because for each in record.fusions] == ["this is about steps"]
    house.pipelines._world.fusing._waiting = 8
    with pytest.raises(Unavailable, match="8 other pipelines wait for their models to be merged; ask again"):
        await house.apply(Pipeline("checked", nodes))


async def test_a_model_that_gives_something_else_than_its_steps_is_not_used(gateways: Gateways) -> None:
    house = made(gateways)
    house.pipelines._world.fusing._tools.fuser.refuses = ""  # type: ignore[attr-defined]
    await house.deploy(first=b"model a", second=b"model b")
    nodes = (node("sequence", step("first", version="1"), step("second", version="1")),)
    # The fake's model doubles once, whatever it is made of.
    record = await house.apply(Pipeline("checked", nodes))
    assert record.fusions[0].model == ""
    assert record.fusions[0].because.startswith("one model gives another y than its steps do: up to ")
    answer = await outcome(house, ONE)
    assert isinstance(answer, InferenceAnswer)
    assert float(answer.outputs["y"][0, 0]) == 4.0
    assert [model.name for model in await house.gateway.models.list("default")] == ["first", "second"]
