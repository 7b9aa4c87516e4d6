"""Curves of recall and rate as one SVG file, light and dark as the reader's system is. Used by `curves.py`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ergonaut.reports.svg import Canvas, Scale, path

WIDTH, HEIGHT = 860.0, 480.0
LEFT, RIGHT, TOP, BOTTOM = 60.0, 640.0, 40.0, 430.0
RECALLS = (0.80, 1.0)
"""Below it nobody searches; the curves are cut there."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#999999")
"""Okabe and Ito's, which the colour-blind tell apart, with two more; peers that follow repeat them with dashes."""

STYLE = """<style>svg{background:#fff;font-family:sans-serif;font-size:12px;fill:#222}.grid{stroke:#ddd}.head{font-size:15px}
@media(prefers-color-scheme:dark){svg{background:#16181c;fill:#ddd}.grid{stroke:#333}}</style>"""

Places = Sequence[tuple[float, float]]


def drawn_curves(to: Path, title: str, curves: Mapping[str, Places]) -> None:
    """Write the picture: recall to the right, queries a second up, logarithmic."""
    shown = {name: [place for place in places if place[0] >= RECALLS[0]] for name, places in curves.items()}
    rates = [rate for places in shown.values() for _, rate in places]
    if not rates:
        return
    low, high = _decade(min(rates), up=False), _decade(max(rates), up=True)
    across = Scale(RECALLS, (LEFT, RIGHT))
    up = Scale((low, high), (BOTTOM, TOP), logarithmic=True)
    canvas = Canvas(WIDTH, HEIGHT, title)
    canvas.label(LEFT, 24, title, class_="head")
    _axes(canvas, across, up, (low, high))
    order = sorted(shown, key=lambda name: (not name.startswith("ours"), name))
    for at, name in enumerate(order):
        _curve(canvas, name, at, [(across(recall), up(rate)) for recall, rate in sorted(shown[name])])
    markup = canvas.markup().replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    to.write_text(markup.replace(">", f">{STYLE}", 1))


def _axes(canvas: Canvas, across: Scale, up: Scale, rates: tuple[float, float]) -> None:
    for recall in (0.80, 0.85, 0.90, 0.95, 1.0):
        canvas.line((across(recall), TOP), (across(recall), BOTTOM))
        canvas.label(across(recall), BOTTOM + 18, f"{recall:.2f}", anchor="middle")
    rate = rates[0]
    while rate <= rates[1]:
        for times in (1, 2, 5):
            if rate * times <= rates[1]:
                canvas.line((LEFT, up(rate * times)), (RIGHT, up(rate * times)))
                canvas.label(LEFT - 6, up(rate * times) + 4, f"{rate * times:,.0f}", anchor="end")
        rate *= 10
    canvas.label((LEFT + RIGHT) / 2, BOTTOM + 38, "recall@10", anchor="middle")


def _curve(canvas: Canvas, name: str, at: int, places: Places) -> None:
    colour, dash = COLOURS[at % len(COLOURS)], "" if at < len(COLOURS) else "5 4"
    width = 3 if name.startswith("ours") else 1.5
    height = TOP + 20 + 20 * at
    canvas.add(
        "path", d=path([(RIGHT + 20, height), (RIGHT + 44, height)]), stroke=colour, stroke_width=width, fill="none"
    )
    canvas.label(RIGHT + 52, height + 4, name)
    if places:
        stroke = {"stroke": colour, "stroke_width": width, "stroke_dasharray": dash or "none"}
        canvas.add("path", d=path(places), fill="none", title=name, **stroke)
        for x, y in places:
            canvas.add("circle", cx=x, cy=y, r=2.5, fill=colour)


def _decade(rate: float, *, up: bool) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    steps = [times * 10.0**power for power in range(-2, 8) for times in (1, 2, 5)]
    tens = [10.0**power for power in range(-2, 8)]
    return min(step for step in steps if step >= rate) if up else max(step for step in tens if step <= rate)
