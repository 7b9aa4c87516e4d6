"""The book of jobs stays small, whatever one tenant hands in."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from ergonaut.events import RunFinished
from ergonaut.jobs import JobSpec, JobState
from ergonaut_scheduler.domain import JobRecord
from ergonaut_scheduler.ports import Stored
from ergonaut_scheduler.service.following import ENDED_KEPT_MAX, to_forget

NOW = datetime(2026, 3, 2, 10, 20, tzinfo=UTC)
SPEC = JobSpec(name="digits", command=("true",), duration_seconds_expected=1)


def ended(tenant: str, number: int, at: datetime) -> Stored:
    record = JobRecord(tenant, f"job-{number}", "w", SPEC, submitted_at=at, changed_at=at, state=JobState.SUCCEEDED)
    return Stored(record, number)


def test_a_tenant_s_oldest_ends_are_forgotten_first_and_no_other_tenant_s() -> None:
    many = [ended("busy", number, NOW - timedelta(seconds=number)) for number in range(ENDED_KEPT_MAX + 2)]
    forgotten = to_forget([*many, ended("calm", 1, NOW - timedelta(days=29))], NOW)
    assert forgotten == many[-2:]


def test_a_job_that_has_not_ended_is_never_forgotten() -> None:
    old = ended("default", 1, NOW - timedelta(days=90))
    assert to_forget([old], NOW) == [old]
    assert to_forget([replace(old, record=replace(old.record, state=JobState.RUNNING))], NOW) == []


async def test_what_else_was_weighed_is_forgotten_when_the_job_has_ended(around: Any) -> None:
    scheduling, seed_of = around.scheduling, around.scheduling.submitting.record_for_workflow
    plan = await scheduling.planning.place(seed_of("default", "job-1", SPEC, "w"))
    assert plan.alternatives
    await scheduling.following.finished(
        RunFinished(tenant="default", job_id="job-1", run_id="run-1", state="succeeded", ended_at=NOW)
    )
    (stored,) = await around.jobs.everything()
    assert (stored.record.plan.chosen, stored.record.plan.alternatives) == (plan.chosen, ())
