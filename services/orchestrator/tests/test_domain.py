"""The rules: what is accepted, how attempts end, what follows, what is kept."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import attempt, candidate, job

from ergonaut.errors import Refused
from ergonaut.events.runs import PhaseSpan
from ergonaut.ids import is_name
from ergonaut.journal import EntryKind, JournalEntry
from ergonaut.workflows import RunJobInput
from ergonaut_orchestrator.domain import (
    BECAUSE_BYTES_MAX,
    Collected,
    Ending,
    EndKind,
    FoundFile,
    FoundFiles,
    LeaseState,
    Observation,
    RunEnd,
    StopReason,
    Telling,
    WorkflowIds,
    accepted_request,
    another_follows,
    brief,
    end_of,
    ended_with,
    facts,
    final_end,
    job_id_from,
    new_attempt,
    new_run_id,
    program_of,
    reason_to_stop,
    with_time_from,
    within_bounds,
    without_files,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPAN = PhaseSpan(phase="epoch", step=1, started_at=NOW, ended_at=NOW)
GOOD = {"name": "hello", "command": ["true"], "duration_seconds_expected": 5}


def accepted(value: Any, workflow_id: str = "job/default/job-7") -> RunJobInput:
    return accepted_request(json.dumps(value).encode(), workflow_id=workflow_id, now=NOW)


def test_plain_json_with_only_a_job_is_enough() -> None:
    request = accepted({"job": GOOD})
    assert (request.tenant, request.job_id, request.job.name) == ("default", "job-7", "hello")


def test_a_given_job_id_stands() -> None:
    assert accepted({"job": GOOD, "job_id": "mine"}).job_id == "mine"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({}, "job: is missing"),
        ({"job": GOOD | {"comand": 1}}, "job.comand: is no field; did you mean command"),
        ({"job": GOOD | {"budget": {"cost_usd": 0}}}, "job.budget.cost_usd: should be greater than 0"),
        ({"job": GOOD | {"providers": ["moon"]}}, "job.providers: unknown provider 'moon'"),
        ({"job": GOOD | {"deadline": "2025-12-31T23:59:59Z"}}, "job.deadline: .* is in the past"),
        ({"job": GOOD | {"deadline": "2026-01-01T00:00:00Z"}}, "job.deadline: .* is in the past"),
        ({"job": GOOD | {"deadline": "tomorrow"}}, "job.deadline: "),
        ({"job": GOOD | {"artifacts": ["../x"]}}, "job.artifacts: '../x' leaves the job's folder"),
        ({"job": GOOD, "tenant": "No Such"}, "tenant: "),
        ("hello", "input: "),
        (None, "input: "),
    ],
)
def test_bad_input_is_refused_naming_the_field(value: Any, words: str) -> None:
    with pytest.raises(Refused, match=words):
        accepted(value)


def test_input_that_is_no_json_is_refused() -> None:
    with pytest.raises(Refused, match="input: "):
        accepted_request(b"\xff{", workflow_id="x", now=NOW)


@given(st.text())
def test_any_workflow_id_makes_a_name(workflow_id: str) -> None:
    assert is_name(job_id_from(workflow_id))


def test_an_attempts_ids_follow_from_its_run() -> None:
    request = RunJobInput(job=job("true"), job_id="job-1")
    ids = WorkflowIds("w", "r")
    run_id = new_run_id(NOW, 7)
    first = new_attempt(request, candidate(NOW), 1, run_id=run_id, workflow=ids, now=NOW)
    again = new_attempt(request, candidate(NOW), 1, run_id=run_id, workflow=ids, now=NOW)
    other = new_attempt(request, candidate(NOW), 2, run_id=new_run_id(NOW, 8), workflow=ids, now=NOW)
    assert first == again
    assert first.lease.lease_id != other.lease.lease_id
    assert is_name(run_id)


def test_a_run_may_last_four_times_as_long_as_expected_ten_minutes_more_or_to_its_deadline() -> None:
    def seconds(**changes: Any) -> float:
        request = RunJobInput(job=job("true", **changes), job_id="job-1")
        made = new_attempt(request, candidate(NOW), 1, run_id="run-1", workflow=WorkflowIds("w", "r"), now=NOW)
        return (made.stop_at - NOW).total_seconds()

    assert seconds(duration_seconds_expected=10) == 610
    assert seconds(duration_seconds_expected=1000) == 4000
    assert seconds(duration_seconds_expected=10, deadline=NOW + timedelta(hours=5)) == 5 * 3600


def test_a_programs_processes_carry_run_price_and_zone_and_are_metered_from_outside() -> None:
    made = program_of(attempt(job("train", environment={"A": "1"}, project="search"), NOW, run_id="run-1")).context
    assert (made.run_id, made.job_id, made.metered, made.zone) == ("run-1", "job-1", True, "DE")
    assert (made.pue, made.price_microusd_per_hour, made.project) == (1.2, 50_000, "search")


@pytest.mark.parametrize(
    ("seen", "kind", "words"),
    [
        (Observation(LeaseState.ENDED, exit_code=0), EndKind.SUCCEEDED, ""),
        (Observation(LeaseState.ENDED, exit_code=2, error_tail="no such file"), EndKind.FAILED, "exit code 2: no such"),
        (Observation(LeaseState.ENDED, because="killed by SIGKILL"), EndKind.FAILED, "SIGKILL"),
        (Observation(LeaseState.ENDED, stopped_for=StopReason.CANCELLED, exit_code=0), EndKind.CANCELLED, "asked"),
        (Observation(LeaseState.ENDED, stopped_for=StopReason.PREEMPTED), EndKind.PREEMPTED, "taken back"),
        (Observation(LeaseState.ENDED, stopped_for=StopReason.LAPSED), EndKind.PREEMPTED, "not renewed"),
        (Observation(LeaseState.ENDED, stopped_for=StopReason.OVERDUE), EndKind.FAILED, "duration_seconds_expected"),
        (Observation(LeaseState.LOST), EndKind.PREEMPTED, "lost"),
        (Observation(LeaseState.ABSENT), EndKind.PREEMPTED, "absent"),
    ],
)
def test_what_is_seen_says_how_the_attempt_ended(seen: Observation, kind: EndKind, words: str) -> None:
    end = end_of(seen, Telling(metrics={"accuracy": 0.9}), NOW)
    assert end is not None
    assert (end.kind, end.metrics, end.ended_at) == (kind, {"accuracy": 0.9}, NOW)
    assert words in end.because


def test_every_reason_to_stop_has_an_end() -> None:
    for reason in StopReason:
        assert end_of(Observation(LeaseState.ENDED, stopped_for=reason), Telling(), NOW) is not None


def test_a_program_that_runs_has_not_ended() -> None:
    assert end_of(Observation(LeaseState.RUNNING), Telling(), NOW) is None


def test_a_run_is_stopped_when_overdue_or_asked() -> None:
    ours = attempt(job("true"), NOW)
    late = NOW + timedelta(hours=2)
    assert reason_to_stop(ours, None, None, NOW) is None
    assert reason_to_stop(ours, None, StopReason.PAUSED, NOW) is StopReason.PAUSED
    assert reason_to_stop(ours, None, StopReason.PAUSED, late) is StopReason.OVERDUE
    assert reason_to_stop(ours, StopReason.CANCELLED, StopReason.PAUSED, late) is StopReason.CANCELLED


@pytest.mark.parametrize(
    ("kind", "number", "deadline", "follows"),
    [
        (EndKind.PREEMPTED, 1, None, True),
        (EndKind.PREEMPTED, 2, None, True),
        (EndKind.PREEMPTED, 3, None, False),
        (EndKind.PREEMPTED, 1, NOW - timedelta(seconds=1), False),
        (EndKind.PREEMPTED, 1, NOW + timedelta(seconds=1), True),
        (EndKind.FAILED, 1, None, False),
        (EndKind.SUCCEEDED, 1, None, False),
        (EndKind.CANCELLED, 1, None, False),
    ],
)
def test_only_a_preemption_with_attempts_and_time_left_is_followed(
    kind: EndKind, number: int, deadline: datetime | None, follows: bool
) -> None:
    assert another_follows(RunEnd(kind, NOW), number, job("true", attempts_max=3, deadline=deadline)) is follows


def test_a_last_preemption_is_a_failure_unless_the_job_was_cancelled() -> None:
    end = RunEnd(EndKind.PREEMPTED, NOW, "the machine was taken back")
    failed = final_end(end, 3, stopped_because="")
    assert (failed.kind, "taken back" in failed.because) == (EndKind.FAILED, True)
    assert final_end(end, 1, stopped_because="enough").kind is EndKind.CANCELLED
    success = RunEnd(EndKind.SUCCEEDED, NOW)
    pause = RunEnd(EndKind.PAUSED, NOW, "lunch")
    assert final_end(pause, 1, stopped_because="budget team is used up").because == "budget team is used up"
    assert final_end(success, 1, stopped_because="enough") == success


def test_a_success_whose_files_are_lost_is_none() -> None:
    assert without_files(RunEnd(EndKind.SUCCEEDED, NOW)).kind is EndKind.FAILED
    assert without_files(RunEnd(EndKind.CANCELLED, NOW)).kind is EndKind.CANCELLED


def test_a_pattern_that_matches_nothing_is_told_and_fails_nothing() -> None:
    _, said = within_bounds(FoundFiles((), ("*.onnx",)), count_max=1, bytes_max=1)
    end = ended_with(RunEnd(EndKind.SUCCEEDED, NOW), Collected((), said))
    assert (end.kind, end.because) == (EndKind.SUCCEEDED, "artifacts: no file matches '*.onnx'")


@given(
    st.lists(st.tuples(st.text("abc/", min_size=1), st.integers(0, 50)), unique_by=lambda pair: pair[0]),
    st.integers(1, 5),
    st.integers(1, 100),
)
def test_what_is_kept_is_within_bounds_and_what_is_not_is_told(
    pairs: list[tuple[str, int]], count_max: int, bytes_max: int
) -> None:
    files = tuple(FoundFile(path, size) for path, size in pairs)
    kept, said = within_bounds(FoundFiles(files), count_max=count_max, bytes_max=bytes_max)
    assert len(kept) <= count_max
    assert sum(file.size_bytes for file in kept) <= bytes_max
    assert bool(said) == (len(kept) < len(files))


def test_a_file_whose_name_no_message_can_carry_is_told() -> None:
    _, said = within_bounds(FoundFiles((), unnameable=("caf\\xe9.txt",)), count_max=1, bytes_max=1)
    assert said == "artifacts: 1 files left out, the first 'caf\\xe9.txt': their names are not UTF-8"


def test_names_of_any_length_make_no_telling_too_large_to_be_told() -> None:
    entries = [
        JournalEntry(kind=EntryKind.PHASE, at=NOW, phase="p" * 10_000_000, step=3),
        JournalEntry(kind=EntryKind.METRIC, at=NOW, name="m" * 10_000_000, value=1.0),
        *(JournalEntry(kind=EntryKind.METRIC, at=NOW, name=f"{n:256}", value=1.0) for n in range(1000)),
    ]
    telling = Telling().after(entries)
    assert telling.phase.endswith("p 3")
    assert len(str(telling)) < 100_000


def test_the_time_that_a_machine_took_to_come_is_not_counted_against_the_program() -> None:
    late = NOW + timedelta(hours=5)
    begun = with_time_from(attempt(job(duration_seconds_expected=60), NOW), late)
    assert begun.stop_at > late + timedelta(seconds=60)


@given(st.text(max_size=5000))
def test_a_reason_is_brief_and_keeps_its_end(text: str) -> None:
    short = brief(text)
    assert len(short.encode()) <= BECAUSE_BYTES_MAX
    assert text.strip().endswith(short.lstrip("…")) or short == text.strip()


def test_the_newest_phase_and_figures_stand() -> None:
    entries = [
        JournalEntry(kind=EntryKind.PHASE, at=NOW, phase="load"),
        JournalEntry(kind=EntryKind.METRIC, at=NOW, name="loss", value=2.0),
        JournalEntry(kind=EntryKind.PHASE, at=NOW, phase="train", step=3),
        JournalEntry(kind=EntryKind.METRIC, at=NOW, name="loss", value=1.0),
        JournalEntry(kind=EntryKind.METRIC, at=NOW, name="odd", value=None),
    ]
    telling = Telling().after(entries)
    assert telling == Telling("train 3", {"loss": 1.0})
    not_finite = [JournalEntry(kind=EntryKind.METRIC, at=NOW, name="loss", value=None)]
    assert telling.after(not_finite) == Telling("train 3", {})


def test_work_counted_by_several_processes_adds_up_and_is_told_as_work() -> None:
    entries = [
        JournalEntry(kind=EntryKind.METRIC, at=NOW, name="tokens", value=100.0, counted=100.0),
        JournalEntry(kind=EntryKind.METRIC, at=NOW, name="tokens", value=30.0, counted=30.0),
        JournalEntry(kind=EntryKind.METRIC, at=NOW, name="loss", value=0.5),
    ]
    telling = Telling().after(entries[:1]).after(entries[1:])
    end = end_of(Observation(LeaseState.ENDED, exit_code=0), telling, NOW)
    assert end is not None
    assert (end.metrics, end.counted) == ({"tokens": 130.0, "loss": 0.5}, ("tokens",))
    assert facts.run_finished(Ending("default", "job-1", "run-1", end)).counted == ("tokens",)


def test_a_run_cannot_tell_more_figures_than_an_event_holds() -> None:
    entries = [JournalEntry(kind=EntryKind.METRIC, at=NOW, name=f"m{i}", value=float(i)) for i in range(1000)]
    assert len(Telling().after(entries).metrics) == 256


def test_a_run_s_project_is_told_with_its_start() -> None:
    assert facts.run_started(attempt(job(project="search"), NOW), host="h", at=NOW).project == "search"


def test_a_fact_told_twice_is_one_fact_and_two_facts_are_two() -> None:
    ours = attempt(job("true"), NOW)
    ending = Ending("default", "job-1", ours.lease.run_id, RunEnd(EndKind.PREEMPTED, NOW, "lost"))
    finished = replace(ending, end=RunEnd(EndKind.SUCCEEDED, NOW))

    def told() -> list[str]:
        return [
            facts.lease_acquired(ours.lease, host="h", at=NOW).event_id,
            facts.lease_released(ours.lease, because="", at=NOW).event_id,
            facts.run_started(ours, host="h", at=NOW).event_id,
            facts.run_progressed(ours.lease, Telling(), offset=1, at=NOW).event_id,
            facts.run_progressed(ours.lease, Telling(), offset=2, at=NOW).event_id,
            facts.run_preempted(ending).event_id,
            facts.run_paused(ending).event_id,
            facts.phases_finished(ours.lease, (SPAN,), first=0, at=NOW).event_id,
            facts.phases_finished(ours.lease, (SPAN,), first=1, at=NOW).event_id,
            facts.run_finished(finished).event_id,
        ]

    assert told() == told()
    assert len(set(told())) == len(told())


def test_what_is_said_of_files_stands_after_what_is_said_of_the_run() -> None:
    end = ended_with(RunEnd(EndKind.FAILED, NOW, "exit code 1"), Collected((), "artifacts: none"))
    assert end.because == "exit code 1; artifacts: none"
