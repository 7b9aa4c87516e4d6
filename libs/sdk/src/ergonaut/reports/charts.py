"""The charts of a report as SVG, each drawn for a width in pixels, so that a phone gets one with letters of full size."""

import math
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from ergonaut.reports import numbers
from ergonaut.reports.charts_bars import LETTERS, figure_bar, grams_mark, money_mark, rows_chart, shortened
from ergonaut.reports.report import Component, Place, PowerPoint, RunReport, label_of
from ergonaut.reports.svg import Canvas, Scale, path, text_width, ticks

WIDE, NARROW = 760.0, 360.0
"""Pixels; a page shows one or the other."""

BROAD = 1110.0
"""Pixels of a page of tables, in place of WIDE."""

COLOURS = 8
"""CSS classes `c0` to `c7`; more components than that share them."""

GAP_FACTOR = 3.0
"""A pause longer than this many usual intervals is drawn as a gap, not bridged."""

PLACES_DRAWN = 60
ANOMALIES_DRAWN = 20
"""More bands than this hide the power under them; the list below the chart has all."""

LABEL_ROOM = 16.0
LABEL_CHARACTERS = 40


def power_chart(report: RunReport, width: float) -> str:
    """Power over time, the components on top of each other."""
    if not report.power:
        return ""
    height, left, right, top, bottom = (240.0 if width > NARROW else 200.0), 46.0, 10.0, 14.0, 30.0
    components = drawn_components(report)
    stacks = _stacked(report.power, components)
    times = sorted(stacks)
    interval = _usual_interval(times)
    begin = times[0]
    seconds = max((times[-1] - begin).total_seconds() + interval, 1.0)
    highest = max(max(stack, default=0.0) for stack in stacks.values())
    marks = ticks(highest * 1.02, 4)
    x = Scale((0.0, seconds), (left, width - right))
    y = Scale((0.0, marks[-1]), (height - bottom, top))
    canvas = Canvas(width, height, "Power over time")
    _power_axes(canvas, (x, y), marks, seconds)
    for segment in _segments(times, interval):
        _power_areas(canvas, (x, y), segment, stacks, (components, begin, interval))
    _power_anomalies(canvas, (x, y), report, begin, seconds)
    return canvas.markup()


def drawn_components(report: RunReport) -> list[str]:
    """Components that have power, those that used most first, so that they lie at the bottom."""
    used: dict[str, float] = {}
    for point in report.power:
        used[point.component] = used.get(point.component, 0.0) + point.power_watts
    return sorted(used, key=lambda component: (-used[component], component))


def colour_of(component: str, components: Sequence[str]) -> str:
    """The CSS class of a component's colour."""
    return f"c{components.index(component) % COLOURS}" if component in components else "c7"


def energy_chart(parts: Sequence[Component], components: Sequence[str], width: float) -> str:
    """Energy by component with what it may be off by; what was not measured says so instead of a bar."""
    bars = [figure_bar(part.label, part.energy, colour_of(part.component, components)) for part in parts]
    return rows_chart("Energy by component", bars, width)


def places_chart(report: RunReport, width: float) -> str:
    """Each place as a point: dollars to the right, grams upwards; the lower left corner is best."""
    places = [*report.places[:PLACES_DRAWN]]
    own = report.own_place
    if own is not None and own not in places:
        places.append(own)
    if len(places) < 2:
        return ""
    height, left, right, top, bottom = (300.0 if width > NARROW else 280.0), 58.0, 18.0, 16.0, 42.0
    costs = [place.cost_usd for place in places if place.cost_usd > 0] or [1.0]
    low, high = _decades(min(costs), max(costs))
    if any(place.cost_usd == 0 for place in places):
        low /= 10
    grams = ticks(max(place.carbon_grams_co2e for place in places) * 1.05, 4)
    x = Scale((low, high), (left, width - right), logarithmic=True)
    y = Scale((0.0, grams[-1]), (height - bottom, top))
    canvas = Canvas(width, height, "Dollars and grams at other places")
    _places_axes(canvas, (x, y), (low, high), grams)
    points = [(place, x(max(place.cost_usd, low)), y(place.carbon_grams_co2e)) for place in places]
    for place, at_x, at_y in points:
        told = f"{place.label}: {numbers.money(place.cost_usd)}, {numbers.carbon(place.carbon_grams_co2e)}"
        style = "dot own" if place is own else "dot"
        canvas.add("circle", cx=at_x, cy=at_y, r=6.5 if place is own else 4.5, class_=style, title=told)
    _name_places(canvas, _worth_naming(points, own))
    return canvas.markup()


def hours_chart(report: RunReport, width: float) -> str:
    """Grams by the hour of the day at which the run would have begun."""
    hours = report.hours
    if not hours:
        return ""
    height, left, right, top, bottom = 190.0, 58.0, 10.0, 22.0, 34.0
    grams = ticks(max(hour.carbon_grams_co2e for hour in hours) * 1.02, 3)
    y = Scale((0.0, grams[-1]), (height - bottom, top))
    slot = (width - left - right) / 24
    best = min(hours, key=lambda hour: hour.carbon_grams_co2e)
    flat = best.carbon_grams_co2e >= max(hour.carbon_grams_co2e for hour in hours) * 0.999
    canvas = Canvas(width, height, "Grams at other hours")
    for mark in grams:
        canvas.line((left, y(mark)), (width - right, y(mark)))
        canvas.label(left - 6, y(mark) + 4, grams_mark(mark, grams[-1]), anchor="end")
    for hour in hours:
        _hour_bar(canvas, hour, (left, slot), y, _hour_style(hour, report, None if flat else best))
    every = 3 if width > NARROW else 6
    for clock in range(0, 24, every):
        canvas.label(left + (clock + 0.5) * slot, height - bottom + 16, f"{clock:02d}", anchor="middle")
    canvas.label(width - right, height - 4, "hour of the day, UTC", anchor="end")
    return canvas.markup()


def _stacked(power: Sequence[PowerPoint], components: Sequence[str]) -> dict[datetime, list[float]]:
    """For each time the height of each component's upper edge."""
    watts: dict[datetime, dict[str, float]] = {}
    for point in power:
        watts.setdefault(point.starts_at, {})[point.component] = point.power_watts
    stacks: dict[datetime, list[float]] = {}
    for at, parts in watts.items():
        total, edges = 0.0, []
        for component in components:
            total += parts.get(component, 0.0)
            edges.append(total)
        stacks[at] = edges
    return stacks


def _usual_interval(times: Sequence[datetime]) -> float:
    steps = sorted((after - before).total_seconds() for before, after in pairwise(times))
    return steps[len(steps) // 2] if steps else 1.0


def _segments(times: Sequence[datetime], interval: float) -> list[list[datetime]]:
    """Stretches of time without a gap."""
    segments: list[list[datetime]] = []
    for at in times:
        if segments and (at - segments[-1][-1]).total_seconds() <= interval * GAP_FACTOR:
            segments[-1].append(at)
        else:
            segments.append([at])
    return segments


def _power_axes(canvas: Canvas, scales: tuple[Scale, Scale], marks: Sequence[float], seconds: float) -> None:
    x, y = scales
    for mark in marks:
        canvas.line((x(0.0), y(mark)), (x(seconds), y(mark)))
        canvas.label(x(0.0) - 6, y(mark) + 4, f"{mark:g}", anchor="end")
    canvas.label(x(0.0) + 4, y(marks[-1]) + 12, "W")
    unit, size = ("s", 1.0) if seconds < 300 else ("min", 60.0) if seconds < 4 * 3600 else ("h", 3600.0)
    times = [mark for mark in ticks(seconds / size, 6 if canvas.width > NARROW else 4) if mark <= seconds / size]
    for mark in times:
        anchor = "start" if mark == 0 else "end" if x(mark * size) > canvas.width - 24 else "middle"
        canvas.label(x(mark * size), y(0.0) + 18, f"{mark:g} {unit}" if mark else "0", anchor=anchor)


def _power_areas(
    canvas: Canvas,
    scales: tuple[Scale, Scale],
    segment: Sequence[datetime],
    stacks: dict[datetime, list[float]],
    drawn: tuple[Sequence[str], datetime, float],
) -> None:
    x, y = scales
    components, begin, interval = drawn
    # A point stands for its whole interval; the last one is drawn to its end so that a single point is seen.
    places = [x((at - begin).total_seconds()) for at in segment]
    places.append(x((segment[-1] - begin).total_seconds() + interval))
    below = [(place, y(0.0)) for place in places]
    for index, component in enumerate(components):
        edge = [stacks[at][index] for at in segment]
        edge.append(edge[-1])
        top = list(zip(places, map(y, edge), strict=True))
        shape, below = [*top, *reversed(below)], top
        colour = colour_of(component, components)
        canvas.add("path", d=path(shape, close=True), class_=f"area {colour}", title=label_of(component))
        canvas.add("path", d=path(top), class_=f"edge {colour}")


def _power_anomalies(
    canvas: Canvas, scales: tuple[Scale, Scale], report: RunReport, begin: datetime, seconds: float
) -> None:
    """A band over the time of each anomaly and its number above, as the list below the chart counts them."""
    x, y = scales
    top = y.places[1]
    taken = -math.inf
    for number, anomaly in enumerate(report.analysis.anomalies[:ANOMALIES_DRAWN], 1):
        start = (anomaly.started_at - begin).total_seconds()
        end = (anomaly.ended_at - begin).total_seconds()
        if end < 0 or start > seconds:
            continue
        left, right = x(max(start, 0.0)), x(min(max(end, start), seconds))
        width = max(right - left, 3.0)
        canvas.add(
            "rect",
            x=left,
            y=top,
            width=width,
            height=y(0.0) - top,
            class_="anomaly",
            title=f"{number}: {anomaly.because}",
        )
        middle = min(max(left + width / 2, left + 4), x(seconds) - 6)
        if middle - taken > LABEL_ROOM:
            canvas.label(middle, top - 2, str(number), anchor="middle", class_="tick warned")
            taken = middle


def _decades(low: float, high: float) -> tuple[float, float]:
    """Powers of ten around a range, at least one apart."""
    lower, upper = 10.0 ** _floor_log(low), 10.0 ** (_floor_log(high) + 1)
    return lower, max(upper, lower * 10)


def _floor_log(value: float) -> int:
    return math.floor(math.log10(value))


def _places_axes(
    canvas: Canvas, scales: tuple[Scale, Scale], costs: tuple[float, float], grams: Sequence[float]
) -> None:
    x, y = scales
    for mark in grams:
        canvas.line((x(costs[0]), y(mark)), (x(costs[1]), y(mark)))
        canvas.label(x(costs[0]) - 6, y(mark) + 4, grams_mark(mark, grams[-1]), anchor="end")
    decades = [10.0**power for power in range(_floor_log(costs[0] * 1.001), _floor_log(costs[1] * 1.001) + 1)]
    # The first label stands to the right of its line, half its width further than the others.
    longest = 1.5 * max(text_width(money_mark(cost), LETTERS) for cost in decades)
    every = max(1, math.ceil(len(decades) * max(longest, 60.0) / (x(costs[1]) - x(costs[0]))))
    for index, cost in enumerate(decades):
        canvas.line((x(cost), y(0.0)), (x(cost), y(grams[-1])))
        if index % every == 0:
            anchor = "end" if x(cost) > canvas.width - 30 else "middle" if index else "start"
            canvas.label(x(cost), y(0.0) + 18, money_mark(cost), anchor=anchor)
    canvas.label(x(costs[1]), canvas.height - 6, "dollars, each step ten times as much", anchor="end")


_Points = list[tuple[Place, float, float]]


def _worth_naming(points: _Points, own: Place | None) -> list[tuple[str, Place, float, float]]:
    """The run's own place, the cheapest and the cleanest, each with a word that says why."""
    cheapest = min(points, key=lambda point: (point[0].cost_usd, point[0].carbon_grams_co2e))
    cleanest = min(points, key=lambda point: (point[0].carbon_grams_co2e, point[0].cost_usd))
    mine = [("this run", point) for point in points if point[0] is own]
    named: list[tuple[str, Place, float, float]] = []
    for word, point in (*mine, ("cheapest", cheapest), ("cleanest", cleanest)):
        if point[0] not in [place for _, place, _, _ in named]:
            named.append((word, *point))
    return named


def _name_places(canvas: Canvas, named: Sequence[tuple[str, Place, float, float]]) -> None:
    """Write the names beside their points, each in a row that no other name has taken; a narrow chart has room for a word."""
    taken: list[float] = []
    for word, place, at_x, at_y in named:
        text = f"{word}: {place.label}" if canvas.width > NARROW else word
        text = shortened(text, LABEL_CHARACTERS)
        row = at_y - 10
        while any(abs(row - other) < LABEL_ROOM for other in taken) or row < LETTERS:
            row += LABEL_ROOM
        taken.append(row)
        fits_right = at_x + 10 + text_width(text, LETTERS) < canvas.width
        beside, anchor = (8, "start") if fits_right else (-8, "end")
        canvas.label(at_x + beside, row, text, anchor=anchor, class_="name halo")


def _hour_style(hour: Place, report: RunReport, best: Place | None) -> str:
    if hour.starts_at.hour == report.started_at.hour:
        return "own"
    return "best" if hour is best else ""


def _hour_bar(canvas: Canvas, hour: Place, across: tuple[float, float], y: Scale, style: str) -> None:
    left, slot = across
    at, top = left + hour.starts_at.hour * slot, y(hour.carbon_grams_co2e)
    told = f"{hour.starts_at:%H:%M} UTC: {numbers.carbon(hour.carbon_grams_co2e)}, {numbers.money(hour.cost_usd)}"
    canvas.add(
        "rect",
        x=at + slot * 0.12,
        y=top,
        width=slot * 0.76,
        height=y(0.0) - top,
        rx=2,
        class_=f"bar hour {style}",
        title=told,
    )
    if style:
        text = "this run" if style == "own" else "cleanest"
        half = text_width(text, LETTERS) / 2
        middle = min(max(at + slot / 2, left + half), canvas.width - 10 - half)
        canvas.label(middle, top - 5, text, anchor="middle", class_="tick halo")
