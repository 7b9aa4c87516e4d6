"""What follows when a budget's use is known: nothing, a warning, that it is used up, or that it no longer is.

A decision comes late by nature: samples tell of a second that is over, and a run needs a moment to stop. So an action that
ends use is decided as soon as the use of now, and of the moment until it works, would reach the limit at the present pace.
It never comes before `ACT_FRACTION_MIN` of the limit: a small budget is then overdrawn by that moment rather than cut short.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ergonaut.budgets import BudgetScope, BudgetSpec
from ergonaut.events import BudgetExceeded, BudgetWarned
from ergonaut.jobs import BudgetAction
from ergonaut_ledger.domain.budgets.records import BudgetRecord, Untold, facts_of, renewal
from ergonaut_ledger.domain.budgets.windows import Window, window_at

REACTION_SECONDS = 0.5
"""From a decision to the program's last use: the event, the workflow's signal, the runner's SIGTERM; measured 0.4 to 0.6 s."""

LAG_SECONDS_MAX = 2.0
"""How old the newest sample may be taken to be. One that is older tells of an outage, not of use that goes on unseen."""

STALE_SECONDS = 60.0
"""A pace whose newest sample is older is none any more: to look at what came to rest just below its limit uses nothing up."""

ACT_FRACTION_MIN = 0.99
"""An action comes no earlier than at this part of the limit."""

RUNS_TOLD_MAX = 2_500
"""Runs in one telling: a message of NATS holds 1 MiB. Others are told as soon as they use more."""

RUNS_REMEMBERED_MAX = 5_000
"""Runs that a record remembers to have told of, the newest; a record too must fit into 1 MiB."""

TELL_AGAIN_SECONDS = (15.0, 600.0)
"""How long after a telling runs that still use something are told of again, doubling from the first to the second: a program
may save its state for so long, and one that was not reached, or does not listen, must not fill the stream."""

EPSILON_FRACTION = 1e-9
"""Sums in another order differ in the last digits; a limit that is met to nine digits is met."""


@dataclass(frozen=True, slots=True)
class RunUnderWay:
    """A run of the scope that has started and not ended."""

    run_id: str
    job_id: str
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a budget's use at a moment, in its metric's unit."""

    at: datetime
    used: float = 0.0
    used_range: float = 0.0
    pace_per_second: float = 0.0
    """Over the last seconds."""
    mean_per_second: float = 0.0
    """Over the last hour."""
    interval_seconds: float = 0.0
    newest_ended_at: datetime | None = None


def acts_early(budget: BudgetSpec, seen: Seen) -> bool:
    """Whether the limit is reached, or will be by the time that an action works."""
    limit = budget.limit * (1 - EPSILON_FRACTION)
    if seen.used >= limit:
        return True
    if budget.action is BudgetAction.TELL or seen.used < budget.limit * ACT_FRACTION_MIN or not seen.newest_ended_at:
        return False
    age_seconds = (seen.at - seen.newest_ended_at).total_seconds()
    if age_seconds > STALE_SECONDS:
        return False
    lag_seconds = min(max(age_seconds, 0.0), LAG_SECONDS_MAX)
    # The next news comes an interval later: acting half of one early errs as much to this side as to that.
    ahead_seconds = lag_seconds + REACTION_SECONDS + min(seen.interval_seconds, LAG_SECONDS_MAX) / 2
    return seen.used + seen.pace_per_second * ahead_seconds >= limit


def ends_at_expected(budget: BudgetSpec, window: Window, seen: Seen) -> datetime | None:
    """When it will be used up at the mean of the last hour; None where it is, nothing is used, or the window ends before."""
    left = budget.limit - seen.used
    if left <= 0 or seen.mean_per_second <= 0:
        return None
    seconds = left / seen.mean_per_second
    horizon = window.ends_at or seen.at + timedelta(days=3650)
    if seconds >= (horizon - seen.at).total_seconds():
        return None
    return seen.at + timedelta(seconds=seconds)


def needs_runs(record: BudgetRecord, seen: Seen, touched: Collection[str]) -> bool:
    """Whether the runs under way must be known to decide; `touched` are those that have just used something."""
    if not _holds(record, seen):
        return acts_early(record.budget, seen)
    return record.budget.action is not BudgetAction.TELL and bool(touched)


def decided(
    record: BudgetRecord,
    seen: Seen,
    runs: Sequence[RunUnderWay] = (),
    held: frozenset[str] = frozenset(),
    touched: Collection[str] = (),
) -> BudgetRecord:
    """The record after what its use calls for, with what is to be told; the same record where nothing is.

    `runs` are those under way where `needs_runs` asked for them; `held` are jobs that other budgets keep paused; `touched`
    are the runs that have just used something.
    """
    window = window_at(record.budget, seen.at)
    over = _is_over(record.budget, seen.at)
    record = _in_window(record, window, over=over)
    if not over and (record.exceeded or acts_early(record.budget, seen)):
        return _exceeded(record, seen, runs, held, touched)
    record = _renewed(record, seen, held)
    if not over and not record.warned and seen.used >= record.budget.limit * record.budget.warn_fraction:
        record = replace(record, warned=True, untold=(*record.untold, _warning(record, seen, window)))
    return record


def needs_look(record: BudgetRecord, at: datetime) -> bool:
    """Whether time alone has changed something, or something is still to be told or forgotten."""
    if record.untold or record.owed or record.removed:
        return True
    begun_anew = record.window_started_at not in (None, window_at(record.budget, at).started_at)
    return (begun_anew and (record.warned or record.exceeded)) or (record.exceeded and _is_over(record.budget, at))


def _is_over(budget: BudgetSpec, at: datetime) -> bool:
    return budget.ends_at is not None and at >= budget.ends_at


def _holds(record: BudgetRecord, seen: Seen) -> bool:
    """Whether it was found used up in the window that is now."""
    window = window_at(record.budget, seen.at)
    return record.exceeded and record.window_started_at == window.started_at and not _is_over(record.budget, seen.at)


def _in_window(record: BudgetRecord, window: Window, *, over: bool) -> BudgetRecord:
    """The record as it begins in the window that is now, or after its last one."""
    if record.window_started_at == window.started_at and not (over and record.exceeded):
        return record
    because = "its time has passed" if over else "its window has begun anew"
    return replace(
        record,
        window_started_at=window.started_at,
        warned=False,
        exceeded=False,
        owed=because if record.exceeded else record.owed,
        told_runs={},
    )


def _renewed(record: BudgetRecord, seen: Seen, held: frozenset[str]) -> BudgetRecord:
    """The record when whoever was told that it is used up has been told that it no longer is."""
    if not record.owed:
        return record
    told = renewal(record, seen.at, record.owed, used=seen.used, held=held)
    return replace(record, owed="", paused_jobs=(), untold=(*record.untold, told))


def _exceeded(
    record: BudgetRecord,
    seen: Seen,
    runs: Sequence[RunUnderWay],
    held: frozenset[str],
    touched: Collection[str],
) -> BudgetRecord:
    """The record of a budget that is used up, when those runs know that do not yet, or have not acted on it."""
    action = record.budget.action
    first = not record.exceeded
    new = [run for run in runs if record.told_runs.get(run.run_id) != run.started_at]
    again = _told_in_vain(record, seen, runs, touched)
    concerned = [*new, *again][:RUNS_TOLD_MAX]
    if not first and (not concerned or action is BudgetAction.TELL):
        return record
    if action is BudgetAction.TELL:
        record = _renewed(record, seen, held)
    jobs = {run.job_id for run in concerned if run.job_id}
    if first and action is not BudgetAction.TELL and record.budget.scope is BudgetScope.JOB:
        # Between two attempts a job has no run under way; the next one would only use more.
        jobs.add(record.budget.scope_key)
    if action is BudgetAction.STOP:
        jobs |= set(record.paused_jobs)
    telling = _excess(record, seen, sorted(jobs), concerned, again=bool(again))
    under_way = {run.run_id for run in runs}
    told_runs = {run_id: at for run_id, at in record.told_runs.items() if run_id in under_way}
    told_runs |= {run.run_id: run.started_at for run in concerned}
    paused = sorted({*record.paused_jobs, *jobs}) if action is BudgetAction.PAUSE else []
    return replace(
        record,
        warned=True,
        exceeded=True,
        owed="",
        told_runs=dict([*told_runs.items()][-RUNS_REMEMBERED_MAX:]),
        told_at=seen.at,
        told_again=0 if new or first else record.told_again + 1,
        paused_jobs=tuple(paused[-RUNS_REMEMBERED_MAX:]),
        untold=(*record.untold, telling),
    )


def _told_in_vain(
    record: BudgetRecord, seen: Seen, runs: Sequence[RunUnderWay], touched: Collection[str]
) -> list[RunUnderWay]:
    """The runs that go on using something though they were told of long enough ago."""
    soonest_seconds, latest_seconds = TELL_AGAIN_SECONDS
    pause_seconds = min(soonest_seconds * 2.0 ** min(record.told_again, 30), latest_seconds)
    if record.told_at is not None and (seen.at - record.told_at).total_seconds() < pause_seconds:
        return []
    return [run for run in runs if run.run_id in touched and record.told_runs.get(run.run_id) == run.started_at]


def _excess(
    record: BudgetRecord, seen: Seen, jobs: Sequence[str], runs: Sequence[RunUnderWay], *, again: bool
) -> Untold:
    window = window_at(record.budget, seen.at)
    starts = sorted(f"{run.run_id}@{run.started_at.isoformat()}" for run in runs)
    # What is told again must not pass for what was told before, which the bus would take for the same.
    since = f" again since {record.told_at.isoformat()}" if again and record.told_at else ""
    return record.telling(
        BudgetExceeded,
        f"{window.started_at.isoformat()} {' '.join(starts)}{since}",
        occurred_at=seen.at,
        action=record.budget.action,
        job_ids=tuple(jobs),
        run_ids=tuple(run.run_id for run in runs),
        **facts_of(record.budget, window, seen.used),
    )


def _warning(record: BudgetRecord, seen: Seen, window: Window) -> Untold:
    return record.telling(
        BudgetWarned,
        window.started_at.isoformat(),
        occurred_at=seen.at,
        fraction=record.budget.warn_fraction,
        ends_at_expected=ends_at_expected(record.budget, window, seen),
        **facts_of(record.budget, window, seen.used),
    )
