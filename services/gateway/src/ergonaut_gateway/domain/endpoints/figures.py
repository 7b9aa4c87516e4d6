"""What each route of an endpoint did, as one process counts it and as all together did.

Figures of processes that are gone are folded into one sum, under the name `GONE`, so that restarts do not let them grow without
end. The sum says whose figures are in it: those are not counted a second time while they are there beside it.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from itertools import islice

GONE = "gone"
"""In place of a process's name; no process is called so, since theirs end in a number of their own."""

FOLDED_KNOWN_MAX = 64
"""Processes that the sum remembers beside those whose own figures are still there: one that was taken for gone and comes back
after so many others went would be counted twice."""

FOLDED_AT_ONCE_MAX = 32
"""Of one endpoint; the others follow in the next round."""


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
    keys: int = 0
    """Different keys that were answered by this route first, as far as a process remembers keys."""
    key_counters: int = 0
    """Processes that counted any: so often at most is one key in the sum."""

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
    folded: Mapping[str, Mapping[str, RouteFigures]] = field(default_factory=dict)
    """Of the sum `GONE`: what is in it of which process, as far as that must still be known."""


@dataclass(frozen=True, slots=True)
class FiguresEntry:
    """Figures as they are kept, and the revision of their record; a writer of the sum must name the one that it replaces."""

    tenant: str
    name: str
    figures: EndpointFigures
    revision: int


def summed(told: Iterable[EndpointFigures], revision: int) -> dict[str, RouteFigures]:
    """What all processes counted under a revision, by route."""
    present = [figures for figures in told if figures.revision == revision]
    folded = {process for figures in present for process in figures.folded}
    return added(*(figures.routes for figures in present if figures.process not in folded))


def with_folded(
    gone: EndpointFigures | None, dead: Iterable[EndpointFigures], revision: int, *, there: Collection[str]
) -> EndpointFigures:
    """The sum once the figures of dead processes are in it, all of one revision. `there` are the processes whose own figures are
    still kept. What it held of an earlier revision is dropped."""
    before = gone if gone is not None and gone.revision == revision else EndpointFigures(GONE, revision, {})
    new = [each for each in dead if each.revision == revision and each.process not in before.folded]
    new = new[:FOLDED_AT_ONCE_MAX]
    routes = added(before.routes, *(each.routes for each in new))
    past = [process for process in before.folded if process not in there]
    forgotten = set(islice(past, max(0, len(past) - FOLDED_KNOWN_MAX)))
    known = {process: counts for process, counts in before.folded.items() if process not in forgotten}
    return EndpointFigures(GONE, revision, routes, known | {each.process: each.routes for each in new})


def since(counts: Mapping[str, RouteFigures], base: Mapping[str, RouteFigures]) -> dict[str, RouteFigures]:
    """What was counted beyond what a sum holds already."""
    left: dict[str, RouteFigures] = {}
    for name, each in counts.items():
        had = base.get(name, RouteFigures())
        left[name] = RouteFigures(
            *(getattr(each, part.name) - getattr(had, part.name) for part in fields(RouteFigures))
        )
    return left


def added(*parts: Mapping[str, RouteFigures]) -> dict[str, RouteFigures]:
    """All together, by route."""
    sums: dict[str, RouteFigures] = {}
    for routes in parts:
        for name, counts in routes.items():
            sums.setdefault(name, RouteFigures()).add(counts)
    return sums
