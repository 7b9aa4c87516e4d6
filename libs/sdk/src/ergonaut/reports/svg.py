"""Drawing by hand: a small SVG canvas with axes. Colours are the page's CSS classes, so that a chart follows light and dark."""

import math
from collections.abc import Sequence
from html import escape

CHARACTER_SHARE = 0.56
"""Width of a character of a sans-serif face as a share of its size, for placing labels without measuring them."""


class Canvas:
    """A drawing of a given size; elements are added back to front."""

    def __init__(self, width: float, height: float, title: str) -> None:
        self.width = width
        self.height = height
        self._title = title
        self._parts: list[str] = []

    def add(self, tag: str, *, text: str = "", title: str = "", **attributes: object) -> None:
        """Add an element; `_` in an attribute's name stands for `-`, and `class_` for `class`."""
        named = (f'{name.rstrip("_").replace("_", "-")}="{_text(value)}"' for name, value in attributes.items())
        inner = f"<title>{escape(title)}</title>" if title else ""
        self._parts.append(f"<{tag} {' '.join(named)}>{inner}{escape(text)}</{tag}>")

    def label(self, x: float, y: float, text: str, *, anchor: str = "start", class_: str = "tick") -> None:
        """Write a text."""
        self.add("text", text=text, x=x, y=y, text_anchor=anchor, class_=class_)

    def line(self, start: tuple[float, float], end: tuple[float, float], class_: str = "grid") -> None:
        """Draw a line."""
        self.add("line", x1=start[0], y1=start[1], x2=end[0], y2=end[1], class_=class_)

    def markup(self) -> str:
        """The drawing as SVG to put into a page."""
        size = f'viewBox="0 0 {_text(self.width)} {_text(self.height)}"'
        label = f'role="img" aria-label="{escape(self._title)}"'
        return f"<svg {size} {label}>{''.join(self._parts)}</svg>"


class Scale:
    """Where a value lies on an axis, linear or logarithmic."""

    def __init__(self, values: tuple[float, float], places: tuple[float, float], *, logarithmic: bool = False) -> None:
        self._low, self._high = (math.log10(value) for value in values) if logarithmic else values
        self.places = places
        self._logarithmic = logarithmic

    def __call__(self, value: float) -> float:
        """The place of a value, between the two `places`."""
        at = math.log10(value) if self._logarithmic else value
        share = (at - self._low) / ((self._high - self._low) or 1.0)
        return self.places[0] + share * (self.places[1] - self.places[0])


def ticks(high: float, count: int) -> list[float]:
    """Round values from 0 to just above `high`, about `count` of them.

    >>> ticks(43, 4)
    [0.0, 20.0, 40.0, 60.0]
    """
    if high <= 0:
        return [0.0, 1.0]
    rough = high / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(multiple * power for multiple in (1, 2, 2.5, 5, 10) if multiple * power >= rough * 0.999)
    return [round(index * step, 12) for index in range(math.ceil(high / step - 1e-9) + 1)]


def text_width(text: str, size: float) -> float:
    """About how wide a text is."""
    return len(text) * size * CHARACTER_SHARE


def path(points: Sequence[tuple[float, float]], *, close: bool = False) -> str:
    """A path through points."""
    if not points:
        return ""
    return "M" + "L".join(f"{_text(x)},{_text(y)}" for x, y in points) + ("Z" if close else "")


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    return escape(str(value))
