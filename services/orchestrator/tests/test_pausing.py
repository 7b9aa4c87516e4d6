"""`RunJob` paused, resumed and stopped on a real Temporal server, its activities over fakes."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import until
from temporal_world import SOURCE, begin, is_at, record, step_of
from temporalio import workflow
from temporalio.client import Client, WorkflowHandle
from worlds import FakeWorld, candidate

from ergonaut.events.runs import RunFinished, RunPaused, RunStarted
from ergonaut.ids import new_id
from ergonaut.jobs import Plan
from ergonaut.workflows import PROGRESS_QUERY, RUN_JOB, Asked, JobProgress, JobStep, RunJobResult
from ergonaut_orchestrator.domain import StopReason

Handle = WorkflowHandle[Any, RunJobResult]
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


async def running(client: Client, queue: str, *command: str, **changes: Any) -> Handle:
    """A job whose program runs."""
    handle = await begin(client, queue, *(command or ("sleep", "60")), **changes)
    await until(lambda: is_at(handle, JobStep.RUNNING))
    return handle


async def paused(handle: Handle) -> None:
    await until(lambda: is_at(handle, JobStep.PAUSED))


def by_budget(name: str, *, minute: int = 0) -> Asked:
    return Asked(because=f"{name} is used up", budget_id=name, asked_at=NOON + timedelta(minutes=minute))


def told(fakes: FakeWorld, kind: type[Any]) -> list[Any]:
    return [event for event in fakes.announcer.told if isinstance(event, kind)]


async def test_a_paused_job_gives_its_machine_back_and_goes_on_from_its_checkpoint(
    client: Client, queue: str, fakes: FakeWorld
) -> None:
    handle = await running(client, queue, "sleep", "60", source=SOURCE, artifacts=["*.onnx"])
    fakes.provider.save(step=b"7")
    await handle.signal("pause", {"because": "lunch"})
    await paused(handle)
    assert await fakes.provider.held() == []
    [pause] = told(fakes, RunPaused)
    [first] = told(fakes, RunStarted)
    assert (pause.run_id, pause.because, pause.budget_id) == (first.run_id, "lunch; the job was asked to pause", "")
    assert pause.checkpoint == f"checkpoints/{pause.job_id}/{pause.run_id}.tar"
    assert ("default", pause.checkpoint) in fakes.artifacts.kept
    assert not [name for _, name in fakes.artifacts.kept if name.endswith(".onnx")]
    await handle.signal("resume", {"because": "back"})
    await until(lambda: is_at(handle, JobStep.RUNNING))
    [lease] = await fakes.provider.held()
    assert fakes.provider.saved(lease.lease_id) == {"step": b"7"}
    fakes.provider.finish_all()
    result = await handle.result()
    assert (result.state, result.run_id) == ("succeeded", lease.run_id)
    assert [run.attempt for run in told(fakes, RunStarted)] == [1, 2]
    assert len(fakes.placing.asked) == 2
    assert ("default", pause.checkpoint) not in fakes.artifacts.kept
    await record(handle, "paused-and-resumed")


@pytest.fixture
def long_histories(monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporal suggests a new history after some 30 events rather than some thousand."""

    def suggested(info: workflow.Info) -> bool:
        return info.get_current_history_length() > 30

    monkeypatch.setattr(workflow.Info, "is_continue_as_new_suggested", suggested)


@pytest.mark.usefixtures("long_histories")
async def test_a_job_that_is_paused_again_and_again_goes_on_in_new_histories(
    client: Client, queue: str, fakes: FakeWorld
) -> None:
    handle = await running(client, queue)
    executions = set()
    for step in (b"1", b"2", b"3"):
        fakes.provider.save(step=step)
        await handle.signal("pause", by_budget("team", minute=int(step)))
        await paused(handle)
        executions.add((await handle.describe()).run_id)
        await handle.signal("resume")
        await until(lambda: is_at(handle, JobStep.RUNNING))
    [lease] = await fakes.provider.held()
    assert fakes.provider.saved(lease.lease_id) == {"step": b"3"}
    assert len([name for _, name in fakes.artifacts.kept if name.startswith("checkpoints/")]) == 1
    await handle.signal("pause", by_budget("team", minute=2))
    assert await step_of(handle) is JobStep.RUNNING
    fakes.provider.finish_all()
    assert (await handle.result()).state == "succeeded"
    assert [run.attempt for run in told(fakes, RunStarted)] == [1, 2, 3, 4]
    assert len(told(fakes, RunPaused)) == len(executions) == 3
    await record(handle, "gone-on-in-a-new-history")


async def test_a_wish_that_comes_between_two_histories_adds_to_what_is_remembered(
    client: Client, queue: str, fakes: FakeWorld
) -> None:
    """As Temporal brings it: the new history's first task holds the signal beside the start."""
    given = {"job": {"name": "hello", "command": ["sleep", "60"], "duration_seconds_expected": 5}}
    memory = {"so_far": {"runs_begun": 3, "tries": 1}}
    handle: Handle = await client.start_workflow(
        RUN_JOB, given | memory, id=new_id("job"), task_queue=queue, result_type=RunJobResult, start_signal="pause"
    )
    await paused(handle)
    assert (fakes.provider.starts, len(told(fakes, RunPaused))) == (0, 1)
    await handle.signal("resume")
    await until(lambda: is_at(handle, JobStep.RUNNING))
    assert [run.attempt for run in told(fakes, RunStarted)] == [4]
    await handle.cancel()
    assert (await handle.result()).state == "cancelled"


async def test_a_preempted_run_goes_on_from_its_checkpoint_too(client: Client, queue: str, fakes: FakeWorld) -> None:
    handle = await running(client, queue)
    fakes.provider.save(step=b"3")
    fakes.provider.lose_all()
    await until(lambda: fakes.provider.starts == 2)
    await until(lambda: is_at(handle, JobStep.RUNNING))
    [lease] = await fakes.provider.held()
    assert fakes.provider.saved(lease.lease_id) == {"step": b"3"}
    fakes.provider.finish_all()
    assert (await handle.result()).state == "succeeded"
    await record(handle, "preempted-with-a-checkpoint")


async def test_a_newer_checkpoint_replaces_the_one_before_it(client: Client, queue: str, fakes: FakeWorld) -> None:
    handle = await running(client, queue)
    for step in (b"1", b"2"):
        fakes.provider.save(step=step)
        await handle.signal("pause")
        await paused(handle)
        await handle.signal("resume")
        await until(lambda: is_at(handle, JobStep.RUNNING))
    assert len([name for _, name in fakes.artifacts.kept if name.startswith("checkpoints/")]) == 1
    [lease] = await fakes.provider.held()
    assert fakes.provider.saved(lease.lease_id) == {"step": b"2"}
    await handle.cancel()
    await handle.result()
    assert not [name for _, name in fakes.artifacts.kept if name.startswith("checkpoints/")]


async def test_pauses_are_no_tries(client: Client, queue: str, fakes: FakeWorld) -> None:
    handle = await running(client, queue, attempts_max=1)
    for _ in range(3):
        await handle.signal("pause")
        await paused(handle)
        await handle.signal("resume")
        await until(lambda: is_at(handle, JobStep.RUNNING))
    fakes.provider.finish_all()
    assert (await handle.result()).state == "succeeded"


async def test_a_program_that_ends_well_by_itself_meanwhile_has_succeeded(
    client: Client, queue: str, fakes: FakeWorld
) -> None:
    handle = await running(client, queue, "sleep", "60", source=SOURCE, artifacts=["*.onnx"])
    fakes.provider.ends_when_asked = 0
    await handle.signal("pause", Asked(because="lunch"))
    result = await handle.result()
    assert (result.state, result.artifacts) == ("succeeded", (f"{result.run_id}/model.onnx",))
    assert told(fakes, RunPaused) == []


async def test_a_job_that_waits_for_its_start_is_paused_before_it(client: Client, queue: str, fakes: FakeWorld) -> None:
    later = datetime.now(UTC) + timedelta(hours=5)
    fakes.placing._answer = lambda _: Plan(chosen=candidate(starts_at=later))
    handle = await begin(client, queue)
    await until(lambda: is_at(handle, JobStep.WAITING))
    await handle.signal("pause")
    await paused(handle)
    fakes.placing._answer = lambda _: Plan(chosen=candidate())
    await handle.signal("resume")
    result = await handle.result()
    [pause] = told(fakes, RunPaused)
    assert (result.state, fakes.provider.starts, pause.checkpoint) == ("succeeded", 1, "")
    await record(handle, "paused-before-its-start")


async def test_a_job_for_which_a_place_is_sought_is_paused_before_it_is_found(
    client: Client, queue: str, fakes: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def never(*_: Any) -> Plan:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(fakes.placing, "place", never)
    handle = await begin(client, queue)
    await asked.wait()
    await handle.signal("pause")
    await paused(handle)
    monkeypatch.undo()
    await handle.signal("resume")
    assert (await handle.result()).state == "succeeded"


async def test_a_job_that_is_paused_while_its_machine_comes_never_starts_there(
    client: Client, queue: str, fakes: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    provision, comes = fakes.provider.provision, asyncio.Event()

    async def late(*arguments: Any) -> Any:
        await comes.wait()
        return await provision(*arguments)

    monkeypatch.setattr(fakes.provider, "provision", late)
    handle = await begin(client, queue)
    await until(lambda: is_at(handle, JobStep.PROVISIONING))
    await handle.signal("pause")
    comes.set()
    await paused(handle)
    assert (fakes.provider.starts, await fakes.provider.held()) == (0, [])
    await handle.signal("resume")
    assert (await handle.result()).state == "succeeded"


async def test_a_refusal_on_resuming_is_told_and_asked_about_again(
    client: Client, queue: str, fakes: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = await running(client, queue)
    await handle.signal("pause")
    await paused(handle)
    answer = fakes.placing._answer
    fakes.placing._answer = lambda _: Plan(refused_because="budget.cost_usd: prices have risen")
    await handle.signal("resume")

    async def says_why() -> bool:
        progress = await handle.query(PROGRESS_QUERY, result_type=JobProgress)
        return progress.step is JobStep.PAUSED and "prices have risen" in progress.because

    await until(says_why)
    fakes.placing._answer = answer
    await handle.signal("resume")
    await until(lambda: is_at(handle, JobStep.RUNNING))
    await handle.cancel()
    assert (await handle.result()).state == "cancelled"
    await record(handle, "refused-on-resuming")


async def test_a_deadline_that_passed_meanwhile_fails_the_job(client: Client, queue: str, fakes: FakeWorld) -> None:
    deadline = datetime.now(UTC) + timedelta(seconds=6)
    handle = await running(client, queue, deadline=deadline.isoformat())
    await handle.signal("pause")
    await paused(handle)
    await until(lambda: datetime.now(UTC) > deadline)
    await handle.signal("resume")
    result = await handle.result()
    assert (result.state, result.because) == ("failed", "its deadline passed while it was paused")


@pytest.mark.parametrize("how", ["cancel", "stop"])
async def test_a_paused_job_can_be_ended(client: Client, queue: str, fakes: FakeWorld, how: str) -> None:
    handle = await running(client, queue)
    await handle.signal("pause")
    await paused(handle)
    if how == "cancel":
        await handle.cancel()
    else:
        await handle.signal("stop", by_budget("team"))
    result = await asyncio.wait_for(handle.result(), 60)
    finished = told(fakes, RunFinished)[-1]
    because = "the job was asked to stop" if how == "cancel" else "team is used up"
    assert (result.state, result.because) == ("cancelled", because)
    assert (finished.run_id, finished.state) == (told(fakes, RunPaused)[0].run_id, "cancelled")
    await record(handle, f"paused-and-ended-by-{how}")


async def test_a_budget_stops_a_running_job_naming_itself(client: Client, queue: str, fakes: FakeWorld) -> None:
    handle = await running(client, queue)
    await handle.signal("stop", by_budget("team"))
    result = await asyncio.wait_for(handle.result(), 60)
    assert (result.state, result.because) == ("cancelled", "team is used up")
    assert fakes.provider.asked_for == [StopReason.CANCELLED]
    assert await fakes.provider.held() == []
    await record(handle, "stopped-by-a-budget")


async def test_a_budget_lets_go_of_no_later_pause_and_a_person_of_all(
    client: Client, queue: str, fakes: FakeWorld
) -> None:
    handle = await running(client, queue)
    await handle.signal("pause", by_budget("team"))
    await paused(handle)
    await handle.signal("pause", by_budget("month", minute=2))
    await handle.signal("resume", by_budget("team", minute=1))
    await handle.signal("resume", by_budget("other", minute=1))
    assert await step_of(handle) is JobStep.PAUSED
    await handle.signal("resume", {"because": "I pay"})
    await until(lambda: is_at(handle, JobStep.RUNNING))
    await handle.signal("pause", by_budget("month", minute=2))
    assert await step_of(handle) is JobStep.RUNNING
    fakes.provider.finish_all()
    assert (await handle.result()).state == "succeeded"
    assert len(told(fakes, RunPaused)) == 1


async def test_a_resume_that_comes_while_the_program_still_saves_lets_the_job_go_on_at_once(
    client: Client, queue: str, fakes: FakeWorld
) -> None:
    handle = await running(client, queue)
    fakes.provider.obeys = False
    await handle.signal("pause")
    await until(lambda: fakes.provider.asked_for != [])
    await handle.signal("resume")
    fakes.provider.obey_all()
    await until(lambda: fakes.provider.starts == 2)
    fakes.provider.finish_all()
    assert (await handle.result()).state == "succeeded"
    assert fakes.announcer.types().count("runs.run.paused") == 1


@pytest.mark.parametrize("signal", ["pause", "resume", "stop"])
@pytest.mark.parametrize("given", [["text"], [{"because": 3}]], ids=["text", "type"])
async def test_a_signal_that_nobody_can_read_ends_no_job(
    client: Client, queue: str, fakes: FakeWorld, signal: str, given: list[Any]
) -> None:
    handle = await running(client, queue)
    await handle.signal(signal, args=given)
    await handle.query(PROGRESS_QUERY, result_type=JobProgress)
    assert (await handle.describe()).status.name == "RUNNING"
    await handle.signal("resume")
    await until(lambda: is_at(handle, JobStep.RUNNING))
    await handle.cancel()
    assert (await handle.result()).state == "cancelled"


@pytest.mark.parametrize("given", [[], [None], [{}]], ids=["nothing", "null", "empty"])
async def test_a_wish_without_reasons_is_a_person_s(
    client: Client, queue: str, fakes: FakeWorld, given: list[Any]
) -> None:
    handle = await running(client, queue)
    await handle.signal("pause", args=given)
    await paused(handle)
    await handle.signal("stop", args=given)
    result = await handle.result()
    assert (result.state, result.because) == ("cancelled", "the job was asked to stop")


async def test_wishes_for_a_job_that_goes_on_or_is_paused_already_change_nothing(
    client: Client, queue: str, fakes: FakeWorld
) -> None:
    handle = await running(client, queue)
    await handle.signal("resume")
    assert await step_of(handle) is JobStep.RUNNING
    for _ in range(2):
        await handle.signal("pause")
    await paused(handle)
    await handle.signal("pause")
    assert len(told(fakes, RunPaused)) == 1
    for _ in range(2):
        await handle.signal("resume")
    await until(lambda: is_at(handle, JobStep.RUNNING))
    assert fakes.provider.starts == 2
    await handle.cancel()
    assert (await handle.result()).state == "cancelled"
