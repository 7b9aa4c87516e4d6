"""What an answer used: dollars, joules and grams from its tokens. What nobody knows is absent, never 0."""

from dataclasses import dataclass
from typing import Any

TOKENS_PER_PRICE = 1_000_000
JOULES_PER_KWH = 3_600_000
NOT_MEASURED = "not measured"


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


def figures(rates: Rates, tokens_in: int, tokens_out: int) -> dict[str, Any]:
    """The figures as they stand in an answer's usage: energy_joules, carbon_grams_co2e, cost_usd, method and range."""
    told: dict[str, Any] = {}
    cost_usd = _cost_usd(rates, tokens_in, tokens_out)
    if cost_usd is not None:
        told["cost_usd"] = cost_usd
    # Without output tokens, as for embeddings, joules per output token say nothing.
    if rates.energy is None or tokens_out <= 0:
        return told | {"method": NOT_MEASURED}
    energy = rates.energy
    told["energy_joules"] = energy.joules * tokens_out
    told["range"] = {"energy_joules": [energy.joules_low * tokens_out, energy.joules_high * tokens_out]}
    told["method"] = f"estimate: joules per output token, {energy.source}"
    if rates.carbon_grams_per_kwh is not None:
        grams_per_joule = rates.carbon_grams_per_kwh / JOULES_PER_KWH
        told["carbon_grams_co2e"] = told["energy_joules"] * grams_per_joule
        low, high = told["range"]["energy_joules"]
        told["range"]["carbon_grams_co2e"] = [low * grams_per_joule, high * grams_per_joule]
    return told


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
