"""What budgets say reaches the workflows of the jobs concerned, and no others; and wishes add up as they should."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import FakeWorld, attempt, job

from ergonaut.budgets import BudgetMetric, BudgetScope
from ergonaut.errors import Unavailable
from ergonaut.events import BudgetExceeded, BudgetRenewed
from ergonaut.jobs import BudgetAction
from ergonaut.workflows import Asked
from ergonaut_common.clock import FakeClock
from ergonaut_orchestrator.domain import Wishes
from ergonaut_orchestrator.service import Leasing, Steering

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BUDGET: dict[str, Any] = {
    "tenant": "default",
    "occurred_at": NOW,
    "budget_id": "team",
    "scope": BudgetScope.PROJECT,
    "scope_key": "search",
    "metric": BudgetMetric.COST_USD,
    "limit": 10.0,
    "used": 10.5,
    "window_started_at": NOW,
}


@pytest.fixture
def fakes() -> FakeWorld:
    made = FakeWorld.on(FakeClock(NOW))
    made.workflows.live = {"job/default/job-1", "job/default/job-2", "job/other/job-1"}
    return made


def exceeded(action: BudgetAction, *job_ids: str) -> BudgetExceeded:
    return BudgetExceeded(**BUDGET, action=action, job_ids=job_ids, run_ids=("run-of-a-tracker",))


@pytest.mark.parametrize(("action", "signal"), [(BudgetAction.PAUSE, "pause"), (BudgetAction.STOP, "stop")])
async def test_a_used_up_budget_reaches_each_of_its_jobs_and_says_why(
    fakes: FakeWorld, action: BudgetAction, signal: str
) -> None:
    await Steering(fakes.world).exceeded(exceeded(action, "job-1", "job-2", "long-gone"))
    because = "budget team is used up: 10.5 of 10 USD"
    asked = Asked(because=because, budget_id="team", asked_at=NOW)
    assert fakes.workflows.asked == [("job/default/job-1", signal, asked), ("job/default/job-2", signal, asked)]


async def test_a_budget_that_only_tells_and_tracked_runs_which_hear_it_themselves_change_nothing(
    fakes: FakeWorld,
) -> None:
    await Steering(fakes.world).exceeded(exceeded(BudgetAction.TELL, "job-1"))
    await Steering(fakes.world).exceeded(exceeded(BudgetAction.STOP))
    assert fakes.workflows.asked == []


async def test_a_renewed_budget_resumes_in_its_own_name(fakes: FakeWorld) -> None:
    await Steering(fakes.world).renewed(BudgetRenewed(**BUDGET, because="a new month", job_ids=("job-1",)))
    asked = Asked(because="a new month", budget_id="team", asked_at=NOW)
    assert fakes.workflows.asked == [("job/default/job-1", "resume", asked)]


async def test_a_workflow_that_somebody_started_under_a_name_of_their_own_is_found_by_its_machine(
    fakes: FakeWorld,
) -> None:
    fakes.workflows.live = {"by-hand"}
    await Leasing(fakes.world).provision(attempt(job("true"), NOW, workflow_id="by-hand"))
    await Steering(fakes.world).exceeded(exceeded(BudgetAction.PAUSE, "job-1"))
    assert [workflow_id for workflow_id, _, _ in fakes.workflows.asked] == ["by-hand"]


async def test_while_temporal_is_away_the_event_is_left_to_be_delivered_again(fakes: FakeWorld) -> None:
    fakes.workflows.away_for = 1
    with pytest.raises(Unavailable):
        await Steering(fakes.world).exceeded(exceeded(BudgetAction.PAUSE, "job-1"))
    await Steering(fakes.world).exceeded(exceeded(BudgetAction.PAUSE, "job-1"))
    assert len(fakes.workflows.asked) == 1


def asked(budget_id: str, minute: int) -> Asked:
    return Asked(because=f"{budget_id} {minute}", budget_id=budget_id, asked_at=NOW + timedelta(minutes=minute))


WISHES = [
    (Wishes.with_pause, asked("a", 1)),
    (Wishes.with_resume, asked("a", 2)),
    (Wishes.with_pause, asked("b", 3)),
    (Wishes.with_resume, asked("c", 4)),
]


@given(st.permutations(WISHES), st.lists(st.sampled_from(WISHES)))
def test_budgets_wishes_may_come_twice_and_in_any_order(first: list[Any], again: list[Any]) -> None:
    wishes = Wishes()
    for wish, by in [*first, *again]:
        wishes = wish(wishes, by)
    assert (set(wishes.held_by), wishes.resumed_count <= 2) == ({"b"}, True)


def test_a_budget_that_lets_go_speaks_for_all_budgets_that_held_before_and_for_none_that_holds_since() -> None:
    both = Wishes().with_pause(asked("a", 1)).with_pause(asked("b", 2))
    assert both.with_resume(asked("b", 3)).hold is None
    assert both.with_pause(asked("c", 5)).with_resume(asked("b", 3)).hold == asked("c", 5)


def test_a_budget_that_holds_nothing_lets_nothing_go() -> None:
    assert Wishes().with_pause(asked("a", 1)).with_resume(asked("b", 3)).hold == asked("a", 1)


def test_a_person_s_pause_outlasts_a_budget_s_renewal() -> None:
    wishes = Wishes().with_pause(asked("a", 1)).with_pause(Asked(because="mine")).with_resume(asked("a", 2))
    assert wishes.hold == Asked(because="mine")


def test_a_person_s_word_counts_each_time() -> None:
    me = Asked(because="me")
    wishes = Wishes().with_pause(me).with_resume(me).with_pause(me)
    assert wishes.hold == me


def test_the_budget_that_stopped_a_job_first_is_named() -> None:
    assert Wishes().with_stop(asked("a", 1)).with_stop(asked("b", 1)).stop == asked("a", 1)


def test_a_job_remembers_no_more_budgets_than_it_can_hold() -> None:
    wishes = Wishes()
    for number in range(1000):
        wishes = wishes.with_pause(asked(f"b{number}", number))
    assert len(wishes.held_by) == len(wishes.asked_at) == 256
