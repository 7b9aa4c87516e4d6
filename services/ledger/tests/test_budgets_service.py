"""Budgets over fakes and a clock that is turned: what is told, once, whatever dies or repeats in between."""

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ergonaut.budgets import BudgetScope, BudgetSpec
from ergonaut.errors import Broken, NotFound, Refused, Unavailable
from ergonaut.events import BudgetExceeded, BudgetRenewed, Event, JobSubmitted
from ergonaut.jobs import Budget, BudgetAction, JobSpec
from ergonaut_common.clock import FakeClock
from ergonaut_common.lifetimes import background
from ergonaut_ledger.domain.budgets import State
from ergonaut_ledger.fakes.budgets import FakeAnnouncer, FakeBudgetBook, FakeBudgetGauges, FakeBudgetSums
from ergonaut_ledger.fakes.store import FakeStore
from ergonaut_ledger.ports import StoredBudget
from ergonaut_ledger.service import Keeping
from ergonaut_ledger.service.budget_rounds import ROUND_SECONDS, SCOPES_A_ROUND_MAX, BudgetRounds
from ergonaut_ledger.service.budgeting import BUDGETS_MAX, Budgeting, BudgetWorld

from .told import cpu_sample, finished, message, reading, started

NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)


class Ledger:
    """The parts of a ledger that outlive its process, and one process at a time over them."""

    def __init__(self) -> None:
        self.clock = FakeClock(NOON)
        self.store, self.book, self.announcer = FakeStore(), FakeBudgetBook(), FakeAnnouncer()
        self.sums, self.gauges = FakeBudgetSums(self.store), FakeBudgetGauges()
        self.sequence = 0
        self.restart()

    def restart(self) -> None:
        """Forget all that was only in memory, as a death does."""
        world = BudgetWorld(self.book, self.sums, self.store, self.announcer, self.gauges, self.clock)
        self.budgeting = Budgeting(world)
        self.rounds = BudgetRounds(self.budgeting, self.clock)
        self.keeping = Keeping(self.store, [self.rounds])

    async def keep(self, *events: Event) -> None:
        """Keep events as they come from the bus, and judge what they touch."""
        first = self.sequence + 1
        self.sequence += len(events)
        problems = await self.keeping.keep([message(event, first + n) for n, event in enumerate(events)])
        assert not any(problems), problems
        await self.rounds.round()

    async def use(self, number: int, joules: float, **changes: Any) -> None:
        """A second's samples of a run."""
        await self.clock.advance(1.0)
        await self.keep(self.reading(number, joules, **changes))

    def reading(self, number: int, joules: float, *, age_seconds: float = 0, **changes: Any) -> Event:
        end = self.clock.now() - timedelta(seconds=age_seconds)
        times = {"started_at": end - timedelta(seconds=1), "ended_at": end}
        return reading("t", number, cpu_sample(0, joules, **(times | changes)), occurred_at=end)

    @property
    def kinds(self) -> list[str]:
        return [type(event).__name__.removeprefix("Budget") for event in self.announcer.told.values()]

    @property
    def last(self) -> Any:
        return [*self.announcer.told.values()][-1]


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def budget(**changes: Any) -> BudgetSpec:
    values: dict[str, Any] = {"budget_id": "b", "scope": BudgetScope.TENANT, "metric": "energy_joules", "limit": 100.0}
    return BudgetSpec(**(values | changes))


def start(run_id: str = "run-1", **changes: Any) -> Event:
    return started("t", run_id, occurred_at=NOON, started_at=NOON, **changes)


async def test_a_budget_warns_and_is_then_used_up_each_once(ledger: Ledger) -> None:
    await ledger.budgeting.set("t", budget(), "ada")
    await ledger.keep(start())
    for number in range(1, 15):
        await ledger.use(number, 10.0)
    assert ledger.kinds == ["Changed", "Warned", "Exceeded"]
    standing = await ledger.budgeting.standing("t", "b")
    assert (standing.state, standing.seen.used, standing.seen.used_range) == (
        State.EXCEEDED,
        140.0,
        pytest.approx(42.0),
    )
    assert ledger.gauges.ratios == {("t", "b"): 1.4}


@pytest.mark.parametrize(
    ("scope", "key", "counts"),
    [("run", "run-1", 1), ("job", "job-1", 1), ("project", "vision", 1), ("tenant", "", 2), ("project", "other", 0)],
)
async def test_a_budget_counts_the_use_of_its_scope_only(ledger: Ledger, scope: str, key: str, counts: int) -> None:
    await ledger.budgeting.set("t", budget(scope=scope, scope_key=key), "ada")
    await ledger.use(1, 10.0, run_id="run-1", job_id="job-1", project="vision")
    await ledger.use(2, 10.0, run_id="run-2")
    assert (await ledger.budgeting.standing("t", "b")).seen.used == 10.0 * counts


async def test_another_tenants_use_and_budgets_are_never_touched(ledger: Ledger) -> None:
    await ledger.budgeting.set("other", budget(limit=1.0), "eve")
    await ledger.use(1, 10.0)
    assert ledger.kinds == ["Changed"]
    assert (await ledger.budgeting.standings("t")) == []
    with pytest.raises(NotFound):
        await ledger.budgeting.standing("t", "b")


async def test_repeats_and_late_samples_count_once_and_are_counted(ledger: Ledger) -> None:
    await ledger.budgeting.set("t", budget(), "ada")
    await ledger.use(1, 30.0)
    again = ledger.reading(1, 30.0)
    await ledger.keep(again)
    await ledger.clock.advance(3 * 3600)
    await ledger.use(2, 30.0)
    await ledger.keep(ledger.reading(3, 39.0, age_seconds=7200), again)
    assert (await ledger.budgeting.standing("t", "b")).seen.used == 99.0
    assert ledger.kinds == ["Changed", "Warned"]


async def test_use_that_came_while_the_ledger_was_away_is_found_when_it_starts(ledger: Ledger) -> None:
    await ledger.budgeting.set("t", budget(), "ada")
    await ledger.keeping.keep([message(ledger.reading(1, 200.0), 1)])
    ledger.restart()
    await ledger.rounds.start()
    await ledger.rounds.round()
    assert ledger.kinds == ["Changed", "Exceeded"]


class Killed(Exception):
    """The process ends here."""


@pytest.mark.parametrize("dies_at", range(1, 9))
async def test_killed_at_any_step_it_tells_each_thing_once(ledger: Ledger, dies_at: int) -> None:
    """Every write to the book and every telling is a step; the process dies before the n-th, or just after it."""
    steps = 0

    def dying(step: Any, *, after: bool) -> Any:
        async def call(argument: Any) -> Any:
            nonlocal steps
            steps += 1
            result = await step(argument) if after or steps != dies_at else None
            if steps == dies_at:
                raise Killed
            return result

        return call

    for after in (False, True):
        ledger = Ledger()
        await ledger.budgeting.set("t", budget(action="stop"), "ada")
        await ledger.keep(start())
        steps = 0
        keep, tell = ledger.book.keep, ledger.announcer.tell
        ledger.book.keep = dying(keep, after=after)  # type: ignore[method-assign]
        ledger.announcer.tell = dying(tell, after=after)  # type: ignore[method-assign]
        for number, joules in enumerate((85.0, 30.0), 1):
            try:
                await ledger.use(number, joules)
            except Killed:
                ledger.restart()
                await ledger.rounds.start()
                await ledger.rounds.round()
        ledger.restart()
        await ledger.rounds.start()
        await ledger.rounds.round()
        assert ledger.kinds == ["Changed", "Warned", "Exceeded"]
        assert not (await ledger.book.everything())[0].record.untold


async def test_what_the_bus_did_not_take_is_told_when_it_is_back(ledger: Ledger) -> None:
    await ledger.budgeting.set("t", budget(), "ada")
    ledger.announcer.away = True
    await ledger.use(1, 150.0)
    assert ledger.kinds == ["Changed"]
    ledger.announcer.away = False
    await ledger.rounds.look_once()
    assert ledger.kinds == ["Changed", "Exceeded"]


async def test_a_record_that_cannot_be_read_keeps_no_other_budget_waiting(ledger: Ledger) -> None:
    for name in ("a", "b", "c"):
        await ledger.budgeting.set("t", budget(budget_id=name, window="day", action="pause"), "ada")
    find, keep = ledger.book.find, ledger.book.keep

    async def damaged(tenant: str, budget_id: str) -> StoredBudget | None:
        if budget_id == "a":
            raise Broken("the record t.a in the bucket budgets cannot be read")
        return await find(tenant, budget_id)

    async def outrun(stored: StoredBudget) -> StoredBudget | None:
        return None if stored.record.budget_id == "a" else await keep(stored)

    ledger.book.find, ledger.book.keep = damaged, outrun  # type: ignore[method-assign]
    await ledger.use(1, 150.0)
    told = ledger.announcer.told.values()
    assert sorted(event.budget_id for event in told if isinstance(event, BudgetExceeded)) == ["b", "c"]
    await ledger.clock.advance(86_400)
    await ledger.rounds.look_once()
    assert sorted(event.budget_id for event in told if isinstance(event, BudgetRenewed)) == ["b", "c"]


async def test_a_listing_holds_the_limits_of_the_newest_jobs_beside_all_that_were_set(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ergonaut_ledger.service.budgeting.JOB_LIMITS_LISTED_MAX", 2)
    await ledger.budgeting.set("t", budget(budget_id="a", limit=1e6), "ada")
    limited = JobSpec(name="d", command=("true",), duration_seconds_expected=1, budget=Budget(energy_joules=100))
    for number in (3, 1, 2):
        job_id, told_at = f"job-{number}", NOON - timedelta(hours=number)
        await ledger.keep(JobSubmitted(tenant="t", job_id=job_id, job=limited, occurred_at=told_at))
        await ledger.use(number, 120.0, run_id=f"run-{number}", job_id=job_id)
    listed = [standing.record.budget_id for standing in await ledger.budgeting.standings("t")]
    assert listed == ["a", "job-1-energy", "job-2-energy"]


async def test_an_engine_that_is_away_delays_the_judgement_and_loses_nothing(ledger: Ledger) -> None:
    await ledger.budgeting.set("t", budget(), "ada")
    ledger.sums.away = True
    await ledger.use(1, 150.0)
    ledger.sums.away = False
    await ledger.rounds.round()
    assert ledger.kinds == ["Changed", "Exceeded"]


async def test_a_run_that_starts_in_a_budget_that_is_used_up_is_stopped_too(ledger: Ledger) -> None:
    await ledger.budgeting.set("t", budget(action="stop"), "ada")
    await ledger.keep(start())
    await ledger.use(1, 120.0)
    await ledger.clock.advance(10)
    await ledger.keep(start("run-2", job_id="job-2"))
    await ledger.use(2, 1.0, run_id="run-2", job_id="job-2")
    assert (ledger.last.run_ids, ledger.last.job_ids) == (("run-2",), ("job-2",))
    assert ledger.kinds == ["Changed", "Exceeded", "Exceeded"]


async def test_a_run_that_was_told_in_vain_is_told_again_at_a_growing_pace_until_it_ends(ledger: Ledger) -> None:
    await ledger.budgeting.set("t", budget(action="stop"), "ada")
    await ledger.keep(start())
    for number in range(1, 301):
        await ledger.use(number, 120.0)
    told = [event for event in ledger.announcer.told.values() if isinstance(event, BudgetExceeded)]
    seconds = [(event.occurred_at - told[0].occurred_at).total_seconds() for event in told]
    assert {event.run_ids for event in told} == {("run-1",)}
    assert [round(second / 15) for second in seconds] == [0, 1, 3, 7, 15]
    await ledger.keep(finished("t", "run-1", occurred_at=ledger.clock.now(), ended_at=ledger.clock.now()))
    await ledger.clock.advance(3600)
    await ledger.use(301, 1.0)
    assert ledger.kinds.count("Exceeded") == len(told)


async def test_a_run_that_starts_after_one_was_told_in_vain_is_told_of_at_once(ledger: Ledger) -> None:
    await ledger.budgeting.set("t", budget(action="stop"), "ada")
    await ledger.keep(start())
    for number in range(1, 61):
        await ledger.use(number, 120.0)
    await ledger.keep(start("run-2"))
    await ledger.use(61, 1.0, run_id="run-2")
    assert ledger.last.run_ids == ("run-2",)


async def test_what_was_ended_just_below_its_limit_is_expected_to_be_used_up_no_more(ledger: Ledger) -> None:
    await ledger.budgeting.set("t", budget(action="stop"), "ada")
    await ledger.keep(start())
    await ledger.use(1, 50.0)
    assert (await ledger.budgeting.standing("t", "b")).ends_at_expected is not None
    await ledger.use(2, 49.5)
    standing = await ledger.budgeting.standing("t", "b")
    assert (standing.state, standing.ends_at_expected) == (State.EXCEEDED, None)


async def test_a_run_that_has_ended_is_not_told_to_stop(ledger: Ledger) -> None:
    await ledger.budgeting.set("t", budget(action="stop"), "ada")
    await ledger.keep(start(), start("run-2"), finished("t", "run-2", occurred_at=NOON, ended_at=NOON))
    await ledger.use(1, 120.0)
    assert ledger.last.run_ids == ("run-1",)


async def test_a_jobs_own_limits_hold_without_anybody_setting_them(ledger: Ledger) -> None:
    limited = JobSpec(
        name="digits",
        command=("true",),
        duration_seconds_expected=1,
        budget=Budget(energy_joules=100.0, cost_usd=5.0, action=BudgetAction.PAUSE),
    )
    submitted = JobSubmitted(tenant="t", job_id="job-1", job=limited, occurred_at=NOON)
    await ledger.keep(submitted, start(job_id="job-1"))
    await ledger.use(1, 85.0, job_id="job-1")
    await ledger.use(2, 85.0, job_id="job-1")
    assert ledger.kinds == ["Warned", "Exceeded"]
    assert (ledger.last.budget_id, ledger.last.job_ids, ledger.last.action) == ("job-1-energy", ("job-1",), "pause")
    with pytest.raises(Refused, match="higher limit"):
        await ledger.budgeting.remove("t", "job-1-energy", "ada")


async def test_a_jobs_limit_is_raised_by_a_budget_of_its_name(ledger: Ledger) -> None:
    limited = JobSpec(
        name="digits", command=("true",), duration_seconds_expected=1, budget=Budget(energy_joules=100, action="pause")
    )
    await ledger.keep(JobSubmitted(tenant="t", job_id="job-1", job=limited, occurred_at=NOON), start(job_id="job-1"))
    await ledger.use(1, 120.0, job_id="job-1")
    raised = budget(budget_id="job-1-energy", scope="job", scope_key="job-1", limit=500.0, action="pause")
    await ledger.budgeting.set("t", raised, "ada")
    assert ledger.kinds == ["Exceeded", "Changed", "Renewed"]
    assert ledger.last.job_ids == ("job-1",)
    await ledger.use(2, 120.0, job_id="job-1")
    assert ledger.kinds == ["Exceeded", "Changed", "Renewed"]


async def test_samples_that_overtake_their_jobs_submission_are_judged_when_it_is_known(ledger: Ledger) -> None:
    await ledger.use(1, 120.0, job_id="job-1")
    limited = JobSpec(name="d", command=("true",), duration_seconds_expected=1, budget=Budget(energy_joules=100))
    await ledger.keep(JobSubmitted(tenant="t", job_id="job-1", job=limited, occurred_at=NOON))
    await ledger.clock.advance(6)
    await ledger.use(2, 1.0, job_id="job-1")
    assert ledger.kinds == ["Exceeded"]


async def test_midnight_lets_paused_jobs_go_on_without_any_sample(ledger: Ledger) -> None:
    await ledger.budgeting.set("t", budget(window="day", action="pause"), "ada")
    await ledger.keep(start(job_id="job-1"))
    await ledger.use(1, 120.0, job_id="job-1")
    async with background(ledger.rounds.look()):
        await ledger.clock.advance(11 * 3600)
        assert ledger.kinds == ["Changed", "Exceeded"]
        await ledger.clock.advance(3600)
    assert ledger.kinds == ["Changed", "Exceeded", "Renewed"]
    assert ledger.last.job_ids == ("job-1",)
    assert ledger.last.because == "its window has begun anew"


async def test_a_job_that_another_budget_holds_stays_paused(ledger: Ledger) -> None:
    for name in ("a", "b"):
        await ledger.budgeting.set("t", budget(budget_id=name, action="pause"), "ada")
    await ledger.keep(start(job_id="job-1"))
    await ledger.use(1, 120.0, job_id="job-1")
    await ledger.budgeting.remove("t", "a", "ada")
    assert [event.job_ids for event in ledger.announcer.told.values() if isinstance(event, BudgetRenewed)] == [()]
    await ledger.budgeting.remove("t", "b", "ada")
    released = [event for event in ledger.announcer.told.values() if isinstance(event, BudgetRenewed)]
    assert [(event.job_ids, event.used) for event in released] == [((), 120.0), (("job-1",), 120.0)]
    assert await ledger.budgeting.standings("t") == []


async def test_a_budget_may_change_what_it_limits(ledger: Ledger) -> None:
    await ledger.budgeting.set("t", budget(action="pause"), "ada")
    await ledger.keep(start(job_id="job-1"))
    await ledger.use(1, 120.0, job_id="job-1")
    await ledger.budgeting.set("t", budget(scope="run", scope_key="run-9", action="pause"), "ada")
    assert ledger.kinds == ["Changed", "Exceeded", "Renewed", "Changed", "Changed"]
    assert [event.used for event in ledger.announcer.told.values() if isinstance(event, BudgetRenewed)] == [120.0]
    assert (await ledger.budgeting.standing("t", "b")).state is State.WITHIN


async def test_a_removed_budget_that_is_set_again_begins_anew(ledger: Ledger) -> None:
    for _ in range(2):
        await ledger.budgeting.set("t", budget(), "ada")
        await ledger.use(1, 120.0)
        await ledger.budgeting.remove("t", "b", "ada")
        await ledger.clock.advance(1)
    assert ledger.kinds == ["Changed", "Exceeded", "Renewed", "Changed"] * 2


async def test_two_ledgers_on_one_book_tell_each_thing_once(ledger: Ledger) -> None:
    await ledger.budgeting.set("t", budget(action="stop"), "ada")
    await ledger.keep(start())
    await ledger.clock.advance(1)
    await ledger.keeping.keep([message(ledger.reading(1, 120.0), 99)])
    second = Budgeting(
        BudgetWorld(ledger.book, ledger.sums, ledger.store, ledger.announcer, ledger.gauges, ledger.clock)
    )
    await second.shelf.look()
    [stored] = second.shelf.all()
    await asyncio.gather(second.judge(stored), ledger.budgeting.judge(stored))
    assert ledger.kinds == ["Changed", "Exceeded"]


async def test_a_tenant_has_a_bounded_number_of_budgets(ledger: Ledger) -> None:
    for number in range(BUDGETS_MAX):
        await ledger.budgeting.set("t", budget(budget_id=f"b-{number}"), "ada")
    with pytest.raises(Refused, match="remove one first"):
        await ledger.budgeting.set("t", budget(budget_id="one-more"), "ada")
    await ledger.budgeting.set("t", budget(budget_id="b-7", limit=5.0), "ada")
    await ledger.budgeting.set("other", budget(), "eve")


async def test_a_round_asks_so_much_and_the_rest_in_the_next(ledger: Ledger) -> None:
    for number in range(SCOPES_A_ROUND_MAX + 10):
        key = f"run-{number}"
        await ledger.budgeting.set("t", budget(budget_id=key, scope="run", scope_key=key, limit=5.0), "ada")
    readings = [message(ledger.reading(n + 1, 10.0, run_id=f"run-{n}"), n + 1) for n in range(SCOPES_A_ROUND_MAX + 10)]
    await ledger.keeping.keep(readings)
    await ledger.rounds.round()
    assert ledger.kinds.count("Exceeded") == SCOPES_A_ROUND_MAX
    await ledger.rounds.round()
    assert ledger.kinds.count("Exceeded") == SCOPES_A_ROUND_MAX + 10


async def test_budgets_of_one_scope_and_window_share_one_question(ledger: Ledger) -> None:
    for name in ("a", "b", "c"):
        await ledger.budgeting.set("t", budget(budget_id=name), "ada")
    before = len(ledger.sums.asked)
    await ledger.use(1, 150.0)
    assert len(ledger.sums.asked) == before + 1
    assert ledger.kinds.count("Exceeded") == 3


async def test_a_first_sample_is_judged_at_once_and_those_that_follow_soon_together(ledger: Ledger) -> None:
    await ledger.budgeting.set("t", budget(), "ada")
    await ledger.clock.advance(1)
    async with background(ledger.rounds.run()):
        before = len(ledger.sums.asked)
        for number in range(1, 6):
            await ledger.keeping.keep([message(ledger.reading(number, 1.0), number)])
            await ledger.clock.advance(ROUND_SECONDS / 10)
        assert len(ledger.sums.asked) == before + 1
        await ledger.clock.advance(ROUND_SECONDS)
        assert len(ledger.sums.asked) == before + 2
    assert (await ledger.budgeting.standing("t", "b")).seen.used == 5.0


async def test_a_change_that_others_outrun_for_ever_is_refused_for_now(ledger: Ledger) -> None:
    async def outrun(stored: StoredBudget) -> None:
        return None

    ledger.book.keep = outrun  # type: ignore[method-assign, assignment]
    with pytest.raises(Unavailable, match="try again"):
        await _soon(ledger.budgeting.set("t", budget(), "ada"))


async def _soon(work: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(work, 60)
