"""What each route of an endpoint did, as one process counts it and as all together did."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields


@dataclass(slots=True)
class RouteFigures:
    """Counts of one route under one revision."""

    requests: int = 0
    """Answered, well or not."""
    drawn: int = 0
    """Of these, those that chance sent; the others followed a key."""
    failed: int = 0
    """By no fault of the caller."""
    slow: int = 0
    labelled: int = 0
    wrong: int = 0
    seconds: float = 0.0

    def add(self, more: "RouteFigures") -> None:
        """Count what another process counted."""
        for each in fields(RouteFigures):
            setattr(self, each.name, getattr(self, each.name) + getattr(more, each.name))


@dataclass(frozen=True, slots=True)
class EndpointFigures:
    """What one process counted of an endpoint under a revision."""

    process: str
    revision: int
    routes: Mapping[str, RouteFigures]


def summed(told: Iterable[EndpointFigures], revision: int) -> dict[str, RouteFigures]:
    """What all processes counted under a revision, by route."""
    sums: dict[str, RouteFigures] = {}
    for figures in told:
        if figures.revision == revision:
            for name, counts in figures.routes.items():
                sums.setdefault(name, RouteFigures()).add(counts)
    return sums
