"""Jobs: plan, submit, watch, pause, resume, cancel, fetch what they kept."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from ergonaut.api.scheduling.v1 import scheduling_pb2 as pb
from ergonaut.api.scheduling.v1.scheduling_pb2_grpc import SchedulingServiceStub
from ergonaut.channels import TRANSFER_TIMEOUT_SECONDS
from ergonaut.client.connection import Connection, doing, pieces
from ergonaut.client.watching import watched
from ergonaut.errors import Refused
from ergonaut.ids import new_id
from ergonaut.jobfile import pack_folder
from ergonaut.jobs import JobSpec
from ergonaut.jobs_proto import spec_to_proto

if TYPE_CHECKING:
    from ergonaut.api.scheduling.v1.scheduling_pb2_grpc import SchedulingServiceAsyncStub

ENDED = frozenset({pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED, pb.JOB_STATE_REFUSED})
"""States after which nothing changes any more."""

REWATCH_PAUSE_SECONDS = 0.5


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
            spec = spec.model_copy(update={"source": await self.upload(folder)})
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

    async def watch(self, job_id: str) -> AsyncGenerator[pb.JobStatus, None]:
        """How a job stands, at once and after every change, until it ends; a scheduler that restarts is waited for."""
        request = pb.WatchJobRequest(job_id=job_id)
        while True:
            async with aclosing(watched(lambda: self._stub.WatchJob(request), f"watching {job_id}")) as answers:
                async for answer in answers:
                    yield answer.status
                    if answer.status.state in ENDED:
                        return
            # A scheduler that stops in good order ends its watches as if there were nothing more to tell.
            await asyncio.sleep(REWATCH_PAUSE_SECONDS)

    async def cancel(self, job_id: str, *, because: str = "") -> None:
        """Ask a job to stop; `watch` tells when it has."""
        with doing(f"cancelling {job_id}"):
            request = pb.CancelJobRequest(job_id=job_id, because=because)
            await self._stub.CancelJob(request)

    async def pause(self, job_id: str, *, because: str = "") -> None:
        """Ask a job to save its state and give its machine back; `watch` tells when it has. Pausing twice is harmless."""
        with doing(f"pausing {job_id}"):
            await self._stub.PauseJob(pb.PauseJobRequest(job_id=job_id, because=because))

    async def resume(self, job_id: str, *, because: str = "") -> None:
        """Let a paused job go on from its checkpoint, whoever paused it; one that goes on already is left alone."""
        with doing(f"resuming {job_id}"):
            await self._stub.ResumeJob(pb.ResumeJobRequest(job_id=job_id, because=because))

    async def download(self, artifact: str, to: Path) -> Path:
        """Fetch a file that a run kept, by its name `<run_id>/<path>`; it appears whole or not at all."""
        beside = to.with_name(f".{to.name}.part")
        try:
            to.parent.mkdir(parents=True, exist_ok=True)
            with doing(f"fetching {artifact}"), beside.open("wb") as file:
                request = pb.DownloadArtifactRequest(name=artifact)
                async for answer in self._stub.DownloadArtifact(request, timeout=TRANSFER_TIMEOUT_SECONDS):
                    file.write(answer.chunk)
            return beside.replace(to)
        except OSError as error:
            raise Refused(f"{to} cannot be written: {error.strerror}", field="to") from error
        finally:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)

    async def upload(self, folder: Path) -> str:
        """Keep a folder's files for a job; gives the `source` by which a job names them."""
        packed = await asyncio.to_thread(pack_folder, folder)

        async def requests() -> AsyncIterator[pb.UploadSourceRequest]:
            async for piece in pieces(packed):
                yield pb.UploadSourceRequest(chunk=piece)

        with doing(f"uploading {folder}"):
            answer = await self._stub.UploadSource(requests())
            return str(answer.source)
