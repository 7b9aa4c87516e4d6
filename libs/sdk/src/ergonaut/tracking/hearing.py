"""Hears which budgets of the ledger are used up that hold this run, and says why it should stop. Used by `BusStream`."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from ergonaut.budgets import BudgetScope
from ergonaut.events import BudgetExceeded, subject_of
from ergonaut.jobs import BudgetAction


@dataclass(frozen=True, slots=True)
class BudgetHearing:
    """Whose budgets hold the run, and what is done, with the reason, when one of them is used up.

    Only what is told while the bus is there is heard: the ledger tells again while the run goes on using something.
    """

    tenant: str
    run_id: str
    project: str
    stop: Callable[[str], None]

    @property
    def subject(self) -> str:
        """What to subscribe to; a tenant's user may."""
        return subject_of(BudgetExceeded.TYPE, tenant=self.tenant)

    def heard(self, subject: str, body: bytes) -> None:
        """Take in what was told. Raises ValueError for a body that cannot be read."""
        event = BudgetExceeded.model_validate_json(body)
        if event.subject == subject and event.action is not BudgetAction.TELL and self._is_held_by(event):
            self.stop(_reason(event))

    def _is_held_by(self, event: BudgetExceeded) -> bool:
        # A ledger that was away may tell of a window late; the one that has begun since has its budget still.
        if event.window_ends_at is not None and event.window_ends_at <= datetime.now(UTC):
            return False
        key_here = {
            BudgetScope.TENANT: "",
            BudgetScope.PROJECT: self.project,
            BudgetScope.RUN: self.run_id,
            BudgetScope.JOB: None,
        }[event.scope]
        return key_here == event.scope_key or self.run_id in event.run_ids


def _reason(event: BudgetExceeded) -> str:
    if event.action is not BudgetAction.PAUSE:
        return event.because
    when = f"after {event.window_ends_at.isoformat()}" if event.window_ends_at else "once it is raised or removed"
    return f"{event.because}; nobody here can resume the run, so start it again {when}"
