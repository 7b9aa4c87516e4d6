"""Reports as one HTML file each: no scripts, nothing fetched, readable in light and dark and on a phone. Needs jinja2."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from ergonaut.reports import charts, charts_phases, numbers
from ergonaut.reports.accounts import Compliance, Statement
from ergonaut.reports.accounts_words import amount_of, figures_of
from ergonaut.reports.analysis import Phase, saving_of
from ergonaut.reports.comparison import Comparison, Pair, Verdict
from ergonaut.reports.numbers import scaled
from ergonaut.reports.report import RENT, Place, RunReport, label_of

PLACES_SHOWN = 12
"""Places in sight; the others are folded away under them."""

VERDICT_MARKS = {
    Verdict.SAME: "",
    Verdict.WITHIN_RANGE: "≈ within the error range",
    Verdict.BEYOND_RANGE: "beyond the error range",
    Verdict.PLAIN: "",
    Verdict.UNKNOWN: "not comparable",
    Verdict.BASE: "",
}


PHASES_SHOWN = 200
"""Phases in the table; the chart has all, and the CSV export has their figures."""

PHASE_METRICS_SHOWN = 3
LINES_SHOWN = 1_000
"""Lines of a statement on a page; CSV has all."""


def report_page(report: RunReport) -> str:
    """The report of one run."""
    own = report.own_place
    components = charts.drawn_components(report)
    measurable = [part for part in report.components if part.component != RENT]
    phases = report.analysis.phases[:PHASES_SHOWN]
    drawn = charts_phases.top_phases(report.analysis.phases)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            own=own,
            places_first=_places_in_sight(report.places, own),
            places_rest=[place for place in report.places[PLACES_SHOWN:] if place is not own],
            cheapest=min(report.places, key=lambda place: place.cost_usd, default=None),
            cleanest=min(report.places, key=lambda place: place.carbon_grams_co2e, default=None),
            cost_most=max((place.cost_usd for place in report.places), default=0) or 1,
            carbon_most=max((place.carbon_grams_co2e for place in report.places), default=0) or 1,
            best_hour=min(report.hours, key=lambda hour: hour.carbon_grams_co2e, default=None),
            worst_hour=max(report.hours, key=lambda hour: hour.carbon_grams_co2e, default=None),
            legend=[(label_of(name), charts.colour_of(name, components)) for name in components],
            power=_both(lambda width: charts.power_chart(report, width)),
            energy=_both(lambda width: charts.energy_chart(measurable, components, width)),
            elsewhere=_both(lambda width: charts.places_chart(report, width)),
            hours=_both(lambda width: charts.hours_chart(report, width)),
            phases=phases,
            phases_left_out=len(report.analysis.phases) - len(phases) + report.analysis.phases_omitted,
            phase_metrics=_metrics_of(phases),
            phase_chart=_both(lambda width: charts_phases.phases_chart(drawn, width)),
        )
    )


def comparison_page(comparison: Comparison) -> str:
    """Runs side by side."""
    energy = [pair for pair in comparison.pairs if pair.figure == "Energy"]
    return (
        _environment()
        .get_template("comparison.html.j2")
        .render(
            comparison=comparison,
            marks=VERDICT_MARKS,
            own=None,
            words=comparison.words(),
            matrix=_matrix(comparison, energy),
            chart=_both(lambda width: charts_phases.runs_chart(comparison, width), wide=charts.BROAD),
        )
    )


def statement_page(statement: Statement) -> str:
    """What was used and what it cost, line by line."""
    shown = statement.lines[:LINES_SHOWN]
    return (
        _environment()
        .get_template("statement.html.j2")
        .render(
            statement=statement,
            lines=[*shown, statement.total],
            total=statement.total,
            amount_of=amount_of,
            lines_left_out=len(statement.lines) - len(shown) + statement.lines_omitted,
            energy_most=max((line.energy.value or 0.0 for line in shown), default=0.0),
            carbon_most=max((line.carbon_grams_co2e_location or 0.0 for line in shown), default=0.0),
        )
    )


def compliance_page(report: Compliance) -> str:
    """Emissions by the GHG Protocol and ISO/IEC 21031, with the factors and their sources."""
    return (
        _environment()
        .get_template("compliance.html.j2")
        .render(
            report=report,
            figures=figures_of(report),
            amount_of=amount_of,
            factor_most=max((factor.energy_joules for factor in report.factors), default=0.0) or 1.0,
        )
    )


def _matrix(comparison: Comparison, pairs: Sequence[Pair]) -> list[list[tuple[str, str]]]:
    """Text and style of each cell; below the diagonal the same pairs seen from the other side."""
    count = len(comparison.reports)
    cells = [[("", "")] * count for _ in range(count)]
    for pair in pairs:
        style = {Verdict.BEYOND_RANGE: "beyond", Verdict.WITHIN_RANGE: "within"}.get(pair.verdict, "")
        near = "≈ " if pair.verdict is Verdict.WITHIN_RANGE else ""
        change = pair.change_fraction
        back = None if change is None or change == -1 else 1 / (1 + change) - 1
        for (row, column), fraction in (((pair.first, pair.second), change), ((pair.second, pair.first), back)):
            cells[row][column] = (
                f"{near}{numbers.change(fraction)}" if fraction is not None else numbers.NOTHING,
                style,
            )
    return cells


def _metrics_of(phases: Sequence[Phase]) -> list[str]:
    """The metrics that most phases told."""
    told = Counter(name for phase in phases for name in phase.metrics)
    return [name for name, _ in told.most_common(PHASE_METRICS_SHOWN)]


def _places_in_sight(places: tuple[Place, ...], own: Place | None) -> list[Place]:
    """The cheapest places, and the run's own wherever it stands."""
    first = list(places[:PLACES_SHOWN])
    return first if own is None or own in first else [*first, own]


def _both(draw: Callable[[float], str], wide: float = charts.WIDE) -> dict[str, Markup]:
    """A chart for a wide page and for a phone. Everything in it is escaped where it is drawn."""
    return {"wide": Markup(draw(wide)), "narrow": Markup(draw(charts.NARROW))}  # noqa: S704 - see above


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ergonaut.reports"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    writers: dict[str, Callable[..., Any]] = {
        "energy": numbers.energy,
        "energy_figure": numbers.energy_figure,
        "kilowatt_hours": numbers.kilowatt_hours,
        "carbon": numbers.carbon,
        "carbon_figure": numbers.carbon_figure,
        "money": numbers.money,
        "money_figure": numbers.money_figure,
        "power": numbers.power,
        "intensity": numbers.intensity,
        "plus_minus": numbers.plus_minus,
        "duration": numbers.duration,
        "moment": numbers.moment,
        "metric": numbers.metric,
        "times": numbers.times,
        "change": numbers.change,
        "saving": saving_of,
        "significant": numbers.significant,
        "scaled": scaled,
    }
    environment.filters.update(writers)
    return environment
