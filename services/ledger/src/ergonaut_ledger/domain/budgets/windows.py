"""The time over which a budget's use adds up. Calendar windows begin at midnight UTC, weeks on Monday, as ISO 8601 has it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ergonaut.budgets import BudgetScope, BudgetSpec, BudgetWindow
from ergonaut_ledger.domain.budgets.tally import Question

BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
"""Where a lifetime without a stated start begins; the ledger keeps nothing that is older."""

FAR = datetime(2200, 1, 1, tzinfo=UTC)
"""Where a window without an end ends for a question; the ledger keeps nothing that is later."""

_MOMENT = timedelta(microseconds=1)
_MONTHS_OF_A_QUARTER = 3


@dataclass(frozen=True, slots=True)
class Window:
    """From its beginning, included, to its end, excluded."""

    started_at: datetime
    ends_at: datetime | None


def window_at(budget: BudgetSpec, at: datetime) -> Window:
    """The budget's window at a time, cut by its own start and end; before them the first one, after them the last one.

    >>> monthly = BudgetSpec(budget_id="b", scope="tenant", metric="cost_usd", limit=1, window="month")
    >>> february = window_at(monthly, datetime(2028, 2, 29, 12, tzinfo=UTC))
    >>> str(february.started_at), str(february.ends_at)
    ('2028-02-01 00:00:00+00:00', '2028-03-01 00:00:00+00:00')
    """
    if budget.ends_at is not None:
        at = min(at, budget.ends_at - _MOMENT)
    if budget.starts_at is not None:
        at = max(at, budget.starts_at)
    started_at, ends_at = _calendar_window(budget.window, at.astimezone(UTC))
    if budget.starts_at is not None:
        started_at = max(started_at, budget.starts_at.astimezone(UTC))
    if budget.ends_at is not None:
        ends_at = min(ends_at or FAR, budget.ends_at.astimezone(UTC))
    return Window(started_at, ends_at)


def question_of(tenant: str, budget: BudgetSpec, window: Window) -> Question:
    """What must be asked to know the budget's use in a window; budgets of one scope and window share it."""
    key = "" if budget.scope is BudgetScope.TENANT else budget.scope_key
    return Question(tenant, budget.scope, key, window.started_at, window.ends_at or FAR)


def _calendar_window(window: BudgetWindow, at: datetime) -> tuple[datetime, datetime | None]:
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    match window:
        case BudgetWindow.LIFETIME:
            return BEGINNING, None
        case BudgetWindow.DAY:
            return midnight, midnight + timedelta(days=1)
        case BudgetWindow.WEEK:
            monday = midnight - timedelta(days=midnight.weekday())
            return monday, monday + timedelta(days=7)
        case BudgetWindow.MONTH:
            return _months(midnight, midnight.month, 1)
        case BudgetWindow.QUARTER:
            first = midnight.month - (midnight.month - 1) % _MONTHS_OF_A_QUARTER
            return _months(midnight, first, _MONTHS_OF_A_QUARTER)
        case BudgetWindow.YEAR:
            return _months(midnight, 1, 12)


def _months(midnight: datetime, first: int, count: int) -> tuple[datetime, datetime]:
    """The window of so many months that begins with the given month of the year."""
    started_at = midnight.replace(month=first, day=1)
    years, month = divmod(first - 1 + count, 12)
    return started_at, started_at.replace(year=started_at.year + years, month=month + 1)
