"""A plan answers for its name before a model does; its models answer by their own, also while the gateway stops."""

import asyncio

import numpy as np
import pytest

from ergonaut.errors import NotFound, Unavailable
from ergonaut_gateway.domain.inference import InferenceAnswer, InferenceRequest
from ergonaut_gateway.domain.models import ModelRecord
from ergonaut_gateway.service import Wish
from ergonaut_gateway.service.lanes import Done, Ticket

from .conftest import Gateway

REQUEST = InferenceRequest("7", {"x": np.ones((1, 3), dtype="<f4")})


class Twice:
    """A plan that asks a model, and when it has answered asks it again."""

    version = "9"

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    @property
    def record(self) -> ModelRecord:
        return self._gateway.catalogue.find("default", "digits", "").record

    def statistics(self) -> None:
        return None

    def submit(self, wish: Wish, request: InferenceRequest, done: Done) -> Ticket:
        def again(outcome: InferenceAnswer | BaseException) -> None:
            assert isinstance(outcome, InferenceAnswer)
            second = InferenceRequest(outcome.id, {"x": outcome.outputs["y"]})
            self._gateway.predictions.submit_model(Wish(wish.tenant, "digits"), second, done)

        return self._gateway.predictions.submit_model(Wish(wish.tenant, "digits"), request, again)


async def planned(gateway: Gateway) -> None:
    await gateway.deploy(b"model a")
    gateway.predictions.plans["default", "digits"] = Twice(gateway)


@pytest.mark.parametrize(("version", "expected"), [("", 4.0), ("9", 4.0), ("1", 2.0)])
async def test_a_plan_answers_for_its_name_and_version_and_the_model_for_its_versions(
    gateway: Gateway, version: str, expected: float
) -> None:
    await planned(gateway)
    answer = await gateway.predictions.infer("default", "digits", version, REQUEST)
    assert float(answer.outputs["y"][0, 0]) == expected
    assert gateway.predictions.record_of("default", "digits", version).name == "digits"


async def test_a_plan_is_nothing_to_other_tenants(gateway: Gateway) -> None:
    await planned(gateway)
    with pytest.raises(NotFound):
        await gateway.predictions.infer("other", "digits", "", REQUEST)
    with pytest.raises(NotFound):
        gateway.predictions.record_of("other", "digits")


async def test_a_stop_waits_for_what_answers_ask_for_and_takes_nothing_new(gateway: Gateway) -> None:
    await planned(gateway)
    answers: list[InferenceAnswer | BaseException] = []
    gateway.predictions.submit(Wish("default", "digits"), REQUEST, answers.append)
    async with asyncio.timeout(30):
        await gateway.predictions.finish(within_seconds=5)
    (answer,) = answers
    assert isinstance(answer, InferenceAnswer)
    assert float(answer.outputs["y"][0, 0]) == 4.0
    with pytest.raises(Unavailable, match="is stopping"):
        await gateway.predictions.infer("default", "digits", "", REQUEST)


async def test_nothing_is_begun_after_the_end(gateway: Gateway) -> None:
    await planned(gateway)
    gateway.predictions.close()
    answers: list[InferenceAnswer | BaseException] = []
    gateway.predictions.submit_model(Wish("default", "digits"), REQUEST, answers.append)
    (answer,) = answers
    assert isinstance(answer, Unavailable)
