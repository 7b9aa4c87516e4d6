"""Which upstream is asked first, which next, and how long to pause before asking again."""

from collections.abc import Sequence

PAUSE_SECONDS = 0.25
"""Before the second round; it doubles with each. A shorter one finds the same trouble again."""

PAUSE_SECONDS_MAX = 8.0
"""Callers seldom have longer patience, and the request's deadline ends it anyway."""


def order(weights: Sequence[float], draw: float) -> list[int]:
    """Places of the upstreams in the order to ask: the first by weight, then the others as they are written.

    `draw` is in [0, 1). A weight of 0 is only asked where those before it failed; where all are 0 the order is as written.
    """
    left = draw * sum(weights)
    first = 0
    for place, weight in enumerate(weights):
        if weight > 0 and left < weight:
            first = place
            break
        left -= weight
    return [first, *(place for place in range(len(weights)) if place != first)]


def pause_seconds(round_number: int, draw: float, told_seconds: float) -> float:
    """Seconds before the next round: growing, between half and whole by `draw`, never less than an upstream told."""
    grown = min(PAUSE_SECONDS_MAX, PAUSE_SECONDS * 2.0**round_number)
    return max(told_seconds, grown * (0.5 + draw / 2))
