"""Pipelines: apply, check, list, remove. Predictions of a pipeline are asked as those of a model, by its name."""

from typing import TYPE_CHECKING

from ergonaut.api.inference.v1 import pipelines_pb2 as pb
from ergonaut.api.inference.v1.pipelines_pb2_grpc import PipelineServiceStub
from ergonaut.channels import TRANSFER_TIMEOUT_SECONDS
from ergonaut.client.connection import Connection, doing

if TYPE_CHECKING:
    from ergonaut.api.inference.v1.pipelines_pb2_grpc import PipelineServiceAsyncStub


class Pipelines:
    """Graphs of models that are asked as one; `ergonaut.pipelinefile` reads them from files."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def _stub(self) -> "PipelineServiceAsyncStub":
        return PipelineServiceStub(self._connection.channel("gateway"))

    async def apply(self, pipeline: pb.Pipeline, *, expected: int | None = None) -> pb.ServedPipeline:
        """Serve a pipeline from now on. `expected` is the revision that it replaces, 0 for none. Raises Conflict, Refused."""
        request = pb.ApplyPipelineRequest(pipeline=pipeline, expected_revision=expected)
        with doing(f"applying pipeline {pipeline.name}"):
            # Making one model of several may take as long as it takes to send one.
            answer = await self._stub.ApplyPipeline(request, timeout=TRANSFER_TIMEOUT_SECONDS)
            served: pb.ServedPipeline = answer.pipeline
            return served

    async def check(self, pipeline: pb.Pipeline) -> pb.ServedPipeline:
        """What a pipeline would take and give; nothing is kept. Raises Refused where it does not fit together."""
        with doing(f"checking pipeline {pipeline.name}"):
            return (await self._stub.CheckPipeline(pb.CheckPipelineRequest(pipeline=pipeline))).pipeline

    async def get(self, name: str) -> pb.GetPipelineResponse:
        """A pipeline as it is, and what it was before. Raises NotFound."""
        with doing(f"asking for pipeline {name}"):
            answer: pb.GetPipelineResponse = await self._stub.GetPipeline(pb.GetPipelineRequest(name=name))
            return answer

    async def all(self) -> list[pb.ServedPipeline]:
        """Every pipeline, by name."""
        with doing("listing pipelines"):
            return [*(await self._stub.ListPipelines(pb.ListPipelinesRequest())).pipelines]

    async def remove(self, name: str) -> None:
        """Keep a pipeline no longer; its models stay. Raises NotFound."""
        with doing(f"removing pipeline {name}"):
            await self._stub.RemovePipeline(pb.RemovePipelineRequest(name=name))
