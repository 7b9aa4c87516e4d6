"""gRPC doors: models looked after by ModelService, predictions by the Open Inference Protocol. Both on the same port."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from grpc import aio

from ergonaut.api.inference.v1 import endpoints_pb2, pipelines_pb2
from ergonaut.api.inference.v1 import inference_pb2 as pb
from ergonaut.api.inference.v1.inference_pb2_grpc import ModelServiceServicer, add_ModelServiceServicer_to_server
from ergonaut.api.openinference.v2 import open_inference_pb2 as oip
from ergonaut.api.openinference.v2.open_inference_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from ergonaut.errors import Refused
from ergonaut_common.rpc import caller
from ergonaut_gateway.open_inference import InferenceDoor
from ergonaut_gateway.protocol.model_wire import (
    Problem,
    chunks_of,
    lineage_of,
    naming_of,
    told_aliases,
    told_version,
    told_versions,
)
from ergonaut_gateway.service import Catalogue, Deployment, Models, Predictions

NAMES = (
    pb.DESCRIPTOR.services_by_name["ModelService"].full_name,
    oip.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name,
    pipelines_pb2.DESCRIPTOR.services_by_name["PipelineService"].full_name,
    endpoints_pb2.DESCRIPTOR.services_by_name["EndpointService"].full_name,
)
"""What the health and reflection services tell of."""


def door(
    models: Models, catalogue: Catalogue, predictions: Predictions, *more: Callable[[aio.Server], None]
) -> Callable[[aio.Server], None]:
    """Put both services on a server, and more of them."""

    def add(server: aio.Server) -> None:
        add_ModelServiceServicer_to_server(ModelDoor(models, predictions.problem), server)
        add_GRPCInferenceServiceServicer_to_server(InferenceDoor(models, catalogue, predictions), server)
        for add_more in more:
            add_more(server)

    return add


class ModelDoor(ModelServiceServicer):
    """Answers ModelService."""

    def __init__(self, models: Models, problem: Problem) -> None:
        self._models = models
        self._problem = problem

    async def DeployModel(self, request_iterator: AsyncIterator[pb.DeployModelRequest], context: Any) -> Any:
        first = await anext(request_iterator, None)
        if first is None:
            raise Refused("is missing; the first message tells it", field="name")
        who = caller()
        lineage = lineage_of(first, deployed_by=who.principal)
        wish = Deployment(who.tenant, first.name, lineage, first.signature_bundle, first.alias)
        record = await self._models.deploy(wish, chunks_of(first, request_iterator))
        model = await self._models.get(who.tenant, first.name)
        return pb.DeployModelResponse(model=told_version(model, record, self._problem))

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> Any:
        models = await self._models.list(caller().tenant)
        return pb.ListModelsResponse(models=[told_version(model, model.named(""), self._problem) for model in models])

    async def GetModel(self, request: pb.GetModelRequest, context: Any) -> Any:
        model = await self._models.get(caller().tenant, request.name)
        record = model.named(request.version)
        return pb.GetModelResponse(
            model=told_version(model, record, self._problem), signature_bundle=record.signature_bundle
        )

    async def RemoveModel(self, request: pb.RemoveModelRequest, context: Any) -> Any:
        await self._models.remove(caller().tenant, request.name, request.version)
        return pb.RemoveModelResponse()

    async def ListModelVersions(self, request: pb.ListModelVersionsRequest, context: Any) -> Any:
        model = await self._models.get(caller().tenant, request.name)
        return pb.ListModelVersionsResponse(versions=told_versions(model, self._problem), aliases=told_aliases(model))

    async def SetModelAlias(self, request: pb.SetModelAliasRequest, context: Any) -> Any:
        model = await self._models.alias(caller().tenant, request.name, naming_of(request))
        return pb.SetModelAliasResponse(model=told_version(model, model.named(request.alias), self._problem))

    async def RemoveModelAlias(self, request: pb.RemoveModelAliasRequest, context: Any) -> Any:
        await self._models.unalias(caller().tenant, request.name, naming_of(request))
        return pb.RemoveModelAliasResponse()

    async def LoadModel(self, request: pb.LoadModelRequest, context: Any) -> Any:
        model = await self._models.load(caller().tenant, request.name, request.version)
        return pb.LoadModelResponse(versions=told_versions(model, self._problem))

    async def UnloadModel(self, request: pb.UnloadModelRequest, context: Any) -> Any:
        model = await self._models.unload(caller().tenant, request.name, request.version)
        return pb.UnloadModelResponse(versions=told_versions(model, self._problem))

    async def GetModelCard(self, request: pb.GetModelCardRequest, context: Any) -> Any:
        programs, people = await self._models.card(caller().tenant, request.name, request.version)
        return pb.GetModelCardResponse(json=programs, markdown=people)

    async def DownloadModel(self, request: pb.DownloadModelRequest, context: Any) -> AsyncIterator[Any]:
        async for piece in self._models.read(caller().tenant, request.name, request.version):
            yield pb.DownloadModelResponse(chunk=piece)
