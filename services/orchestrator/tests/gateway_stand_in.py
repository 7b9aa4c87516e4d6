"""A gateway that answers for endpoints and models over real gRPC, out of the fakes: for tests of those who ask it."""

import asyncio
import inspect
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np

from ergonaut.api.inference.v1 import endpoints_pb2 as pb
from ergonaut.api.inference.v1 import endpoints_pb2_grpc, inference_pb2, inference_pb2_grpc
from ergonaut.api.openinference.v2 import open_inference_pb2, open_inference_pb2_grpc
from ergonaut_common.auth import KeyRing
from ergonaut_common.rpc import caller, serving
from ergonaut_orchestrator.adapters.gateway import _endpoint_message, _endpoint_of
from ergonaut_orchestrator.domain.trials import Lineage, Question
from ergonaut_orchestrator.fakes import FakeServedModels, FakeTraffic
from ergonaut_orchestrator.ports import Upload


class Held:
    """Whoever is asked, with the answer to one kind of question kept under way: what was asked is done by then."""

    def __init__(self, asked: Any, question: str) -> None:
        self._asked = asked
        self._question = question
        self.is_reached = asyncio.Event()
        self._released = asyncio.Event()

    def release(self) -> None:
        """Answer from now on."""
        self._released.set()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._asked, name)
        if name != self._question or not inspect.iscoroutinefunction(found):
            return found

        async def held(*given: Any, **named: Any) -> Any:
            answer = await found(*given, **named)
            self.is_reached.set()
            await self._released.wait()
            return answer

        return held


class Endpoints(endpoints_pb2_grpc.EndpointServiceServicer):
    """Answers EndpointService."""

    def __init__(self, traffic: FakeTraffic) -> None:
        self._traffic = traffic

    async def GetEndpoint(self, request: Any, context: Any) -> Any:
        return pb.GetEndpointResponse(endpoint=_told(await self._traffic.endpoint(caller().tenant, request.name)))

    async def ApplyEndpoint(self, request: Any, context: Any) -> Any:
        wanted, because = _endpoint_of(request.endpoint), request.endpoint.because
        made = await self._traffic.apply(
            caller().tenant, wanted, expected_revision=request.expected_revision, because=because
        )
        return pb.ApplyEndpointResponse(endpoint=_told(made))

    async def GetEndpointFigures(self, request: Any, context: Any) -> Any:
        figures = await self._traffic.figures(caller().tenant, request.name)
        routes = [
            pb.RouteFigures(
                name=name,
                requests=each.requests,
                drawn=each.drawn,
                failed=each.failed,
                slow=each.slow,
                labelled=each.labelled,
                wrong=each.wrong,
                keys=each.keys,
                key_counters=each.key_counters,
            )
            for name, each in figures.routes.items()
        ]
        return pb.GetEndpointFiguresResponse(revision=figures.revision, routes=routes)


class Models(inference_pb2_grpc.ModelServiceServicer):
    """Answers what is asked of ModelService."""

    def __init__(self, models: FakeServedModels) -> None:
        self._models = models

    async def ListModelVersions(self, request: Any, context: Any) -> Any:
        known = await self._models.versions(caller().tenant, request.name)
        ready = inference_pb2.VERSION_STATE_READY
        return inference_pb2.ListModelVersionsResponse(
            versions=[inference_pb2.Model(name=request.name, version=each, state=ready) for each in known.kept],
            aliases=[inference_pb2.Alias(name=name, version=version) for name, version in known.aliases.items()],
        )

    async def SetModelAlias(self, request: Any, context: Any) -> Any:
        expected = request.expected_version if request.HasField("expected_version") else None
        await self._models.name(caller().tenant, request.name, request.alias, int(request.version), expected=expected)
        return inference_pb2.SetModelAliasResponse()

    async def RemoveModelAlias(self, request: Any, context: Any) -> Any:
        await self._models.unname(caller().tenant, request.name, request.alias, expected=request.expected_version)
        return inference_pb2.RemoveModelAliasResponse()

    async def DeployModel(self, requests: Any, context: Any) -> Any:
        first, content = None, io.BytesIO()
        async for request in requests:
            first = first or request
            content.write(request.chunk)
        assert first is not None, "a model is named before its file"
        content.seek(0)
        upload = Upload(caller().tenant, first.name, first.run_id, first.alias, Lineage())
        number = await self._models.deploy(upload, content)
        return inference_pb2.DeployModelResponse(model=inference_pb2.Model(name=first.name, version=number))

    async def GetModel(self, request: Any, context: Any) -> Any:
        known = await self._models.versions(caller().tenant, request.name)
        told = inference_pb2.Model(name=request.name, version=known.number_of(request.version))
        told.inputs.add(name="x", datatype="FP32", shape=[-1, 1])
        told.outputs.add(name="label", datatype="INT64", shape=[-1])
        return inference_pb2.GetModelResponse(model=told)


class Predictions(open_inference_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers ModelInfer, for models of one number a row."""

    def __init__(self, models: FakeServedModels) -> None:
        self._models = models

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        rows = np.frombuffer(request.raw_input_contents[0], "<f4").reshape(list(request.inputs[0].shape))
        said = await self._models.ask(caller().tenant, request.model_name, int(request.model_version), Question(rows))
        answer = open_inference_pb2.ModelInferResponse(model_name=request.model_name)
        answer.outputs.add(name="label", datatype="INT64", shape=said.shape)
        answer.raw_output_contents.append(said.astype("<i8").tobytes())
        return answer


@asynccontextmanager
async def gateway(traffic: Any, models: Any, keys: KeyRing, address: str = "127.0.0.1:0") -> AsyncIterator[str]:
    """Answer while the block runs, out of the fakes, be they held or not; gives the address."""

    def add(server: grpc.aio.Server) -> None:
        endpoints_pb2_grpc.add_EndpointServiceServicer_to_server(Endpoints(traffic), server)
        inference_pb2_grpc.add_ModelServiceServicer_to_server(Models(models), server)
        open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Predictions(models), server)

    async with serving(address, service="gateway", add=add, keys=keys, names=[]) as server:
        yield f"127.0.0.1:{server.port}"


def _told(endpoint: Any) -> Any:
    message = _endpoint_message(endpoint, "")
    message.revision = endpoint.revision
    return message
