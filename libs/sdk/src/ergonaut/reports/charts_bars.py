"""Bars for every report: rows below each other or columns beside each other, each with what it may be off by.

What was not measured is a dashed bar of no figure, never a bar of none.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ergonaut.reports import numbers
from ergonaut.reports.numbers import Figure
from ergonaut.reports.svg import Canvas, Scale, text_width, ticks

LETTERS = 12.0
NAME_LETTERS = 13.0
NARROW_MAX = 400.0
"""A chart of this width or less is for a phone."""

COLUMNS_MAX, COLUMN_SLOT_MIN = 120, 5.0
"""More columns than this, or narrower ones in pixels, are drawn as means of neighbours; else whiskers would be one black area."""

COLUMN_THICK_MAX = 64.0
"""A single column as broad as the page would look like a wall."""

LACKING_HEIGHT = 9.0
"""The dashed box on a column of which some was not measured; how high it would be nobody knows."""

ROW, ROW_BAR = 44.0, 14.0


Units = tuple[tuple[str, float, float], ...]
"""Units from the largest on: the name, how much one is, and from how many of it on it is used."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """How a chart writes what its bars are of."""

    units: Units
    write: Callable[[Figure], str]
    """A figure with its range."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its parts from its beginning on, each with the CSS class of its colour; no parts where nobody measured."""

    label: str
    parts: tuple[tuple[float, str], ...]
    plus_minus: float | None = None
    text: str = ""
    """What stands beside it; empty for its length as a figure."""

    lacks: tuple[str, ...] = ()
    """What belongs to it and was not measured or is not known, so that it would be longer."""

    @property
    def total(self) -> float:
        """Its length."""
        return sum(value for value, _ in self.parts)

    @property
    def highest(self) -> float:
        """Where its whisker ends."""
        return self.total + (self.plus_minus or 0.0)

    def told(self, quantity: Quantity) -> str:
        """Its figure for people."""
        if self.text:
            return self.text
        lacks = f"; not measured: {', '.join(self.lacks)}" if self.parts and self.lacks else ""
        return f"{quantity.write(Figure(self.total if self.parts else None, self.plus_minus))}{lacks}"


def figure_bar(label: str, figure: Figure, colour: str = "c0", *, text: str = "") -> Bar:
    """The bar of one figure in one colour."""
    return Bar(label, () if figure.value is None else ((figure.value, colour),), figure.plus_minus, text)


def grams_mark(grams: float, most: float) -> str:
    """A round weight on an axis, all marks in the unit of the largest.

    >>> grams_mark(0.05, 0.15), grams_mark(500.0, 2000.0), grams_mark(0.0, 1.0)
    ('0.05 g', '0.5 kg', '0')
    """
    unit, size = ("t", 1e6) if most >= 1e6 else ("kg", 1e3) if most >= 1e3 else ("g", 1.0)
    return f"{plain(grams / size)} {unit}" if grams else "0"


def axis(quantity: Quantity, most: float) -> list[tuple[float, str]]:
    """Values from 0 to above the most that are round in the unit that fits, and how they are written.

    >>> axis(ENERGY, 4.0e6)
    [(0.0, '0'), (1800000.0, '0.5 kWh'), (3600000.0, '1 kWh'), (5400000.0, '1.5 kWh')]
    >>> axis(MONEY, 30.0)
    [(0.0, '0'), (10.0, '$10'), (20.0, '$20'), (30.0, '$30')]
    """
    unit, size = next((unit, size) for unit, size, least in quantity.units if most >= size * least)
    marks = ticks(most / size, 4)
    return [(mark * size, _mark(mark, unit) if mark else "0") for mark in marks]


def _mark(value: float, unit: str) -> str:
    return money_mark(value) if unit == "$" else f"{plain(value)} {unit}"


def money_mark(usd: float) -> str:
    """A round amount without digits that say nothing.

    >>> money_mark(0.01), money_mark(10.0)
    ('$0.01', '$10')
    """
    return f"${plain(usd)}"


def plain(value: float) -> str:
    """A round number without powers of ten and digits that say nothing."""
    return f"{value:,.10f}".rstrip("0").rstrip(".")


ENERGY = Quantity(
    (("MWh", 3.6e9, 1.0), ("kWh", 3.6e6, 1.0), ("Wh", 3.6e3, 100.0), ("kJ", 1e3, 1.0), ("J", 1.0, 0.0)),
    numbers.energy_figure,
)
CARBON = Quantity((("t", 1e6, 1.0), ("kg", 1e3, 1.0), ("g", 1.0, 0.0)), numbers.carbon_figure)
MONEY = Quantity((("$", 1.0, 0.0),), numbers.money_figure)


def rows_chart(
    title: str,
    bars: Sequence[Bar],
    width: float,
    quantity: Quantity = ENERGY,
    *,
    most: float = 0.0,
    usual: float | None = None,
) -> str:
    """One bar below the other, its name and its figure above it.

    `most` is what the whole width stands for, where that is not the longest bar; `usual` is marked in every row.
    """
    if not bars:
        return ""
    most = most or max(bar.highest for bar in bars) or 1.0
    x = Scale((0.0, most), (1.0, width - 2.0))
    canvas = Canvas(width, ROW * len(bars) + 4, title)
    for index, bar in enumerate(bars):
        top = index * ROW
        _row_words(canvas, bar, top, quantity)
        _row_bar(canvas, x, bar, (top + 20, most))
        if usual is not None:
            canvas.line((x(usual), top + 17), (x(usual), top + 37), "usual")
    return canvas.markup()


def columns_chart(
    title: str, bars: Sequence[Bar], width: float, quantity: Quantity = ENERGY, *, below: str = ""
) -> str:
    """One bar beside the other over an axis; `below` says what they are, such as `epoch`."""
    if not bars:
        return ""
    height, left, right, top, bottom = 200.0, 58.0, 10.0, 12.0, 34.0
    together = together_of(len(bars), width - left - right)
    shown = thinned(bars, together)
    marks = axis(quantity, max(bar.highest for bar in shown) * 1.02)
    y = Scale((0.0, marks[-1][0]), (height - bottom, top))
    slot = (width - left - right) / len(shown)
    canvas = Canvas(width, height, title)
    for mark, text in marks:
        canvas.line((left, y(mark)), (width - right, y(mark)))
        canvas.label(left - 6, y(mark) + 4, text, anchor="end")
    every = _label_every([bar.label for bar in shown], slot, width)
    for index, bar in enumerate(shown):
        _column(canvas, y, (left + index * slot, slot), bar, quantity)
        if index % every == 0:
            half = text_width(bar.label, LETTERS) / 2
            middle = min(left + (index + 0.5) * slot, width - half)
            canvas.label(middle, height - bottom + 16, bar.label, anchor="middle")
    means = f", means of {together}" if together > 1 else ""
    canvas.label(width - right, height - 4, f"{below}{means}", anchor="end")
    return canvas.markup()


def thinned(bars: Sequence[Bar], together: int) -> list[Bar]:
    """The bars, or means of so many neighbours each."""
    if together == 1:
        return [*bars]
    return [_mean(bars[start : start + together]) for start in range(0, len(bars), together)]


def together_of(count: int, room: float) -> int:
    """How many neighbours one column stands for, so that columns and their whiskers are seen.

    >>> together_of(100, 1000.0), together_of(100, 290.0), together_of(744, 1000.0)
    (1, 2, 7)
    """
    return max(1, math.ceil(count / min(COLUMNS_MAX, int(room / COLUMN_SLOT_MIN))))


def shortened(text: str, letters: float) -> str:
    """A text that has room for so many letters."""
    room = max(int(letters), 4)
    return text if len(text) <= room else f"{text[: room - 1]}…"


def whisker(canvas: Canvas, across: tuple[float, float], middle: float) -> None:
    """What a lying bar may be off by."""
    low, high = across
    canvas.line((low, middle), (high, middle), "whisker")
    for end in (low, high):
        canvas.line((end, middle - 5), (end, middle + 5), "whisker")


def _mean(bars: Sequence[Bar]) -> Bar:
    known = [bar for bar in bars if bar.parts]
    if not known:
        return Bar(bars[0].label, ())
    sums: dict[str, float] = {}
    for bar in known:
        for value, colour in bar.parts:
            sums[colour] = sums.get(colour, 0.0) + value
    parts = tuple((value / len(known), colour) for colour, value in sums.items())
    lacks = tuple(dict.fromkeys(name for bar in bars for name in bar.lacks))
    return Bar(bars[0].label, parts, sum(bar.plus_minus or 0.0 for bar in known) / len(known), lacks=lacks)


def _row_words(canvas: Canvas, bar: Bar, top: float, quantity: Quantity) -> None:
    told = bar.told(quantity)
    room = (canvas.width - text_width(told, NAME_LETTERS)) / (NAME_LETTERS * 0.6) - 2
    canvas.label(1.0, top + 14, shortened(bar.label, room), class_="name")
    canvas.label(canvas.width - 1, top + 14, told, anchor="end", class_="name" if bar.parts else "name missing")


def _row_bar(canvas: Canvas, x: Scale, bar: Bar, place: tuple[float, float]) -> None:
    (top, most), (left, right) = place, x.places
    box: dict[str, Any] = {"y": top, "height": ROW_BAR, "rx": 3}
    if not bar.parts:
        canvas.add("rect", x=left, width=right - left, class_="nothing", **box)
        return
    begin = 0.0
    for value, colour in bar.parts:
        start, end = x(min(begin, most)), x(min(begin + value, most))
        canvas.add("rect", x=start, width=max(end - start, 1.5), class_=f"bar {colour}", **box)
        begin += value
    if bar.plus_minus:
        low, high = max(bar.total - bar.plus_minus, 0.0), min(bar.highest, most)
        whisker(canvas, (x(low), x(high)), top + ROW_BAR / 2)


def _column(canvas: Canvas, y: Scale, across: tuple[float, float], bar: Bar, quantity: Quantity) -> None:
    left, slot = across
    title = f"{bar.label}: {bar.told(quantity)}"
    thick = min(slot * 0.72, COLUMN_THICK_MAX)
    place: dict[str, Any] = {"x": left + (slot - thick) / 2, "width": thick, "title": title}
    if not bar.parts:
        canvas.add("rect", y=y(0.0) - 24, height=24.0, class_="nothing", **place)
        return
    begin = 0.0
    for value, colour in bar.parts:
        if not value:
            continue
        end, start = y(begin + value), y(begin)
        corner = min(2.0, slot * 0.2)
        canvas.add("rect", y=end, height=start - end, rx=corner, class_=f"bar {colour}", **place)
        begin += value
    if bar.lacks:
        canvas.add("rect", y=y(begin) - LACKING_HEIGHT, height=LACKING_HEIGHT, class_="nothing", **place)
    if bar.plus_minus:
        middle = left + slot / 2
        canvas.line((middle, y(max(bar.total - bar.plus_minus, 0.0))), (middle, y(bar.highest)), "whisker")


def _label_every(labels: Sequence[str], slot: float, width: float) -> int:
    """How many columns share one label, so that labels do not touch."""
    longest = max(text_width(label, LETTERS) for label in labels) + (8 if width > NARROW_MAX else 6)
    needed = max(1, -(-int(longest) // max(int(slot), 1)))
    return next((step for step in (1, 2, 5, 10, 20, 50, 100) if step >= needed), needed)
