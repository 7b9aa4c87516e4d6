"""The gateway by gRPC: endpoints and their figures, models and their aliases. Fills the ports `Traffic` and `ServedModels`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import fields
from typing import Any, BinaryIO

import grpc
import numpy as np
from numpy.typing import NDArray

from ergonaut.api.inference.v1 import endpoints_pb2, endpoints_pb2_grpc, inference_pb2, inference_pb2_grpc
from ergonaut.api.openinference.v2 import open_inference_pb2_grpc
from ergonaut.errors import Conflict
from ergonaut_common.rpc import error_of, for_tenant
from ergonaut_orchestrator.adapters.tensors import answer_of, batches_of
from ergonaut_orchestrator.domain.rollouts import Endpoint, Figures, Mirror, Route, RouteFigures, Versions
from ergonaut_orchestrator.domain.trials import Lineage, Question
from ergonaut_orchestrator.ports import Upload

ANSWER_SECONDS = 10.0
"""For what the gateway only looks up."""

CHANGE_SECONDS = 240.0
"""For what makes it load a version first; within what the workflows give a change."""

TRANSFER_SECONDS = 600.0
"""For a model's file, which is checked and loaded once it is there."""

PREDICTION_SECONDS = 60.0
"""For one batch of rows; a large model on a busy machine takes seconds."""

CHUNK_BYTES = 512 * 1024
"""Size of the pieces in which files travel; the gateway takes at most 1 MiB."""


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
        self._predictions = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)

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

    async def unname(self, tenant: str, model: str, alias: str, *, expected: int) -> None:
        request = inference_pb2.RemoveModelAliasRequest(name=model, alias=alias, expected_version=expected)
        with asking(f"removing the alias {alias} of model {model}"):
            await self._stub.RemoveModelAlias(request, metadata=for_tenant(tenant), timeout=ANSWER_SECONDS)

    async def deploy(self, upload: Upload, content: BinaryIO) -> int:
        first = inference_pb2.DeployModelRequest(
            name=upload.model,
            run_id=upload.run_id,
            lineage=_lineage_message(upload.lineage),
            signature_bundle=upload.signature,
            alias=upload.alias,
        )

        async def requests() -> AsyncIterator[inference_pb2.DeployModelRequest]:
            yield first
            while piece := await asyncio.to_thread(content.read, CHUNK_BYTES):
                yield inference_pb2.DeployModelRequest(chunk=piece)

        with asking(f"deploying model {upload.model}"):
            answer = await self._stub.DeployModel(
                requests(), metadata=for_tenant(upload.tenant), timeout=TRANSFER_SECONDS
            )
        return int(answer.model.version)

    async def ask(self, tenant: str, model: str, version: int, question: Question) -> NDArray[Any]:
        with asking(f"asking version {version} of model {model}"):
            told = await self._stub.GetModel(
                inference_pb2.GetModelRequest(name=model, version=str(version)),
                metadata=for_tenant(tenant),
                timeout=ANSWER_SECONDS,
            )
        asked = batches_of(told.model, question)
        answers = []
        for request in asked:
            with asking(f"asking version {version} of model {model} for its answers"):
                answer = await self._predictions.ModelInfer(
                    request, metadata=for_tenant(tenant), timeout=PREDICTION_SECONDS
                )
            answers.append(answer_of(answer, request.outputs[0].name))
        return np.concatenate(answers)


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
        keys=told.keys,
        key_counters=told.key_counters,
    )


def _lineage_message(lineage: Lineage) -> inference_pb2.Lineage:
    told = {each.name: getattr(lineage, each.name) for each in fields(lineage)}
    return inference_pb2.Lineage(**{name: value for name, value in told.items() if value is not None})
