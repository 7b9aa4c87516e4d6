"""Windows, tallies and decisions of budgets: tables and properties, with no world around them."""

import doctest
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ergonaut.budgets import BudgetMetric, BudgetScope, BudgetSpec, BudgetWindow
from ergonaut.events import BudgetExceeded, BudgetRenewed, BudgetWarned
from ergonaut.jobs import Budget, BudgetAction
from ergonaut_ledger.domain.budgets import (
    Answer,
    Asked,
    BudgetRecord,
    Chunk,
    Pace,
    Question,
    RunUnderWay,
    Seen,
    State,
    Tally,
    Use,
    acts_early,
    changed,
    decided,
    ends_at_expected,
    limits,
    limits_of_job,
    made,
    needs_look,
    question_of,
    removed,
    state_of,
    tally,
    to_ask,
    window_at,
    windows,
    with_answer,
)

NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)
TIMES = st.datetimes(datetime(2001, 1, 1), datetime(2150, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))  # noqa: DTZ001
CALENDAR = [window for window in BudgetWindow if window is not BudgetWindow.LIFETIME]


def spec(**changes: Any) -> BudgetSpec:
    values: dict[str, Any] = {
        "budget_id": "b",
        "scope": BudgetScope.TENANT,
        "metric": BudgetMetric.ENERGY_JOULES,
        "limit": 1000.0,
        "action": BudgetAction.STOP,
    }
    return BudgetSpec(**(values | changes))


def record(**changes: Any) -> BudgetRecord:
    made_record = made("t", spec(**changes), NOON, "ada")
    return BudgetRecord(tenant="t", budget=made_record.budget, made_at=NOON, changed_at=NOON)


def seen(used: float, at: datetime = NOON, **changes: Any) -> Seen:
    values: dict[str, Any] = {"at": at, "used": used, "interval_seconds": 1.0, "newest_ended_at": at}
    return Seen(**(values | changes))


def runs(*ids: str, started_at: datetime = NOON) -> list[RunUnderWay]:
    return [RunUnderWay(run_id, f"job-of-{run_id}", started_at) for run_id in ids]


def told(one: BudgetRecord) -> list[Any]:
    return [untold.event for untold in one.untold]


@pytest.mark.parametrize(
    ("window", "at", "begins", "ends"),
    [
        ("day", "2028-02-28T23:59:59.999999", "2028-02-28", "2028-02-29"),
        ("day", "2028-02-29T00:00:00", "2028-02-29", "2028-03-01"),
        ("week", "2026-01-01T00:00:00", "2025-12-29", "2026-01-05"),
        ("week", "2026-01-04T23:59:59", "2025-12-29", "2026-01-05"),
        ("week", "2026-01-05T00:00:00", "2026-01-05", "2026-01-12"),
        ("month", "2026-02-28T23:59:59", "2026-02-01", "2026-03-01"),
        ("month", "2028-02-29T12:00:00", "2028-02-01", "2028-03-01"),
        ("month", "2026-12-31T23:59:59", "2026-12-01", "2027-01-01"),
        ("quarter", "2026-03-31T23:59:59", "2026-01-01", "2026-04-01"),
        ("quarter", "2026-04-01T00:00:00", "2026-04-01", "2026-07-01"),
        ("quarter", "2026-12-31T23:59:59", "2026-10-01", "2027-01-01"),
        ("year", "2028-12-31T23:59:59", "2028-01-01", "2029-01-01"),
        ("year", "2100-02-28T00:00:00", "2100-01-01", "2101-01-01"),
    ],
)
def test_a_calendar_window_begins_and_ends_at_midnight_utc(window: str, at: str, begins: str, ends: str) -> None:
    found = window_at(spec(window=window), datetime.fromisoformat(at).replace(tzinfo=UTC))
    assert found.started_at == datetime.fromisoformat(begins).replace(tzinfo=UTC)
    assert found.ends_at == datetime.fromisoformat(ends).replace(tzinfo=UTC)


@given(at=TIMES, window=st.sampled_from(CALENDAR))
def test_windows_tile_time_without_gap_or_overlap(at: datetime, window: BudgetWindow) -> None:
    budget = spec(window=window)
    this = window_at(budget, at)
    assert this.ends_at is not None
    assert this.started_at <= at < this.ends_at
    assert window_at(budget, this.started_at) == this
    assert window_at(budget, this.ends_at - timedelta(microseconds=1)) == this
    assert window_at(budget, this.ends_at).started_at == this.ends_at


def test_another_clocks_offset_changes_no_window() -> None:
    abroad = datetime.fromisoformat("2026-01-01T01:30:00+02:00")
    assert window_at(spec(window="year"), abroad).started_at == datetime(2025, 1, 1, tzinfo=UTC)


def test_a_budgets_own_start_and_end_cut_its_windows() -> None:
    budget = spec(window="month", starts_at=NOON, ends_at=NOON + timedelta(days=30))
    assert window_at(budget, NOON - timedelta(days=9)).started_at == NOON
    assert window_at(budget, NOON).ends_at == datetime(2026, 4, 1, tzinfo=UTC)
    last = window_at(budget, NOON + timedelta(days=400))
    assert (last.started_at, last.ends_at) == (datetime(2026, 4, 1, tzinfo=UTC), NOON + timedelta(days=30))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_tally_is_the_sum_of_all_samples_in_whatever_order_they_came(data: st.DataObject) -> None:
    """The books are a list of samples; each step keeps some, of now or of days ago, and asks only what the tally says."""
    question = question_of("t", spec(starts_at=NOON - timedelta(days=6, minutes=17)), window_at(spec(), NOON))
    question = Question("t", question.scope, "", NOON - timedelta(days=6, minutes=17), question.until)
    books: list[tuple[datetime, float]] = []
    tally, at = None, NOON
    for _ in range(data.draw(st.integers(1, 8))):
        at += timedelta(seconds=data.draw(st.integers(1, 40_000)))
        ages = data.draw(st.lists(st.one_of(st.integers(0, 90), st.integers(0, 600_000)), max_size=4))
        fresh = [(at - timedelta(seconds=age), float(data.draw(st.integers(1, 9)))) for age in ages]
        books += fresh
        oldest = min([start for start, _ in fresh], default=at)
        asked = to_ask(tally, question, oldest, at, at)
        tally = with_answer(tally, asked, _answer(books, question, asked), at)
        within = [joules for start, joules in books if question.since <= start < question.until]
        assert tally.used.energy_joules == pytest.approx(sum(within))


def test_a_late_sample_of_the_partial_first_day_counts_once() -> None:
    since = NOON - timedelta(days=6, minutes=17)
    question = Question("t", BudgetScope.TENANT, "", since, NOON + timedelta(days=30))
    books = [(since + timedelta(minutes=1), 5.0)]
    tally = with_answer(None, first := to_ask(None, question, NOON, NOON, NOON), _answer(books, question, first), NOON)
    at = NOON + timedelta(hours=5)
    tally = with_answer(tally, next_one := to_ask(tally, question, at, at, at), _answer(books, question, next_one), at)
    books.append((since + timedelta(minutes=2), 7.0))
    late = to_ask(tally, question, since + timedelta(minutes=2), at, at)
    assert with_answer(tally, late, _answer(books, question, late), at).used.energy_joules == 12.0


def _answer(books: list[tuple[datetime, float]], question: Question, asked: Asked) -> Answer:
    def chunks(since: datetime, until: datetime, **begin: int) -> list[Chunk]:
        found: dict[datetime, float] = {}
        for start, joules in books:
            if max(since, question.since) <= start < until:
                key = start.replace(**begin)  # type: ignore[arg-type]
                found[key] = found.get(key, 0.0) + joules
        return [Chunk(start, Use(energy_joules=joules)) for start, joules in found.items()]

    hours = chunks(asked.hours_from, asked.minutes_from, minute=0, second=0, microsecond=0) if asked.hours_from else []
    return Answer(hours, chunks(asked.minutes_from, question.until, second=0, microsecond=0))


def test_what_is_asked_again_is_the_last_minute_unless_samples_come_late() -> None:
    question = question_of("t", spec(window="month"), window_at(spec(window="month"), NOON))
    tally = with_answer(None, to_ask(None, question, NOON, NOON, NOON), Answer(), NOON)
    at = NOON + timedelta(seconds=30)
    usual = to_ask(tally, question, at, at, at)
    assert (usual.hours_from, usual.minutes_from) == (None, NOON)
    late = to_ask(tally, question, NOON - timedelta(hours=30), at, at)
    assert late.hours_from == datetime(2026, 3, 13, 6, tzinfo=UTC)


def test_the_pace_is_energy_over_the_time_of_its_samples() -> None:
    pace = Pace(Use(energy_joules=50.0), NOON, NOON + timedelta(seconds=10), 1.0)
    assert pace.per_second(BudgetMetric.ENERGY_JOULES) == 5.0
    assert Pace().per_second(BudgetMetric.ENERGY_JOULES) == 0.0


def test_a_forecast_goes_by_the_mean_of_the_last_hour() -> None:
    minutes = {NOON - timedelta(minutes=n): Use(energy_joules=60.0) for n in range(1, 31)}
    began = Tally(minutes_from=NOON - timedelta(hours=2), minutes=minutes)
    assert began.mean_per_second(BudgetMetric.ENERGY_JOULES, NOON) == pytest.approx(1.0)
    older = Tally(minutes_from=NOON, hours={NOON - timedelta(hours=5): Use(energy_joules=9.0)}, minutes=minutes)
    assert older.mean_per_second(BudgetMetric.ENERGY_JOULES, NOON) == pytest.approx(0.5)
    assert began.mean_per_second(BudgetMetric.ENERGY_JOULES, NOON + timedelta(hours=3)) == 0.0


def test_an_end_is_expected_only_within_the_window_and_while_something_is_used() -> None:
    daily = spec(window="day", limit=1000.0)
    window = window_at(daily, NOON)
    assert ends_at_expected(daily, window, seen(400.0, mean_per_second=1.0)) == NOON + timedelta(seconds=600)
    assert ends_at_expected(daily, window, seen(400.0, mean_per_second=0.001)) is None
    assert ends_at_expected(daily, window, seen(400.0)) is None
    assert ends_at_expected(daily, window, seen(1000.0, mean_per_second=1.0)) is None


@pytest.mark.parametrize(
    ("used", "pace", "acts"),
    [
        (989.0, 50.0, False),  # never before 99 % of the limit, however fast
        (995.0, 1.0, False),  # 5 J left at 1 W: the next news is soon enough
        (998.5, 1.0, True),  # by the time that it works, the rest will be used
        (999.5, 0.0, False),
        (1000.0, 0.0, True),
        (1000.0 * (1 - 1e-12), 0.0, True),
    ],
)
def test_an_action_is_decided_when_the_limit_would_be_reached_before_it_works(
    used: float, pace: float, acts: bool
) -> None:
    lagging = seen(used, pace_per_second=pace, newest_ended_at=NOON - timedelta(seconds=0.6))
    assert acts_early(spec(), lagging) is acts


def test_a_pace_of_long_ago_uses_nothing_up() -> None:
    rests = {"pace_per_second": 10.0, "newest_ended_at": NOON - timedelta(minutes=5)}
    assert not acts_early(spec(), seen(999.9, **rests))
    assert acts_early(spec(), seen(1000.0, **rests))


def test_telling_alone_waits_for_the_limit_itself() -> None:
    nearly = seen(999.9, pace_per_second=10.0)
    assert acts_early(spec(action="stop"), nearly)
    assert not acts_early(spec(action="tell"), nearly)


@given(
    watts=st.floats(0.5, 2_000),
    samples=st.integers(200, 5_000),
    phase=st.floats(0, 1),
    lag=st.floats(0.2, 0.9),
    works=st.floats(0.3, 0.7),
)
def test_a_budget_of_more_than_two_hundred_samples_ends_within_one_percent(
    watts: float, samples: int, phase: float, lag: float, works: float
) -> None:
    """A run at a steady power, sampled each second, known `lag` later, that ends `works` seconds after the decision."""
    budget = spec(limit=watts * (samples + phase))
    for second in range(1, samples + 10):
        end = NOON + timedelta(seconds=second)
        news = seen(watts * second, end + timedelta(seconds=lag), pace_per_second=watts, newest_ended_at=end)
        if acts_early(budget, news):
            final = watts * (second + lag + works)
            assert 0.99 <= final / budget.limit <= 1.01
            return
    pytest.fail("it was never acted upon")


def test_a_warning_is_told_once_a_window_with_the_expected_end() -> None:
    first = decided(record(), seen(800.0, mean_per_second=2.0))
    [warning] = told(first)
    assert isinstance(warning, BudgetWarned)
    assert (warning.fraction, warning.used, warning.ends_at_expected) == (0.8, 800.0, NOON + timedelta(seconds=100))
    assert decided(first, seen(850.0)) == first
    assert state_of(first, NOON) is State.WARNED


def test_a_budget_that_is_used_up_names_the_jobs_and_runs_of_its_scope() -> None:
    after = decided(record(), seen(1000.0), [*runs("run-1"), RunUnderWay("run-2", "", NOON)])
    [excess] = told(after)
    assert isinstance(excess, BudgetExceeded)
    assert (excess.action, excess.job_ids, excess.run_ids) == (BudgetAction.STOP, ("job-of-run-1",), ("run-1", "run-2"))
    assert decided(after, seen(1100.0), runs("run-1")) == after


def test_a_run_that_starts_in_a_budget_that_is_used_up_is_told_of_by_itself() -> None:
    after = decided(record(), seen(1000.0), runs("run-1"))
    again = decided(after, seen(1010.0), runs("run-1", "run-2"))
    first, second = told(again)
    assert (second.run_ids, second.job_ids) == (("run-2",), ("job-of-run-2",))
    assert first.event_id != second.event_id


def test_a_run_that_goes_on_under_its_name_is_told_of_again() -> None:
    after = decided(record(action="pause"), seen(1000.0), runs("run-1"))
    resumed = decided(after, seen(1010.0), runs("run-1", started_at=NOON + timedelta(minutes=5)))
    assert len(told(resumed)) == 2


def test_the_same_decision_has_the_same_id_and_another_window_another() -> None:
    daily = record(window="day")
    one, two = (told(decided(daily, seen(1000.0 + n), runs("run-1")))[0] for n in (0, 7))
    assert one.event_id == two.event_id
    tomorrow = told(decided(daily, seen(1000.0, NOON + timedelta(days=1)), runs("run-1")))[0]
    assert tomorrow.event_id != one.event_id


def test_a_new_window_lets_the_paused_jobs_go_on() -> None:
    paused = decided(record(window="day", action="pause"), seen(1000.0), runs("run-1", "run-2"))
    assert paused.paused_jobs == ("job-of-run-1", "job-of-run-2")
    tomorrow = NOON + timedelta(hours=12)
    assert not needs_look(BudgetRecord(**{**_fields(paused), "untold": ()}), tomorrow - timedelta(seconds=1))
    assert needs_look(paused, tomorrow)
    anew = decided(paused, seen(0.0, tomorrow), held=frozenset({"job-of-run-2"}))
    renewed = told(anew)[-1]
    assert isinstance(renewed, BudgetRenewed)
    assert renewed.job_ids == ("job-of-run-1",)
    assert renewed.window_started_at == tomorrow
    assert (anew.paused_jobs, state_of(anew, tomorrow)) == ((), State.WITHIN)
    assert decided(anew, seen(1.0, tomorrow)) == anew


def _fields(one: BudgetRecord) -> dict[str, Any]:
    return {name: getattr(one, name) for name in BudgetRecord.__dataclass_fields__}


def test_a_raised_limit_lets_the_paused_jobs_go_on_and_a_changed_one_that_is_still_too_low_does_not() -> None:
    paused = decided(record(action="pause"), seen(1000.0), runs("run-1"))
    raised = decided(changed(paused, spec(action="pause", limit=2000.0), NOON, "ada"), seen(1000.0))
    assert [type(event).__name__ for event in told(raised)] == ["BudgetExceeded", "BudgetChanged", "BudgetRenewed"]
    assert told(raised)[-1].job_ids == ("job-of-run-1",)
    still = decided(changed(paused, spec(action="pause", limit=900.0), NOON, "ada"), seen(1000.0))
    assert [type(event).__name__ for event in told(still)] == ["BudgetExceeded", "BudgetChanged", "BudgetExceeded"]
    assert still.paused_jobs == ("job-of-run-1",)


def test_a_pause_that_becomes_a_stop_stops_the_jobs_that_are_paused() -> None:
    paused = decided(record(action="pause"), seen(1000.0), runs("run-1"))
    stopped = decided(changed(paused, spec(action="stop"), NOON, "ada"), seen(1000.0))
    assert told(stopped)[-1].job_ids == ("job-of-run-1",)
    assert told(stopped)[-1].action is BudgetAction.STOP
    assert stopped.paused_jobs == ()


def test_a_budget_that_is_removed_or_over_lets_the_paused_jobs_go_on() -> None:
    paused = decided(record(action="pause", ends_at=NOON + timedelta(hours=1)), seen(1000.0), runs("run-1"))
    gone = removed(paused, NOON, "ada", used=1000.0)
    assert [type(event).__name__ for event in told(gone)[1:]] == ["BudgetRenewed", "BudgetChanged"]
    assert told(gone)[-1].removed
    later = NOON + timedelta(hours=1)
    over = decided(paused, seen(1000.0, later))
    assert (told(over)[-1].job_ids, state_of(over, later)) == (("job-of-run-1",), State.OVER)
    assert decided(over, seen(1000.0, later)) == over


def test_the_same_budget_again_changes_nothing() -> None:
    one = made("t", spec(), NOON, "ada")
    assert changed(one, spec(), NOON + timedelta(hours=1), "bob") == one


def test_a_jobs_own_limit_names_the_job_even_between_two_attempts() -> None:
    [limit] = limits_of_job("job-1", Budget(energy_joules=1000.0))
    mine = BudgetRecord(tenant="t", budget=limit, made_at=NOON, changed_at=NOON, of_job=True)
    assert told(decided(mine, seen(1000.0)))[0].job_ids == ("job-1",)


def test_a_jobs_limits_are_budgets_with_its_action_and_ids_that_fit() -> None:
    long_id = "job-" + "x" * 59
    limits = limits_of_job(long_id, Budget(cost_usd=1, carbon_grams_co2e=2, energy_joules=3, action="pause"))
    assert [limit.metric for limit in limits] == [*BudgetMetric]
    assert {limit.action for limit in limits} == {BudgetAction.PAUSE}
    assert len({limit.budget_id for limit in limits}) == 3


@settings(deadline=None)
@given(
    uses=st.lists(st.tuples(st.floats(0, 1500), st.integers(0, 40_000)), max_size=12),
    action=st.sampled_from(BudgetAction),
)
def test_in_each_window_a_budget_warns_once_and_is_exceeded_once(
    uses: list[tuple[float, int]], action: BudgetAction
) -> None:
    one, at = record(window="day", action=action), NOON
    for used, seconds in uses:
        at += timedelta(seconds=seconds)
        one = decided(one, seen(used, at), runs("run-1"))
    by_kind: dict[tuple[str, datetime], int] = {}
    for event in told(one):
        kind = (type(event).__name__, event.window_started_at)
        by_kind[kind] = by_kind.get(kind, 0) + 1
    assert set(by_kind.values()) <= {1}
    assert len({event.event_id for event in told(one)}) == len(one.untold)
    starts = [event.window_started_at for event in told(one)]
    assert all(earlier <= later for earlier, later in pairwise(starts))


@pytest.mark.parametrize("module", [limits, tally, windows])
def test_the_examples_in_docstrings_are_true(module: ModuleType) -> None:
    found = doctest.testmod(module)
    assert (found.failed, found.attempted > 0) == (0, True)
