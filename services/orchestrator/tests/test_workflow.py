"""`RunJob` on a real Temporal server, its activities over fakes: placing, attempts, cancelling, absences."""

import asyncio
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import until
from temporal_world import SOURCE, begin, is_at, record, step_of, working
from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError
from worlds import FakeWorld, candidate

from ergonaut.errors import Refused, Unavailable
from ergonaut.events.runs import RunFinished, RunStarted
from ergonaut.ids import new_id
from ergonaut.jobs import Plan
from ergonaut.workflows import RUN_JOB, JobStep
from ergonaut_common.testing import binary
from ergonaut_orchestrator.workflows import Patience


async def test_a_job_started_with_plain_json_runs_to_its_end(client: Client, queue: str, fakes: FakeWorld) -> None:
    handle = await begin(client, queue, source=SOURCE, artifacts=["*.onnx"])
    result = await handle.result()
    job_id = handle.id.rpartition("/")[2]
    assert (result.state, result.exit_code, result.job_id) == ("succeeded", 0, job_id)
    assert result.artifacts == (f"{result.run_id}/model.onnx",)
    assert fakes.announcer.types() == [
        "leases.lease.acquired",
        "runs.run.started",
        "leases.lease.released",
        "runs.run.finished",
    ]
    finished = await fakes.announcer.heard("runs.run.finished")
    assert isinstance(finished, RunFinished)
    assert (finished.run_id, finished.state, finished.artifacts) == (result.run_id, "succeeded", result.artifacts)
    assert fakes.placing.asked[0][1] == handle.id
    assert await step_of(handle) is JobStep.ENDED
    assert await fakes.provider.held() == []
    await record(handle, "succeeded")


async def test_every_step_is_taken_up_again_as_long_after_its_last_beat_as_is_set(
    client: Client, fakes: FakeWorld
) -> None:
    queue = new_id("queue")
    async with working(client, fakes, queue, [Patience(timedelta(seconds=7))]):
        handle = await begin(client, queue, source=SOURCE, artifacts=["*.onnx"])
        assert (await handle.result()).state == "succeeded"
    told = [event.activity_task_scheduled_event_attributes for event in (await handle.fetch_history()).events]
    assert {step.heartbeat_timeout.seconds for step in told if step.activity_id} == {7}


async def test_the_temporal_command_can_start_a_job(
    client: Client, queue: str, temporal_address: str, fakes: FakeWorld
) -> None:
    given = '{"job": {"name": "hello", "command": ["true"], "duration_seconds_expected": 5}}'
    arguments = ["workflow", "execute", "--address", temporal_address, "--type", "RunJob", "--task-queue", queue]
    command = [binary("temporal"), *arguments, "--workflow-id", "job-1", "--input", given]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert '"state":"succeeded"' in done.stdout.replace(" ", "")
    assert fakes.placing.asked[0][0].job_id == "job-1"


GOOD = {"name": "hello", "command": ["true"], "duration_seconds_expected": 5}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([{"job": GOOD | {"deadline": "2020-01-01T00:00:00Z"}}], "job.deadline: .* is in the past"),
        ([{"job": GOOD | {"budget": {"cost_usd": 0}}}], "job.budget.cost_usd: "),
        ([{"job": GOOD | {"providers": ["moon"]}}], "job.providers: unknown provider 'moon'"),
        ([{"jobs": GOOD}], "jobs: is no field; did you mean job?"),
        (["hello"], "input: "),
        ([b"\x00\x01"], "input: "),
        ([RawValue(Payload(metadata={"encoding": b"strange"}, data=b"?"))], "input: "),
        ([], "job: is missing"),
        ([{"job": GOOD}, "more"], "positional arguments"),
    ],
    ids=["deadline", "budget", "provider", "unknown", "text", "bytes", "encoding", "none", "two"],
)
async def test_bad_input_fails_the_workflow_at_once_naming_the_field(
    client: Client, queue: str, fakes: FakeWorld, given: list[Any], words: str
) -> None:
    handle = await client.start_workflow(RUN_JOB, args=given, id=new_id("bad"), task_queue=queue)
    with pytest.raises(WorkflowFailureError) as failure:
        await asyncio.wait_for(handle.result(), 60)
    assert isinstance(failure.value.cause, ApplicationError)
    assert failure.match("Workflow execution failed")
    with pytest.raises(ApplicationError, match=words):
        raise failure.value.cause
    assert (fakes.placing.asked, fakes.announcer.told) == ([], [])


async def test_a_job_that_no_offer_may_carry_is_refused_and_nothing_is_got(
    client: Client, queue: str, fakes: FakeWorld
) -> None:
    fakes.placing._answer = lambda _: Plan(refused_because="resources.vcpus: no offer has 900")
    result = await (await begin(client, queue)).result()
    assert (result.state, result.run_id, result.because) == ("refused", "", "resources.vcpus: no offer has 900")
    assert fakes.announcer.told == []


async def test_an_input_that_the_scheduler_refuses_fails_the_workflow_with_its_words(
    client: Client, queue: str, fakes: FakeWorld
) -> None:
    def refuse(_: object) -> Plan:
        raise Refused("is not on this tenant's list", field="providers")

    fakes.placing._answer = refuse
    with pytest.raises(WorkflowFailureError) as failure:
        await (await begin(client, queue)).result()
    assert isinstance(failure.value.cause, ApplicationError)
    assert failure.value.cause.message == "providers: is not on this tenant's list"


async def test_a_scheduler_that_is_away_is_asked_again(client: Client, queue: str, fakes: FakeWorld) -> None:
    answers = [Unavailable("no answer"), Unavailable("no answer")]

    def answer(_: object) -> Plan:
        if answers:
            raise answers.pop()
        return Plan(chosen=candidate())

    fakes.placing._answer = answer
    assert (await (await begin(client, queue)).result()).state == "succeeded"


async def test_a_failing_program_is_a_failed_run_with_its_exit_code(
    client: Client, queue: str, fakes: FakeWorld
) -> None:
    result = await (await begin(client, queue, "false")).result()
    assert (result.state, result.exit_code) == ("failed", 1)
    assert fakes.announcer.types()[-1] == "runs.run.finished"


async def test_a_provider_without_adapter_fails_the_run_by_name(client: Client, queue: str, fakes: FakeWorld) -> None:
    fakes.placing._answer = lambda _: Plan(chosen=candidate(provider="aws"))
    result = await (await begin(client, queue)).result()
    assert (result.state, result.because) == (
        "failed",
        "provision: provider: 'aws' has no adapter here; known are local",
    )
    assert fakes.announcer.types() == ["runs.run.finished"]


async def test_a_preempted_run_is_followed_by_another_attempt(client: Client, queue: str, fakes: FakeWorld) -> None:
    handle = await begin(client, queue, "sleep", "1")
    await fakes.announcer.heard("runs.run.started")
    fakes.provider.lose_all()
    result = await handle.result()
    assert result.state == "succeeded"
    assert fakes.announcer.types() == [
        "leases.lease.acquired",
        "runs.run.started",
        "leases.lease.released",
        "runs.run.preempted",
        "leases.lease.acquired",
        "runs.run.started",
        "leases.lease.released",
        "runs.run.finished",
    ]
    runs = [event for event in fakes.announcer.told if isinstance(event, RunStarted)]
    assert [run.attempt for run in runs] == [1, 2]
    assert result.run_id == runs[1].run_id != runs[0].run_id
    assert len(set(fakes.provider.torn_down)) == 2
    await record(handle, "preempted-once")


async def test_a_run_that_is_preempted_each_time_fails_when_no_attempt_is_left(
    client: Client, queue: str, fakes: FakeWorld
) -> None:
    handle = await begin(client, queue, "sleep", "60", attempts_max=2)
    while (await handle.describe()).status.name == "RUNNING":
        fakes.provider.lose_all()
        await asyncio.sleep(0.1)
    result = await handle.result()
    assert (result.state, "after 2" in result.because) == ("failed", True)
    assert fakes.announcer.types().count("runs.run.preempted") == 1


async def test_cancelling_stops_the_program_gives_the_lease_back_and_tells(
    client: Client, queue: str, fakes: FakeWorld
) -> None:
    handle = await begin(client, queue, "sleep", "60")
    await fakes.announcer.heard("runs.run.started")
    await until(lambda: is_at(handle, JobStep.RUNNING))
    await handle.cancel()
    result = await asyncio.wait_for(handle.result(), 60)
    assert (result.state, result.exit_code) == ("cancelled", None)
    assert fakes.announcer.types()[2:] == ["leases.lease.released", "runs.run.finished"]
    assert await fakes.provider.held() == []
    await record(handle, "cancelled")


async def test_a_job_waits_for_its_start_and_can_be_cancelled_then(
    client: Client, queue: str, fakes: FakeWorld
) -> None:
    later = datetime.now(UTC) + timedelta(hours=5)
    fakes.placing._answer = lambda _: Plan(chosen=candidate(starts_at=later))
    handle = await begin(client, queue)
    await until(lambda: is_at(handle, JobStep.WAITING))
    await handle.cancel()
    result = await asyncio.wait_for(handle.result(), 60)
    assert (result.state, fakes.provider.starts) == ("cancelled", 0)
    finished = await fakes.announcer.heard("runs.run.finished")
    assert isinstance(finished, RunFinished)
    assert (finished.state, finished.started_at, finished.run_id) == ("cancelled", None, result.run_id)


async def test_a_job_starts_no_earlier_than_placed(client: Client, queue: str, fakes: FakeWorld) -> None:
    later = datetime.now(UTC) + timedelta(seconds=2)
    fakes.placing._answer = lambda _: Plan(chosen=candidate(starts_at=later))
    await (await begin(client, queue)).result()
    started = await fakes.announcer.heard("runs.run.started")
    assert isinstance(started, RunStarted)
    assert started.started_at >= later


async def test_a_machine_that_came_late_leaves_its_program_all_its_time(
    client: Client, queue: str, fakes: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ergonaut_orchestrator.domain.attempts.OVERRUN_SECONDS_MIN", 4.0)
    provision = fakes.provider.provision

    async def late(*arguments: Any) -> Any:
        await asyncio.sleep(5)
        return await provision(*arguments)

    monkeypatch.setattr(fakes.provider, "provision", late)
    result = await (await begin(client, queue, "sleep", "1", duration_seconds_expected=0.1)).result()
    assert (result.state, result.because) == ("succeeded", "")


async def test_a_worker_that_leaves_preempts_its_run_and_the_next_worker_goes_on(
    client: Client, fakes: FakeWorld
) -> None:
    name = new_id("queue")
    async with working(client, fakes, name):
        handle = await begin(client, name, "sleep", "2")
        await until(lambda: is_at(handle, JobStep.RUNNING))
    async with working(client, fakes, name):
        assert (await handle.result()).state == "succeeded"
    assert fakes.announcer.types().count("runs.run.preempted") == 1
    assert fakes.provider.starts == 2


async def test_files_that_cannot_be_kept_make_a_success_a_failure(
    client: Client, queue: str, fakes: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(_: str, name: str, __: object) -> None:
        if name.endswith(".onnx"):
            raise Refused("the object store is full")

    monkeypatch.setattr(fakes.artifacts, "keep", full)
    result = await (await begin(client, queue, source=SOURCE, artifacts=["*.onnx"])).result()
    assert (result.state, result.exit_code, result.artifacts) == ("failed", 0, ())
    assert result.because == "artifacts: could not be kept: the object store is full"
    assert await fakes.provider.held() == []


async def test_what_could_not_be_told_is_told_when_the_bus_is_back(
    client: Client, queue: str, fakes: FakeWorld
) -> None:
    fakes.announcer.away_for = 4
    assert (await (await begin(client, queue)).result()).state == "succeeded"
    assert fakes.announcer.types() == [
        "leases.lease.acquired",
        "runs.run.started",
        "leases.lease.released",
        "runs.run.finished",
    ]
