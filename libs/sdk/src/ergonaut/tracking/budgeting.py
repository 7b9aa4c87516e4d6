"""Holds a run to a budget of its own, with no server: warns at four fifths, then tells or stops.

A meter is looked at once an interval, so a run would use up to an interval's worth too much. Near its limit it is therefore
looked at sooner, by the rate at which it uses, and it is stopped so much before the limit as stopping itself takes.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ergonaut.budgets import UNITS, WARN_FRACTION
from ergonaut.errors import Refused
from ergonaut.jobs import Budget, BudgetAction
from ergonaut.tracking.stopping import BudgetExceeded
from ergonaut.tracking.summary import Totals

# Between the decision and a program that does no more: a signal, or the next step of a training loop.
_REACTION_SECONDS = 0.1
# A run is never stopped earlier than this part of its limit before it, however fast it uses.
_EARLY_FRACTION_MAX = 0.01
# More often than this the looking itself would be what is metered.
_LOOK_SECONDS_MIN = 0.05
# Part of the time left to a limit after which to look again, so that a rate that rises is seen before the limit is passed.
_LOOK_AHEAD = 0.7

_LIMITS = {metric.value: unit for metric, unit in UNITS.items()}
_UNKNOWN = {
    "energy_joules": "nothing here can be measured",
    "carbon_grams_co2e": "nothing here can be measured",
    "cost_usd": "no price is known; set ERGONAUT_ELECTRICITY_USD_PER_KWH",
}


def checked_budget(budget: Budget | None) -> Budget | None:
    """The budget, if a tracker can hold a run to it. Raises Refused for one that asks for a pause."""
    if budget is not None and budget.action is BudgetAction.PAUSE:
        raise Refused("nobody here could resume the run; use stop or tell", field="budget.action")
    return budget


@dataclass(slots=True)
class _Use:
    limit: float
    at_seconds: float
    used: float = 0.0
    rate: float = 0.0
    warned: bool = False
    over: bool = False
    unknown_told: bool = False

    def take(self, used: float, at_seconds: float) -> None:
        if at_seconds > self.at_seconds:
            newest = (used - self.used) / (at_seconds - self.at_seconds)
            # A short look may find a counter that has not moved; half of the old rate is still believed then.
            self.rate = max(newest, self.rate / 2)
        self.used, self.at_seconds = used, at_seconds

    @property
    def is_over(self) -> bool:
        early = min(self.rate * _REACTION_SECONDS, self.limit * _EARLY_FRACTION_MAX)
        return self.used + early >= self.limit

    @property
    def seconds_left(self) -> float:
        return (self.limit - self.used) / self.rate if self.rate > 0 else float("inf")


class BudgetWatch:
    """Compares what a run has used with its budget after each sample. `exceeded` is called once, at the first limit."""

    def __init__(
        self,
        budget: Budget,
        *,
        began_seconds: float,
        tell: Callable[[str], None],
        exceeded: Callable[[BudgetExceeded], None],
    ) -> None:
        """`began_seconds` is when nothing had been used yet, by the clock that `after_sample` is told."""
        self._stops = budget.action is not BudgetAction.TELL
        self._tell = tell
        self._exceeded = exceeded
        limits = {name: getattr(budget, name) for name in _LIMITS}
        self._uses = {name: _Use(limit, began_seconds) for name, limit in limits.items() if limit is not None}

    def after_sample(self, totals: Totals, at_seconds: float) -> float:
        """Take in the newest totals; gives the seconds after which to look again at the latest."""
        components = totals.components()
        for name, use in self._uses.items():
            known = [figure for item in components if (figure := getattr(item, name)) is not None]
            if known:
                use.take(sum(known), at_seconds)
                self._judge(name, use)
            elif components and not use.unknown_told:
                use.unknown_told = True
                self._tell(f"the budget of {use.limit:g} {_LIMITS[name]} cannot be watched: {_UNKNOWN[name]}")
        waits = [use.seconds_left * _LOOK_AHEAD for use in self._uses.values() if not use.over]
        return max(_LOOK_SECONDS_MIN, min(waits, default=float("inf")))

    def _judge(self, name: str, use: _Use) -> None:
        used = f"{use.used:.4g} of {use.limit:g} {_LIMITS[name]} ({name})"
        if use.is_over and not use.over:
            use.over = use.warned = True
            if self._stops:
                self._exceeded(BudgetExceeded(f"the run has used up its budget: {used}", field="budget"))
            else:
                self._tell(f"the budget is used up: {used}")
        elif use.used >= WARN_FRACTION * use.limit and not use.warned:
            use.warned = True
            self._tell(f"{use.used / use.limit:.0%} of the budget is used: {used}")
