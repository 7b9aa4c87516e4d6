"""What an answer used: dollars, joules and grams from its tokens. What nobody knows is absent, never 0."""

from dataclasses import dataclass
from typing import Any

from ergonaut_gateway.domain.electricity import Electricity, Range

TOKENS_PER_PRICE = 1_000_000
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
    electricity: Electricity | None = None
    """What is drawn where the answer is made, as it was known when the answer began."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one answer used; None is not known."""

    tokens_in: int
    tokens_out: int
    cost_usd: float | None = None
    energy_joules: Range | None = None
    carbon_grams_co2e: Range | None = None
    method: str = NOT_MEASURED
    electricity: Electricity | None = None
    """What the grams rest on; None where there are none."""
    cost_range_usd: tuple[float, float] | None = None
    """Where the cost is that of the estimated energy, since no price of tokens is known."""

    @property
    def tokens(self) -> int:
        """In and out."""
        return self.tokens_in + self.tokens_out

    def told(self) -> dict[str, Any]:
        """As they stand in an answer's usage: energy_joules, carbon_grams_co2e, cost_usd, method, range, electricity."""
        told: dict[str, Any] = {"method": self.method}
        if self.cost_usd is not None:
            told["cost_usd"] = self.cost_usd
        ranges = {"energy_joules": self.energy_joules, "carbon_grams_co2e": self.carbon_grams_co2e}
        for name, figure in ranges.items():
            if figure is not None:
                told[name] = figure[0]
                told.setdefault("range", {})[name] = list(figure[1:])
        if self.cost_range_usd is not None:
            told["range"]["cost_usd"] = list(self.cost_range_usd)
        if self.electricity is not None:
            told["electricity"] = basis(self.electricity)
        return told


def basis(electricity: Electricity) -> dict[str, Any]:
    """What grams, and dollars of energy, rest on, in words that `telemetry.power.sampled` uses too."""
    intensity = electricity.intensity
    told: dict[str, Any] = {
        "zone": intensity.zone,
        "intensity_grams_per_kwh": intensity.grams_per_kwh,
        "intensity_kind": intensity.kind,
        "intensity_source": intensity.source,
        "intensity_signal": intensity.signal.value,
        "intensity_accounting": intensity.accounting.value,
        "intensity_boundary": intensity.boundary.value,
        "pue": electricity.pue,
        "pue_source": electricity.pue_source,
    }
    if electricity.usd_per_kwh is not None:
        told["price_usd_per_kwh"] = electricity.usd_per_kwh
    return told


def figures(rates: Rates, tokens_in: int, tokens_out: int) -> Figures:
    """What an answer of so many tokens used."""
    # Without output tokens, as for embeddings, joules per output token say nothing.
    if rates.energy is None or tokens_out <= 0:
        return weighed(rates, tokens_in, tokens_out, None, NOT_MEASURED)
    energy = rates.energy
    joules = (energy.joules * tokens_out, energy.joules_low * tokens_out, energy.joules_high * tokens_out)
    return weighed(rates, tokens_in, tokens_out, joules, f"estimate: joules per output token, {energy.source}")


def weighed(rates: Rates, tokens_in: int, tokens_out: int, joules: Range | None, method: str) -> Figures:
    """What an answer of so many tokens and joules used; `method` says how the joules were found."""
    cost_usd, electricity = _cost_usd(rates, tokens_in, tokens_out), rates.electricity
    if joules is None or electricity is None:
        return Figures(tokens_in, tokens_out, cost_usd, joules, None, method)
    cost_range_usd = None
    if cost_usd is None and (paid := electricity.usd(joules)) is not None:
        cost_usd, cost_range_usd = paid[0], paid[1:]
    grams = electricity.grams(joules)
    return Figures(tokens_in, tokens_out, cost_usd, joules, grams, method, electricity, cost_range_usd)


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
