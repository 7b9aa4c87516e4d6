"""The gRPC door on a free port: keys, tenants, scopes, and one clear error for each kind of bad input."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from ergonaut.api.scheduling.v1 import scheduling_pb2 as pb
from ergonaut.api.scheduling.v1 import scheduling_pb2_grpc as pb_grpc
from ergonaut.events import RunFinished, RunStarted
from ergonaut.jobs import source_digest
from ergonaut_common.auth import KeyRing
from ergonaut_common.rpc import for_tenant, serving
from ergonaut_common.testing import key_ring_file
from ergonaut_scheduler.rpc import SERVICE_NAME, door

PACKED = b"\x1f\x8b" + b"job's files" * 1000
Metadata = Callable[[str], list[tuple[str, str]]]


class Door:
    """A stub and the keys to call it with."""

    def __init__(self, stub: Any, keys: dict[str, str]) -> None:
        self.stub = stub
        self._keys = keys

    def by(self, who: str) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self._keys[who]}")]

    def service_for(self, tenant: str) -> list[tuple[str, str]]:
        return [*self.by("service"), *for_tenant(tenant)]

    async def submit(self, job_id: str = "job-1", who: str = "default", **changes: Any) -> str:
        request = pb.SubmitJobRequest(job=job(**changes), job_id=job_id)
        return str((await self.stub.SubmitJob(request, metadata=self.by(who))).job_id)


def job(**changes: Any) -> pb.JobSpec:
    return pb.JobSpec(**({"name": "digits", "command": ["true"], "duration_seconds_expected": 30} | changes))


@pytest.fixture
async def opened(around: Any, tmp_path: Path) -> AsyncIterator[Door]:
    path, keys = key_ring_file(tmp_path, ("default", "other"))
    add = door(around.scheduling)
    async with (
        serving("127.0.0.1:0", service="scheduler", add=add, keys=KeyRing.load(path), names=[SERVICE_NAME]) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        yield Door(pb_grpc.SchedulingServiceStub(channel), keys)


async def pieces(*chunks: bytes) -> AsyncIterator[pb.UploadSourceRequest]:
    for chunk in chunks:
        yield pb.UploadSourceRequest(chunk=chunk)


async def test_a_job_is_uploaded_submitted_watched_and_fetched(opened: Door, around: Any) -> None:
    mine = opened.by("default")
    uploaded = await opened.stub.UploadSource(pieces(PACKED[:500], PACKED[500:]), metadata=mine)
    assert uploaded.source == source_digest(PACKED)
    job_id = await opened.submit(source=uploaded.source)
    watch = opened.stub.WatchJob(pb.WatchJobRequest(job_id=job_id), metadata=mine)
    assert (await watch.read()).status.state == pb.JOB_STATE_SUBMITTED
    run = {"tenant": "default", "job_id": job_id, "run_id": "run-1"}
    now = around.clock.now()
    await around.scheduling.following.started(
        RunStarted(**run, name="digits", host="desk", provider="local", region="desk", machine_type="m", started_at=now)
    )
    assert (await watch.read()).status.state == pb.JOB_STATE_RUNNING
    around.artifacts.files["default", "run-1/model.onnx"] = b"a model"
    await around.scheduling.following.finished(
        RunFinished(**run, state="succeeded", exit_code=0, ended_at=now, artifacts=("run-1/model.onnx",))
    )
    last = (await watch.read()).status
    assert (last.state, last.exit_code, last.artifacts) == (pb.JOB_STATE_SUCCEEDED, 0, ["run-1/model.onnx"])
    assert await watch.read() is grpc.aio.EOF
    fetched = opened.stub.DownloadArtifact(pb.DownloadArtifactRequest(name=last.artifacts[0]), metadata=mine)
    assert b"".join([answer.chunk async for answer in fetched]) == b"a model"


async def test_a_plan_tells_the_choice_and_the_alternatives_and_keeps_nothing(opened: Door, around: Any) -> None:
    answer = await opened.stub.PlanJob(pb.PlanJobRequest(job=job()), metadata=opened.by("default"))
    assert answer.chosen.offer_id == "local/desk/machine/free"
    assert answer.chosen.electricity_microusd_per_kwh == 300_000
    assert [row.provider for row in answer.alternatives] == ["local", "aws"]
    assert "aws is not connected" in answer.alternatives[1].because
    assert answer.weighed == 49
    assert await around.jobs.everything() == []
    assert around.announcer.told == {}


async def test_a_tenant_s_own_machines_are_weighed_for_no_other(opened: Door, around: Any) -> None:
    around.offers.own = {"other": around.offers.offers[:1]}
    around.offers.offers = around.offers.offers[1:]
    plans = {
        who: await opened.stub.PlanJob(pb.PlanJobRequest(job=job()), metadata=opened.by(who))
        for who in ("default", "other")
    }
    assert plans["other"].chosen.provider == "local"
    assert not plans["default"].HasField("chosen")


async def test_the_platform_decides_for_a_job_in_the_name_of_its_tenant(opened: Door, around: Any) -> None:
    request = pb.PlanJobRequest(job=job(), job_id="job-7", workflow_id="somebody-s-own")
    first = await opened.stub.PlanJob(request, metadata=opened.service_for("other"))
    await around.clock.advance(3600)
    assert await opened.stub.PlanJob(request, metadata=opened.service_for("other")) == first
    status = await opened.stub.GetJob(pb.GetJobRequest(job_id="job-7"), metadata=opened.by("other"))
    assert status.status.state == pb.JOB_STATE_PLACED
    assert status.status.placement == first.chosen
    stored = await around.jobs.find("other", "job-7")
    assert stored.record.workflow_id == "somebody-s-own"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"command": []}, "command"),
        ({"duration_seconds_expected": 0}, "duration_seconds_expected"),
        ({"deadline": {"seconds": 1}}, "deadline"),
        ({"budget": pb.Budget(cost_usd=0)}, "budget.cost_usd"),
        ({"budget": pb.Budget(carbon_grams_co2e=0)}, "budget.carbon_grams_co2e"),
        ({"budget": pb.Budget(energy_joules=float("inf"))}, "budget.energy_joules"),
        ({"environment": {"DATA": "x" * 300_000}}, "environment"),
        ({"command": ["x" * 300_000]}, "command"),
        ({"providers": ["hertzner"]}, "providers"),
        ({"source": f"sha256-{'0' * 64}"}, "source"),
        ({"source": "../../etc"}, "source"),
    ],
)
@pytest.mark.parametrize("method", ["SubmitJob", "PlanJob"])
async def test_bad_input_gets_one_error_that_names_the_field_and_keeps_nothing(
    opened: Door, around: Any, method: str, changes: dict[str, Any], field: str
) -> None:
    request = pb.SubmitJobRequest if method == "SubmitJob" else pb.PlanJobRequest
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(opened.stub, method)(request(job=job(**changes)), metadata=opened.by("default"))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert str(caught.value.details()).startswith(f"{field}: ")
    assert (await around.jobs.everything(), around.announcer.told, around.workflows.started) == ([], {}, {})


@pytest.mark.parametrize(
    ("call", "code", "says"),
    [
        (lambda it: it.stub.GetJob(pb.GetJobRequest(job_id="job-0"), metadata=it.by("default")), "NOT_FOUND", "job-0"),
        (lambda it: it.stub.GetJob(pb.GetJobRequest(job_id="*"), metadata=it.by("default")), "NOT_FOUND", "'*'"),
        (lambda it: it.stub.CancelJob(pb.CancelJobRequest(job_id="x"), metadata=it.by("default")), "NOT_FOUND", "x"),
        (
            lambda it: it.stub.WatchJob(pb.WatchJobRequest(job_id="x"), metadata=it.by("default")).read(),
            "NOT_FOUND",
            "x",
        ),
        (
            lambda it: it.stub.DownloadArtifact(
                pb.DownloadArtifactRequest(name="run-1/x"), metadata=it.by("default")
            ).read(),
            "NOT_FOUND",
            "run-1/x",
        ),
        (
            lambda it: it.stub.ListJobs(pb.ListJobsRequest(limit=1001), metadata=it.by("default")),
            "INVALID_ARGUMENT",
            "limit: 1001",
        ),
        (
            lambda it: it.stub.SubmitJob(pb.SubmitJobRequest(job=job(), job_id="A.b"), metadata=it.by("default")),
            "INVALID_ARGUMENT",
            "job_id: 'A.b'",
        ),
        (
            lambda it: it.stub.PlanJob(pb.PlanJobRequest(job=job(), job_id="job-1"), metadata=it.by("default")),
            "PERMISSION_DENIED",
            "job_id: only services",
        ),
        (
            lambda it: it.stub.PlanJob(pb.PlanJobRequest(job=job(), job_id="A.b"), metadata=it.service_for("default")),
            "INVALID_ARGUMENT",
            "job_id: 'A.b'",
        ),
        (lambda it: it.stub.ListJobs(pb.ListJobsRequest()), "PERMISSION_DENIED", "API key"),
        (lambda it: it.stub.UploadSource(pieces(b"no gzip"), metadata=it.by("default")), "INVALID_ARGUMENT", "gzipped"),
        (lambda it: it.stub.UploadSource(pieces(), metadata=it.by("default")), "INVALID_ARGUMENT", "gzipped"),
        (
            lambda it: it.stub.UploadSource(pieces(PACKED + b"0" * 2**20), metadata=it.by("default")),
            "INVALID_ARGUMENT",
            "chunk: a piece",
        ),
        (
            lambda it: it.stub.UploadSource(pieces(*[b"0" * 2**20] * 65), metadata=it.by("default")),
            "INVALID_ARGUMENT",
            "more than 64 MiB",
        ),
    ],
)
async def test_what_cannot_be_done_is_told_with_its_code(
    opened: Door, around: Any, call: Callable[[Door], Any], code: str, says: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(opened)
    assert caught.value.code() == grpc.StatusCode[code]
    assert says in str(caught.value.details())
    assert around.sources.kept == {}


async def test_a_reason_to_stop_is_no_novel(opened: Door) -> None:
    job_id = await opened.submit()
    request = pb.CancelJobRequest(job_id=job_id, because="x" * 1001)
    with pytest.raises(grpc.aio.AioRpcError, match="because: has 1001 letters"):
        await opened.stub.CancelJob(request, metadata=opened.by("default"))
    status = (await opened.stub.GetJob(pb.GetJobRequest(job_id=job_id), metadata=opened.by("default"))).status
    assert status.state == pb.JOB_STATE_SUBMITTED


async def test_a_tenant_sees_only_its_own(opened: Door, around: Any) -> None:
    await opened.submit("job-1", "default")
    await opened.submit("job-1", "other", name="theirs")
    await opened.submit("job-2", "other")
    listed = {
        who: (await opened.stub.ListJobs(pb.ListJobsRequest(), metadata=opened.by(who))).jobs
        for who in ("default", "other")
    }
    assert [(status.job_id, status.name) for status in listed["default"]] == [("job-1", "digits")]
    assert {status.job_id for status in listed["other"]} == {"job-1", "job-2"}
    await opened.stub.UploadSource(pieces(PACKED), metadata=opened.by("default"))
    with pytest.raises(grpc.aio.AioRpcError, match="upload them first"):
        await opened.submit("job-3", "other", source=source_digest(PACKED))
    around.artifacts.files["default", "run-1/m"] = b"mine"
    request = pb.DownloadArtifactRequest(name="run-1/m")
    with pytest.raises(grpc.aio.AioRpcError, match="no run kept a file"):
        await opened.stub.DownloadArtifact(request, metadata=opened.by("other")).read()


async def test_jobs_are_listed_newest_first_and_no_more_than_asked_for(opened: Door, around: Any) -> None:
    for number in (1, 2, 3):
        await opened.submit(f"job-{number}")
        await around.clock.advance(1)
    answer = await opened.stub.ListJobs(pb.ListJobsRequest(limit=2), metadata=opened.by("default"))
    assert [status.job_id for status in answer.jobs] == ["job-3", "job-2"]


async def test_the_same_job_at_once_from_many_is_one_job(opened: Door, around: Any) -> None:
    ids = await asyncio.gather(*(opened.submit("job-1") for _ in range(8)))
    assert set(ids) == {"job-1"}
    assert [event.TYPE for event in around.announcer.told.values()] == ["jobs.job.submitted"]
    assert list(around.workflows.started) == ["job/default/job-1"]


async def test_a_job_without_an_id_is_given_one(opened: Door) -> None:
    assert (await opened.submit("")).startswith("job-")


async def test_a_deadline_travels_unchanged(opened: Door, around: Any) -> None:
    deadline = datetime(2026, 3, 3, tzinfo=UTC) + timedelta(microseconds=5)
    message = job()
    message.deadline.FromDatetime(deadline)
    request = pb.SubmitJobRequest(job=message, job_id="job-1")
    await opened.stub.SubmitJob(request, metadata=opened.by("default"))
    assert around.workflows.started["job/default/job-1"].job.deadline == deadline


async def test_an_absent_pricing_service_is_unavailable_for_a_plan_and_no_matter_for_a_submission(
    opened: Door, around: Any
) -> None:
    around.offers.away = True
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await opened.stub.PlanJob(pb.PlanJobRequest(job=job()), metadata=opened.by("default"))
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert await opened.submit("job-1") == "job-1"


async def test_a_job_may_be_stopped_once(opened: Door, around: Any) -> None:
    await opened.submit("job-1")
    request = pb.CancelJobRequest(job_id="job-1", because="too dear")
    await opened.stub.CancelJob(request, metadata=opened.by("default"))
    assert around.workflows.cancelled == ["job/default/job-1"]
    status = (await opened.stub.GetJob(pb.GetJobRequest(job_id="job-1"), metadata=opened.by("default"))).status
    assert (status.state, status.because) == (pb.JOB_STATE_CANCELLED, "asked to stop: too dear")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await opened.stub.CancelJob(request, metadata=opened.by("default"))
    assert caught.value.code() == grpc.StatusCode.ALREADY_EXISTS


async def test_a_job_is_paused_and_resumed_by_its_own_tenant_only(opened: Door, around: Any) -> None:
    await opened.submit()
    mine, theirs = opened.by("default"), opened.by("other")
    await opened.stub.PauseJob(pb.PauseJobRequest(job_id="job-1", because="lunch"), metadata=mine)
    await opened.stub.ResumeJob(pb.ResumeJobRequest(job_id="job-1"), metadata=mine)
    asked = [(name, asked.because) for _, name, asked in around.workflows.asked]
    assert asked == [("pause", "lunch"), ("resume", "asked to go on")]
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await opened.stub.PauseJob(pb.PauseJobRequest(job_id="job-1"), metadata=theirs)
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_reason_to_pause_that_is_too_long_is_refused(opened: Door, around: Any) -> None:
    await opened.submit()
    with pytest.raises(grpc.aio.AioRpcError, match="because") as error:
        await opened.stub.PauseJob(
            pb.PauseJobRequest(job_id="job-1", because="x" * 1001), metadata=opened.by("default")
        )
    assert (error.value.code(), around.workflows.asked) == (grpc.StatusCode.INVALID_ARGUMENT, [])


async def test_a_job_that_temporal_does_not_know_yet_cannot_be_paused_now(opened: Door, around: Any) -> None:
    around.workflows.away = True
    await opened.submit()
    around.workflows.away = False
    with pytest.raises(grpc.aio.AioRpcError, match="has not been handed to Temporal yet") as error:
        await opened.stub.PauseJob(pb.PauseJobRequest(job_id="job-1"), metadata=opened.by("default"))
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
