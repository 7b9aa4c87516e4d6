"""Runs side by side: what differs, which differences are no more than what the meters may be off by, and which run is best."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

from ergonaut.errors import Refused
from ergonaut.reports import numbers
from ergonaut.reports.analysis import Unit
from ergonaut.reports.doubts import Doubt, FigureOf, doubt_between
from ergonaut.reports.numbers import Figure, scaled
from ergonaut.reports.report import RunReport

RUNS_MIN, RUNS_MAX = 2, 20
"""More columns than this nobody can read."""

WORDS_RUNS_MAX = 4
"""Runs up to which each pair gets a sentence of its own."""

MORE_IS_BETTER = frozenset(
    {"accuracy", "acc", "f1", "auc", "precision", "recall", "bleu", "rouge", "map", "miou", "r2"}
)
LESS_IS_BETTER = frozenset({"loss", "error", "perplexity", "mae", "mse", "rmse", "wer", "cer"})
"""Metrics whose name says which way is better; of others no run is called best."""


class Verdict(StrEnum):
    """What a difference is worth."""

    BASE = "base"
    SAME = "same"
    WITHIN_RANGE = "within the error range"
    BEYOND_RANGE = "beyond the error range"
    PLAIN = "no error range known"
    UNKNOWN = "not measured in both"


class Standing(StrEnum):
    """How a run stands among all in one figure."""

    BEST = "best"
    AS_GOOD = "as good"
    """Not to be told from the best one."""
    OTHER = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """One run's figure and how it differs from the first run's."""

    figure: Figure
    text: str
    change_fraction: float | None
    verdict: Verdict
    standing: Standing = Standing.OTHER

    @property
    def change_text(self) -> str:
        """The difference in per cent; empty where there is none to tell."""
        return "" if self.change_fraction is None else numbers.change(self.change_fraction)


@dataclass(frozen=True, slots=True)
class Row:
    """One figure over all runs."""

    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """What two runs differ by in one figure, the second held against the first."""

    figure: str
    first: int
    second: int
    change_fraction: float | None
    plus_minus_fraction: float | None
    """How far the change may be off, as a part of the first's figure; None where nobody knows."""
    is_shared: bool
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs side by side, each held against the first and against each other."""

    reports: tuple[RunReport, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    pairs: tuple[Pair, ...] = ()

    def pair(self, figure: str, first: int, second: int) -> Pair | None:
        """What two runs differ by in a figure; None for a run and itself."""
        return next(
            (pair for pair in self.pairs if (pair.figure, pair.first, pair.second) == (figure, first, second)), None
        )

    def sentence(self, pair: Pair) -> str:
        """A pair in words."""
        return sentence_of(self, pair)

    def words(self) -> list[str]:
        """Which runs differ in energy, in words: each pair, or for many runs each against the first."""
        energy = [pair for pair in self.pairs if pair.figure == "Energy"]
        if len(self.reports) <= WORDS_RUNS_MAX:
            return [self.sentence(pair) for pair in energy]
        return _grouped_words(self, [pair for pair in energy if not pair.first])


_DoubtOf = Callable[[int, int], Doubt | None]


@dataclass(frozen=True, slots=True)
class _Kind:
    """One figure that runs are compared by."""

    name: str
    figures: tuple[Figure, ...]
    write: Callable[[Figure], str]
    doubt: _DoubtOf | None = None
    """How far a difference may be off, in the figure's unit; None takes the figures' own ranges."""
    lower_is_better: bool | None = True


def compare(reports: Sequence[RunReport]) -> Comparison:
    """Hold two to twenty runs against the first of them and against each other. Raises Refused."""
    if not RUNS_MIN <= len(reports) <= RUNS_MAX:
        raise Refused(f"{len(reports)} runs cannot be compared; give {RUNS_MIN} to {RUNS_MAX}", field="runs")
    measured = _measured_kinds(reports)
    kinds = [*measured, *_plain_kinds(reports), *_unit_kinds(reports), *_metric_kinds(reports)]
    pairs = [pair for kind in measured for pair in _pairs(kind)]
    return Comparison(tuple(reports), tuple(map(_row, kinds)), tuple(_notes(reports)), tuple(pairs))


def verdict_of(first: Figure, other: Figure, doubt: Doubt | None = None) -> Verdict:
    """What the difference of two figures is worth. Without a doubt of its own their ranges are added, as for strangers.

    >>> str(verdict_of(Figure(100, 30), Figure(150, 45)))
    'within the error range'
    """
    if first.value is None or other.value is None:
        return Verdict.UNKNOWN
    if first.value == other.value:
        return Verdict.SAME
    if doubt is not None:
        allowed = doubt.plus_minus
    elif first.plus_minus is None or other.plus_minus is None:
        return Verdict.PLAIN
    else:
        allowed = first.plus_minus + other.plus_minus
    return Verdict.WITHIN_RANGE if abs(first.value - other.value) <= allowed else Verdict.BEYOND_RANGE


def sentence_of(comparison: Comparison, pair: Pair) -> str:
    """A pair in words."""
    first, second = (f"{comparison.reports[index].name} ({index + 1})" for index in (pair.first, pair.second))
    what = {"Energy": "energy", "CO₂e": "CO₂e", "Cost": "money"}.get(pair.figure, pair.figure)
    if pair.change_fraction is None:
        return f"{second} and {first} cannot be compared in {what}: {Verdict.UNKNOWN}."
    if pair.verdict is Verdict.SAME:
        return f"{second} used the same {what} as {first}."
    more = f"{numbers.significant(abs(pair.change_fraction) * 100, 2)} % {'more' if pair.change_fraction > 0 else 'less'} {what}"
    if pair.plus_minus_fraction is None:
        return f"{second} used {more} than {first}; {Verdict.PLAIN}."
    off_by = numbers.plus_minus(pair.plus_minus_fraction)
    alike = " for runs that were measured alike" if pair.is_shared else ""
    maybe_none = " and may be no difference at all" if pair.verdict is Verdict.WITHIN_RANGE else ""
    return f"{second} used {more} than {first}; that is {pair.verdict} of {off_by}{alike}{maybe_none}."


def _grouped_words(comparison: Comparison, pairs: Sequence[Pair]) -> list[str]:
    """The runs that can be told from the first one, and those that cannot."""
    sentences = []
    first = f"{comparison.reports[0].name} (1)"
    for verdict in (Verdict.BEYOND_RANGE, Verdict.WITHIN_RANGE, Verdict.SAME, Verdict.PLAIN, Verdict.UNKNOWN):
        told = [
            f"{comparison.reports[pair.second].name} ({pair.second + 1})"
            + ("" if pair.change_fraction is None else f" {numbers.change(pair.change_fraction)}")
            for pair in pairs
            if pair.verdict is verdict
        ]
        if told:
            sentences.append(f"Energy against {first}, {verdict}: {', '.join(told)}.")
    return sentences


def _measured_kinds(reports: Sequence[RunReport]) -> list[_Kind]:
    def kind(name: str, figures: list[Figure], write: Callable[[Figure], str], of: FigureOf) -> _Kind:
        return _Kind(name, tuple(figures), write, lambda i, j: doubt_between(reports[i], reports[j], of))

    return [
        kind("Energy", [each.energy for each in reports], numbers.energy_figure, lambda part: part.energy_joules),
        kind("CO₂e", [each.carbon for each in reports], numbers.carbon_figure, lambda part: part.carbon_grams_co2e),
        kind("Cost", [each.cost for each in reports], numbers.money_figure, lambda part: part.cost_usd),
    ]


def _plain_kinds(reports: Sequence[RunReport]) -> list[_Kind]:
    durations = tuple(Figure(report.duration_seconds) for report in reports)
    powers = tuple(Figure(report.mean_power_watts) for report in reports)
    kinds = [
        _Kind("Duration", durations, _duration),
        _Kind("Mean power", powers, lambda of: numbers.power(of.value), lower_is_better=None),
    ]
    if any(report.embodied_grams_co2e is not None for report in reports):
        embodied = tuple(Figure(report.embodied_grams_co2e) for report in reports)
        kinds.append(
            _Kind(
                "Embodied CO₂e", embodied, lambda of: numbers.carbon(of.value) if of.value is not None else "not known"
            )
        )
    return kinds


def _unit_kinds(reports: Sequence[RunReport]) -> list[_Kind]:
    """Joules, grams and dollars of each unit that at least two runs counted."""
    units = [{unit.unit: unit for unit in report.analysis.units} for report in reports]
    names = sorted({name for each in units for name in each})
    kinds = []
    for name in names:
        told = [each.get(name) for each in units]
        if sum(unit is not None for unit in told) >= RUNS_MIN:
            kinds += _kinds_of_unit(reports, told)
    return kinds


def _kinds_of_unit(reports: Sequence[RunReport], told: Sequence[Unit | None]) -> list[_Kind]:
    label = next(unit.label for unit in told if unit)

    def kind(name: str, figure_of: Callable[[Unit], Figure], write: Callable[[Figure], str], of: FigureOf) -> _Kind:
        figures = tuple(scaled(figure_of(unit), unit.per) if unit else Figure(None) for unit in told)

        def doubt(i: int, j: int) -> Doubt | None:
            # The counts are exact, so that the ratio of two runs' figures is as sure as that of the runs themselves.
            return _divided(reports, told, (i, j), of)

        return _Kind(f"{name} per {label}", figures, write, doubt)

    return [
        kind("Energy", lambda unit: unit.energy, numbers.energy_figure, lambda part: part.energy_joules),
        kind("CO₂e", lambda unit: unit.carbon, numbers.carbon_figure, lambda part: part.carbon_grams_co2e),
        kind("Cost", lambda unit: unit.cost, numbers.money_figure, lambda part: part.cost_usd),
    ]


def _divided(
    reports: Sequence[RunReport], told: Sequence[Unit | None], at: tuple[int, int], of: FigureOf
) -> Doubt | None:
    """The doubt of two runs' figures by unit: each run's own parts of it over its own count."""
    units = [told[index] for index in at]
    if units[0] is None or units[1] is None:
        return None
    scales = units[0].per / units[0].count, units[1].per / units[1].count
    return doubt_between(reports[at[0]], reports[at[1]], of, scales)


def _metric_kinds(reports: Sequence[RunReport]) -> list[_Kind]:
    names = sorted({name for report in reports for name in report.metrics})
    return [
        _Kind(
            name,
            tuple(Figure(each.metrics.get(name)) for each in reports),
            _metric,
            lower_is_better=_is_better_low(name),
        )
        for name in names
    ]


def _is_better_low(name: str) -> bool | None:
    word = name.lower().replace("/", "_").replace("-", "_").rpartition("_")[2]
    return True if word in LESS_IS_BETTER else False if word in MORE_IS_BETTER else None


def _row(kind: _Kind) -> Row:
    first = kind.figures[0]
    standings = _standings(kind)
    cells = [Cell(first, kind.write(first), None, Verdict.BASE, standings[0])]
    for index, figure in enumerate(kind.figures[1:], 1):
        verdict = _verdict(kind, 0, index)
        cells.append(Cell(figure, kind.write(figure), _change(first, figure), verdict, standings[index]))
    return Row(kind.name, tuple(cells))


def _verdict(kind: _Kind, first: int, second: int) -> Verdict:
    doubt = kind.doubt(first, second) if kind.doubt else None
    return verdict_of(kind.figures[first], kind.figures[second], doubt)


def _standings(kind: _Kind) -> list[Standing]:
    """The best run of a figure, and those that cannot be told from it."""
    known = [(figure.value, index) for index, figure in enumerate(kind.figures) if figure.value is not None]
    standings = [Standing.OTHER] * len(kind.figures)
    if kind.lower_is_better is None or len(known) < RUNS_MIN:
        return standings
    value, best = min(known) if kind.lower_is_better else max(known, key=lambda each: (each[0], -each[1]))
    if all(other == value for other, _ in known):
        return standings
    for _, index in known:
        if _verdict(kind, best, index) in (Verdict.WITHIN_RANGE, Verdict.SAME):
            standings[index] = Standing.AS_GOOD
    standings[best] = Standing.BEST
    return standings


def _pairs(kind: _Kind) -> list[Pair]:
    pairs = []
    for first, second in combinations(range(len(kind.figures)), 2):
        one, two = kind.figures[first], kind.figures[second]
        doubt = kind.doubt(first, second) if kind.doubt else None
        pairs.append(
            Pair(
                figure=kind.name,
                first=first,
                second=second,
                change_fraction=_change(one, two),
                plus_minus_fraction=doubt.plus_minus / one.value if doubt and one.value else None,
                is_shared=bool(doubt and doubt.is_shared),
                verdict=verdict_of(one, two, doubt),
            )
        )
    return pairs


def _change(first: Figure, other: Figure) -> float | None:
    """The difference as a share of the first; None where there is nothing to take a share of."""
    if not first.value or other.value is None:
        return None
    return (other.value - first.value) / abs(first.value)


def _duration(of: Figure) -> str:
    return "still running" if of.value is None else numbers.duration(of.value)


def _metric(of: Figure) -> str:
    return "not told" if of.value is None else numbers.metric(of.value)


def _notes(reports: Sequence[RunReport]) -> list[str]:
    """What makes the runs hard to compare."""
    notes = []
    measured = [
        frozenset(part.label for part in report.components if part.energy_joules is not None) for report in reports
    ]
    if len(set(measured)) > 1:
        told = "; ".join(
            f"{report.run_id}: {', '.join(sorted(labels)) or 'nothing'}"
            for report, labels in zip(reports, measured, strict=True)
        )
        notes.append(f"Not the same components were measured ({told}), so the totals do not mean the same.")
    intensities = {numbers.intensity(report.intensity_grams_per_kwh) for report in reports if report.carbon.value}
    if len(intensities) > 1:
        notes.append(f"The grids differed ({', '.join(sorted(intensities))}); grams follow from that too.")
    bases = {basis for report in reports for basis in report.intensity_bases}
    if len(bases) > 1:
        notes.append(f"Grams rest on different bases ({'; '.join(sorted(bases))}) and do not mean the same.")
    for report in reports:
        if report.samples_missing:
            notes.append(f"{report.samples_missing} samples of {report.run_id} are missing; its figures are too low.")
        notes += [
            f"{missing} of {of_all} samples of {label} of {report.run_id} were not measured; its figures are too low."
            for label, (missing, of_all) in _measured_in_part(report).items()
        ]
        if report.ended_at is None:
            notes.append(f"{report.run_id} still runs; its figures grow.")
    return notes


def _measured_in_part(report: RunReport) -> dict[str, tuple[int, int]]:
    """Components that were measured for a time or on one host only: samples that were not, and all."""
    told: dict[str, list[int]] = {}
    for part in report.components:
        samples = told.setdefault(part.label, [0, 0])
        samples[0] += part.samples if part.energy_joules is None else 0
        samples[1] += part.samples
    return {label: (missing, of_all) for label, (missing, of_all) in told.items() if 0 < missing < of_all}
