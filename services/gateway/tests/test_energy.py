"""What a gateway tells of the energy of its predictions: events, metrics, statistics, and answers that were asked for it."""

import asyncio
import itertools
import threading
import time
from functools import partial

import numpy as np
import pytest

from ergonaut.events import InferenceServed
from ergonaut_gateway.domain.batching import Traits
from ergonaut_gateway.domain.energy import Rate
from ergonaut_gateway.domain.inference import InferenceAnswer, InferenceRequest
from ergonaut_gateway.fakes import FakeModelLoader, FakeRunner
from ergonaut_gateway.service.energy import Energy
from ergonaut_gateway.service.footprint import headers_of, metered
from ergonaut_gateway.service.lanes import Batch, Ticket
from ergonaut_gateway.service.predictions import Wish

from .conftest import Gateway, Gateways

RATE = Rate(2.0, 0.1, "calibrated", "a counter")


def request(*rows: float) -> InferenceRequest:
    return InferenceRequest("", {"x": np.array([[row] * 3 for row in rows or (1.0,)], np.float32)})


class Burning(FakeRunner):
    """A runner that takes CPU time in earnest."""

    def compute(self, *given: object) -> dict[str, object]:  # type: ignore[override]
        until = time.thread_time() + 0.01
        while time.thread_time() < until:
            pass
        return super().compute(*given)  # type: ignore[arg-type, return-value]


class BurningLoader(FakeModelLoader):
    def __init__(self, traits: Traits | None = None) -> None:
        self._traits = traits

    async def load(self, path: object) -> FakeRunner:
        await asyncio.sleep(0)
        return Burning(self._traits)


@pytest.fixture
async def burning(gateways: Gateways) -> Gateway:
    gateway = gateways.another(BurningLoader())
    await gateway.deploy(b"model")
    gateway.predictions.energy.rate = lambda: RATE
    return gateway


def told_by(gateway: Gateway) -> InferenceServed:
    return next(event for event in reversed(gateway.announcer.told) if isinstance(event, InferenceServed))


async def test_what_was_served_is_told_with_its_energy_and_how_that_came_to_be(burning: Gateway) -> None:
    for _ in range(3):
        await burning.predictions.infer("default", "digits", "", request())

    await burning.predictions.report()

    told = told_by(burning)
    assert told.cpu_seconds is not None
    assert told.cpu_seconds >= 0.03
    assert told.energy_joules == pytest.approx(2.0 * told.cpu_seconds)
    assert told.energy_joules_high == pytest.approx(2.2 * told.cpu_seconds)
    assert told.energy_method == "calibrated"


async def test_where_nobody_tells_a_rate_cpu_time_is_told_and_energy_is_not_measured(gateway: Gateway) -> None:
    await gateway.deploy(b"model")
    await gateway.predictions.infer("default", "digits", "", request())

    await gateway.predictions.report()

    assert told_by(gateway).energy_method == "not-measured"
    assert told_by(gateway).energy_joules is None
    assert told_by(gateway).cpu_seconds is not None


async def test_a_model_on_an_accelerator_is_not_measured(gateways: Gateways) -> None:
    gateway = gateways.another(BurningLoader(Traits(joinable=True, accelerated=True)))
    await gateway.deploy(b"model")
    gateway.predictions.energy.rate = lambda: RATE

    await gateway.predictions.infer("default", "digits", "", request())
    await gateway.predictions.report()

    assert told_by(gateway).energy_method == "not-measured"


async def test_all_that_is_told_and_the_idle_part_are_the_processs_cpu_time(burning: Gateway) -> None:
    energy = burning.predictions.energy
    begun = time.process_time()
    energy.look()
    for _ in range(5):
        await burning.predictions.infer("default", "digits", "", request())
        energy.look()
    await burning.predictions.report()
    used = time.process_time() - begun

    served = told_by(burning).cpu_seconds
    assert served is not None
    assert served + energy.idle.cpu_seconds == pytest.approx(used, abs=0.02)


async def test_requests_that_run_together_pay_by_their_rows(burning: Gateway) -> None:
    predictions, done = burning.predictions, asyncio.Event()
    answers: list[InferenceAnswer | BaseException] = []
    meters = []

    def answered(outcome: InferenceAnswer | BaseException) -> None:
        answers.append(outcome)
        if len(answers) == 2:
            done.set()

    for rows in ((1.0,), (1.0, 2.0, 3.0)):
        asked, _ = metered(request(*rows), predictions.energy)
        assert asked.meter is not None
        meters.append(asked.meter)
        predictions.submit(Wish("default", "digits"), asked, answered)
    await asyncio.wait_for(done.wait(), 60)

    small, large = meters
    assert large.cpu_seconds == pytest.approx(3 * small.cpu_seconds)
    assert small.cpu_seconds + large.cpu_seconds >= 0.0099


async def test_an_answer_that_is_asked_for_it_tells_joules_with_their_range(burning: Gateway) -> None:
    asked, footprint = metered(request(), burning.predictions.energy)
    answered: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    burning.predictions.submit(Wish("default", "digits"), asked, answered.set_result)
    await answered

    told = footprint()

    assert told["energy_joules"] >= 0.0199
    assert dict(headers_of(told))["x-ergonaut-energy-method"] == "calibrated"
    assert dict(headers_of(told))["x-ergonaut-energy-range"].count("-") == 1


async def test_prometheus_is_told_joules_by_method(burning: Gateway) -> None:
    await burning.predictions.infer("default", "digits", "", request())
    burning.predictions.energy.look()

    families = {family.name: family for family in burning.predictions.energy.collect()}

    [sample] = families["ergonaut_inference_energy_joules"].samples
    assert sample.name == "ergonaut_inference_energy_joules_total"
    assert sample.labels == {"tenant": "default", "model": "digits", "version": "1", "method": "calibrated"}
    assert sample.value > 0.0


async def test_statistics_tell_energy(burning: Gateway) -> None:
    predictions = burning.predictions
    await asyncio.gather(*(predictions.infer("default", "digits", "", request()) for _ in range(4)))
    predictions.energy.look()

    told = predictions.statistics("default", "digits")

    assert told.energy["energy_method"] == "calibrated"
    assert told.compute_input.count == told.compute_output.count == told.compute_infer.count == 4


async def test_joining_and_parting_are_timed_apart_from_computing(burning: Gateway) -> None:
    await burning.predictions.infer("default", "digits", "", request())
    [served] = burning.predictions._board.served.values()
    tickets = [Ticket(served.lane, request(), lambda _: None) for _ in range(2)]
    for ticket in tickets:
        ticket.outputs = ("y",)
    batch = Batch(served.lane, tickets)

    batch.compute(partial(next, itertools.count()))

    assert (batch.input_seconds, batch.output_seconds, batch.seconds) == (1, 1, 4)


async def test_a_version_that_is_served_anew_is_not_counted_twice(burning: Gateway) -> None:
    await burning.predictions.infer("default", "digits", "", request())
    await burning.predictions.report()
    first = told_by(burning).cpu_seconds

    await burning.predictions.infer("default", "digits", "", request())
    await burning.predictions.report()
    second = told_by(burning).cpu_seconds

    assert first is not None
    assert second is not None
    assert second < 2 * first + 0.02


async def test_to_look_while_runs_are_at_work_in_threads_counts_them_once(gateways: Gateways) -> None:
    gateway = gateways.another(BurningLoader(Traits(joinable=False, steady=False)))
    await gateway.deploy(b"model")
    energy = Energy(gateway.predictions._board, gateway.predictions._engine, gateway.clock)
    energy.rate = lambda: RATE
    begun = time.process_time()
    energy.look()
    waiting = [asyncio.ensure_future(gateway.predictions.infer("default", "digits", "", request())) for _ in range(6)]

    while not all(each.done() for each in waiting):
        energy.look()
        await asyncio.sleep(0)
    energy.look()

    [served] = gateway.predictions._board.served.values()
    assert threading.active_count() > 1
    assert served.used.cpu_seconds + energy.idle.cpu_seconds == pytest.approx(time.process_time() - begun, abs=0.02)
