"""Runs that go on when nobody waits for them any more: stopped at their callers' deadlines, and noticed where they do not end."""

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from ergonaut.errors import Unavailable
from ergonaut_gateway.adapters.onnx import OnnxLoader
from ergonaut_gateway.domain.inference import DeadlineExceeded, InferenceAnswer, InferenceRequest
from ergonaut_gateway.domain.tensors import Tensor
from ergonaut_gateway.fakes import FakeRunner
from ergonaut_gateway.ports import Stop
from ergonaut_gateway.service import Wish

from .conftest import Gateway
from .onnx_models import counting
from .test_batching import TOGETHER, Answers, Gated, Loader, request, serving

PATIENCE_SECONDS = 30.0


class Deaf(FakeRunner):
    """A runner whose runs end when they may, and that hears nobody."""

    def __init__(self) -> None:
        super().__init__(TOGETHER)
        self.gate = threading.Event()

    def compute(self, inputs: Mapping[str, Tensor], outputs: Sequence[str], stop: Stop | None) -> dict[str, Tensor]:
        self.gate.wait(PATIENCE_SECONDS)
        return super().compute(inputs, outputs, stop)


async def asked(gateway: Gateway, wanted: InferenceRequest, seconds: float | None) -> InferenceAnswer | BaseException:
    """The answer, or why there is none."""
    answer: asyncio.Future[InferenceAnswer | BaseException] = asyncio.get_running_loop().create_future()
    deadline_seconds = None if seconds is None else time.monotonic() + seconds
    gateway.predictions.submit(Wish("default", "digits", deadline_seconds=deadline_seconds), wanted, answer.set_result)
    return await asyncio.wait_for(answer, PATIENCE_SECONDS)


async def test_a_run_is_stopped_once_its_callers_deadline_has_passed() -> None:
    rounds = InferenceRequest("", {"rounds": np.array(10**12, dtype="<i8")}, ())
    async with serving(OnnxLoader(), counting(), threads=1, run_timeout_seconds=600) as gateway:
        late = await asked(gateway, rounds, 0.2)
        assert (type(late), str(late)) == (DeadlineExceeded, "the deadline passed while the request was at work")
        # The only thread is free again.
        few = InferenceRequest("", {"rounds": np.array(3, dtype="<i8")}, ())
        assert isinstance(await asked(gateway, few, None), InferenceAnswer)
        assert gateway.predictions.overdue_seconds() == 0


async def test_a_run_goes_on_for_those_whose_deadlines_have_not_passed() -> None:
    runner = Gated()
    async with serving(Loader(runner), threads=1) as gateway:
        answers = Answers(gateway)
        answers.ask(request(1), deadline_seconds=time.monotonic() + 0.2)
        answers.ask(request(2))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not answers.given[0]:
                await asyncio.sleep(0.01)
        runner.gate.set()
        late, answered = await answers.all()
    assert isinstance(late, DeadlineExceeded)
    assert isinstance(answered, InferenceAnswer)


@pytest.mark.parametrize("seconds", [0.1, None])
async def test_a_run_that_does_not_end_is_noticed_and_told_until_it_does(seconds: float | None) -> None:
    runner = Deaf()
    async with serving(Loader(runner), threads=1, run_timeout_seconds=0.4) as gateway:
        record = gateway.catalogue.find("default", "digits").record
        assert isinstance(await asked(gateway, request(1), seconds), Unavailable)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while gateway.predictions.overdue_seconds() < 0.5:
                await asyncio.sleep(0.01)
        told = gateway.predictions.problem(record)
        assert told.endswith("s after it was told to end, and holds a thread")
        runner.gate.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while gateway.predictions.overdue_seconds():
                await asyncio.sleep(0.01)
        assert gateway.predictions.problem(record) == ""
