"""The charts of the analysis: energy of one unit of work, what would save, and how far a figure is from the usual one."""

import math
from collections.abc import Sequence

from ergonaut.reports import numbers
from ergonaut.reports.analysis import Anomaly, Recommendation, Unit, value_in_words
from ergonaut.reports.charts_bars import LETTERS, ROW, Bar, plain, rows_chart, whisker
from ergonaut.reports.numbers import Figure, scaled
from ergonaut.reports.svg import Canvas, Scale, text_width

DRAWN_MAX = 25
"""Rows of a chart; more than that nobody looks at, and the tables have all."""

TIMES_MAX = 10.0
"""A bar ends at so many times the usual; the figure beside it says how many it was."""


def units_chart(units: Sequence[Unit], width: float) -> str:
    """Energy for one of each unit as a point with its range. Units differ by powers of ten, and so the axis goes by them."""
    figures = [scaled(unit.energy, unit.per) for unit in units[:DRAWN_MAX]]
    decades = _decades(figures)
    if not decades:
        return ""
    x = Scale((10.0 ** decades[0], 10.0 ** decades[-1]), (8.0, width - 8.0), logarithmic=True)
    bottom = ROW * len(figures)
    canvas = Canvas(width, bottom + 44, "Energy by unit of work")
    _decade_axis(canvas, x, decades, bottom)
    for index, (unit, figure) in enumerate(zip(units, figures, strict=False)):
        missing = " missing" if figure.value is None else ""
        top = index * ROW
        canvas.label(1.0, top + 14, unit.label, class_="name halo")
        canvas.label(width - 1, top + 14, numbers.energy_figure(figure), anchor="end", class_=f"name halo{missing}")
        _unit_point(canvas, x, figure, top + 28)
    canvas.label(width - 1, bottom + 38, "for one, each step ten times as much", anchor="end")
    return canvas.markup()


def savings_chart(recommendations: Sequence[Recommendation], width: float) -> str:
    """What each would save, in per cent of what was used; the whole width is all of it."""
    bars = [_saving_bar(number, each) for number, each in enumerate(recommendations[:DRAWN_MAX], 1)]
    return rows_chart("What would save", bars, width, most=100.0)


def anomalies_chart(anomalies: Sequence[Anomaly], width: float) -> str:
    """How many times the usual each figure was; a line marks the usual."""
    bars = [_anomaly_bar(number, each) for number, each in enumerate(anomalies[:DRAWN_MAX], 1)]
    most = max([*(bar.total for bar in bars), 1.25])
    return rows_chart("Anomalies against the usual", bars, width, most=most, usual=1.0)


def _saving_bar(number: int, each: Recommendation) -> Bar:
    percent = each.saving_fraction * 100
    off_by = None if each.range_fraction is None else percent * each.range_fraction
    text = f"{numbers.significant(percent, 2)} %"
    if off_by is None:
        text += ", range not known"
    elif off_by:
        low, high = max(percent - off_by, 0.0), min(percent + off_by, 100.0)
        text += f", from {numbers.significant(low, 2)} to {numbers.significant(high, 2)}"
    return Bar(f"{number}  {each.label}, {each.subject}", ((percent, "c2"),), off_by, text)


def _anomaly_bar(number: int, each: Anomaly) -> Bar:
    where = each.component or each.host or each.run_id
    times = each.value / each.expected if each.expected else math.inf
    text = f"{value_in_words(each.value, each.unit)}, usually {value_in_words(each.expected, each.unit)}"
    return Bar(f"{number}  {each.label}, {where}", ((min(times, TIMES_MAX), "c5"),), None, text)


def _decades(figures: Sequence[Figure]) -> range:
    """The powers of ten from below the least to above the most; empty where nothing was measured."""
    known = [figure for figure in figures if figure.value]
    if not known:
        return range(0)
    ends = [end for each in known for end in _ends(each)]
    low, high = math.floor(math.log10(min(ends))), math.ceil(math.log10(max(ends)))
    return range(low, max(high, low + 1) + 1)


def _ends(figure: Figure) -> tuple[float, float]:
    """Where a figure's range begins and ends; one that reaches 0 begins at a tenth, as an axis of decades has no 0."""
    value, off = figure.value or 0.0, figure.plus_minus or 0.0
    return max(value - off, value / 10), value + off


def _decade_axis(canvas: Canvas, x: Scale, decades: range, bottom: float) -> None:
    labels = [_joules_decade(power) for power in decades]
    room = (x.places[1] - x.places[0]) / max(len(labels) - 1, 1)
    every = max(1, math.ceil(max(text_width(label, LETTERS) + 10 for label in labels) / room))
    for index, (power, label) in enumerate(zip(decades, labels, strict=True)):
        at = x(10.0**power)
        for top in range(0, int(bottom), int(ROW)):
            canvas.line((at, top + 20), (at, top + 36))
        if index % every == 0:
            anchor = "start" if not index else "end" if power == decades[-1] else "middle"
            canvas.label(at, bottom + 20, label, anchor=anchor)


def _joules_decade(power: int) -> str:
    """A power of ten of joules, for people.

    >>> [_joules_decade(power) for power in (-2, 2, 4, 6)]
    ['0.01 J', '100 J', '10 kJ', '1 MJ']
    """
    unit, least = next((unit, least) for unit, least in (("GJ", 9), ("MJ", 6), ("kJ", 3), ("J", -99)) if power >= least)
    return f"{plain(10.0 ** (power - max(least, 0)))} {unit}"


def _unit_point(canvas: Canvas, x: Scale, figure: Figure, middle: float) -> None:
    left, right = x.places
    if not figure.value:
        canvas.add("rect", x=left, y=middle - 7, width=right - left, height=14.0, rx=3, class_="nothing")
        return
    if figure.plus_minus:
        low, high = _ends(figure)
        whisker(canvas, (x(low), x(high)), middle)
    canvas.add("circle", cx=x(figure.value), cy=middle, r=5.0, class_="dot", title=numbers.energy_figure(figure))
