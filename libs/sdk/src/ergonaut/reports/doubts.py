"""How far the difference of two runs may be off: less than both ranges together where both were measured alike.

Two runs that one model or one meter on one machine measured err alike: a processor whose data sheet says 65 W and which draws
80 makes both too low by the same part, and the ratio stays right. The Guide to the Expression of Uncertainty in Measurement (JCGM
100:2008, 5.2) treats such inputs as correlated; adding both ranges, as for strangers, would call nearly every difference of
modelled runs unknown.

What does not cancel follows from the form that meters and models share: energy = a fixed part + a part that follows the load.
If each part is off by at most r, a run whose fixed part is the fraction s of its energy is off by a*s + b*(1 - s), |a|, |b| <= r.
The ratio of two runs is then off by |a - b| * |s1 - s2| <= 2r * |s1 - s2|. The fixed part is no larger than what the run of lower
power draws, so |s1 - s2| <= 1 - lowest mean power / highest mean power. Runs of equal power can be told apart but for what chance
leaves; runs of very different power are as uncertain as strangers, for whom both ranges count in full.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import isclose

from ergonaut.reports.report import Component, RunReport

CHANCE_FRACTION = 0.01
"""What two readings of one meter may differ by although the same was used: the edges of samples and the meter's own noise."""

FigureOf = Callable[[Component], float | None]


@dataclass(frozen=True, slots=True)
class Doubt:
    """How far the difference of two runs' figures may be off."""

    plus_minus: float
    is_shared: bool
    """Whether some of the error is common to both and was left out."""


def doubt_between(
    first: RunReport, other: RunReport, figure_of: FigureOf, scales: tuple[float, float] = (1.0, 1.0)
) -> Doubt | None:
    """How far the difference of two runs may be off, in the figure's unit; None where a range is not known.

    `scales` are exact numbers that the runs' figures are taken times of, such as one over the work that each has done.
    """
    total, shared = 0.0, False
    mine, others = _by_meter(first), _by_meter(other)
    for meter in sorted(mine.keys() | others.keys()):
        pair = mine.get(meter), others.get(meter)
        values = [(figure_of(part) or 0.0) * scale if part else 0.0 for part, scale in zip(pair, scales, strict=True)]
        if not any(values):
            continue
        ranges = [part.range_fraction if part else None for part in pair]
        if any(
            value and fraction is None and not _is_exact(part)
            for part, value, fraction in zip(pair, values, ranges, strict=True)
        ):
            return None
        apart = sum(value * (fraction or 0.0) for value, fraction in zip(values, ranges, strict=True))
        left = _left_over(first, other, pair)
        together = None if left is None else max(values) * left + sum(values) * CHANCE_FRACTION
        if together is not None and together < apart:
            total, shared = total + together, True
        else:
            total += apart
    return Doubt(total, shared)


def _by_meter(run: RunReport) -> dict[tuple[str, str, str], Component]:
    """A run's parts by what measured them: one component may have several, such as one that a second host did not measure."""
    return {(part.component, part.method, part.source): part for part in run.components}


def _left_over(first: RunReport, other: RunReport, pair: tuple[Component | None, Component | None]) -> float | None:
    """The part of the ratio that common errors leave open; None for components that were not measured alike."""
    one, two = pair
    if one is None or two is None or not one.range_fraction or not _is_alike(first, other, one, two):
        return None
    watts = [_mean_watts(first, one), _mean_watts(other, two)]
    if None in watts or not all(watts):
        return None
    low, high = sorted(value for value in watts if value)
    return 2 * one.range_fraction * (1 - low / high)


def _is_alike(first: RunReport, other: RunReport, one: Component, two: Component) -> bool:
    """Whether one meter or model, on the same kind of machine at the same place, told both."""
    places = [(run.provider, run.region, run.machine_type) for run in (first, other)]
    hows = [(part.method, part.source) for part in (one, two)]
    # A range is a mean over the run's samples, so that rounding may part two that are the same.
    same_range = isclose(one.range_fraction or 0.0, two.range_fraction or 0.0, rel_tol=1e-9)
    return places[0] == places[1] and any(places[0]) and hows[0] == hows[1] and same_range


def _mean_watts(run: RunReport, part: Component) -> float | None:
    seconds = run.active_seconds
    return part.energy_joules / seconds if seconds and part.energy_joules else None


def _is_exact(part: Component | None) -> bool:
    """Rent is agreed, not measured."""
    return part is None or part.energy_joules is None
