"""What is remembered of a budget: what it is, what was told of its present window, and what is still to be told.

A record is changed in one step together with what is to be told of the change, so that a process that is killed in between
finds both or neither. Every telling's id is made of what it is about, so that telling it again tells nothing new.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from ergonaut.budgets import BudgetSpec
from ergonaut.events import EVENT_TYPES, BudgetChanged, BudgetRenewed, Event
from ergonaut.ids import derived_id
from ergonaut_ledger.domain.budgets.windows import Window, window_at


class State(StrEnum):
    """How a budget stands."""

    WITHIN = "within"
    WARNED = "warned"
    EXCEEDED = "exceeded"
    OVER = "over"
    """Its time has passed."""


@dataclass(frozen=True, slots=True)
class Untold:
    """A fact that was decided and is not yet known to have been told."""

    type: str
    body: str

    @property
    def event(self) -> Event:
        """The fact as it is told."""
        return EVENT_TYPES[self.type].model_validate_json(self.body)


@dataclass(frozen=True, slots=True)
class BudgetRecord:
    """A budget and how it stands in the window of which something was last told."""

    tenant: str
    budget: BudgetSpec
    made_at: datetime
    changed_at: datetime
    of_job: bool = False
    """Whether it follows from a job's own words rather than from somebody's setting it."""
    removed: bool = False
    """A job's own limit that was removed must be remembered, since the job's words still stand."""
    epoch: int = 0
    """Counts changes of the budget; what is told of it before and after a change are different facts."""
    window_started_at: datetime | None = None
    warned: bool = False
    exceeded: bool = False
    owed: str = ""
    """Why whoever was told that it is used up is still to be told that it no longer is; empty where nobody is."""
    told_runs: dict[str, datetime] = field(default_factory=dict)
    """Runs under way that the action concerned, and when they had started."""
    told_at: datetime | None = None
    """When it was last told that it is used up."""
    told_again: int = 0
    """How often since it was told of a new run."""
    paused_jobs: tuple[str, ...] = ()
    untold: tuple[Untold, ...] = ()

    @property
    def budget_id(self) -> str:
        """The budget's name, unique in the tenant."""
        return self.budget.budget_id

    def telling(self, event_type: type[Event], about: Any = "", /, **facts: Any) -> Untold:
        """A fact of this budget, with an id that is the same whenever the same is decided."""
        parts = (self.tenant, self.budget_id, self.made_at.isoformat(), str(self.epoch), str(about))
        event = event_type(event_id=derived_id("event", event_type.TYPE, *parts), tenant=self.tenant, **facts)
        return Untold(event_type.TYPE, event.model_dump_json())


def state_of(record: BudgetRecord, at: datetime) -> State:
    """How the budget stands by what was decided last."""
    if record.budget.ends_at is not None and at >= record.budget.ends_at:
        return State.OVER
    if record.exceeded:
        return State.EXCEEDED
    return State.WARNED if record.warned else State.WITHIN


def made(tenant: str, budget: BudgetSpec, at: datetime, principal: str) -> BudgetRecord:
    """A new budget, to be told."""
    record = BudgetRecord(tenant=tenant, budget=budget, made_at=at, changed_at=at)
    return _told_changed(record, principal)


def changed(record: BudgetRecord, budget: BudgetSpec, at: datetime, principal: str) -> BudgetRecord:
    """The budget as it is from now on, of the same scope. Whether it is used up is decided anew; the same changes nothing."""
    if budget == record.budget and not record.removed:
        return record
    anew = replace(
        record,
        budget=budget,
        changed_at=at,
        removed=False,
        epoch=record.epoch + 1,
        window_started_at=None,
        warned=False,
        exceeded=False,
        owed="it was changed" if record.exceeded or record.owed else "",
        told_runs={},
    )
    return _told_changed(anew, principal)


def removed(
    record: BudgetRecord, at: datetime, principal: str, *, used: float, held: frozenset[str] = frozenset()
) -> BudgetRecord:
    """The budget when it limits nothing any more; jobs that it paused may go on, but for those that others hold."""
    told: tuple[Untold, ...] = ()
    if record.exceeded or record.owed:
        told = (renewal(record, at, "it was removed", used=used, held=held),)
    gone = replace(
        record,
        removed=True,
        changed_at=at,
        epoch=record.epoch + 1,
        window_started_at=None,
        warned=False,
        exceeded=False,
        owed="",
        told_runs={},
        paused_jobs=(),
        untold=(*record.untold, *told),
    )
    return _told_changed(gone, principal)


def renewal(
    record: BudgetRecord, at: datetime, because: str, *, used: float, held: frozenset[str] = frozenset()
) -> Untold:
    """That a budget which was used up is so no longer, and which jobs may go on."""
    window = window_at(record.budget, at)
    return record.telling(
        BudgetRenewed,
        f"{window.started_at.isoformat()} {because}",
        occurred_at=at,
        because=because,
        job_ids=tuple(job for job in record.paused_jobs if job not in held),
        **facts_of(record.budget, window, used),
    )


def facts_of(budget: BudgetSpec, window: Window, used: float) -> dict[str, Any]:
    """What every event of a budget's use tells."""
    return {
        "budget_id": budget.budget_id,
        "scope": budget.scope,
        "scope_key": budget.scope_key,
        "metric": budget.metric,
        "limit": budget.limit,
        "used": used,
        "window_started_at": window.started_at,
        "window_ends_at": window.ends_at,
    }


def _told_changed(record: BudgetRecord, principal: str) -> BudgetRecord:
    told = record.telling(
        BudgetChanged,
        occurred_at=record.changed_at,
        budget=record.budget,
        removed=record.removed,
        principal=principal,
    )
    return replace(record, untold=(*record.untold, told))
