"""What an answer used: dollars, joules and grams from its tokens. What nobody knows is absent, never 0."""

from dataclasses import dataclass
from typing import Any

TOKENS_PER_PRICE = 1_000_000
JOULES_PER_KWH = 3_600_000
NOT_MEASURED = "not measured"

Range = tuple[float, float, float]
"""A figure, and between what the true one lies."""


@dataclass(frozen=True, slots=True)
class TokenEnergy:
    """Joules of one output token as someone found them, with the range they may lie in."""

    joules: float
    joules_low: float
    joules_high: float
    source: str


@dataclass(frozen=True, slots=True)
class Rates:
    """By which tokens become figures; None is not known."""

    usd_per_million_input: float | None = None
    usd_per_million_output: float | None = None
    energy: TokenEnergy | None = None
    carbon_grams_per_kwh: float | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """What one answer used; None is not known."""

    tokens_in: int
    tokens_out: int
    cost_usd: float | None = None
    energy_joules: Range | None = None
    carbon_grams_co2e: Range | None = None
    method: str = NOT_MEASURED

    @property
    def tokens(self) -> int:
        """In and out."""
        return self.tokens_in + self.tokens_out

    def told(self) -> dict[str, Any]:
        """As they stand in an answer's usage: energy_joules, carbon_grams_co2e, cost_usd, method and range."""
        told: dict[str, Any] = {"method": self.method}
        if self.cost_usd is not None:
            told["cost_usd"] = self.cost_usd
        ranges = {"energy_joules": self.energy_joules, "carbon_grams_co2e": self.carbon_grams_co2e}
        for name, figure in ranges.items():
            if figure is not None:
                told[name] = figure[0]
                told.setdefault("range", {})[name] = list(figure[1:])
        return told


def figures(rates: Rates, tokens_in: int, tokens_out: int) -> Figures:
    """What an answer of so many tokens used."""
    cost_usd = _cost_usd(rates, tokens_in, tokens_out)
    # Without output tokens, as for embeddings, joules per output token say nothing.
    if rates.energy is None or tokens_out <= 0:
        return Figures(tokens_in, tokens_out, cost_usd)
    energy = rates.energy
    joules = _times((energy.joules, energy.joules_low, energy.joules_high), tokens_out)
    grams = None if rates.carbon_grams_per_kwh is None else _times(joules, rates.carbon_grams_per_kwh / JOULES_PER_KWH)
    method = f"estimate: joules per output token, {energy.source}"
    return Figures(tokens_in, tokens_out, cost_usd, joules, grams, method)


def _times(figure: Range, factor: float) -> Range:
    middle, low, high = figure
    return middle * factor, low * factor, high * factor


def _cost_usd(rates: Rates, tokens_in: int, tokens_out: int) -> float | None:
    cost_usd = 0.0
    for tokens, usd_per_million in (
        (tokens_in, rates.usd_per_million_input),
        (tokens_out, rates.usd_per_million_output),
    ):
        if tokens and usd_per_million is None:
            return None
        cost_usd += tokens * (usd_per_million or 0.0) / TOKENS_PER_PRICE
    return cost_usd
