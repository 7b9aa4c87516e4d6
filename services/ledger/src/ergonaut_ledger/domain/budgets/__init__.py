"""Budgets: over which time use counts, what it adds up to, and what follows from that. Used by the service `budgeting`."""

from ergonaut_ledger.domain.budgets.deciding import (
    RunUnderWay,
    Seen,
    acts_early,
    decided,
    ends_at_expected,
    needs_look,
    needs_runs,
)
from ergonaut_ledger.domain.budgets.limits import limits_of_job
from ergonaut_ledger.domain.budgets.records import BudgetRecord, State, Untold, changed, made, removed, state_of
from ergonaut_ledger.domain.budgets.tally import (
    HOURS_KEPT,
    Answer,
    Asked,
    Chunk,
    Pace,
    Question,
    Tally,
    Use,
    to_ask,
    total,
    with_answer,
)
from ergonaut_ledger.domain.budgets.windows import BEGINNING, Window, question_of, window_at

__all__ = [
    "BEGINNING",
    "HOURS_KEPT",
    "Answer",
    "Asked",
    "BudgetRecord",
    "Chunk",
    "Pace",
    "Question",
    "RunUnderWay",
    "Seen",
    "State",
    "Tally",
    "Untold",
    "Use",
    "Window",
    "acts_early",
    "changed",
    "decided",
    "ends_at_expected",
    "limits_of_job",
    "made",
    "needs_look",
    "needs_runs",
    "question_of",
    "removed",
    "state_of",
    "to_ask",
    "total",
    "window_at",
    "with_answer",
]
