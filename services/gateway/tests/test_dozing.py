"""Models that nobody asks for let go of their memory, and the first request that comes then is held until they are back."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import REGISTRY

from ergonaut.errors import Unavailable
from ergonaut_gateway.domain.inference import Busy, DeadlineExceeded, InferenceAnswer, InferenceRequest
from ergonaut_gateway.fakes import FakeModelLoader, FakeRunner
from ergonaut_gateway.service import EngineLimits, Wish
from ergonaut_gateway.service.dozing import Dozers

from .conftest import Gateway, Gateways

IDLE_SECONDS = 60.0
PATIENCE_SECONDS = 30.0


class SlowLoader(FakeModelLoader):
    """Loads when it is let; counts how often."""

    def __init__(self) -> None:
        self.may_load = asyncio.Event()
        self.may_load.set()
        self.loads = 0
        self.away = False

    async def load(self, path: Path) -> FakeRunner:
        await self.may_load.wait()
        if self.away:
            raise Unavailable("the disk is full")
        self.loads += 1
        return await super().load(path)


class Night:
    """A gateway whose only model fell asleep."""

    def __init__(self, gateway: Gateway, loader: SlowLoader, dozers: Dozers) -> None:
        self.gateway, self.loader, self.dozers = gateway, loader, dozers
        self.answers: list[InferenceAnswer | BaseException] = []

    def ask(self, *, deadline_seconds: float | None = None) -> None:
        wish = Wish("default", "digits", deadline_seconds=deadline_seconds)
        self.gateway.predictions.submit(wish, request(), self.answers.append)

    async def answered(self, count: int) -> list[InferenceAnswer | BaseException]:
        """All answers, once there are so many."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.answers) < count:
                await asyncio.sleep(0.001)
        return self.answers


def request() -> InferenceRequest:
    return InferenceRequest("id-1", {"x": np.ones((1, 3), dtype="<f4")})


async def settled() -> None:
    """What needs no other thread has happened by then."""
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.fixture
async def night(gateways: Gateways) -> Night:
    loader, dozers = SlowLoader(), Dozers(gateways.clock, IDLE_SECONDS)
    gateway = gateways.another(loader, dozers=dozers, limits=EngineLimits(threads=1, model_waiting=2))
    await gateway.deploy(b"model a")
    await gateway.predictions.infer("default", "digits", "", request())
    await gateways.clock.advance(IDLE_SECONDS)
    dozers.look()
    assert is_asleep(gateway)
    return Night(gateway, loader, dozers)


def is_asleep(gateway: Gateway) -> bool:
    return bool(getattr(gateway.catalogue.find("default", "digits").runner, "asleep"))  # noqa: B009 - not of every runner


async def test_a_model_that_is_asked_for_stays_awake(night: Night) -> None:
    await night.gateway.predictions.infer("default", "digits", "", request())
    await night.gateway.clock.advance(IDLE_SECONDS - 1)
    night.dozers.look()
    assert not is_asleep(night.gateway)


async def test_the_first_request_waits_until_the_model_is_loaded_again_and_is_then_answered(night: Night) -> None:
    loads = night.loader.loads
    night.loader.may_load.clear()
    night.ask()
    night.ask()
    await settled()
    assert night.answers == []
    night.loader.may_load.set()
    assert [type(answer) for answer in await night.answered(2)] == [InferenceAnswer, InferenceAnswer]
    assert night.loader.loads == loads + 1, "loaded once, however many wait"


async def test_a_model_asleep_is_ready_and_tells_what_it_takes(night: Night) -> None:
    ready = night.gateway.catalogue.find("default", "digits")
    assert [spec.name for spec in ready.runner.signature.inputs] == ["x"]


async def test_no_more_requests_are_held_than_may_wait(night: Night) -> None:
    night.loader.may_load.clear()
    for _ in range(4):
        night.ask()
    assert [type(answer) for answer in night.answers] == [Busy]


async def test_what_is_held_beyond_its_deadline_is_answered_so(night: Night) -> None:
    night.loader.may_load.clear()
    night.ask(deadline_seconds=night.gateway.clock.monotonic() + 1)
    await settled()
    await night.gateway.clock.advance(2)
    night.loader.may_load.set()
    assert [type(answer) for answer in await night.answered(1)] == [DeadlineExceeded]


async def test_a_model_that_cannot_be_loaded_again_is_told_to_who_waits_and_tried_again_for_the_next(
    night: Night,
) -> None:
    night.loader.away = True
    night.ask()
    (failure,) = await night.answered(1)
    assert isinstance(failure, Unavailable)
    assert "the disk is full" in str(failure)
    night.loader.away = False
    night.ask()
    assert isinstance((await night.answered(2))[1], InferenceAnswer)


async def test_a_model_with_requests_at_work_does_not_doze_off(night: Night) -> None:
    night.loader.may_load.clear()
    night.ask()
    await settled()
    night.loader.may_load.set()
    await night.answered(1)
    await night.gateway.clock.advance(IDLE_SECONDS)
    night.ask()
    night.dozers.look()
    assert not is_asleep(night.gateway)
    assert isinstance((await night.answered(2))[1], InferenceAnswer)


async def test_a_stop_answers_what_is_held(night: Night) -> None:
    night.loader.may_load.clear()
    night.ask()
    await settled()
    night.gateway.predictions.close()
    assert [type(answer) for answer in night.answers] == [Unavailable]


async def test_prometheus_is_told_who_sleeps_and_how_often_it_was_woken(night: Night) -> None:
    REGISTRY.register(night.dozers)
    try:
        labels = {"tenant": "default", "model": "digits", "version": "1"}
        assert REGISTRY.get_sample_value("ergonaut_model_asleep", labels) == 1.0
        await night.gateway.predictions.infer("default", "digits", "", request())
        assert REGISTRY.get_sample_value("ergonaut_model_asleep", labels) == 0.0
        assert REGISTRY.get_sample_value("ergonaut_model_wakes_total", labels) == 1.0
    finally:
        REGISTRY.unregister(night.dozers)
