"""What a route served to a tenant, added up until it is told."""

from dataclasses import dataclass
from datetime import datetime

from ergonaut.events import CompletionsServed
from ergonaut.ids import is_name
from ergonaut_gateway.domain.electricity import Electricity, Range
from ergonaut_gateway.openai.domain.usage import NOT_MEASURED, Figures, basis

MODEL_CHARACTERS_MAX = 200
"""Of a model's name as events carry it."""

_NAME_CHARACTERS_MAX = 63


@dataclass(slots=True)
class Completions:
    """Sums over some time of answers whose grams rest on the same. A figure of which any answer's part is not known is not
    known."""

    started_at: datetime
    requests: int = 0
    failed: int = 0
    untold: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float | None = 0.0
    energy_joules: Range | None = (0.0, 0.0, 0.0)
    carbon_grams_co2e: Range | None = (0.0, 0.0, 0.0)
    method: str = NOT_MEASURED
    electricity: Electricity | None = None

    def add(self, used: Figures | None, *, failed: bool) -> None:
        """One more request; `used` is None where its upstream told no tokens."""
        self.requests += 1
        self.failed += failed
        if used is None:
            self.untold += not failed
            return
        self.tokens_in += used.tokens_in
        self.tokens_out += used.tokens_out
        self.cost_usd = _sum(self.cost_usd, used.cost_usd)
        self.carbon_grams_co2e = _range_sum(self.carbon_grams_co2e, used.carbon_grams_co2e)
        self.electricity = used.electricity
        self.energy_joules = _range_sum(self.energy_joules, used.energy_joules)
        self.method = used.method if self.energy_joules is not None else NOT_MEASURED

    @property
    def has_no_figures(self) -> bool:
        """Whether nothing is known of what its requests used."""
        return self.requests <= self.failed + self.untold and self.tokens_in + self.tokens_out == 0

    def told(self, tenant: str, model: str, ended_at: datetime) -> CompletionsServed:
        """The same as an event."""
        is_counted = not self.has_no_figures
        joules = self.energy_joules if is_counted else None
        grams = self.carbon_grams_co2e if is_counted else None
        return CompletionsServed(
            tenant=tenant,
            occurred_at=ended_at,
            route=route_of(model),
            model=model[:MODEL_CHARACTERS_MAX],
            started_at=self.started_at,
            ended_at=ended_at,
            requests=self.requests,
            failed=self.failed,
            untold=self.untold,
            tokens_in=self.tokens_in,
            tokens_out=self.tokens_out,
            cost_usd=self.cost_usd if is_counted else None,
            energy_joules=None if joules is None else joules[0],
            energy_joules_low=None if joules is None else joules[1],
            energy_joules_high=None if joules is None else joules[2],
            energy_method=self.method if joules is not None else NOT_MEASURED,
            carbon_grams_co2e=None if grams is None else grams[0],
            carbon_grams_co2e_low=None if grams is None else grams[1],
            carbon_grams_co2e_high=None if grams is None else grams[2],
            **(basis(self.electricity) if grams is not None and self.electricity is not None else {}),
        )


def route_of(model: str) -> str:
    """A name that can be part of a subject, for a model's name that can be anything.

    >>> route_of("meta-llama/Llama-3.1:8b")
    'meta-llama-llama-3-1-8b'
    """
    kept = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in model.lower())
    name = kept[:_NAME_CHARACTERS_MAX].strip("-")
    return name if is_name(name) else "unnamed"


def _sum(total: float | None, more: float | None) -> float | None:
    return None if total is None or more is None else total + more


def _range_sum(total: Range | None, more: Range | None) -> Range | None:
    if total is None or more is None:
        return None
    return total[0] + more[0], total[1] + more[1], total[2] + more[2]
