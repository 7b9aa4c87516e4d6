"""The scheduler may die before or after any step; the next process makes good what was left half done, once."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from ergonaut.events import RunPaused, RunStarted
from ergonaut.jobs import JobSpec, JobState

TENANT = "default"


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


def kill_at(around: Any, step: str, *, after: bool) -> None:
    """Die at the next call of a port's method, before or after it has done its work."""
    port = getattr(around, step.split(".", maxsplit=1)[0])
    name = step.split(".")[1]
    method = getattr(port, name)

    async def dying(*arguments: Any) -> Any:
        setattr(port, name, method)
        if after:
            await method(*arguments)
        raise Killed

    setattr(port, name, dying)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", ["jobs.add", "announcer.tell", "workflows.start", "jobs.replace"])
async def test_a_job_whose_submission_died_runs_once_or_was_never_taken_in(
    around: Any, make_job: Callable[..., JobSpec], step: str, after: bool
) -> None:
    kill_at(around, step, after=after)
    with pytest.raises(Killed):
        await around.scheduling.submitting.submit(TENANT, make_job(), "job-1")
    await around.restarted().following.look_after()
    taken_in = (step, after) != ("jobs.add", False)
    assert list(around.workflows.started) == ["job/default/job-1"] * taken_in
    assert [event.TYPE for event in around.announcer.told.values()] == ["jobs.job.submitted"] * taken_in
    assert await around.scheduling.submitting.submit(TENANT, make_job(), "job-1") == "job-1"
    assert list(around.workflows.started) == ["job/default/job-1"]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", ["jobs.add", "announcer.tell", "jobs.replace"])
async def test_a_decision_that_died_is_made_and_told_once_when_asked_again(
    around: Any, make_job: Callable[..., JobSpec], step: str, after: bool
) -> None:
    seed = around.scheduling.submitting.record_for_workflow(TENANT, "job-1", make_job(), "my-own")
    kill_at(around, step, after=after)
    with pytest.raises(Killed):
        await around.scheduling.planning.place(seed)
    plan = await around.restarted().planning.place(seed)
    assert plan.chosen is not None
    assert sum(event.TYPE == "jobs.job.submitted" for event in around.announcer.told.values()) == 1
    placed = [event for event in around.announcer.told.values() if event.TYPE == "jobs.job.placed"]
    assert [event.placement.offer_id for event in placed] == [plan.chosen.offer_id]
    assert (await around.scheduling.reading.status(TENANT, "job-1")).state is JobState.PLACED


async def test_a_job_that_is_resumed_is_planned_for_the_time_that_is_left(
    around: Any, make_job: Callable[..., JobSpec]
) -> None:
    spec = make_job(duration_seconds_expected=3600, objective="fastest")
    seed = around.scheduling.submitting.record_for_workflow(TENANT, "job-1", spec, "my-own")
    first = (await around.scheduling.planning.place(seed)).chosen
    run = {"tenant": TENANT, "job_id": "job-1", "run_id": "run-1"}
    begun = RunStarted(
        **run,
        name="digits",
        host="desk",
        provider="local",
        region="desk",
        machine_type="machine",
        started_at=around.clock.now(),
    )
    saved = "checkpoints/job-1/run-1.tar"
    await around.scheduling.following.started(begun)
    await around.clock.advance(1800)
    await around.scheduling.following.paused(
        RunPaused(**run, because="lunch", checkpoint=saved, ended_at=around.clock.now())
    )
    second = (await around.restarted().planning.place(seed)).chosen
    assert [plan.ends_at - plan.starts_at for plan in (first, second)] == [timedelta(hours=1), timedelta(minutes=30)]
    assert second.energy_joules_expected == first.energy_joules_expected / 2


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", ["workflows.cancel", "announcer.tell"])
async def test_a_wish_to_stop_that_died_is_passed_on(
    around: Any, make_job: Callable[..., JobSpec], step: str, after: bool
) -> None:
    await around.scheduling.submitting.submit(TENANT, make_job(), "job-1")
    kill_at(around, step, after=after)
    with pytest.raises(Killed):
        await around.scheduling.submitting.cancel(TENANT, "job-1", "")
    await around.restarted().following.look_after()
    assert set(around.workflows.cancelled) == {"job/default/job-1"}
    assert (await around.scheduling.reading.status(TENANT, "job-1")).state is JobState.CANCELLED
    assert sum(event.TYPE == "jobs.job.cancelled" for event in around.announcer.told.values()) == 1
