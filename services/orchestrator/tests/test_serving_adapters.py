"""The gateway's adapters beside their fakes, asked the same over real gRPC; and how rows travel as tensors."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gateway_stand_in import gateway
from skipping import DIGITS

from ergonaut.api.inference.v1 import inference_pb2
from ergonaut.api.openinference.v2 import open_inference_pb2 as pb
from ergonaut.errors import Conflict, NotFound, Refused
from ergonaut_common.auth import KeyRing
from ergonaut_common.rpc import channel
from ergonaut_common.settings import PlatformSettings
from ergonaut_common.testing import key_ring_file
from ergonaut_orchestrator.adapters.gateway import GatewayModels, GatewayTraffic
from ergonaut_orchestrator.adapters.tensors import REQUEST_BYTES_MAX, answer_of, batches_of
from ergonaut_orchestrator.domain.rollouts import Mirror, Route, Versions
from ergonaut_orchestrator.domain.trials import Question
from ergonaut_orchestrator.fakes import FakeServedModels, FakeTraffic
from ergonaut_orchestrator.ports import ServedModels, Traffic


@dataclass
class Gateway:
    """Both ports."""

    traffic: Traffic
    models: ServedModels


@pytest.fixture(params=["fake", "real"])
async def served(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Gateway]:
    models = FakeServedModels()
    models.models["default", "digits"] = Versions((1, 2), {"champion": 1}, default=1)
    traffic = FakeTraffic(models)
    traffic.endpoints["default", "digits"] = DIGITS
    if request.param == "fake":
        yield Gateway(traffic, models)
        return
    keys_file, keys = key_ring_file(tmp_path)
    key = tmp_path / "service.key"
    key.write_text(keys["service"])
    async with gateway(traffic, models, KeyRing.load(keys_file)) as address:
        platform = PlatformSettings(gateway_address=address, service_key_file=key)
        async with channel(address, platform, service="orchestrator") as opened:
            yield Gateway(GatewayTraffic(opened), GatewayModels(opened))


async def test_an_endpoint_comes_back_as_it_was_set(served: Gateway) -> None:
    assert await served.traffic.endpoint("default", "digits") == DIGITS
    routes = (Route("main", "digits", "champion", 0.9), Route("canary", "digits", "2", 0.1))
    wanted = replace(DIGITS, routes=routes, mirrors=(Mirror("digits", "2", 0.25),), key_parameter="user")
    made = await served.traffic.apply("default", wanted, expected_revision=3, because="to see")
    assert made == replace(wanted, revision=4) == await served.traffic.endpoint("default", "digits")


async def test_a_revision_that_is_not_the_expected_one_is_a_conflict(served: Gateway) -> None:
    with pytest.raises(Conflict):
        await served.traffic.apply("default", DIGITS, expected_revision=2, because="")
    with pytest.raises(NotFound):
        await served.traffic.endpoint("default", "nobody")
    with pytest.raises(NotFound):
        await served.traffic.figures("default", "nobody")
    with pytest.raises(NotFound):
        await served.traffic.endpoint("other", "digits")


async def test_figures_are_those_of_the_present_revision(served: Gateway) -> None:
    figures = await served.traffic.figures("default", "digits")
    assert (figures.revision, figures.routes["main"].requests, figures.routes["main"].drawn) == (3, 2000, 2000)


async def test_an_alias_moves_only_from_where_it_was_expected(served: Gateway) -> None:
    assert await served.models.versions("default", "digits") == Versions((1, 2), {"champion": 1}, default=1)
    await served.models.name("default", "digits", "champion", 2, expected=1)
    assert (await served.models.versions("default", "digits")).default == 2
    with pytest.raises(Conflict):
        await served.models.name("default", "digits", "champion", 1, expected=1)
    with pytest.raises(Conflict):
        await served.models.unname("default", "digits", "champion", expected=1)
    await served.models.unname("default", "digits", "champion", expected=2)
    assert (await served.models.versions("default", "digits")).aliases == {}
    with pytest.raises(NotFound):
        await served.models.versions("default", "nobody")


def model(datatype: str = "FP32", *names: str, shape: tuple[int, ...] = (-1, 2)) -> inference_pb2.Model:
    inputs = [inference_pb2.TensorSpec(name=name, datatype=datatype, shape=shape) for name in names or ("X",)]
    outputs = [inference_pb2.TensorSpec(name=name, datatype="INT64", shape=[-1]) for name in ("label", "probabilities")]
    return inference_pb2.Model(name="digits", version=2, inputs=inputs, outputs=outputs)


def rows_of(requests: list[pb.ModelInferRequest], dtype: Any) -> Any:
    parts = [np.frombuffer(each.raw_input_contents[0], dtype).reshape(list(each.inputs[0].shape)) for each in requests]
    return np.concatenate(parts)


@pytest.mark.parametrize(("datatype", "dtype"), [("FP32", "<f4"), ("FP64", "<f8"), ("INT32", "<i4"), ("UINT8", "<u1")])
def test_rows_travel_in_the_models_own_datatype_whole_and_in_order(datatype: str, dtype: str) -> None:
    rows = np.arange(5000).reshape(2500, 2) % 200
    requests = [*batches_of(model(datatype), Question(rows))]
    assert len(requests) == 3
    assert {each.model_version for each in requests} == {"2"}
    assert np.array_equal(rows_of(requests, dtype), rows)


def test_large_rows_travel_in_small_batches_and_fixed_batches_as_they_are() -> None:
    wide = np.zeros((5, REQUEST_BYTES_MAX // 4), np.float32)
    assert len([*batches_of(model(), Question(wide))]) == 5
    ones = [*batches_of(model(shape=(1, 2)), Question(np.zeros((7, 2))))]
    assert [each.inputs[0].shape[0] for each in ones] == [1] * 7


@pytest.mark.parametrize(
    ("asked", "question", "words"),
    [
        (model("FP32", "a", "b"), {}, "the model takes a, b; say which takes x"),
        (model(), {"input": "Y"}, "has no input Y; it has X"),
        (model(), {"output": "score"}, "has no output score; it has label, probabilities"),
        (model("BYTES"), {}, "takes BYTES, which is no number"),
    ],
)
def test_questions_that_do_not_fit_the_model_are_refused_in_words(
    asked: inference_pb2.Model, question: dict[str, str], words: str
) -> None:
    with pytest.raises(Refused, match=words):
        [*batches_of(asked, Question(np.zeros((1, 2)), **question))]


def test_answers_are_read_raw_or_typed_by_their_names() -> None:
    raw = pb.ModelInferResponse()
    raw.outputs.add(name="label", datatype="INT64", shape=[2])
    raw.outputs.add(name="probabilities", datatype="FP32", shape=[2, 2])
    raw.raw_output_contents.extend([np.array([3, 4]).tobytes(), np.eye(2, dtype=np.float32).tobytes()])
    assert answer_of(raw, "label").tolist() == [3, 4]
    assert answer_of(raw, "probabilities").tolist() == [[1, 0], [0, 1]]
    typed = pb.ModelInferResponse()
    typed.outputs.add(name="label", datatype="INT64", shape=[2]).contents.int64_contents.extend([3, 4])
    assert answer_of(typed, "label").tolist() == [3, 4]
    with pytest.raises(Refused, match="gives no output score"):
        answer_of(typed, "score")
