"""The gRPC doors in process, on a free port, with keys: models looked after, and the Open Inference Protocol. What is promised
here is promised by grpcio's server and by our own."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ergonaut.api.inference.v1 import inference_pb2 as pb
from ergonaut.api.inference.v1.inference_pb2_grpc import ModelServiceStub
from ergonaut.api.openinference.v2 import open_inference_pb2 as oip
from ergonaut.api.openinference.v2.open_inference_pb2_grpc import GRPCInferenceServiceStub
from ergonaut_common.auth import KeyRing
from ergonaut_common.rpc import serving
from ergonaut_common.testing import key_ring_file
from ergonaut_gateway import h2
from ergonaut_gateway.adapters.onnx import OnnxLoader
from ergonaut_gateway.rpc import NAMES, door
from ergonaut_gateway.service import EngineLimits

from .conftest import Gateways
from .h2_frames import listening
from .onnx_models import doubling


class Calling:
    """Stubs, and the metadata to call them with."""

    def __init__(self, channel: grpc.aio.Channel, keys: dict[str, str]) -> None:
        self.models = ModelServiceStub(channel)
        self.oip = GRPCInferenceServiceStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)
        self._keys = keys

    def as_(self, tenant: str = "default") -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self._keys[tenant]}")]

    async def deploy(self, content: bytes, name: str = "digits", run_id: str = "") -> pb.Model:
        pieces = [content[at : at + 100] for at in range(0, len(content), 100)]
        messages = [pb.DeployModelRequest(name=name, run_id=run_id)]
        messages += [pb.DeployModelRequest(chunk=piece) for piece in pieces]
        return (await self.models.DeployModel(iter(messages), metadata=self.as_())).model


@pytest.fixture(params=["grpcio", "own"])
async def call(request: pytest.FixtureRequest, gateways: Gateways, tmp_path: Path) -> AsyncIterator[Calling]:
    path, keys = key_ring_file(tmp_path, ("default", "other"))
    ring = KeyRing.load(path)
    gateway = gateways.another(OnnxLoader(), limits=EngineLimits(threads=1, waiting=8))
    add = door(gateway.models, gateway.catalogue, gateway.predictions)
    async with AsyncExitStack() as stack:
        if request.param == "grpcio":
            opened = serving("127.0.0.1:0", service="gateway", add=add, keys=ring, names=NAMES)
            port = (await stack.enter_async_context(opened)).port
        else:
            factory = await stack.enter_async_context(h2.opened(add, gateway.predictions, ring, NAMES))
            port = await stack.enter_async_context(listening(factory))
        yield Calling(await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}")), keys)


def infer_request(**changes: object) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name="digits", id="7", **changes)
    request.inputs.add(name="x", datatype="FP32", shape=[1, 3]).contents.fp32_contents.extend([1, 2, 3])
    return request


async def test_a_model_is_deployed_told_listed_and_removed(call: Calling) -> None:
    model = await call.deploy(doubling(), run_id="run-1")
    assert (model.name, model.version, model.size_bytes, model.run_id) == ("digits", 1, len(doubling()), "run-1")
    assert [(spec.name, spec.datatype, list(spec.shape)) for spec in model.inputs] == [("x", "FP32", [-1, 3])]
    assert [spec.name for spec in model.outputs] == ["y", "z"]
    assert model.digest.startswith("sha256-")
    assert model.deployed_at.seconds > 0
    assert await call.deploy(doubling()) == model
    got = await call.models.GetModel(pb.GetModelRequest(name="digits"), metadata=call.as_())
    listed = await call.models.ListModels(pb.ListModelsRequest(), metadata=call.as_())
    assert (got.model, list(listed.models)) == (model, [model])
    await call.models.RemoveModel(pb.RemoveModelRequest(name="digits"), metadata=call.as_())
    with pytest.raises(grpc.aio.AioRpcError) as gone:
        await call.models.GetModel(pb.GetModelRequest(name="digits"), metadata=call.as_())
    assert (gone.value.code(), gone.value.details()) == (grpc.StatusCode.NOT_FOUND, "no model digits is served")


def _messages(*messages: pb.DeployModelRequest) -> Iterator[pb.DeployModelRequest]:
    return iter(messages)


@pytest.mark.parametrize(
    ("messages", "details"),
    [
        ([], "name: is missing; the first message tells it"),
        ([pb.DeployModelRequest(name="fake"), pb.DeployModelRequest(chunk=b"hi")], "chunk: is not an ONNX model: "),
        ([pb.DeployModelRequest(name="fake", chunk=b"hi")], "chunk: is not an ONNX model: "),
        ([pb.DeployModelRequest(name="a/b", chunk=doubling())], "name: 'a/b' cannot be a model's name; use 1 to 63"),
        (
            [pb.DeployModelRequest(name="fake"), pb.DeployModelRequest(name="fake", chunk=doubling())],
            "name: belongs in the first message only",
        ),
        ([pb.DeployModelRequest(name="fake")], "chunk: the file is empty"),
    ],
)
async def test_a_wrong_deployment_is_refused_and_changes_nothing(
    call: Calling, messages: list[pb.DeployModelRequest], details: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call.models.DeployModel(_messages(*messages), metadata=call.as_())
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details().startswith(details)
    listed = await call.models.ListModels(pb.ListModelsRequest(), metadata=call.as_())
    assert list(listed.models) == []


async def test_the_protocol_tells_the_server_and_the_model(call: Calling) -> None:
    await call.deploy(doubling())
    assert (await call.oip.ServerLive(oip.ServerLiveRequest(), metadata=call.as_())).live
    assert (await call.oip.ServerReady(oip.ServerReadyRequest(), metadata=call.as_())).ready
    server = await call.oip.ServerMetadata(oip.ServerMetadataRequest(), metadata=call.as_())
    assert server.name == "ergonaut"
    for name, ready in (("digits", True), ("nothing", False)):
        told = await call.oip.ModelReady(oip.ModelReadyRequest(name=name), metadata=call.as_())
        assert told.ready == ready
    told = await call.oip.ModelMetadata(oip.ModelMetadataRequest(name="digits", version="1"), metadata=call.as_())
    assert (told.name, list(told.versions), told.platform) == ("digits", ["1"], "onnxruntime_onnx")
    assert [(spec.name, list(spec.shape)) for spec in told.outputs] == [("y", [-1, 3]), ("z", [-1, 3])]


async def test_typed_is_answered_typed_and_raw_is_answered_raw(call: Calling) -> None:
    await call.deploy(doubling())
    typed = await call.oip.ModelInfer(infer_request(), metadata=call.as_())
    assert (typed.id, typed.model_name, typed.model_version) == ("7", "digits", "1")
    assert [list(output.contents.fp32_contents) for output in typed.outputs] == [[2, 4, 6], [-1, -2, -3]]
    tensor = np.arange(6, dtype="<f4")
    request = oip.ModelInferRequest(model_name="digits", raw_input_contents=[tensor.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=[2, 3])
    request.outputs.add(name="z")
    raw = await call.oip.ModelInfer(request, metadata=call.as_())
    assert [(output.name, list(output.shape)) for output in raw.outputs] == [("z", [2, 3])]
    assert list(raw.raw_output_contents) == [(-tensor).tobytes()]


@pytest.mark.parametrize(
    ("change", "code", "details"),
    [
        ({"model_name": "nothing"}, grpc.StatusCode.NOT_FOUND, "no model nothing is served"),
        ({"model_version": "4"}, grpc.StatusCode.NOT_FOUND, "version 4 of model digits is not served, version 1 is"),
        (
            {"inputs": [{"name": "x", "datatype": "FP32", "shape": [3], "contents": {"fp32_contents": [1, 2, 3]}}]},
            grpc.StatusCode.INVALID_ARGUMENT,
            "inputs.x.shape: is [3], the model takes [-1, 3] (-1 is any length)",
        ),
        ({"inputs": []}, grpc.StatusCode.INVALID_ARGUMENT, "inputs.x: is missing; the model takes x"),
        (
            {"outputs": [{"name": "q"}]},
            grpc.StatusCode.INVALID_ARGUMENT,
            "outputs.q: the model has no such output; it gives y, z",
        ),
    ],
)
async def test_a_wrong_request_gets_one_clear_error(
    call: Calling, change: dict, code: grpc.StatusCode, details: str
) -> None:
    await call.deploy(doubling())
    request = infer_request()
    for field in change:
        request.ClearField(field)
    request.MergeFrom(oip.ModelInferRequest(**change))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call.oip.ModelInfer(request, metadata=call.as_())
    assert (refused.value.code(), refused.value.details()) == (code, details)


async def test_a_tenant_sees_its_own_models_only_and_no_key_sees_none(call: Calling) -> None:
    await call.deploy(doubling())
    listed = await call.models.ListModels(pb.ListModelsRequest(), metadata=call.as_("other"))
    assert list(listed.models) == []
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await call.oip.ModelInfer(infer_request(), metadata=call.as_("other"))
    assert unknown.value.code() == grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call.oip.ModelInfer(infer_request())
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED


async def test_both_services_are_healthy(call: Calling) -> None:
    for name in ("", "ergonaut.api.inference.v1.ModelService", "inference.GRPCInferenceService"):
        answer = await call.health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_stream_is_answered_in_the_order_of_its_requests_and_goes_on_after_an_error(call: Calling) -> None:
    await call.deploy(doubling())

    async def requests() -> AsyncIterator[oip.ModelInferRequest]:
        for at in range(100):
            asked = infer_request()
            asked.id, asked.model_name = str(at), "nothing" if at == 50 else "digits"
            asked.parameters["triton_enable_empty_final_response"].bool_param = at == 3
            yield asked

    answers = [each async for each in call.oip.ModelStreamInfer(requests(), metadata=call.as_())]
    assert [each.infer_response.id for each in answers] == [str(at) for at in range(100)]
    assert [each.infer_response.id for each in answers if each.error_message] == ["50"]
    assert answers[50].error_message == "no model nothing is served"
    lasts = [each.infer_response for each in answers if "triton_final_response" in each.infer_response.parameters]
    assert [each.id for each in lasts] == ["3"]


async def test_a_stream_answers_before_its_caller_has_said_all(call: Calling) -> None:
    await call.deploy(doubling())
    stream = call.oip.ModelStreamInfer(metadata=call.as_())
    for at in ("1", "2"):
        asked = infer_request()
        asked.id = at
        await stream.write(asked)
        assert (await stream.read()).infer_response.id == at
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF


async def test_statistics_and_configurations_are_told_in_tritons_words(call: Calling) -> None:
    await call.deploy(doubling())
    for _ in range(3):
        await call.oip.ModelInfer(infer_request(), metadata=call.as_())
    for name, version in (("digits", "1"), ("digits", ""), ("", "")):
        asked = oip.ModelStatisticsRequest(name=name, version=version)
        (told,) = (await call.oip.ModelStatistics(asked, metadata=call.as_())).model_stats
        assert (told.name, told.version, told.inference_count, told.inference_stats.success.count) == (
            "digits",
            "1",
            3,
            3,
        )
        assert sum(each.batch_size * each.compute_infer.count for each in told.batch_stats) == 3
    config = (await call.oip.ModelConfig(oip.ModelConfigRequest(name="digits"), metadata=call.as_())).config
    assert (config.name, config.platform, config.backend) == ("digits", "onnxruntime_onnx", "onnxruntime")
    assert [(each.data_type, list(each.dims)) for each in config.input] == [(oip.TYPE_FP32, [-1, 3])]


async def test_the_repository_is_told_and_changed(call: Calling) -> None:
    await call.deploy(doubling())
    await call.oip.RepositoryModelUnload(oip.RepositoryModelUnloadRequest(model_name="digits"), metadata=call.as_())
    for ready, states in ((False, ["UNAVAILABLE"]), (True, [])):
        asked = oip.RepositoryIndexRequest(ready=ready)
        told = await call.oip.RepositoryIndex(asked, metadata=call.as_())
        assert [each.state for each in told.models] == states
    await call.oip.RepositoryModelLoad(oip.RepositoryModelLoadRequest(model_name="digits"), metadata=call.as_())
    assert (await call.oip.ModelInfer(infer_request(), metadata=call.as_())).model_version == "1"
    wrong = oip.RepositoryModelLoadRequest(model_name="digits")
    wrong.parameters["config"].string_param = "{}"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call.oip.RepositoryModelLoad(wrong, metadata=call.as_())
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    unload = oip.RepositoryModelUnloadRequest(model_name="digits")
    with pytest.raises(grpc.aio.AioRpcError) as elsewhere:
        await call.oip.RepositoryModelUnload(unload, metadata=call.as_("other"))
    assert elsewhere.value.code() == grpc.StatusCode.NOT_FOUND


async def test_a_deadline_and_a_priority_come_by_parameters_too(call: Calling) -> None:
    await call.deploy(doubling())
    asked = infer_request()
    asked.parameters["timeout"].int64_param = 20_000_000
    asked.parameters["priority"].uint64_param = 1
    assert (await call.oip.ModelInfer(asked, metadata=call.as_())).id == "7"
    asked.parameters["sequence_id"].int64_param = 1
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call.oip.ModelInfer(asked, metadata=call.as_())
    assert "parameters.sequence_id" in refused.value.details()
