"""What budgets need of the world: a book of what was decided, sums out of the books, and a place to show how they stand."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ergonaut_ledger.domain.budgets import Answer, Asked, BudgetRecord, Question, RunUnderWay


@dataclass(frozen=True, slots=True)
class StoredBudget:
    """A record as it stands in the book, with the revision that a change must name; 0 for one that is not in it."""

    record: BudgetRecord
    revision: int = 0


class BudgetBook(Protocol):
    """Keeps the records; a change succeeds only on the newest revision. All methods raise Unavailable."""

    async def everything(self) -> Sequence[StoredBudget]:
        """Every record of every tenant, in order of tenant and id."""
        ...

    async def find(self, tenant: str, budget_id: str) -> StoredBudget | None:
        """The newest record of a budget."""
        ...

    async def keep(self, stored: StoredBudget) -> StoredBudget | None:
        """Keep `stored.record` over the revision `stored.revision`; None where another change came first."""
        ...

    async def forget(self, stored: StoredBudget) -> None:
        """Forget a budget, unless it has changed since."""
        ...


class BudgetSums(Protocol):
    """Knows what was used, each sample once, and who is using more. All methods raise Unavailable."""

    async def answer(self, question: Question, asked: Asked) -> Answer:
        """The sums of the part of the question that is asked; hours and minutes in which nothing was used are left out."""
        ...

    async def runs_under_way(self, question: Question, started_after: datetime, limit: int) -> list[RunUnderWay]:
        """Runs of the question's scope that started after a time and have not ended, the newest first; at most so many."""
        ...


class BudgetGauges(Protocol):
    """Shows operators how budgets stand."""

    def stands(self, tenant: str, budget_id: str, used_ratio: float) -> None:
        """How much of a budget is used, 1 being all of it."""
        ...

    def gone(self, tenant: str, budget_id: str) -> None:
        """A budget is there no longer."""
        ...

    def told(self, event_type: str) -> None:
        """Something was told of a budget."""
        ...

    def judged(self, seconds: float) -> None:
        """How long it took to ask for a budget's use and to decide."""
        ...
