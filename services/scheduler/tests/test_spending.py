"""While a budget of its project or tenant is used up, no job starts, and it is told which budget and until when."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from ergonaut.budgets import BudgetMetric, BudgetScope
from ergonaut.events import BudgetExceeded, BudgetRenewed
from ergonaut.jobs import BudgetAction, JobSpec
from ergonaut.workflows import job_workflow_id
from ergonaut_common.bus import following, open_bus
from ergonaut_common.settings import PlatformSettings
from ergonaut_scheduler.listeners import followed

from .conftest import NOW, Surroundings

MakeJob = Callable[..., JobSpec]
MIDNIGHT = datetime.fromisoformat("2026-03-03T00:00:00+00:00")


def facts(**changes: Any) -> dict[str, Any]:
    values = {
        "tenant": "default", "budget_id": "march", "scope": BudgetScope.PROJECT, "scope_key": "vision",
        "metric": BudgetMetric.COST_USD, "limit": 200.0, "used": 210.0, "window_started_at": NOW, "occurred_at": NOW,
    }  # fmt: skip
    return values | changes


def exceeded(action: str = "stop", **changes: Any) -> BudgetExceeded:
    return BudgetExceeded(**facts(**changes), action=BudgetAction(action))


def renewed(**changes: Any) -> BudgetRenewed:
    return BudgetRenewed(**facts(**changes), because="it was changed")


async def refusal(around: Surroundings, spec: JobSpec) -> str:
    return (await around.scheduling.planning.what_if("default", spec)).refused_because


@pytest.mark.parametrize("action", ["stop", "pause"])
@pytest.mark.parametrize("scope", [{}, {"scope": "tenant", "scope_key": ""}], ids=["project", "tenant"])
async def test_a_job_of_a_used_up_budget_is_refused_by_its_name(
    around: Surroundings, make_job: MakeJob, action: str, scope: dict[str, str]
) -> None:
    around.scheduling.spending.exceeded(exceeded(action, **scope))
    because = await refusal(around, make_job(project="vision"))
    assert because.startswith("budget: budget march is used up: 210 of 200 USD")
    assert because.endswith("; raise or remove it first")


@pytest.mark.parametrize(
    "event",
    [
        exceeded("tell"),
        exceeded(scope_key="other"),
        exceeded(tenant="other"),
        exceeded(scope="run", scope_key="run-1"),
        exceeded(window_ends_at=NOW),
    ],
    ids=["only tells", "another project", "another tenant", "a run", "its window is over"],
)
async def test_other_budgets_keep_no_job_from_starting(
    around: Surroundings, make_job: MakeJob, event: BudgetExceeded
) -> None:
    around.scheduling.spending.exceeded(event)
    assert await refusal(around, make_job(project="vision")) == ""


async def test_a_job_is_placed_no_sooner_than_its_budget_begins_anew(around: Surroundings, make_job: MakeJob) -> None:
    around.scheduling.spending.exceeded(exceeded(window_ends_at=MIDNIGHT))
    plan = await around.scheduling.planning.what_if("default", make_job(project="vision", objective="fastest"))
    assert plan.chosen is not None
    assert plan.chosen.starts_at == MIDNIGHT
    assert "not sooner, since budget march is used up: 210 of 200 USD (of project vision)" in plan.chosen.because


@pytest.mark.parametrize(
    ("deadline", "ends_at"),
    [(timedelta(hours=2), MIDNIGHT), (None, MIDNIGHT + timedelta(days=9))],
    ids=["the deadline is before", "no forecast reaches so far"],
)
async def test_a_job_that_cannot_wait_for_its_budget_is_refused_and_told_when_it_begins_anew(
    around: Surroundings, make_job: MakeJob, deadline: timedelta | None, ends_at: datetime
) -> None:
    around.scheduling.spending.exceeded(exceeded(window_ends_at=ends_at))
    spec = make_job(project="vision", deadline=NOW + deadline if deadline else None)
    assert f"it begins anew {ends_at.isoformat()}" in await refusal(around, spec)


async def test_of_several_the_one_that_holds_longest_is_told(around: Surroundings, make_job: MakeJob) -> None:
    for name, ends_at in (("day", MIDNIGHT), ("ever", None), ("year", MIDNIGHT + timedelta(days=300))):
        around.scheduling.spending.exceeded(exceeded(budget_id=name, window_ends_at=ends_at))
    assert "budget ever is used up" in await refusal(around, make_job(project="vision"))


@pytest.mark.parametrize("late", [False, True], ids=["in order", "out of order"])
async def test_a_budget_that_is_there_again_holds_nothing_more(
    around: Surroundings, make_job: MakeJob, *, late: bool
) -> None:
    spending = around.scheduling.spending
    tell = [lambda: spending.exceeded(exceeded()), lambda: spending.renewed(renewed(occurred_at=NOW + timedelta(1)))]
    for one in reversed(tell) if late else tell:
        one()
    assert await refusal(around, make_job(project="vision")) == ""


async def test_a_submitted_job_ends_refused_with_the_reason(around: Surroundings, make_job: MakeJob) -> None:
    around.scheduling.spending.exceeded(exceeded())
    spec, submitting = make_job(project="vision"), around.scheduling.submitting
    job_id = await submitting.submit("default", spec, "job-1")
    seed = submitting.record_for_workflow("default", job_id, spec, job_workflow_id("default", job_id))
    assert (await around.scheduling.planning.place(seed)).chosen is None
    status = await around.scheduling.reading.status("default", job_id)
    assert (status.state, "budget march is used up" in status.because) == ("refused", True)


@pytest.mark.integration
async def test_what_was_told_before_the_scheduler_started_holds_as_well(
    around: Surroundings, make_job: MakeJob, nats_url: str
) -> None:
    async with open_bus(PlatformSettings(nats_url=nats_url), "test") as bus:
        await bus.ensure_streams("ledger")
        await bus.publish(exceeded())
        await bus.publish(exceeded(budget_id="april", scope_key="speech"))
        await bus.publish(renewed(budget_id="april", scope_key="speech", occurred_at=NOW + timedelta(seconds=1)))
        async with following(followed(around.scheduling.spending), bus):
            assert "march" in await refusal(around, make_job(project="vision"))
            assert await refusal(around, make_job(project="speech")) == ""
