"""The whole process on a real NATS and a real Temporal: what is handed in survives a kill, and its workflow is started once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from ergonaut.api.scheduling.v1 import scheduling_pb2 as pb
from ergonaut.api.scheduling.v1 import scheduling_pb2_grpc as pb_grpc
from ergonaut.errors import Conflict, NotFound
from ergonaut.events import RunFinished, RunStarted
from ergonaut.jobs import JobSpec, source_digest
from ergonaut.workflows import RUN_JOB, RUNS_TASK_QUEUE, Asked, RunJobInput, RunJobResult
from ergonaut_common.bus import Bus, open_bus
from ergonaut_common.settings import PlatformSettings
from ergonaut_common.temporal import connect_temporal
from ergonaut_common.testing import ServiceProcess, temporal_server
from ergonaut_scheduler.adapters.workflows import TemporalWorkflows
from ergonaut_scheduler.fakes import FakeWorkflows
from ergonaut_scheduler.ports import WorkflowEnd, Workflows

pytestmark = pytest.mark.integration

PATIENCE_SECONDS = 30.0
PACKED = b"\x1f\x8b" + b"job's files"


def job(job_id: str, **changes: Any) -> RunJobInput:
    spec = {"name": "digits", "command": ("true",), "duration_seconds_expected": 1} | changes
    return RunJobInput(job=JobSpec.model_validate(spec), job_id=job_id)


@workflow.defn(name=RUN_JOB)
class Ends:
    """Ends at once, as the job's name says."""

    @workflow.run
    async def run(self, job: RunJobInput) -> RunJobResult:
        if job.job.name == "hangs":
            await workflow.wait_condition(lambda: False)
        return RunJobResult(job_id=job.job_id, run_id="run-1", state="succeeded", artifacts=("run-1/model.onnx",))


@pytest.fixture(scope="module")
def temporal_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with temporal_server(tmp_path_factory.mktemp("temporal")) as address:
        yield address


@pytest.fixture
async def temporal(temporal_address: str) -> Client:
    return await connect_temporal(PlatformSettings(temporal_address=temporal_address))


@pytest.fixture(params=["fake", "real"])
async def workflows(request: pytest.FixtureRequest) -> Workflows:
    if request.param == "fake":
        return FakeWorkflows()
    address = request.getfixturevalue("temporal_address")
    return TemporalWorkflows(await connect_temporal(PlatformSettings(temporal_address=address)))


async def end_of(workflows: Workflows, workflow_id: str) -> WorkflowEnd | None:
    for _ in range(int(PATIENCE_SECONDS * 10)):
        if end := await workflows.end_of(workflow_id):
            return end
        await asyncio.sleep(0.1)
    return None


@contextlib.asynccontextmanager
async def ending(workflows: Workflows, workflow_id: str) -> AsyncIterator[None]:
    """Let the workflow end: by a worker in Temporal, by hand in the fake."""
    if isinstance(workflows, FakeWorkflows):
        result = RunJobResult(job_id="", run_id="run-1", state="succeeded", artifacts=("run-1/model.onnx",))
        if workflow_id in workflows.cancelled:
            result = RunJobResult(job_id="", run_id="", state="cancelled", because="ended in Temporal as canceled")
        workflows.ends[workflow_id] = WorkflowEnd(datetime.now(UTC), result)
        yield
        return
    assert isinstance(workflows, TemporalWorkflows)
    client = workflows._client
    async with Worker(
        client, task_queue=RUNS_TASK_QUEUE, workflows=[Ends], workflow_runner=UnsandboxedWorkflowRunner()
    ):
        yield


async def test_an_equal_workflow_is_started_once_and_a_different_one_is_a_conflict(workflows: Workflows) -> None:
    await workflows.start(job("job-a"))
    await workflows.start(job("job-a"))
    with pytest.raises(Conflict, match="job-a"):
        await workflows.start(job("job-a", objective="cheapest"))
    assert await workflows.end_of("job/default/job-a") is None


@pytest.mark.parametrize("given", [[], ["hello"], [{"job": 1}]], ids=["nothing", "text", "no-job"])
async def test_a_strange_workflow_in_a_job_s_place_is_a_conflict(temporal: Client, given: list[Any]) -> None:
    job_id = f"strange-{len(str(given))}"
    await temporal.start_workflow("Strange", args=given, id=f"job/default/{job_id}", task_queue="strange")
    with pytest.raises(Conflict, match=job_id):
        await TemporalWorkflows(temporal).start(job(job_id))


@workflow.defn(name="Strange")
class Strange:
    """Answers what no job answers."""

    @workflow.run
    async def run(self) -> str:
        return "hello"


async def test_a_strange_answer_is_a_failed_job_and_harms_nobody(temporal: Client) -> None:
    async with Worker(temporal, task_queue="answers", workflows=[Strange], workflow_runner=UnsandboxedWorkflowRunner()):
        await temporal.start_workflow("Strange", id="job/default/answers", task_queue="answers")
        end = await end_of(TemporalWorkflows(temporal), "job/default/answers")
    assert end is not None
    assert (end.result.state, end.result.because) == ("failed", "the workflow's answer is not that of RunJob")


async def test_a_workflow_that_nobody_started_has_no_end_and_may_be_cancelled(workflows: Workflows) -> None:
    await workflows.cancel("job/default/nobody")
    with pytest.raises(NotFound, match="job/default/nobody"):
        await workflows.end_of("job/default/nobody")


async def test_a_workflow_that_answered_tells_its_result_and_is_not_started_again(workflows: Workflows) -> None:
    await workflows.start(job("job-b"))
    async with ending(workflows, "job/default/job-b"):
        end = await end_of(workflows, "job/default/job-b")
    assert end is not None
    assert (end.result.state, end.result.artifacts) == ("succeeded", ("run-1/model.onnx",))
    await workflows.start(job("job-b"))
    await workflows.cancel("job/default/job-b")
    assert await workflows.end_of("job/default/job-b") == end


async def test_a_workflow_that_was_cancelled_says_so(workflows: Workflows) -> None:
    await workflows.start(job("job-c", name="hangs"))
    await workflows.cancel("job/default/job-c")
    async with ending(workflows, "job/default/job-c"):
        end = await end_of(workflows, "job/default/job-c")
    assert end is not None
    assert end.result.state == "cancelled"
    assert "canceled" in end.result.because


async def test_a_wish_reaches_a_workflow_that_runs_and_no_other(workflows: Workflows) -> None:
    asked = Asked(because="lunch")
    await workflows.start(job("job-d"))
    assert await workflows.signal("job/default/job-d", "pause", asked)
    assert not await workflows.signal("job/default/nobody", "pause", asked)
    async with ending(workflows, "job/default/job-d"):
        await end_of(workflows, "job/default/job-d")
    assert not await workflows.signal("job/default/job-d", "resume", asked)


@pytest.fixture
def process(nats_url: str, temporal_address: str, tmp_path: Path) -> ServiceProcess:
    settings = {
        "ERGONAUT_NATS_URL": nats_url,
        "ERGONAUT_TEMPORAL_ADDRESS": temporal_address,
        "ERGONAUT_PRICING_ADDRESS": "127.0.0.1:1",
        "ERGONAUT_SCHEDULER_PROVIDERS": "local, aws",
    }
    return ServiceProcess("scheduler", tmp_path, settings, patience_seconds=PATIENCE_SECONDS)


@contextlib.asynccontextmanager
async def healthy(process: ServiceProcess) -> AsyncIterator[Any]:
    async with process.healthy("ergonaut.api.scheduling.v1.SchedulingService") as channel:
        yield pb_grpc.SchedulingServiceStub(channel)


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    async with open_bus(PlatformSettings(nats_url=nats_url), "test") as opened:
        await opened.ensure_streams("runs", "jobs")
        yield opened


async def pieces() -> AsyncIterator[pb.UploadSourceRequest]:
    yield pb.UploadSourceRequest(chunk=PACKED)


async def test_a_job_survives_the_kill_of_the_scheduler_and_ends_by_its_run_s_events(
    process: ServiceProcess, bus: Bus, temporal: Client
) -> None:
    spec = pb.JobSpec(name="digits", command=["true"], duration_seconds_expected=1, source=source_digest(PACKED))
    run = {"tenant": "default", "job_id": "job-1", "run_id": "run-1"}
    now = datetime.now(UTC)
    with process.running():
        async with healthy(process) as stub:
            await stub.UploadSource(pieces(), metadata=process.metadata())
            await stub.SubmitJob(pb.SubmitJobRequest(job=spec, job_id="job-1"), metadata=process.metadata())
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.PlanJob(pb.PlanJobRequest(job=spec), metadata=process.metadata())
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        process.kill()
    await bus.publish(
        RunStarted(**run, name="digits", host="desk", provider="local", region="desk", machine_type="m", started_at=now)
    )
    description = await temporal.get_workflow_handle("job/default/job-1").describe()
    assert description.workflow_type == RUN_JOB
    with process.running():
        async with healthy(process) as stub:
            watch = stub.WatchJob(
                pb.WatchJobRequest(job_id="job-1"), metadata=process.metadata(), timeout=PATIENCE_SECONDS
            )
            await bus.publish(RunFinished(**run, state="succeeded", exit_code=0, ended_at=now))
            states = [answer.status.state async for answer in watch]
            assert states[-1] == pb.JOB_STATE_SUCCEEDED
            await stub.SubmitJob(pb.SubmitJobRequest(job=spec, job_id="job-1"), metadata=process.metadata())
            jobs = (await stub.ListJobs(pb.ListJobsRequest(), metadata=process.metadata())).jobs
            assert [(status.job_id, status.state) for status in jobs] == [("job-1", pb.JOB_STATE_SUCCEEDED)]


async def test_a_stop_is_clean_and_quick(process: ServiceProcess) -> None:
    with process.running():
        async with healthy(process):
            assert await process.stopped(within_seconds=15) == 0
    assert "Traceback" not in process.log.read_text()


def test_a_bad_setting_is_named_and_the_process_ends_at_once(process: ServiceProcess) -> None:
    process.environment["ERGONAUT_SCHEDULER_PROVIDERS"] = "local,hertzner"
    with process.running():
        assert process.exit_code() == 78
    assert "unknown provider 'hertzner'" in process.log.read_text()
