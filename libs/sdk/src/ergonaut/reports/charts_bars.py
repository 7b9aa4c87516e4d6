"""Bars for every report: rows below each other or columns beside each other, each with what it may be off by.

What was not measured is a dashed bar of no figure, never a bar of none.
"""

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

COLUMNS_MAX = 120
"""More columns than this are drawn as means of neighbours; a column needs a few pixels to be seen."""

ROW, ROW_BAR = 44.0, 14.0


@dataclass(frozen=True, slots=True)
class Quantity:
    """How a chart writes what its bars are of."""

    mark: Callable[[float, float], str]
    """A round value on an axis, in the unit of the largest, which is the second argument."""

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
        return self.text or quantity.write(Figure(self.total if self.parts else None, self.plus_minus))


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


def joules_mark(joules: float, most: float) -> str:
    """A round energy on an axis, all marks in the unit of the largest.

    >>> joules_mark(500.0, 2000.0), joules_mark(0.0, 1.0), joules_mark(7.2e6, 7.2e6)
    ('0.5 kJ', '0', '2 kWh')
    """
    unit, size = next((unit, size) for unit, size, least in _ENERGY_UNITS if most >= size * least)
    return f"{joules / size:.3g} {unit}" if joules else "0"


_ENERGY_UNITS = (
    ("MWh", 3.6e9, 1.0),
    ("kWh", 3.6e6, 1.0),
    ("Wh", 3.6e3, 100.0),
    ("kJ", 1e3, 1.0),
    ("J", 1.0, 0.0),
)
"""Units of energy, joules in one, and from how many on it is used."""


def money_mark(usd: float) -> str:
    """A round amount without digits that say nothing.

    >>> money_mark(0.01), money_mark(10.0)
    ('$0.01', '$10')
    """
    return f"${plain(usd)}"


def plain(value: float) -> str:
    """A round number without powers of ten and digits that say nothing."""
    return f"{value:,.10f}".rstrip("0").rstrip(".")


ENERGY = Quantity(joules_mark, numbers.energy_figure)
CARBON = Quantity(grams_mark, numbers.carbon_figure)
MONEY = Quantity(lambda usd, _most: money_mark(usd), numbers.money_figure)


def rows_chart(title: str, bars: Sequence[Bar], width: float, quantity: Quantity = ENERGY) -> str:
    """One bar below the other, its name and its figure above it."""
    if not bars:
        return ""
    x = Scale((0.0, max(bar.highest for bar in bars) or 1.0), (1.0, width - 2.0))
    canvas = Canvas(width, ROW * len(bars) + 4, title)
    for index, bar in enumerate(bars):
        _row(canvas, x, bar, index * ROW, quantity)
    return canvas.markup()


def columns_chart(
    title: str, bars: Sequence[Bar], width: float, quantity: Quantity = ENERGY, *, below: str = ""
) -> str:
    """One bar beside the other over an axis; `below` says what they are, such as `epoch`."""
    shown = thinned(bars)
    if not shown:
        return ""
    height, left, right, top, bottom = 200.0, 58.0, 10.0, 12.0, 34.0
    marks = ticks(max(bar.highest for bar in shown) * 1.02, 4)
    y = Scale((0.0, marks[-1]), (height - bottom, top))
    slot = (width - left - right) / len(shown)
    canvas = Canvas(width, height, title)
    for mark in marks:
        canvas.line((left, y(mark)), (width - right, y(mark)))
        canvas.label(left - 6, y(mark) + 4, quantity.mark(mark, marks[-1]), anchor="end")
    every = _label_every([bar.label for bar in shown], slot, width)
    for index, bar in enumerate(shown):
        _column(canvas, y, (left + index * slot, slot), bar, quantity)
        if index % every == 0:
            half = text_width(bar.label, LETTERS) / 2
            middle = min(left + (index + 0.5) * slot, width - half)
            canvas.label(middle, height - bottom + 16, bar.label, anchor="middle")
    canvas.label(width - right, height - 4, below, anchor="end")
    return canvas.markup()


def thinned(bars: Sequence[Bar]) -> list[Bar]:
    """The bars, or means of as many neighbours as it takes for them to be seen."""
    if len(bars) <= COLUMNS_MAX:
        return [*bars]
    together = together_of(len(bars))
    return [_mean(bars[start : start + together]) for start in range(0, len(bars), together)]


def together_of(count: int) -> int:
    """How many neighbours one column stands for."""
    return max(1, -(-count // COLUMNS_MAX))


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
    return Bar(bars[0].label, parts, sum(bar.plus_minus or 0.0 for bar in known) / len(known))


def _row(canvas: Canvas, x: Scale, bar: Bar, top: float, quantity: Quantity) -> None:
    left, right = x.places
    told = bar.told(quantity)
    room = (canvas.width - text_width(told, NAME_LETTERS)) / (NAME_LETTERS * 0.6) - 2
    canvas.label(left, top + 14, shortened(bar.label, room), class_="name")
    missing = "" if bar.parts else " missing"
    canvas.label(canvas.width - 1, top + 14, told, anchor="end", class_=f"name{missing}")
    place: dict[str, Any] = {"y": top + 20, "height": ROW_BAR, "rx": 3}
    if not bar.parts:
        canvas.add("rect", x=left, width=right - left, class_="nothing", **place)
        return
    begin = 0.0
    for value, colour in bar.parts:
        at = x(begin)
        canvas.add("rect", x=at, width=max(x(begin + value) - at, 1.5), class_=f"bar {colour}", **place)
        begin += value
    if bar.plus_minus:
        whisker(canvas, (x(max(bar.total - bar.plus_minus, 0.0)), x(bar.highest)), top + 20 + ROW_BAR / 2)


def _column(canvas: Canvas, y: Scale, across: tuple[float, float], bar: Bar, quantity: Quantity) -> None:
    left, slot = across
    title = f"{bar.label}: {bar.told(quantity)}"
    place: dict[str, Any] = {"x": left + slot * 0.14, "width": slot * 0.72, "title": title}
    if not bar.parts:
        canvas.add("rect", y=y(0.0) - 24, height=24.0, class_="nothing", **place)
        return
    begin = 0.0
    for value, colour in bar.parts:
        if not value:
            continue
        end, start = y(begin + value), y(begin)
        canvas.add(
            "rect", y=end, height=start - end, rx=min(2.0, slot * 0.2), class_=f"bar {colour}", **place
        )  # fmt: skip
        begin += value
    if bar.plus_minus and slot >= 9:
        middle = left + slot / 2
        canvas.line((middle, y(max(bar.total - bar.plus_minus, 0.0))), (middle, y(bar.highest)), "whisker")


def _label_every(labels: Sequence[str], slot: float, width: float) -> int:
    """How many columns share one label, so that labels do not touch."""
    longest = max(text_width(label, LETTERS) for label in labels) + (8 if width > NARROW_MAX else 6)
    needed = max(1, -(-int(longest) // max(int(slot), 1)))
    return next((step for step in (1, 2, 5, 10, 20, 50, 100) if step >= needed), needed)
