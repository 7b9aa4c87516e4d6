"""How budgets stand, as Prometheus metrics."""

from prometheus_client import Counter, Gauge, Histogram

SHOWN_MAX = 1_000
"""Budgets shown at once; each is a time series of its own. Those beyond are told by the door only."""

_used_ratio = Gauge(
    "ergonaut_budget_used_ratio", "Part of a budget that is used in its window.", ["tenant", "budget_id"]
)
_told = Counter("ergonaut_budget_tellings_total", "Events told of budgets.", ["type"])
_judged = Histogram("ergonaut_budget_judge_seconds", "Time to ask for a budget's use and to decide what follows.")


class PrometheusBudgetGauges:
    """Fills `BudgetGauges`."""

    def __init__(self) -> None:
        self._shown: set[tuple[str, str]] = set()

    def stands(self, tenant: str, budget_id: str, used_ratio: float) -> None:
        if (tenant, budget_id) in self._shown or len(self._shown) < SHOWN_MAX:
            self._shown.add((tenant, budget_id))
            _used_ratio.labels(tenant, budget_id).set(used_ratio)

    def gone(self, tenant: str, budget_id: str) -> None:
        if (tenant, budget_id) in self._shown:
            self._shown.discard((tenant, budget_id))
            _used_ratio.remove(tenant, budget_id)

    def told(self, event_type: str) -> None:
        _told.labels(event_type).inc()

    def judged(self, seconds: float) -> None:
        _judged.observe(seconds)
