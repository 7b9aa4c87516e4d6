"""The budgets that follow from a job's own words, `budget:` in its file. They are made from what was told, never kept twice."""

from ergonaut.budgets import BudgetMetric, BudgetScope, BudgetSpec
from ergonaut.ids import derived_id, is_name
from ergonaut.jobs import Budget

_WORDS = {
    BudgetMetric.COST_USD: "cost",
    BudgetMetric.CARBON_GRAMS_CO2E: "carbon",
    BudgetMetric.ENERGY_JOULES: "energy",
}


def limits_of_job(job_id: str, budget: Budget) -> list[BudgetSpec]:
    """A budget for each limit that the job names, over its whole life.

    >>> [limit.budget_id for limit in limits_of_job("job-1", Budget(energy_joules=5, cost_usd=1))]
    ['job-1-cost', 'job-1-energy']
    """
    return [
        BudgetSpec(
            budget_id=_id(job_id, word),
            scope=BudgetScope.JOB,
            scope_key=job_id,
            metric=metric,
            limit=limit,
            action=budget.action,
        )
        for metric, word in _WORDS.items()
        if (limit := getattr(budget, metric.value)) is not None
    ]


def _id(job_id: str, word: str) -> str:
    plain = f"{job_id}-{word}"
    return plain if is_name(plain) else derived_id(f"job-{word}", job_id)
