"""`Retraining` on a Temporal server whose time skips, with the real `RunJob` and `Rollout` below it, over fakes."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from conftest import until
from skipping import JOB, Serving
from temporal_world import record
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from worlds import candidate

from ergonaut.events.retraining import RetrainingFinished
from ergonaut.ids import new_id
from ergonaut.jobs import Plan
from ergonaut.retraining import (
    DRIFTED_SIGNAL,
    SET_RECIPE_SIGNAL,
    TRAIN_NOW_SIGNAL,
    Drifted,
    RetrainingProgress,
    TrainingState,
)
from ergonaut.workflows import PAUSE_SIGNAL, PROGRESS_QUERY, RESUME_SIGNAL, Asked
from ergonaut_common.testing import skipping_temporal_server
from ergonaut_orchestrator.domain.rollouts import Versions
from ergonaut_orchestrator.fakes.serving import Rates

ROWS = np.arange(400).reshape(400, 1).astype(np.float32)
TRUTH = (np.arange(400) % 10).astype(np.int64)
ROLLOUT = {"endpoint": "digits", "steps": [0.1, 0.5], "hold_seconds": 30}


@pytest.fixture
async def environment() -> AsyncIterator[WorkflowEnvironment]:
    async with skipping_temporal_server() as made:
        yield made


@pytest.fixture
async def serving(environment: WorkflowEnvironment) -> AsyncIterator[Serving]:
    made = Serving(environment)
    made.models.says = says
    made.models.models["default", "digits"] = Versions((1,), {"champion": 1}, default=1)
    made.trains(ROWS, TRUTH)
    async with made.worker():
        yield made


def says(version: int, rows: Any) -> Any:
    """The first version has 100 of the rows wrong, all later ones 8."""
    numbers = rows[:, 0].astype(np.int64)
    wrong = numbers < (100 if version == 1 else 8)
    return np.where(wrong, -1, numbers % 10)


async def progress_of(handle: WorkflowHandle[Any, None]) -> RetrainingProgress:
    return await handle.query(PROGRESS_QUERY, result_type=RetrainingProgress)


def finished(serving: Serving) -> list[RetrainingFinished]:
    return [event for event in serving.announcer.told if isinstance(event, RetrainingFinished)]


async def ended(serving: Serving, handle: WorkflowHandle[Any, None], count: int = 1) -> list[RetrainingFinished]:
    """The ends of trainings, once there are so many; time skips meanwhile as far as is asked for."""

    async def so() -> bool:
        await serving.environment.sleep(60)
        return len((await progress_of(handle)).outcomes) >= count

    await until(so)
    return finished(serving)


def drifted(version: int = 1, event_id: str = "") -> Drifted:
    return Drifted(event_id=event_id or new_id("event"), version=version, because="inputs.x[3] drifts")


async def test_drift_trains_validates_canaries_and_promotes(serving: Serving) -> None:
    handle = await serving.retrain(rollout=ROLLOUT)
    await handle.signal(DRIFTED_SIGNAL, drifted())
    [end] = await ended(serving, handle)
    assert (end.state, end.trigger, end.champion_version, end.challenger_version) == ("promoted", "drift", 1, 2)
    assert (end.champion, end.challenger, end.rows, end.better_rows) == (0.75, 0.98, 400, 92)
    assert end.wanted_because == "inputs.x[3] drifts"
    assert serving.routes() == [("main", "2", 1.0)]
    assert serving.models.models["default", "digits"].aliases == {"champion": 2}
    [upload] = serving.models.uploads
    assert (upload.run_id, upload.alias, upload.lineage.energy_joules) == (end.run_id, "challenger", 120.0)
    [(asked, workflow_id)] = serving.jobs.placing.asked
    assert workflow_id == f"job/default/{end.job_id}"
    assert asked.job.deadline is not None
    await serving.environment.sleep(60)
    assert (await progress_of(handle)).state is TrainingState.WAITING
    await record(handle, "retrained-by-drift")


async def test_a_training_that_is_not_better_is_turned_down_and_the_champion_stays(serving: Serving) -> None:
    serving.models.says = lambda _, rows: says(1, rows)
    handle = await serving.retrain(rollout=ROLLOUT)
    await handle.signal(TRAIN_NOW_SIGNAL, Asked(because="to see"))
    [end] = await ended(serving, handle)
    assert (end.state, end.trigger, end.wanted_because) == ("turned-down", "hand", "to see")
    assert "accuracy 0.7500 (champion 0.7500) on 400 rows" in end.because
    assert serving.models.models["default", "digits"].aliases == {"champion": 1}
    assert serving.traffic.applied == []
    await record(handle, "retrained-and-turned-down")


async def test_a_version_that_fails_among_the_requests_is_rolled_back(serving: Serving) -> None:
    serving.traffic.rates["digits", 2] = Rates(failed=0.5)
    handle = await serving.retrain(rollout=ROLLOUT)
    await handle.signal(TRAIN_NOW_SIGNAL)
    [end] = await ended(serving, handle)
    assert (end.state, serving.routes()) == ("rolled-back", [("main", "1", 1.0)])
    assert serving.models.models["default", "digits"].aliases == {"champion": 1}


async def test_a_version_that_is_better_on_its_rows_and_wrong_by_the_labels_that_come_later_is_rolled_back(
    serving: Serving,
) -> None:
    serving.traffic.labelled_share = 0.2
    serving.traffic.rates["digits", 2] = Rates(wrong=0.3)
    handle = await serving.retrain(rollout=ROLLOUT | {"guards": {"wrong": 0.05}})
    await handle.signal(TRAIN_NOW_SIGNAL)
    [end] = await ended(serving, handle)
    assert (end.state, end.challenger, serving.routes()) == ("rolled-back", 0.98, [("main", "1", 1.0)])
    assert "wrong 30.00%" in end.because


async def test_an_endpoint_that_has_a_rollout_under_way_is_left_alone(serving: Serving) -> None:
    serving.models.models["default", "digits"] = Versions((1, 2), {"champion": 1}, default=1)
    theirs = await serving.roll_out(hold_seconds=1e5, deadline_seconds=1e6, look_seconds=3600)
    handle = await serving.retrain(rollout=ROLLOUT)
    await handle.signal(TRAIN_NOW_SIGNAL)
    [end] = await ended(serving, handle)
    assert (end.state, end.because) == ("failed", "another rollout of digits is under way")
    assert (await theirs.describe()).status is WorkflowExecutionStatus.RUNNING
    assert serving.models.models["default", "digits"].aliases == {"champion": 1}


async def test_without_a_rollout_the_alias_moves_at_once(serving: Serving) -> None:
    handle = await serving.retrain()
    await handle.signal(TRAIN_NOW_SIGNAL)
    [end] = await ended(serving, handle)
    assert (end.state, serving.models.models["default", "digits"].aliases) == ("promoted", {"champion": 2})


async def test_the_first_version_of_a_model_needs_no_champion(serving: Serving) -> None:
    del serving.models.models["default", "digits"]
    handle = await serving.retrain()
    await handle.signal(TRAIN_NOW_SIGNAL)
    [end] = await ended(serving, handle)
    assert (end.state, end.champion_version, end.champion) == ("promoted", 0, None)


async def test_the_same_drift_told_twice_starts_one_training_and_drift_meanwhile_one_more(serving: Serving) -> None:
    serving.models.says = lambda _, rows: says(1, rows)
    handle = await serving.retrain(when={"cool_down_seconds": 3600})
    first = drifted(event_id="event-1")
    for _ in range(3):
        await handle.signal(DRIFTED_SIGNAL, first)
    await ended(serving, handle)
    await handle.signal(DRIFTED_SIGNAL, first)
    for number in range(3):
        await handle.signal(DRIFTED_SIGNAL, drifted(event_id=f"event-{number + 2}"))
    both = await ended(serving, handle, 2)
    assert both[1].began_at - both[0].ended_at >= timedelta(seconds=3600)
    await serving.environment.sleep(timedelta(days=2))
    assert len(finished(serving)) == 2


async def test_drift_of_a_version_that_is_no_longer_served_is_old_news(serving: Serving) -> None:
    handle = await serving.retrain(when={"cool_down_seconds": 0})
    await handle.signal(TRAIN_NOW_SIGNAL)
    await ended(serving, handle)
    await handle.signal(DRIFTED_SIGNAL, drifted(version=1))
    await serving.environment.sleep(timedelta(days=1))
    assert len(finished(serving)) == 1


async def test_drift_that_is_found_again_while_the_successor_is_trained_wants_no_further_training(
    serving: Serving,
) -> None:
    handle = await serving.retrain(job=JOB | {"command": ["sleep", "600"]}, when={"cool_down_seconds": 0})
    await handle.signal(DRIFTED_SIGNAL, drifted())
    await until(lambda: serving.jobs.provider.starts == 1)
    await handle.signal(DRIFTED_SIGNAL, drifted())
    serving.jobs.provider.finish_all()
    await ended(serving, handle)
    await serving.environment.sleep(timedelta(days=1))
    assert [end.state for end in finished(serving)] == ["promoted"]


async def test_it_trains_at_the_times_of_its_schedule_by_the_clock_of_its_time_zone(serving: Serving) -> None:
    serving.models.says = lambda _, rows: says(1, rows)
    berlin = {"schedule": "30 3 * * *", "time_zone": "Europe/Berlin", "on_drift": False}
    handle = await serving.retrain(when=berlin)
    await serving.environment.sleep(timedelta(days=2, hours=1))
    ends = await ended(serving, handle, 2)
    began = [end.began_at.astimezone(ZoneInfo("Europe/Berlin")) for end in ends]
    assert [(at.hour, at.minute) for at in began] == [(3, 30), (3, 30)]
    assert (began[1].date() - began[0].date()).days == 1
    assert {(end.trigger, end.wanted_because) for end in ends} == {("time", "schedule 30 3 * * * (Europe/Berlin)")}
    await record(handle, "retrained-by-schedule")


async def test_what_was_scheduled_in_a_pause_is_left_out_not_made_up_for(serving: Serving) -> None:
    handle = await serving.retrain(when={"schedule": "0 3 * * *"})
    await handle.signal(PAUSE_SIGNAL)
    await serving.environment.sleep(timedelta(days=3))
    await handle.signal(RESUME_SIGNAL)
    told = await progress_of(handle)
    assert (told.state, told.outcomes) == (TrainingState.WAITING, ())
    assert told.next_at is not None
    assert told.next_at > await serving.environment.get_current_time()
    assert (told.next_at.hour, told.next_at.minute) == (3, 0)


async def test_a_schedule_that_cannot_be_followed_is_refused_at_once_and_never_takes_the_place_of_one_that_can(
    serving: Serving,
) -> None:
    handle = await serving.retrain(when={"schedule": "0 3 * * *"})
    await handle.signal(SET_RECIPE_SIGNAL, {"job": JOB, "when": {"schedule": "0 99 * * *"}})
    recipe = (await progress_of(handle)).recipe
    assert recipe is not None
    assert recipe.when.schedule == "0 3 * * *"
    await handle.terminate()
    bad = await serving.retrain(when={"schedule": "0 3 * * *", "time_zone": "Mars/Base"})
    with pytest.raises(WorkflowFailureError) as failure:
        await bad.result()
    assert isinstance(failure.value.cause, ApplicationError)
    assert "recipe.when.time_zone: 'Mars/Base' is no time zone" in failure.value.cause.message


async def test_it_trains_again_as_often_as_the_recipe_says(serving: Serving) -> None:
    serving.models.says = lambda _, rows: says(1, rows)
    handle = await serving.retrain(when={"every_seconds": 86_400, "on_drift": False, "cool_down_seconds": 0})
    await handle.signal(DRIFTED_SIGNAL, drifted())
    await serving.environment.sleep(timedelta(days=2, hours=12))
    ends = await ended(serving, handle, 2)
    assert [end.trigger for end in ends] == ["time", "time"]
    assert timedelta(days=1) <= ends[1].began_at - ends[0].began_at < timedelta(days=1, minutes=1)


async def test_paused_it_trains_by_hand_only_and_goes_on_when_resumed(serving: Serving) -> None:
    handle = await serving.retrain(when={"cool_down_seconds": 0})
    await handle.signal(PAUSE_SIGNAL, Asked(because="release week"))
    await handle.signal(DRIFTED_SIGNAL, drifted())
    await serving.environment.sleep(timedelta(days=1))
    paused = await progress_of(handle)
    assert (paused.state, paused.because, paused.outcomes) == (TrainingState.PAUSED, "release week", ())
    await handle.signal(RESUME_SIGNAL)
    assert [end.trigger for end in await ended(serving, handle)] == ["drift"]


async def test_it_waits_for_the_hour_that_the_scheduler_chose(serving: Serving) -> None:
    starts_at = datetime.now(UTC) + timedelta(hours=6)
    serving.jobs.placing._answer = lambda _: Plan(chosen=candidate(starts_at), weighed=1)
    handle = await serving.retrain(within_seconds=86_400)
    await handle.signal(TRAIN_NOW_SIGNAL)
    await until(lambda: _is(handle, TrainingState.TRAINING))
    await serving.environment.sleep(timedelta(hours=3))
    assert serving.jobs.provider.starts == 0
    await serving.environment.sleep(timedelta(hours=4))
    [end] = await ended(serving, handle)
    assert end.state == "promoted"
    assert end.ended_at >= starts_at


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ({"command": ["false"]}, "the training failed: "),
        ({"artifacts": ["*.onnx"]}, "artifacts.validation: the training kept no validation.npz"),
        ({"artifacts": ["*.npz"]}, "artifacts.model: the training kept no model.onnx"),
    ],
)
async def test_a_training_that_fails_is_told_and_changes_nothing(
    serving: Serving, job: dict[str, Any], words: str
) -> None:
    handle = await serving.retrain(job=JOB | job)
    await handle.signal(TRAIN_NOW_SIGNAL)
    [end] = await ended(serving, handle)
    assert (end.state, serving.models.uploads) == ("failed", [])
    assert end.because.startswith(words)


async def test_a_file_that_is_no_model_fails_the_training_in_the_gateways_words(serving: Serving) -> None:
    serving.trains(ROWS, TRUTH, model=b"nonsense")
    handle = await serving.retrain()
    await handle.signal(TRAIN_NOW_SIGNAL)
    [end] = await ended(serving, handle)
    assert (end.state, end.because) == ("failed", "chunk: is not an ONNX model")


async def test_answers_that_are_lost_change_nothing(serving: Serving) -> None:
    serving.models.forgets_answers = serving.traffic.forgets_answers = serving.announcer.away_for = 1
    serving.lineages.late_for = 1
    handle = await serving.retrain(rollout=ROLLOUT)
    await handle.signal(TRAIN_NOW_SIGNAL)
    [end] = await ended(serving, handle)
    assert (end.state, len(serving.models.uploads)) == ("promoted", 1)


async def test_removed_in_the_middle_of_a_training_its_job_is_stopped_and_told(serving: Serving) -> None:
    handle = await serving.retrain(job=JOB | {"command": ["sleep", "600"]})
    await handle.signal(TRAIN_NOW_SIGNAL)
    await until(lambda: serving.jobs.provider.starts == 1)
    await handle.cancel()
    with pytest.raises(WorkflowFailureError):
        await asyncio.wait_for(handle.result(), 20)
    assert (await handle.describe()).status is WorkflowExecutionStatus.CANCELED
    assert await serving.jobs.provider.held() == []
    assert [end.state for end in finished(serving)] == ["cancelled"]


async def test_after_many_trainings_it_goes_on_in_a_new_history_with_what_it_knows(serving: Serving) -> None:
    serving.models.says = lambda _, rows: says(1, rows)
    handle = await serving.retrain(when={"every_seconds": 60, "cool_down_seconds": 0})
    first = (await handle.describe()).run_id
    newest = serving.environment.client.get_workflow_handle(handle.id)

    async def is_anew() -> bool:
        await serving.environment.sleep(600)
        return (await newest.describe()).run_id != first and len((await progress_of(newest)).outcomes) == 10

    await until(is_anew)


async def _is(handle: WorkflowHandle[Any, None], state: TrainingState) -> bool:
    return (await progress_of(handle)).state is state
