"""How reports become HTML pages: one file without scripts or fetches, readable in light and dark and on a phone. Needs jinja2."""

from collections.abc import Callable
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from ergonaut.reports import charts, numbers
from ergonaut.reports.analysis import saving_of, value_in_words


def rendered(template: str, **values: Any) -> str:
    """A page from its template."""
    return _environment().get_template(template).render(**values)


def both(draw: Callable[[float], str], wide: float = charts.WIDE) -> dict[str, Markup]:
    """A chart for a wide page and for a phone. Everything in it is escaped where it is drawn."""
    return {"wide": Markup(draw(wide)), "narrow": Markup(draw(charts.NARROW))}  # noqa: S704 - see above


@cache
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
        "kilowatt_hours_figure": numbers.kilowatt_hours_figure,
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
        "seen": value_in_words,
        "significant": numbers.significant,
        "scaled": numbers.scaled,
    }
    environment.filters.update(writers)
    return environment
