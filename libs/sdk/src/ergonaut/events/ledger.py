"""What the ledger noticed: budgets that were set, are nearly or wholly used, or begin anew; and figures that look wrong."""

from typing import ClassVar

from pydantic import AwareDatetime, Field

from ergonaut.budgets import UNITS, BudgetMetric, BudgetScope, BudgetSpec
from ergonaut.events.base import Event, Name
from ergonaut.jobs import BudgetAction


class BudgetChanged(Event):
    """A budget is from now on as told here."""

    TYPE: ClassVar[str] = "ledger.budget.changed"

    budget: BudgetSpec
    removed: bool = Field(default=False, description="Whether it limits nothing any more.")
    principal: str = Field(default="", description="Who changed it.")

    @property
    def key(self) -> str:
        return self.budget.budget_id


class BudgetEvent(Event):
    """What all events of a budget's use have."""

    TYPE: ClassVar[str] = "ledger.budget.observed"

    budget_id: Name
    scope: BudgetScope
    scope_key: str = Field(default="", description="The run, job or project; empty for the tenant.")
    metric: BudgetMetric
    limit: float = Field(gt=0, description="In the metric's unit.")
    used: float = Field(ge=0, description="In the metric's unit, over the window so far.")
    window_started_at: AwareDatetime = Field(description="Beginning of the window that this is about.")
    window_ends_at: AwareDatetime | None = Field(default=None, description="Its end; null where it has none.")

    @property
    def key(self) -> str:
        return self.budget_id


class BudgetWarned(BudgetEvent):
    """A budget's use has passed the part at which it warns; told once a window."""

    TYPE: ClassVar[str] = "ledger.budget.warned"

    fraction: float = Field(gt=0, description="The part that was passed, 0.8 meaning 80 %.")
    ends_at_expected: AwareDatetime | None = Field(
        default=None, description="When it will be used up if all goes on as lately; null where nothing is used now."
    )


class BudgetExceeded(BudgetEvent):
    """A budget is used up, or will be before anybody could act; told once a window, and again of runs that go on using it."""

    TYPE: ClassVar[str] = "ledger.budget.exceeded"

    action: BudgetAction
    job_ids: tuple[str, ...] = Field(default=(), description="Jobs under way that the action concerns; at most 10,000.")
    run_ids: tuple[str, ...] = Field(default=(), description="Their runs, and those that have no job.")

    @property
    def because(self) -> str:
        """Which budget is used up and by how much, as whoever is stopped by it is told."""
        return f"budget {self.budget_id} is used up: {self.used:g} of {self.limit:g} {UNITS[self.metric]}"


class BudgetRenewed(BudgetEvent):
    """A budget that was used up is so no longer: its window has begun anew, or it was raised or removed."""

    TYPE: ClassVar[str] = "ledger.budget.renewed"

    because: str
    job_ids: tuple[str, ...] = Field(default=(), description="Jobs that this budget had paused and that may go on.")


class AnomalyFound(Event):
    """A figure is far from what it used to be."""

    TYPE: ClassVar[str] = "ledger.anomaly.found"

    anomaly_id: Name
    kind: str = Field(description="`power-spike`, `idle-accelerator`, `drift`.")
    run_id: str = Field(default="", description="The run that it is about; empty where none is.")
    host: str = ""
    component: str = ""
    started_at: AwareDatetime
    ended_at: AwareDatetime
    value: float = Field(description="What was seen, in `unit`.")
    expected: float = Field(description="What was to be expected, in `unit`.")
    unit: str = Field(description="`watts`, `joules_per_step`, `fraction`.")
    because: str = Field(description="One sentence: what was seen, against what, and what to do.")

    @property
    def key(self) -> str:
        return self.anomaly_id
