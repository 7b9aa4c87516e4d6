"""gRPC door of pipelines: PipelineService."""

from collections.abc import Callable
from typing import Any

from grpc import aio

from ergonaut.api.inference.v1 import pipelines_pb2 as pb
from ergonaut.api.inference.v1.pipelines_pb2_grpc import (
    PipelineServiceServicer,
    add_PipelineServiceServicer_to_server,
)
from ergonaut_common.rpc import caller
from ergonaut_gateway.protocol.pipeline_wire import pipeline_of, told_checked, told_pipeline, told_revision, told_served
from ergonaut_gateway.service.pipelines import Change, Pipelines


def pipeline_door(pipelines: Pipelines) -> Callable[[aio.Server], None]:
    """Put the service on a server."""
    return lambda server: add_PipelineServiceServicer_to_server(PipelineDoor(pipelines), server)


class PipelineDoor(PipelineServiceServicer):
    """Answers PipelineService."""

    def __init__(self, pipelines: Pipelines) -> None:
        self._pipelines = pipelines

    async def ApplyPipeline(self, request: pb.ApplyPipelineRequest, context: Any) -> Any:
        who = caller()
        expected = request.expected_revision if request.HasField("expected_revision") else None
        change = Change(who.principal, request.pipeline.because, expected)
        record = await self._pipelines.apply(who.tenant, pipeline_of(request.pipeline), change)
        return pb.ApplyPipelineResponse(pipeline=told_served(record))

    async def CheckPipeline(self, request: pb.CheckPipelineRequest, context: Any) -> Any:
        pipeline = pipeline_of(request.pipeline)
        signature, fusions = await self._pipelines.check(caller().tenant, pipeline)
        return pb.CheckPipelineResponse(pipeline=told_checked(told_pipeline(pipeline), signature, fusions))

    async def GetPipeline(self, request: pb.GetPipelineRequest, context: Any) -> Any:
        record = await self._pipelines.get(caller().tenant, request.name)
        history = [told_revision(revision) for revision in record.history]
        return pb.GetPipelineResponse(pipeline=told_served(record), history=history)

    async def ListPipelines(self, request: pb.ListPipelinesRequest, context: Any) -> Any:
        records = await self._pipelines.list(caller().tenant)
        return pb.ListPipelinesResponse(pipelines=[told_served(record) for record in records])

    async def RemovePipeline(self, request: pb.RemovePipelineRequest, context: Any) -> Any:
        await self._pipelines.remove(caller().tenant, request.name)
        return pb.RemovePipelineResponse()
