"""Budgets: limits on what a run, job, project or tenant may use over its life or a calendar window, and what happens then.

The contract that the ledger's door, its events and the command line share.
"""

from enum import StrEnum
from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from ergonaut.ids import NAME_PATTERN
from ergonaut.jobs import BudgetAction

WARN_FRACTION = 0.8


class BudgetScope(StrEnum):
    """Whose use a budget limits."""

    RUN = "run"
    JOB = "job"
    PROJECT = "project"
    TENANT = "tenant"


class BudgetMetric(StrEnum):
    """What a budget limits, its unit in its name. Dollars are electricity and rent; grams are operational, not embodied."""

    COST_USD = "cost_usd"
    CARBON_GRAMS_CO2E = "carbon_grams_co2e"
    ENERGY_JOULES = "energy_joules"


UNITS = {
    BudgetMetric.COST_USD: "USD",
    BudgetMetric.CARBON_GRAMS_CO2E: "g CO2e",
    BudgetMetric.ENERGY_JOULES: "J",
}
"""The unit of each metric, for people."""


class BudgetWindow(StrEnum):
    """Over which time use adds up. Calendar windows begin at midnight UTC; weeks on Monday."""

    LIFETIME = "lifetime"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"


class BudgetSpec(BaseModel):
    """One budget. A scope has as many as one likes; each acts by itself."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    budget_id: str = Field(pattern=NAME_PATTERN, description="Its name, unique in the tenant.")
    scope: BudgetScope
    scope_key: str = Field(default="", max_length=63, description="The run, job or project; empty for the tenant.")
    metric: BudgetMetric
    limit: float = Field(gt=0, description="In the metric's unit.")
    window: BudgetWindow = BudgetWindow.LIFETIME
    starts_at: AwareDatetime | None = Field(default=None, description="Use before this does not count.")
    ends_at: AwareDatetime | None = Field(default=None, description="The budget limits nothing from then on.")
    action: BudgetAction = BudgetAction.TELL
    warn_fraction: float = Field(default=WARN_FRACTION, gt=0, lt=1, description="Part of the limit at which it warns.")

    @model_validator(mode="after")
    def _key_fits_scope(self) -> Self:
        if (self.scope is BudgetScope.TENANT) != (self.scope_key == ""):
            raise ValueError("scope_key: name the run, job or project; a tenant's budget has none")
        return self

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> Self:
        if self.starts_at and self.ends_at and self.ends_at <= self.starts_at:
            raise ValueError("ends_at: must be later than starts_at")
        return self
