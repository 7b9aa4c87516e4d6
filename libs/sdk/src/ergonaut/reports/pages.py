"""Reports as one HTML file each: no scripts, nothing fetched, readable in light and dark and on a phone. Needs jinja2."""

from collections.abc import Callable
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from ergonaut.reports import charts, numbers
from ergonaut.reports.comparison import Comparison, Verdict
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


def report_page(report: RunReport) -> str:
    """The report of one run."""
    own = report.own_place
    components = charts.drawn_components(report)
    measurable = [part for part in report.components if part.component != RENT]
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
        )
    )


def comparison_page(comparison: Comparison) -> str:
    """Runs side by side."""
    return (
        _environment().get_template("comparison.html.j2").render(comparison=comparison, marks=VERDICT_MARKS, own=None)
    )


def _places_in_sight(places: tuple[Place, ...], own: Place | None) -> list[Place]:
    """The cheapest places, and the run's own wherever it stands."""
    first = list(places[:PLACES_SHOWN])
    return first if own is None or own in first else [*first, own]


def _both(draw: Callable[[float], str]) -> dict[str, Markup]:
    """A chart for a wide page and for a phone. Everything in it is escaped where it is drawn."""
    return {"wide": Markup(draw(charts.WIDE)), "narrow": Markup(draw(charts.NARROW))}  # noqa: S704 - see above


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
    }
    environment.filters.update(writers)
    return environment
