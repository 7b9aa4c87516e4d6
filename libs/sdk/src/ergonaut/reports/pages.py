"""The pages of one run and of runs side by side. Needs jinja2."""

from collections.abc import Sequence

from ergonaut.reports import charts, charts_phases, numbers
from ergonaut.reports.comparison import Comparison, Pair, Verdict
from ergonaut.reports.pages_analysis import phases_told, units_drawn
from ergonaut.reports.report import RENT, Place, RunReport, label_of
from ergonaut.reports.templating import both, rendered

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


def report_page(report: RunReport) -> str:
    """The report of one run."""
    own = report.own_place
    components = charts.drawn_components(report)
    measurable = [part for part in report.components if part.component != RENT]
    return rendered(
        "report.html.j2",
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
        power=both(lambda width: charts.power_chart(report, width)),
        energy=both(lambda width: charts.energy_chart(measurable, components, width)),
        elsewhere=both(lambda width: charts.places_chart(report, width)),
        hours=both(lambda width: charts.hours_chart(report, width)),
        units_chart=units_drawn(report.analysis.units),
        told=phases_told(report.analysis),
    )


def comparison_page(comparison: Comparison) -> str:
    """Runs side by side."""
    energy = [pair for pair in comparison.pairs if pair.figure == "Energy"]
    return rendered(
        "comparison.html.j2",
        comparison=comparison,
        marks=VERDICT_MARKS,
        own=None,
        words=comparison.words(),
        matrix=_matrix(comparison, energy),
        chart=both(lambda width: charts_phases.runs_chart(comparison, width), wide=charts.BROAD),
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


def _places_in_sight(places: tuple[Place, ...], own: Place | None) -> list[Place]:
    """The cheapest places, and the run's own wherever it stands."""
    first = list(places[:PLACES_SHOWN])
    return first if own is None or own in first else [*first, own]
