"""The gateway by gRPC: endpoints and their figures, models and their aliases. Fills the ports `Traffic` and `ServedModels`."""

import contextlib
from collections.abc import Iterator

import grpc

from ergonaut.api.inference.v1 import endpoints_pb2, endpoints_pb2_grpc, inference_pb2, inference_pb2_grpc
from ergonaut.errors import Conflict
from ergonaut_common.rpc import error_of, for_tenant
from ergonaut_orchestrator.domain.rollouts import Endpoint, Figures, Mirror, Route, RouteFigures, Versions

ANSWER_SECONDS = 10.0
"""For what the gateway only looks up."""

CHANGE_SECONDS = 240.0
"""For what makes it load a version first; within what the workflows give a change."""


class GatewayTraffic:
    """Endpoints, through a channel that carries the services' key."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = endpoints_pb2_grpc.EndpointServiceStub(channel)

    async def endpoint(self, tenant: str, name: str) -> Endpoint:
        with asking(f"asking for endpoint {name}"):
            answer = await self._stub.GetEndpoint(
                endpoints_pb2.GetEndpointRequest(name=name), metadata=for_tenant(tenant), timeout=ANSWER_SECONDS
            )
        return _endpoint_of(answer.endpoint)

    async def apply(self, tenant: str, endpoint: Endpoint, *, expected_revision: int, because: str) -> Endpoint:
        wanted = _endpoint_message(endpoint, because)
        request = endpoints_pb2.ApplyEndpointRequest(endpoint=wanted, expected_revision=expected_revision)
        with asking(f"setting the routes of endpoint {endpoint.name}"):
            answer = await self._stub.ApplyEndpoint(request, metadata=for_tenant(tenant), timeout=CHANGE_SECONDS)
        return _endpoint_of(answer.endpoint)

    async def figures(self, tenant: str, name: str) -> Figures:
        with asking(f"asking how endpoint {name} does"):
            answer = await self._stub.GetEndpointFigures(
                endpoints_pb2.GetEndpointFiguresRequest(name=name), metadata=for_tenant(tenant), timeout=ANSWER_SECONDS
            )
        return Figures(answer.revision, {each.name: _figures_of(each) for each in answer.routes})


class GatewayModels:
    """Models, through a channel that carries the services' key."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = inference_pb2_grpc.ModelServiceStub(channel)

    async def versions(self, tenant: str, model: str) -> Versions:
        with asking(f"asking for the versions of model {model}"):
            answer = await self._stub.ListModelVersions(
                inference_pb2.ListModelVersionsRequest(name=model), metadata=for_tenant(tenant), timeout=ANSWER_SECONDS
            )
        kept = [each for each in answer.versions if each.state != inference_pb2.VERSION_STATE_REMOVED]
        aliases = {each.name: each.version for each in answer.aliases}
        ready = [each.version for each in kept if each.state == inference_pb2.VERSION_STATE_READY]
        default = aliases.get("champion", ready[-1] if ready else 0)
        return Versions(tuple(each.version for each in kept), aliases, default)

    async def name(self, tenant: str, model: str, alias: str, version: int, *, expected: int | None) -> None:
        request = inference_pb2.SetModelAliasRequest(
            name=model, alias=alias, version=str(version), expected_version=expected
        )
        with asking(f"naming version {version} of model {model} {alias}"):
            await self._stub.SetModelAlias(request, metadata=for_tenant(tenant), timeout=CHANGE_SECONDS)


@contextlib.contextmanager
def asking(doing: str) -> Iterator[None]:
    """The failure of a call within the block as one of our errors; a revision that is not the expected one is a Conflict."""
    try:
        yield
    except grpc.RpcError as error:
        if isinstance(error, grpc.aio.AioRpcError) and error.code() == grpc.StatusCode.ABORTED:
            raise Conflict(f"{doing}: {error.details()}") from error
        raise error_of(error, doing=doing) from error


def _endpoint_of(told: endpoints_pb2.Endpoint) -> Endpoint:
    return Endpoint(
        name=told.name,
        routes=tuple(Route(each.name, each.model, each.version, each.weight) for each in told.routes),
        mirrors=tuple(Mirror(each.model, each.version, each.share) for each in told.mirrors),
        key_parameter=told.key_parameter,
        slow_milliseconds=told.slow_milliseconds,
        revision=told.revision,
    )


def _endpoint_message(endpoint: Endpoint, because: str) -> endpoints_pb2.Endpoint:
    return endpoints_pb2.Endpoint(
        name=endpoint.name,
        routes=[
            endpoints_pb2.Route(name=each.name, model=each.model, version=each.version, weight=each.weight)
            for each in endpoint.routes
        ],
        mirrors=[
            endpoints_pb2.Mirror(model=each.model, version=each.version, share=each.share) for each in endpoint.mirrors
        ],
        key_parameter=endpoint.key_parameter,
        slow_milliseconds=endpoint.slow_milliseconds,
        because=because,
    )


def _figures_of(told: endpoints_pb2.RouteFigures) -> RouteFigures:
    return RouteFigures(
        requests=told.requests,
        drawn=told.drawn,
        failed=told.failed,
        slow=told.slow,
        labelled=told.labelled,
        wrong=told.wrong,
    )
