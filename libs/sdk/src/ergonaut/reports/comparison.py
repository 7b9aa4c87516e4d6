"""Runs side by side: what differs, and which differences are no more than what the meters may be off by."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ergonaut.errors import Refused
from ergonaut.reports import numbers
from ergonaut.reports.numbers import Figure
from ergonaut.reports.report import RunReport

RUNS_MIN, RUNS_MAX = 2, 20
"""More columns than this nobody can read."""


class Verdict(StrEnum):
    """What a difference is worth."""

    BASE = "base"
    SAME = "same"
    WITHIN_RANGE = "within the error range"
    BEYOND_RANGE = "beyond the error range"
    PLAIN = "no error range known"
    UNKNOWN = "not measured in both"


@dataclass(frozen=True, slots=True)
class Cell:
    """One run's figure and how it differs from the first run's."""

    figure: Figure
    text: str
    change_fraction: float | None
    verdict: Verdict

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
class Comparison:
    """Runs side by side, each held against the first."""

    reports: tuple[RunReport, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def compare(reports: Sequence[RunReport]) -> Comparison:
    """Hold two to twenty runs against the first of them. Raises Refused."""
    if not RUNS_MIN <= len(reports) <= RUNS_MAX:
        raise Refused(f"{len(reports)} runs cannot be compared; give {RUNS_MIN} to {RUNS_MAX}", field="runs")
    rows = [
        _row("Energy", [report.energy for report in reports], numbers.energy_figure),
        _row("CO₂e", [report.carbon for report in reports], numbers.carbon_figure),
        _row("Cost", [report.cost for report in reports], numbers.money_figure),
        _row("Duration", [Figure(report.duration_seconds) for report in reports], _duration),
        _row("Mean power", [Figure(report.mean_power_watts) for report in reports], lambda of: numbers.power(of.value)),
    ]
    names = sorted({name for report in reports for name in report.metrics})
    rows += [_row(name, [Figure(report.metrics.get(name)) for report in reports], _metric) for name in names]
    return Comparison(tuple(reports), tuple(rows), tuple(_notes(reports)))


def verdict_of(first: Figure, other: Figure) -> Verdict:
    """What the difference of two figures is worth. Their ranges are added: the runs may have been metered alike or not.

    >>> str(verdict_of(Figure(100, 30), Figure(150, 45)))
    'within the error range'
    """
    if first.value is None or other.value is None:
        return Verdict.UNKNOWN
    if first.value == other.value:
        return Verdict.SAME
    if first.plus_minus is None or other.plus_minus is None:
        return Verdict.PLAIN
    near = abs(first.value - other.value) <= first.plus_minus + other.plus_minus
    return Verdict.WITHIN_RANGE if near else Verdict.BEYOND_RANGE


def _row(name: str, figures: Sequence[Figure], write: Callable[[Figure], str]) -> Row:
    first = figures[0]
    cells = [Cell(first, write(first), None, Verdict.BASE)]
    for figure in figures[1:]:
        cells.append(Cell(figure, write(figure), _change(first, figure), verdict_of(first, figure)))
    return Row(name, tuple(cells))


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
    for report in reports:
        if report.samples_missing:
            notes.append(f"{report.samples_missing} samples of {report.run_id} are missing; its figures are too low.")
        if report.ended_at is None:
            notes.append(f"{report.run_id} still runs; its figures grow.")
    return notes
