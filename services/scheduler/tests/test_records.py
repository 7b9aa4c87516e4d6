"""A job's record only moves forwards, whatever comes late, twice or out of order."""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergonaut.events import RunFinished, RunPaused, RunPreempted, RunProgressed, RunStarted
from ergonaut.events.runs import RunEvent, RunState
from ergonaut.jobs import Candidate, JobSpec, JobState, Plan
from ergonaut.workflows import RunJobResult
from ergonaut_scheduler.domain import JobRecord
from ergonaut_scheduler.domain.facts import decision_of
from ergonaut_scheduler.domain.records import (
    METRICS_MAX,
    RUNS_OVER_MAX,
    cancel_passed_on,
    cancel_requested,
    planned,
    refused,
    run_finished,
    run_paused,
    run_preempted,
    run_progressed,
    run_started,
    workflow_ended,
)

NOW = datetime(2026, 3, 2, 10, 20, tzinfo=UTC)
SPEC = JobSpec(name="digits", command=("true",), duration_seconds_expected=1)
NEW = JobRecord("default", "job-1", "job/default/job-1", SPEC, submitted_at=NOW, changed_at=NOW)


def at(second: int) -> datetime:
    return NOW + timedelta(seconds=second)


def started(attempt: int = 1, second: int = 1) -> RunStarted:
    return RunStarted(
        tenant="default", job_id="job-1", run_id=f"run-{attempt}", name="digits", attempt=attempt, host="desk",
        provider="local", region="desk", machine_type="machine", started_at=at(second), occurred_at=at(second),
    )  # fmt: skip


def progressed(phase: str, attempt: int = 1, second: int = 2, **metrics: float) -> RunProgressed:
    return RunProgressed(
        tenant="default", job_id="job-1", run_id=f"run-{attempt}", phase=phase, metrics=metrics, occurred_at=at(second)
    )


def preempted(attempt: int = 1, second: int = 5) -> RunPreempted:
    return RunPreempted(
        tenant="default", job_id="job-1", run_id=f"run-{attempt}", because="spot taken back", ended_at=at(second)
    )


def paused(attempt: int = 1, second: int = 5, checkpoint: str = "") -> RunPaused:
    return RunPaused(
        tenant="default", job_id="job-1", run_id=f"run-{attempt}", because="lunch", ended_at=at(second),
        checkpoint=checkpoint and f"checkpoints/job-1/{checkpoint}.tar",
    )  # fmt: skip


def placed(record: JobRecord) -> JobRecord:
    chosen = Candidate(
        offer_id="local/desk/machine/free", provider="local", region="desk", machine_type="machine", starts_at=NOW,
        ends_at=NOW, cost_usd_expected=0, energy_joules_expected=0, carbon_grams_co2e_expected=0,
    )  # fmt: skip
    return planned(record, Plan(chosen=chosen, weighed=1), NOW)


def finished(attempt: int = 1, state: RunState = RunState.SUCCEEDED, because: str = "") -> RunFinished:
    return RunFinished(
        tenant="default", job_id="job-1", run_id=f"run-{attempt}", state=state, exit_code=0, because=because,
        metrics={"accuracy": 0.97}, artifacts=(f"run-{attempt}/model.onnx",), ended_at=at(9),
    )  # fmt: skip


CHANGES: dict[type[RunEvent], Callable[..., JobRecord]] = {
    RunStarted: run_started,
    RunProgressed: run_progressed,
    RunPreempted: run_preempted,
    RunPaused: run_paused,
    RunFinished: run_finished,
}


def after(*events: RunEvent, record: JobRecord = NEW) -> JobRecord:
    for event in events:
        record = CHANGES[type(event)](record, event, NOW)
    return record


LIFE = (
    started(1, 1), progressed("load", 1, 2), progressed("train", 1, 3, loss=2.0), preempted(1, 5),
    started(2, 6), progressed("train", 2, 7, loss=1.0), progressed("test", 2, 8, accuracy=0.9),
)  # fmt: skip


def test_a_life_told_in_order_ends_as_it_was_told() -> None:
    record = after(*LIFE, finished(2))
    assert (record.state, record.run_id, record.attempt) == (JobState.SUCCEEDED, "run-2", 2)
    assert record.metrics == {"loss": 1.0, "accuracy": 0.97}
    assert (record.phase, record.artifacts, record.exit_code) == ("test", ("run-2/model.onnx",), 0)


@given(st.data(), st.randoms(use_true_random=False))
def test_a_job_that_ended_stays_as_it_is_whatever_comes(data: st.DataObject, chance: random.Random) -> None:
    before = data.draw(st.lists(st.sampled_from(LIFE), max_size=10))
    later = [*chance.sample(LIFE, len(LIFE)), finished(1, RunState.FAILED), finished(2)]
    ended = after(*before, finished(2))
    assert ended.state is JobState.SUCCEEDED
    assert after(*later, record=ended) is ended


@given(st.permutations(LIFE), st.lists(st.sampled_from(LIFE), max_size=6))
def test_news_of_a_lost_run_never_hides_the_run_that_follows(shuffled: list[RunEvent], again: list[RunEvent]) -> None:
    record = after(*shuffled, *again)
    assert record.attempt == 2
    assert not record.has_ended
    assert after(*LIFE, *again).run_id == "run-2"
    assert after(*LIFE, *again).metrics == {"loss": 1.0, "accuracy": 0.9}


@given(st.lists(st.sampled_from((*LIFE, finished(2))), max_size=12))
def test_the_same_news_twice_changes_nothing(events: list[RunEvent]) -> None:
    record = after(*events)
    for event in events[-1:]:
        assert after(event, record=record) == record


def test_progress_that_overtakes_its_start_is_kept() -> None:
    record = after(progressed("load"), started())
    assert (record.state, record.phase, record.attempt) == (JobState.RUNNING, "load", 1)


def test_older_progress_does_not_replace_newer() -> None:
    assert after(started(), progressed("train", second=4), progressed("load", second=2)).phase == "train"


def test_a_lost_run_leaves_the_job_waiting_and_says_why() -> None:
    record = after(started(), preempted())
    assert (record.state, record.because) == (JobState.PLACED, "attempt 1 was lost: spot taken back")


def test_an_end_may_come_before_all_other_news() -> None:
    assert after(finished()).state is JobState.SUCCEEDED


def test_the_end_of_a_lost_run_is_not_the_end_of_the_job() -> None:
    assert after(*LIFE, finished(1, RunState.FAILED)).state is JobState.RUNNING


def test_a_program_that_tells_too_many_figures_is_cut() -> None:
    figures = {f"figure-{number}": 1.0 for number in range(METRICS_MAX + 50)}
    assert len(after(started(), progressed("train", 1, 2, **figures)).metrics) == METRICS_MAX


def test_a_wish_to_stop_ends_a_job_that_has_no_run() -> None:
    record = cancel_passed_on(cancel_requested(NEW, "too dear", at(1)), at(2))
    assert (record.state, record.because) == (JobState.CANCELLED, "asked to stop: too dear")


def test_a_wish_to_stop_lets_a_run_tell_its_own_end() -> None:
    running = cancel_passed_on(cancel_requested(after(started()), "", at(1)), at(2))
    assert running.state is JobState.RUNNING
    assert after(finished(1, RunState.CANCELLED), record=running).because == "asked to stop"


def test_a_job_that_ended_can_be_neither_stopped_nor_refused() -> None:
    ended = after(finished())
    assert cancel_requested(ended, "", at(1)) is ended
    assert cancel_passed_on(ended, at(1)) is ended
    assert refused(ended, "job_id: taken", at(1)) is ended


def test_a_workflow_s_answer_ends_a_job_only_once_and_an_unknown_state_is_a_failure() -> None:
    result = RunJobResult(job_id="job-1", run_id="run-1", state="exploded", because="?")
    ended = workflow_ended(after(started()), result, at(1))
    assert ended.state is JobState.FAILED
    assert workflow_ended(ended, RunJobResult(job_id="job-1", run_id="run-1", state="succeeded"), at(2)) is ended


PAUSED_LIFE = (
    started(1, 1), progressed("train", 1, 3, loss=2.0), paused(1, 5), started(2, 6), progressed("train", 2, 7, loss=1.0),
)  # fmt: skip


def test_a_paused_job_says_why_and_goes_on_when_another_run_has_begun() -> None:
    pause = after(*PAUSED_LIFE[:3])
    assert (pause.state, pause.because, pause.phase, pause.metrics) == (JobState.PAUSED, "lunch", "", {"loss": 2.0})
    on = after(*PAUSED_LIFE[3:], record=pause)
    assert (on.state, on.because, on.attempt, on.phase) == (JobState.RUNNING, "", 2, "train")


@given(st.permutations(PAUSED_LIFE), st.lists(st.sampled_from(PAUSED_LIFE), max_size=6))
def test_news_of_a_pause_never_hides_the_run_that_follows(shuffled: list[RunEvent], again: list[RunEvent]) -> None:
    assert after(*PAUSED_LIFE, *again).state is JobState.RUNNING
    record = after(*shuffled, *again, *PAUSED_LIFE)
    assert (record.attempt, record.run_id, record.state) == (2, "run-2", JobState.RUNNING)


def test_a_job_that_was_paused_is_placed_anew_and_that_is_another_fact() -> None:
    first = placed(NEW)
    pause = after(paused(7), record=first)
    second = placed(pause)
    assert not pause.has_plan_for_next_attempt
    assert (second.state, second.because, second.planned_attempt) == (JobState.PLACED, "", 1)
    told = [decision_of(first), decision_of(second)]
    assert len({event.event_id for event in told if event is not None}) == 2


def test_a_job_that_finds_no_place_on_resuming_waits_and_says_why() -> None:
    pause = after(started(), paused())
    waits = planned(pause, Plan(refused_because="budget.cost_usd: too dear"), at(9))
    assert (waits.state, waits.because) == (
        JobState.PAUSED, "resumed, but cannot go on yet: budget.cost_usd: too dear",
    )  # fmt: skip
    assert planned(waits, Plan(refused_because="budget.cost_usd: too dear"), at(10)) is waits
    assert placed(waits).state is JobState.PLACED


LONG = replace(NEW, spec=SPEC.model_copy(update={"duration_seconds_expected": 100}))


@pytest.mark.parametrize(
    ("life", "left_seconds"),
    [
        ((started(1, 0), paused(1, 30, "run-1")), 70),
        ((started(1, 0), paused(1, 30, "run-1"), started(2, 50), paused(2, 70, "run-2")), 50),
        ((started(1, 0), paused(1, 30, "run-1"), started(2, 50), paused(2, 70, "run-1")), 70),
        ((started(1, 0), paused(1, 30, "run-1"), started(2, 50), paused(2, 70)), 100),
        ((started(1, 0), paused(1, 30)), 100),
        ((paused(1, 30, "run-1"),), 100),
        ((started(1, 0), paused(1, 99, "run-1")), 10),
        ((started(1, 0), paused(1, 500, "run-1")), 10),
    ],
    ids=["half", "twice", "not-saved-again", "lost", "never-saved", "start-not-heard", "nearly-done", "slower"],
)
def test_a_job_that_is_resumed_is_weighed_for_what_its_checkpoint_leaves_to_do(
    life: tuple[RunEvent, ...], left_seconds: float
) -> None:
    pause = after(*life, record=LONG)
    assert pause.spec_left.duration_seconds_expected == left_seconds
    assert after(*life[-1:], record=pause).spec_left == pause.spec_left


def test_a_paused_job_can_be_cancelled() -> None:
    record = cancel_passed_on(cancel_requested(after(started(), paused()), "", at(6)), at(6))
    assert (record.state, record.because) == (JobState.CANCELLED, "asked to stop")
    assert after(paused(2), record=record) is record


def test_a_job_that_is_paused_for_years_keeps_a_small_record() -> None:
    record = NEW
    for attempt in range(1, 500):
        record = after(started(attempt), paused(attempt), record=record)
    assert len(record.runs_over) == RUNS_OVER_MAX
