"""A gateway that answers for endpoints and models over real gRPC, out of the fakes: for tests of those who ask it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from ergonaut.api.inference.v1 import endpoints_pb2 as pb
from ergonaut.api.inference.v1 import endpoints_pb2_grpc, inference_pb2, inference_pb2_grpc
from ergonaut_common.auth import KeyRing
from ergonaut_common.rpc import caller, serving
from ergonaut_orchestrator.adapters.gateway import _endpoint_message, _endpoint_of
from ergonaut_orchestrator.fakes import FakeServedModels, FakeTraffic


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


@asynccontextmanager
async def gateway(traffic: FakeTraffic, models: FakeServedModels, keys: KeyRing) -> AsyncIterator[str]:
    """Answer while the block runs; gives the address."""

    def add(server: grpc.aio.Server) -> None:
        endpoints_pb2_grpc.add_EndpointServiceServicer_to_server(Endpoints(traffic), server)
        inference_pb2_grpc.add_ModelServiceServicer_to_server(Models(models), server)

    async with serving("127.0.0.1:0", service="gateway", add=add, keys=keys, names=[]) as server:
        yield f"127.0.0.1:{server.port}"


def _told(endpoint: Any) -> Any:
    message = _endpoint_message(endpoint, "")
    message.revision = endpoint.revision
    return message
