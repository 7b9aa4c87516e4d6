"""What keeps a job from starting whatever is on offer: a budget of its project or tenant that is used up."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from ergonaut.budgets import BudgetScope
from ergonaut.events import BudgetExceeded
from ergonaut.jobs import BudgetAction

_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a job may not start, and until when; None where that is open."""

    because: str
    until: datetime | None = None

    def lets_start(self, at: datetime) -> bool:
        """Whether a job may start then."""
        return self.until is not None and at >= self.until

    @property
    def refusal(self) -> str:
        """Why a job that can start at no other time is refused, and what to do."""
        if self.until is None:
            return f"budget: {self.because}; raise or remove it first"
        return f"budget: {self.because}; it begins anew {self.until.isoformat()}: submit then, or raise or remove it"


def hold_of(exceeded: Iterable[BudgetExceeded], tenant: str, project: str, now: datetime) -> Hold | None:
    """What holds a tenant's job of a project, the longest of all; None where nothing does. A budget that only tells does not."""
    holding = [event for event in exceeded if event.tenant == tenant and _holds(event, project, now)]
    if not holding:
        return None
    longest = max(holding, key=lambda event: (event.window_ends_at or _NEVER, event.budget_id))
    whose = f" (of project {project})" if longest.scope is BudgetScope.PROJECT else ""
    return Hold(longest.because + whose, longest.window_ends_at)


def _holds(event: BudgetExceeded, project: str, now: datetime) -> bool:
    if event.action is BudgetAction.TELL or (event.window_ends_at is not None and now >= event.window_ends_at):
        return False
    # Jobs and runs that have a budget of their own are stopped and resumed by that.
    return (event.scope, event.scope_key) in {(BudgetScope.TENANT, ""), (BudgetScope.PROJECT, project)}
