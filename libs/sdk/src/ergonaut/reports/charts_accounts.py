"""The charts of accounts: energy, CO2e and cost of a statement's lines or of a usage's steps, and scope 2 by both methods."""

from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta

from ergonaut.reports import numbers
from ergonaut.reports.accounts import JOULES_PER_KWH, Compliance, Factor, Line
from ergonaut.reports.charts_bars import (
    CARBON,
    ENERGY,
    MONEY,
    Bar,
    Quantity,
    columns_chart,
    figure_bar,
    rows_chart,
)
from ergonaut.reports.numbers import Figure
from ergonaut.reports.usage import Usage, Use

ROWS_DRAWN = 12
"""Rows of a chart; more than that nobody compares, and the table has all."""

GROUPS_DRAWN = 7
"""Colours that can be told apart; what is left is drawn as `others`."""

STEPS_FILLED_MAX = 5_000
"""Steps in which nothing was told are left blank; a time of more steps than this shows those that were told only."""

CARBON_LEGEND = (("operational, location-based", "c2"), ("embodied, making of machines", "c3"))
COST_LEGEND = (("electricity", "c1"), ("rent", "c6"))
OTHERS = "others"
STEPS = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}

Draw = Callable[[float], str]
Step = tuple[datetime, list[Use]]
FigureOf = Callable[[Use], Figure | None]
"""A figure of a use; None where the use can have none."""


def statement_charts(lines: Sequence[Line]) -> dict[str, Draw]:
    """Energy, CO2e and cost of a statement's lines: over time where each is a day, else the first ones below each other."""
    kinds: dict[str, tuple[Callable[[str, Line], Bar], Quantity]] = {
        "Energy": (lambda label, line: figure_bar(label, line.energy), ENERGY),
        "CO₂e": (lambda label, line: _carbon_bar(label, line.carbon_grams_co2e_location, line.embodied_grams_co2e), CARBON),
        "Cost": (_cost_bar, MONEY),
    }  # fmt: skip
    charts: dict[str, Draw] = {}
    for name, (bar_of, quantity) in kinds.items():
        if are_days(lines):
            days = [(date.fromisoformat(line.label), line) for line in lines]
            charts[name] = _over_days(name, {day: bar_of(f"{day:%m-%d}", line) for day, line in days}, quantity)
        else:
            charts[name] = _of_rows(name, [bar_of(line.title, line) for line in lines[:ROWS_DRAWN]], quantity)
    return charts


def are_days(lines: Sequence[Line]) -> bool:
    """Whether each line is of a day, so that lines have an order in time."""
    return bool(lines) and all(_day_of(line.label) for line in lines)


def usage_charts(usage: Usage) -> dict[str, Draw]:
    """Energy, CO2e and cost over time, by labels on top of each other; where there is one step only, label by label."""
    if usage.step not in STEPS:
        uses = sorted(usage.uses, key=lambda use: -(use.energy.value or 0.0))[:ROWS_DRAWN]
        measurable = [use for use in uses if not use.is_rent]
        carbon = [_carbon_bar(use.title, use.carbon_grams_co2e, use.embodied_grams_co2e) for use in measurable]
        return {
            "Energy": _of_rows("Energy", [figure_bar(use.title, use.energy) for use in measurable], ENERGY),
            "CO₂e": _of_rows("CO2e", carbon, CARBON),
            "Cost": _of_rows("Cost", [_usd_bar(use) for use in uses], MONEY),
        }
    groups, steps = drawn_groups(usage), _steps_of(usage)
    kinds: tuple[tuple[str, FigureOf, Quantity], ...] = (
        ("Energy", lambda use: None if use.is_rent else use.energy, ENERGY),
        ("CO₂e", lambda use: None if use.is_rent else Figure(use.carbon_grams_co2e), CARBON),
        ("Cost", lambda use: Figure(use.cost_usd), MONEY),
    )
    return {
        name: _over_steps(usage, _step_bars(steps, groups, figure_of), quantity) for name, figure_of, quantity in kinds
    }


def drawn_groups(usage: Usage) -> list[str]:
    """The labels that have a colour of their own, those that used most first."""
    used: dict[str, float] = {}
    for use in usage.uses:
        used[use.title] = used.get(use.title, 0.0) + (use.energy.value or 0.0)
    return sorted(used, key=lambda title: (-used[title], title))[:GROUPS_DRAWN]


def usage_legend(usage: Usage) -> list[tuple[str, str]]:
    """Which colour is whose; empty where there is one only or each row has its name."""
    if usage.step not in STEPS or not usage.by:
        return []
    groups = drawn_groups(usage)
    others = [(OTHERS, "c7")] if {use.title for use in usage.uses} - {*groups} else []
    return [*((group, f"c{index}") for index, group in enumerate(groups)), *others]


def emissions_chart(report: Compliance, width: float) -> str:
    """Scope 2 by both methods and scope 3 below each other."""
    embodied = report.scope3_embodied_grams_co2e
    missing = numbers.NOT_KNOWN if embodied is None else ""
    bars = [
        figure_bar("Scope 2, location-based", Figure(report.scope2_location_grams_co2e), "c0"),
        figure_bar("Scope 2, market-based", Figure(report.scope2_market_grams_co2e), "c4"),
        figure_bar("Scope 3, making of machines", Figure(embodied), "c3", text=missing),
    ]
    return rows_chart("Emissions by scope and method", bars, width, CARBON)


def covered_chart(report: Compliance, width: float) -> str:
    """The energy with its range, and the part of it that certificates cover."""
    kwh = report.energy_kwh.value or 0.0
    covered = min(report.certified_kwh, kwh)
    text = numbers.kilowatt_hours_figure(report.energy_kwh)
    parts = ((covered, "c2"), (kwh - covered, "c0")) if covered else ((kwh, "c0"),)
    return rows_chart(
        "Energy and certificates", [Bar("Energy, building included", parts, report.energy_kwh.plus_minus, text)], width
    )


def factors_chart(factors: Sequence[Factor], width: float) -> str:
    """Location-based grams of each factor: its intensity times the energy that it was applied to."""
    return rows_chart(
        "CO2e by emission factor", [_factor_bar(factor) for factor in factors[:ROWS_DRAWN]], width, CARBON
    )


def _factor_bar(factor: Factor) -> Bar:
    grams = factor.energy_joules / JOULES_PER_KWH * factor.intensity_grams_per_kwh
    text = f"{numbers.carbon(grams)}, {numbers.significant(factor.intensity_grams_per_kwh)} g/kWh"
    return Bar(f"{factor.zone or 'zone unknown'}, {factor.kind}", ((grams, "c0"),), None, text)


def _of_rows(name: str, bars: Sequence[Bar], quantity: Quantity) -> Draw:
    return lambda width: rows_chart(name, bars, width, quantity)


def _over_days(name: str, by_day: dict[date, Bar], quantity: Quantity) -> Draw:
    first, last = min(by_day), max(by_day)
    days = [first + timedelta(days=index) for index in range((last - first).days + 1)]
    bars = [by_day.get(day, _blank(f"{day:%m-%d}")) for day in days]
    return lambda width: columns_chart(name, bars, width, quantity, below="day, UTC")


def _over_steps(usage: Usage, bars: Sequence[Bar], quantity: Quantity) -> Draw:
    return lambda width: columns_chart("Usage over time", bars, width, quantity, below=f"{usage.step}, UTC")


def _blank(label: str) -> Bar:
    """A day or step of which nothing was told: nothing ran, or nobody looked."""
    return Bar(label, ((0.0, "c7"),), None, "nothing told")


def _day_of(label: str) -> date | None:
    try:
        return date.fromisoformat(label)
    except ValueError:
        return None


def _carbon_bar(label: str, operational: float | None, embodied: float | None) -> Bar:
    known = [(grams, colour) for grams, colour in ((operational, "c2"), (embodied, "c3")) if grams is not None]
    if not known:
        return Bar(label, (), None, numbers.NOT_MEASURED)
    made = ", embodied not known" if embodied is None else f" + {numbers.carbon(embodied)} embodied"
    lacks = () if len(known) > 1 else ("embodied" if embodied is None else "operational",)
    return Bar(label, tuple(known), None, f"{numbers.carbon(operational)}{made}", lacks)


def _cost_bar(label: str, line: Line) -> Bar:
    both = ((line.electricity_usd, "c1"), (line.rent_usd, "c6"))
    known = tuple((usd, colour) for usd, colour in both if usd is not None)
    if not known:
        return Bar(label, (), None, numbers.NOT_KNOWN)
    # Rent that nobody told is none for a machine that one owns, and so nothing lacks.
    rent = ", no rent told" if line.rent_usd is None else f" + {numbers.money(line.rent_usd)} rent"
    lacks = ("electricity",) if line.electricity_usd is None else ()
    electricity = f"electricity {numbers.NOT_KNOWN}" if lacks else numbers.money(line.electricity_usd)
    return Bar(label, known, None, f"{electricity}{rent}", lacks)


def _usd_bar(use: Use) -> Bar:
    return figure_bar(use.title, Figure(use.cost_usd), "c1", text=numbers.money(use.cost_usd))


def _steps_of(usage: Usage) -> list[Step]:
    """What was used in each step from the first to the last one told, those of which nothing was told included."""
    told: dict[datetime, list[Use]] = {}
    for use in usage.uses:
        told.setdefault(use.starts_at, []).append(use)
    if not told:
        return []
    first, last, step = min(told), max(told), STEPS[usage.step]
    count = round((last - first) / step) + 1
    if count > STEPS_FILLED_MAX:
        return sorted(told.items())
    every: dict[datetime, list[Use]] = {first + index * step: [] for index in range(count)}
    return sorted((every | told).items())


def _step_bars(steps: Sequence[Step], groups: Sequence[str], figure_of: FigureOf) -> list[Bar]:
    """A column a step; hours have their date where there are several."""
    one_day = len({at.date() for at, _ in steps}) == 1
    midnights = all(at.time() == time.min for at, _ in steps)
    form = "%m-%d" if midnights else "%H:%M" if one_day else "%m-%d %H:%M"
    return [_step_bar(at.strftime(form), uses, groups, figure_of) for at, uses in steps]


def _step_bar(label: str, uses: Sequence[Use], groups: Sequence[str], figure_of: FigureOf) -> Bar:
    """One step's column: its labels on top of each other, each in its colour; the ranges are added."""
    told = [(use.title, figure) for use in uses if (figure := figure_of(use)) is not None]
    if not told:
        return _blank(label)
    used: dict[str, float] = {}
    for title, figure in told:
        if figure.value is not None:
            colour = f"c{groups.index(title)}" if title in groups else "c7"
            used[colour] = used.get(colour, 0.0) + figure.value
    off_by = sum(figure.plus_minus or 0.0 for _, figure in told)
    lacks = tuple(title for title, figure in told if figure.value is None)
    return Bar(label, tuple((used[colour], colour) for colour in sorted(used)), off_by or None, lacks=lacks)
