"""Jobs: plan, submit, watch, cancel, fetch what they kept."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from ergonaut.api.scheduling.v1 import scheduling_pb2 as pb
from ergonaut.api.scheduling.v1.scheduling_pb2_grpc import SchedulingServiceStub
from ergonaut.client.connection import Connection, doing, pieces
from ergonaut.ids import new_id
from ergonaut.jobfile import pack_folder
from ergonaut.jobs import JobSpec
from ergonaut.jobs_proto import spec_to_proto

if TYPE_CHECKING:
    from ergonaut.api.scheduling.v1.scheduling_pb2_grpc import SchedulingServiceAsyncStub

ENDED = frozenset({pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED, pb.JOB_STATE_REFUSED})
"""States after which nothing changes any more."""

REWATCH_PAUSE_SECONDS = 0.5
WATCH_PATIENCE_SECONDS = 120.0
"""How long a watch waits for a scheduler that is away; then the caller is told."""


class Jobs:
    """What somebody wants run."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def _stub(self) -> "SchedulingServiceAsyncStub":
        return SchedulingServiceStub(self._connection.channel("scheduler"))

    async def plan(self, spec: JobSpec) -> pb.PlanJobResponse:
        """What would be chosen for a job now, and what else was weighed; runs nothing."""
        with doing("planning the job"):
            request = pb.PlanJobRequest(job=spec_to_proto(spec))
            answer: pb.PlanJobResponse = await self._stub.PlanJob(request)
            return answer

    async def submit(self, spec: JobSpec, folder: Path | None = None, *, job_id: str = "") -> str:
        """Upload the job's folder, hand the job in, and give its id; safe to repeat with the same id."""
        job_id = job_id or new_id("job")
        if folder is not None:
            spec = spec.model_copy(update={"source": await self._upload(folder)})
        with doing("submitting the job"):
            request = pb.SubmitJobRequest(job=spec_to_proto(spec), job_id=job_id)
            answer = await self._stub.SubmitJob(request)
            return str(answer.job_id)

    async def get(self, job_id: str) -> pb.JobStatus:
        """How a job stands."""
        with doing(f"asking for {job_id}"):
            answer = await self._stub.GetJob(pb.GetJobRequest(job_id=job_id))
            status: pb.JobStatus = answer.status
            return status

    async def newest(self, limit: int = 50) -> list[pb.JobStatus]:
        """The newest jobs, newest first."""
        with doing("listing jobs"):
            answer = await self._stub.ListJobs(pb.ListJobsRequest(limit=limit))
            return [*answer.jobs]

    async def watch(self, job_id: str) -> AsyncIterator[pb.JobStatus]:
        """How a job stands, at once and after every change, until it ends; a scheduler that restarts is waited for."""
        silent_since = time.monotonic()
        while True:
            try:
                async for answer in self._stub.WatchJob(pb.WatchJobRequest(job_id=job_id)):
                    silent_since = time.monotonic()
                    yield answer.status
                    if answer.status.state in ENDED:
                        return
            except grpc.RpcError as error:
                with doing(f"watching {job_id}"):
                    if not _is_away(error) or time.monotonic() - silent_since > WATCH_PATIENCE_SECONDS:
                        raise
            await asyncio.sleep(REWATCH_PAUSE_SECONDS)

    async def cancel(self, job_id: str, *, because: str = "") -> None:
        """Ask a job to stop; `watch` tells when it has."""
        with doing(f"cancelling {job_id}"):
            request = pb.CancelJobRequest(job_id=job_id, because=because)
            await self._stub.CancelJob(request)

    async def download(self, artifact: str, to: Path) -> Path:
        """Fetch a file that a run kept, by its name `<run_id>/<path>`; it appears whole or not at all."""
        to.parent.mkdir(parents=True, exist_ok=True)
        beside = to.with_name(f".{to.name}.part")
        with doing(f"fetching {artifact}"), beside.open("wb") as file:
            received = self._stub.DownloadArtifact(pb.DownloadArtifactRequest(name=artifact))
            async for answer in received:
                file.write(answer.chunk)
        return beside.replace(to)

    async def _upload(self, folder: Path) -> str:
        packed = await asyncio.to_thread(pack_folder, folder)

        async def requests() -> AsyncIterator[pb.UploadSourceRequest]:
            async for piece in pieces(packed):
                yield pb.UploadSourceRequest(chunk=piece)

        with doing(f"uploading {folder}"):
            answer = await self._stub.UploadSource(requests())
            return str(answer.source)


def _is_away(error: grpc.RpcError) -> bool:
    return bool(error.code() == grpc.StatusCode.UNAVAILABLE)
