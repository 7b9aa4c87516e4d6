"""Remembers which budgets of projects and tenants are used up, as the ledger tells; asked whenever a job is planned."""

from collections import OrderedDict

from ergonaut.budgets import BudgetScope
from ergonaut.events import BudgetExceeded, BudgetRenewed
from ergonaut_common.clock import Clock
from ergonaut_scheduler.domain.holds import Hold, hold_of

BUDGETS_MAX = 10_000
"""Budgets remembered, those told of last; a tenant has 200 at most. One that is forgotten stops its jobs as they start."""


class Spending:
    """What the ledger told last of each budget; may be told twice, late and out of order."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: OrderedDict[tuple[str, str], BudgetExceeded | BudgetRenewed] = OrderedDict()

    def exceeded(self, event: BudgetExceeded) -> None:
        """A budget is used up."""
        self._take(event)

    def renewed(self, event: BudgetRenewed) -> None:
        """A budget is used up no longer."""
        self._take(event)

    def hold(self, tenant: str, project: str) -> Hold | None:
        """What keeps a tenant's job of this project from starting now; None where nothing does."""
        exceeded = [event for event in self._told.values() if isinstance(event, BudgetExceeded)]
        return hold_of(exceeded, tenant, project, self._clock.now())

    def _take(self, event: BudgetExceeded | BudgetRenewed) -> None:
        key, known = (event.tenant, event.budget_id), self._told.get((event.tenant, event.budget_id))
        if event.scope not in {BudgetScope.PROJECT, BudgetScope.TENANT}:
            return
        if known is None or known.occurred_at <= event.occurred_at:
            self._told[key] = event
            self._told.move_to_end(key)
            if len(self._told) > BUDGETS_MAX:
                self._told.popitem(last=False)
