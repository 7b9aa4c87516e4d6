"""What a run used by phase and by unit of its work. Asked for by `Analysing`.

A sample tells the energy of an interval, not how it lay within it; it is taken as spread evenly. So phases that tile the run add
up to the run, and a phase's edge is off by no more than what one sample holds.
"""

import math
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate, pairwise

from ergonaut.events.runs import PhaseSpan
from ergonaut_ledger.domain.footprints import Footprint
from ergonaut_ledger.domain.served import ModelFootprint

PHASES_MAX = 10_000
"""Phases of one answer; more would pass gRPC's 4 MiB, and nobody reads them one by one."""

MICROSECOND = timedelta(microseconds=1)

COUNTED = frozenset(
    {
        "batches", "characters", "documents", "examples", "frames", "images", "iterations", "pixels", "predictions",
        "queries", "records", "requests", "rows", "samples", "sentences", "sequences", "steps", "tokens", "words",
    }
)  # fmt: skip
"""Words by which work is recognised where a run does not tell which of its figures count work: names that end in one of them,
such as `tokens` or `output_tokens`. A loss of 0.3 must not become joules per loss."""

EPOCH = "epoch"
GATEWAY = "gateway"
"""Name of a run that meters the gateway: the predictions that were served meanwhile are its work."""


@dataclass(frozen=True, slots=True)
class Slice:
    """What one meter of a run told over one interval; None where that was not known."""

    started_at: datetime
    ended_at: datetime
    energy_joules: float | None
    energy_joules_range: float | None
    carbon_grams_co2e: float | None
    cost_usd: float | None

    @property
    def amounts(self) -> tuple[float | None, ...]:
        """The four figures, always in this order."""
        return (self.energy_joules, self.energy_joules_range, self.carbon_grams_co2e, self.cost_usd)


@dataclass(frozen=True, slots=True)
class PhaseFootprint:
    """What one phase used; None where nothing within it was known."""

    span: PhaseSpan
    energy_joules: float | None
    energy_joules_range: float | None
    carbon_grams_co2e: float | None
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class UnitFootprint:
    """What one unit of a run's work used: the whole run over the number of units, as ISO/IEC 21031 divides by R."""

    unit: str
    count: float
    energy_joules: float | None
    carbon_grams_co2e: float | None
    cost_usd: float | None
    sci_grams_co2e: float | None
    range_fraction: float | None


def phase_footprints(phases: Sequence[PhaseSpan], slices: Sequence[Slice]) -> list[PhaseFootprint]:
    """Each phase's part of the samples, in order of their beginnings. Nested phases are parts of those around them."""
    distinct = {(span.phase, span.step, span.started_at): span for span in phases}
    ordered = sorted(distinct.values(), key=lambda span: (span.started_at, span.ended_at, span.phase))
    edges = sorted({edge for span in ordered for edge in (span.started_at, span.ended_at)})
    sums = _running_sums(edges, slices)
    place = {edge: index for index, edge in enumerate(edges)}
    return [
        PhaseFootprint(span, *(_between(figure, place[span.started_at], place[span.ended_at]) for figure in sums))
        for span in ordered
    ]


def unit_footprints(footprint: Footprint, counts: Mapping[str, float]) -> list[UnitFootprint]:
    """What one of each counted unit used, in order of names. Needs counts above 0."""
    measured = any(part.energy_joules is not None for part in footprint.components)
    joules = footprint.energy_joules if measured else None
    grams = _known(footprint.carbon_grams_co2e, [part.carbon_grams_co2e for part in footprint.components])
    usd = _known(footprint.cost_usd, [part.cost_usd for part in footprint.components])
    embodied = footprint.embodied_grams_co2e
    fraction = footprint.energy_joules_range / joules if joules else None
    return [
        UnitFootprint(
            unit=unit,
            count=count,
            energy_joules=_each(joules, count),
            carbon_grams_co2e=_each(grams, count),
            cost_usd=_each(usd, count),
            sci_grams_co2e=_each(None if grams is None or embodied is None else grams + embodied, count),
            range_fraction=fraction,
        )
        for unit, count in sorted(counts.items())
    ]


def model_units(served: Sequence[ModelFootprint]) -> list[UnitFootprint]:
    """What one prediction of each model version used, by what the gateway itself counted: of a run that meters the gateway this
    is finer than the whole run over all predictions, and leaves out what the gateway used when nobody asked."""
    return [
        UnitFootprint(
            unit=f"predictions of {each.model} {each.version}",
            count=float(each.predictions_measured),
            energy_joules=_each(each.energy_joules, each.predictions_measured),
            carbon_grams_co2e=_each(each.carbon_grams_co2e, each.predictions_measured),
            cost_usd=_each(each.cost_usd, each.predictions_measured),
            sci_grams_co2e=None,
            range_fraction=each.range_fraction,
        )
        for each in served
        if each.predictions_measured and each.energy_joules is not None
    ]


def counted(
    metrics: Mapping[str, float], phases: Sequence[PhaseSpan], predictions: int, told: Collection[str] | None = None
) -> dict[str, float]:
    """How often each unit of work was done: counted metrics, epochs by their phases, and predictions that were served.

    `told` names the metrics that the run counted; None where it does not say, and names that look like work are taken.

    >>> counted({"output_tokens": 5e6, "loss": 0.3}, [], 0)
    {'output_tokens': 5000000.0}
    >>> counted({"output_tokens": 5e6, "proofs": 2.0}, [], 0, told=["proofs"])
    {'proofs': 2.0}
    """
    counts = {
        name: value
        for name, value in metrics.items()
        if 0 < value < math.inf and (looks_counted(name) if told is None else name in told)
    }
    epochs = len({(span.phase, span.step, span.started_at) for span in phases if last_word(span.phase) == EPOCH})
    if epochs:
        counts[EPOCH] = float(epochs)
    if predictions:
        counts["predictions"] = float(predictions)
    return counts


def looks_counted(name: str) -> bool:
    """Whether a metric counts work, by its name alone.

    >>> looks_counted("tokens"), looks_counted("val/output_tokens"), looks_counted("tokens_per_second")
    (True, True, False)
    """
    return name.lower().replace("/", "_").replace("-", "_").rpartition("_")[2] in COUNTED


def last_word(phase: str) -> str:
    """The innermost phase of a path.

    >>> last_word("training/epoch")
    'epoch'
    """
    return phase.rpartition("/")[2]


_Sums = tuple[list[float], list[int]]
"""What has come together before each edge, and how many stretches before it knew the figure."""


def _running_sums(edges: Sequence[datetime], slices: Sequence[Slice]) -> list[_Sums]:
    """For each figure its sum up to each edge.

    A slice's ends are put where they fall; the stretches between, which a long slice may have by the thousand, are filled by one
    rate that begins and ends, so that the work is one search a slice however the phases lie.
    """
    figures = len(PhaseFootprint.__dataclass_fields__) - 1
    if len(edges) < 2:
        return [([0.0] * len(edges), [0] * len(edges)) for _ in range(figures)]
    begin = edges[0]
    places = [(edge - begin) / MICROSECOND for edge in edges]
    columns = [_Column(places) for _ in range(figures)]
    for each in slices:
        start = (each.started_at - begin) / MICROSECOND
        end = max((each.ended_at - begin) / MICROSECOND, start + 1.0)
        if end <= places[0] or start >= places[-1]:
            continue
        first, last = bisect_right(places, start) - 1, bisect_right(places, end) - 1
        for column, amount in zip(columns, each.amounts, strict=True):
            if amount is not None:
                column.add(amount, (start, end), (first, last))
    return [column.sums() for column in columns]


class _Column:
    """One figure's way into the stretches between edges."""

    def __init__(self, places: Sequence[float]) -> None:
        self._places = places
        self._stretches = len(places) - 1
        self._partial = [0.0] * self._stretches
        self._rate_changes = [0.0] * (self._stretches + 1)
        self._touch_changes = [0] * (self._stretches + 1)

    def add(self, amount: float, times: tuple[float, float], stretches: tuple[int, int]) -> None:
        """Spread an amount evenly over a time whose ends lie in two stretches; -1 and the last edge are outside."""
        (start, end), (first, last) = times, stretches
        rate = amount / (end - start)
        if first >= 0:
            self._partial[first] += rate * (min(end, self._places[first + 1]) - start)
        if first < last < self._stretches:
            self._partial[last] += rate * (end - self._places[last])
        whole_from, whole_to = max(first + 1, 0), min(last, self._stretches)
        if whole_from < whole_to:
            self._rate_changes[whole_from] += rate
            self._rate_changes[whole_to] -= rate
        reaches_into_last = last < self._stretches and end > self._places[last]
        touched_to = min(last + (1 if reaches_into_last else 0), self._stretches)
        self._touch_changes[max(first, 0)] += 1
        self._touch_changes[max(touched_to, first, 0)] -= 1

    def sums(self) -> _Sums:
        """The sums up to each edge."""
        rates = accumulate(self._rate_changes[:-1])
        widths = (after - before for before, after in pairwise(self._places))
        filled = (part + rate * width for part, rate, width in zip(self._partial, rates, widths, strict=True))
        touched = (1 if touches > 0 else 0 for touches in accumulate(self._touch_changes[:-1]))
        return [0.0, *accumulate(filled)], [0, *accumulate(touched)]


def _between(sums: _Sums, start: int, end: int) -> float | None:
    amounts, known = sums
    return max(amounts[end] - amounts[start], 0.0) if known[end] > known[start] else None


def _known(total: float, parts: Sequence[float | None]) -> float | None:
    return total if any(part is not None for part in parts) else None


def _each(total: float | None, count: float) -> float | None:
    return None if total is None else total / count
