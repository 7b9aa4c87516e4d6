"""gRPC door of endpoints: EndpointService."""

from collections.abc import Callable
from typing import Any

from grpc import aio

from ergonaut.api.inference.v1 import endpoints_pb2 as pb
from ergonaut.api.inference.v1.endpoints_pb2_grpc import (
    EndpointServiceServicer,
    add_EndpointServiceServicer_to_server,
)
from ergonaut_common.rpc import caller
from ergonaut_gateway.domain.endpoints.records import Change
from ergonaut_gateway.protocol.endpoint_wire import endpoint_of, told_endpoint, told_figures
from ergonaut_gateway.service.endpoints import Endpoints


def endpoint_door(endpoints: Endpoints) -> Callable[[aio.Server], None]:
    """Put the service on a server."""
    return lambda server: add_EndpointServiceServicer_to_server(EndpointDoor(endpoints), server)


class EndpointDoor(EndpointServiceServicer):
    """Answers EndpointService."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints

    async def ApplyEndpoint(self, request: pb.ApplyEndpointRequest, context: Any) -> Any:
        change = _change(request, request.endpoint.because)
        record = await self._endpoints.apply(caller().tenant, endpoint_of(request.endpoint), change)
        return pb.ApplyEndpointResponse(endpoint=told_endpoint(record.now))

    async def GetEndpoint(self, request: pb.GetEndpointRequest, context: Any) -> Any:
        record = await self._endpoints.get(caller().tenant, request.name)
        history = [told_endpoint(revision) for revision in record.history]
        return pb.GetEndpointResponse(endpoint=told_endpoint(record.now), history=history)

    async def ListEndpoints(self, request: pb.ListEndpointsRequest, context: Any) -> Any:
        records = await self._endpoints.list(caller().tenant)
        return pb.ListEndpointsResponse(endpoints=[told_endpoint(record.now) for record in records])

    async def RemoveEndpoint(self, request: pb.RemoveEndpointRequest, context: Any) -> Any:
        await self._endpoints.remove(caller().tenant, request.name)
        return pb.RemoveEndpointResponse()

    async def RollBackEndpoint(self, request: pb.RollBackEndpointRequest, context: Any) -> Any:
        change = _change(request, request.because)
        record = await self._endpoints.roll_back(caller().tenant, request.name, change, to_revision=request.to_revision)
        return pb.RollBackEndpointResponse(endpoint=told_endpoint(record.now))

    async def GetEndpointFigures(self, request: pb.GetEndpointFiguresRequest, context: Any) -> Any:
        return told_figures(*await self._endpoints.figures(caller().tenant, request.name))


def _change(request: pb.ApplyEndpointRequest | pb.RollBackEndpointRequest, because: str) -> Change:
    expected = request.expected_revision if request.HasField("expected_revision") else None
    return Change(caller().principal, because, expected)
