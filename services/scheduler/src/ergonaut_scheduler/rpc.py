"""The gRPC door: one method a use case, for the caller's own tenant."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from grpc import aio

from ergonaut.api.scheduling.v1 import scheduling_pb2 as pb
from ergonaut.api.scheduling.v1 import scheduling_pb2_grpc as pb_grpc
from ergonaut.errors import NotAllowed, Refused
from ergonaut.ids import NAME_RULE, is_name
from ergonaut.jobs import SOURCE_BYTES_MAX
from ergonaut.jobs_proto import plan_to_proto, spec_from_proto, status_to_proto
from ergonaut.keys import Scope
from ergonaut.workflows import job_workflow_id
from ergonaut_common.rpc import caller
from ergonaut_scheduler.service import Scheduling

SERVICE_NAME: str = pb.DESCRIPTOR.services_by_name["SchedulingService"].full_name

CHUNK_BYTES_MAX = 1024 * 1024
"""As the contract says; it keeps one message from being the whole upload."""


class SchedulingDoor(pb_grpc.SchedulingServiceServicer):
    """Translates calls to use cases and their answers to messages."""

    def __init__(self, scheduling: Scheduling) -> None:
        self._scheduling = scheduling

    async def UploadSource(
        self, request_iterator: AsyncIterator[pb.UploadSourceRequest], context: Any
    ) -> pb.UploadSourceResponse:
        packed = bytearray()
        async for request in request_iterator:
            if len(request.chunk) > CHUNK_BYTES_MAX:
                raise Refused("a piece may be 1 MiB at most", field="chunk")
            if len(packed) + len(request.chunk) > SOURCE_BYTES_MAX:
                raise Refused(f"the files are more than {SOURCE_BYTES_MAX >> 20} MiB when packed", field="chunk")
            packed += request.chunk
        source = await self._scheduling.submitting.keep_source(caller().tenant, bytes(packed))
        return pb.UploadSourceResponse(source=source)

    async def PlanJob(self, request: pb.PlanJobRequest, context: Any) -> pb.PlanJobResponse:
        who, spec = caller(), spec_from_proto(request.job)
        if not request.job_id:
            return plan_to_proto(await self._scheduling.planning.what_if(who.tenant, spec))
        if Scope.SERVICE not in who.scopes:
            raise NotAllowed(
                "only services may decide for a job; leave it out to see what would be chosen", field="job_id"
            )
        if not is_name(request.job_id):
            raise Refused(f"{request.job_id!r} cannot be an id; it must be {NAME_RULE}", field="job_id")
        workflow_id = request.workflow_id or job_workflow_id(who.tenant, request.job_id)
        seed = self._scheduling.submitting.record_for_workflow(who.tenant, request.job_id, spec, workflow_id)
        return plan_to_proto(await self._scheduling.planning.place(seed))

    async def SubmitJob(self, request: pb.SubmitJobRequest, context: Any) -> pb.SubmitJobResponse:
        spec = spec_from_proto(request.job)
        job_id = await self._scheduling.submitting.submit(caller().tenant, spec, request.job_id)
        return pb.SubmitJobResponse(job_id=job_id)

    async def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.GetJobResponse:
        status = await self._scheduling.reading.status(caller().tenant, request.job_id)
        return pb.GetJobResponse(status=status_to_proto(status))

    async def ListJobs(self, request: pb.ListJobsRequest, context: Any) -> pb.ListJobsResponse:
        newest = await self._scheduling.reading.newest(caller().tenant, request.limit)
        return pb.ListJobsResponse(jobs=[status_to_proto(status) for status in newest])

    async def WatchJob(self, request: pb.WatchJobRequest, context: Any) -> AsyncIterator[pb.WatchJobResponse]:
        async with aclosing(self._scheduling.reading.watch(caller().tenant, request.job_id)) as statuses:
            async for status in statuses:
                yield pb.WatchJobResponse(status=status_to_proto(status))

    async def DownloadArtifact(
        self, request: pb.DownloadArtifactRequest, context: Any
    ) -> AsyncIterator[pb.DownloadArtifactResponse]:
        async with aclosing(self._scheduling.reading.artifact(caller().tenant, request.name)) as pieces:
            async for piece in pieces:
                yield pb.DownloadArtifactResponse(chunk=piece)

    async def CancelJob(self, request: pb.CancelJobRequest, context: Any) -> pb.CancelJobResponse:
        await self._scheduling.submitting.cancel(caller().tenant, request.job_id, request.because)
        return pb.CancelJobResponse()

    async def PauseJob(self, request: pb.PauseJobRequest, context: Any) -> pb.PauseJobResponse:
        await self._scheduling.pausing.pause(caller().tenant, request.job_id, request.because)
        return pb.PauseJobResponse()

    async def ResumeJob(self, request: pb.ResumeJobRequest, context: Any) -> pb.ResumeJobResponse:
        await self._scheduling.pausing.resume(caller().tenant, request.job_id, request.because)
        return pb.ResumeJobResponse()


def door(scheduling: Scheduling) -> Callable[[aio.Server], None]:
    """What puts this door on a server."""

    def add(server: aio.Server) -> None:
        pb_grpc.add_SchedulingServiceServicer_to_server(SchedulingDoor(scheduling), server)

    return add
