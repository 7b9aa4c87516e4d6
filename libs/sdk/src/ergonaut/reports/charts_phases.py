"""The charts of what runs are made of and how they compare: energy by phase, and runs beside each other."""

from collections.abc import Sequence

from ergonaut.reports import numbers
from ergonaut.reports.analysis import Phase
from ergonaut.reports.charts import LETTERS, NARROW
from ergonaut.reports.comparison import Comparison, Standing
from ergonaut.reports.svg import Canvas, Scale, text_width, ticks

BARS_MAX = 120
"""More phases than this are drawn as means of neighbours; a bar needs a few pixels to be seen."""


def top_phases(phases: Sequence[Phase]) -> list[Phase]:
    """The phases that a chart shows: those numbered phases of which there are most, else the outermost ones."""
    numbered: dict[str, list[Phase]] = {}
    for phase in phases:
        if phase.step is not None:
            numbered.setdefault(phase.phase, []).append(phase)
    if numbered:
        # Of two that are equally many the outer one; its name is the shorter one.
        return numbered[max(numbered, key=lambda name: (len(numbered[name]), -len(name)))]
    return [phase for phase in phases if "/" not in phase.phase]


def phases_chart(phases: Sequence[Phase], width: float) -> str:
    """Energy of each phase, with what it may be off by; one that was not measured is an empty dashed bar."""
    shown = _thinned(phases)
    if not shown:
        return ""
    height, left, right, top, bottom = 200.0, 58.0, 10.0, 12.0, 34.0
    most = max(((joules or 0.0) + (off or 0.0) for _, joules, off in shown), default=0.0)
    joules_marks = ticks(most * 1.02, 4)
    y = Scale((0.0, joules_marks[-1]), (height - bottom, top))
    slot = (width - left - right) / len(shown)
    canvas = Canvas(width, height, "Energy by phase")
    for mark in joules_marks:
        canvas.line((left, y(mark)), (width - right, y(mark)))
        canvas.label(left - 6, y(mark) + 4, _joules_mark(mark, joules_marks[-1]), anchor="end")
    for index, (label, joules, off) in enumerate(shown):
        _phase_bar(canvas, y, (left + index * slot, slot), (label, joules, off))
    every = _label_every([label for label, _, _ in shown], slot, width)
    for index, (label, _, _) in enumerate(shown):
        if index % every == 0:
            canvas.label(left + (index + 0.5) * slot, height - bottom + 16, label, anchor="middle")
    canvas.label(width - right, height - 4, phases[0].phase if phases[0].step is not None else "phase", anchor="end")
    return canvas.markup()


def runs_chart(comparison: Comparison, width: float) -> str:
    """Energy of each run with what it may be off by, the best marked."""
    cells = comparison.rows[0].cells
    most = max(((cell.figure.value or 0.0) + (cell.figure.plus_minus or 0.0) for cell in cells), default=0.0)
    row = 40.0
    x = Scale((0.0, most or 1.0), (1.0, width - 2.0))
    canvas = Canvas(width, row * len(cells) + 4, "Energy of each run")
    for index, (report, cell) in enumerate(zip(comparison.reports, cells, strict=True)):
        top = index * row
        name = _shortened(f"{index + 1}  {report.name}", (width - text_width(cell.text, 13.0)) / (13.0 * 0.6) - 2)
        canvas.label(1.0, top + 14, name, class_="name")
        canvas.label(width - 1, top + 14, cell.text, anchor="end", class_="name")
        _run_bar(canvas, x, top + 19, cell.figure, best=cell.standing is Standing.BEST)
    return canvas.markup()


def _run_bar(canvas: Canvas, x: Scale, top: float, figure: numbers.Figure, *, best: bool) -> None:
    if figure.value is None:
        canvas.add("rect", x=x(0.0), y=top, width=x.places[1] - x.places[0], height=12.0, rx=3, class_="nothing")
        return
    width = max(x(figure.value) - x(0.0), 1.5)
    canvas.add("rect", x=x(0.0), y=top, width=width, height=12.0, rx=3, class_=f"bar {'c2' if best else 'c0'}")
    if figure.plus_minus:
        low, high = x(max(figure.value - figure.plus_minus, 0.0)), x(figure.value + figure.plus_minus)
        canvas.line((low, top + 6), (high, top + 6), "whisker")
        for end in (low, high):
            canvas.line((end, top + 2), (end, top + 10), "whisker")


_Bar = tuple[str, float | None, float | None]


def _thinned(phases: Sequence[Phase]) -> list[_Bar]:
    """Label, joules and range of each bar; neighbours' means where there are too many."""
    each: list[_Bar] = [
        (str(phase.step) if phase.step is not None else phase.label, phase.energy.value, phase.energy.plus_minus)
        for phase in phases
    ]
    if len(each) <= BARS_MAX:
        return each
    together = -(-len(each) // BARS_MAX)
    return [_mean(each[start : start + together]) for start in range(0, len(each), together)]


def _mean(bars: Sequence[_Bar]) -> _Bar:
    known = [(joules, off or 0.0) for _, joules, off in bars if joules is not None]
    if not known:
        return bars[0][0], None, None
    return bars[0][0], sum(joules for joules, _ in known) / len(known), sum(off for _, off in known) / len(known)


def _phase_bar(canvas: Canvas, y: Scale, across: tuple[float, float], bar: _Bar) -> None:
    (left, slot), (label, joules, off) = across, bar
    bottom = y(0.0)
    x, width = left + slot * 0.14, slot * 0.72
    if joules is None:
        canvas.add(
            "rect",
            x=x,
            width=width,
            y=bottom - 24,
            height=24.0,
            class_="nothing",
            title=f"{label}: {numbers.NOT_MEASURED}",
        )
        return
    told = f"{label}: {numbers.energy_figure(numbers.Figure(joules, off))}"
    canvas.add(
        "rect",
        x=x,
        width=width,
        y=y(joules),
        height=bottom - y(joules),
        rx=min(2.0, slot * 0.2),
        class_="bar c0",
        title=told,
    )
    if off and slot >= 9:
        middle = left + slot / 2
        canvas.line((middle, y(max(joules - off, 0.0))), (middle, y(joules + off)), "whisker")


def _label_every(labels: Sequence[str], slot: float, width: float) -> int:
    """How many bars share one label, so that labels do not touch."""
    longest = max(text_width(label, LETTERS) for label in labels) + (8 if width > NARROW else 6)
    needed = max(1, -(-int(longest) // max(int(slot), 1)))
    return next((step for step in (1, 2, 5, 10, 20, 50, 100) if step >= needed), needed)


def _joules_mark(joules: float, most: float) -> str:
    """A round energy on an axis, all marks in the unit of the largest.

    >>> _joules_mark(500.0, 2000.0), _joules_mark(0.0, 1.0), _joules_mark(7.2e6, 7.2e6)
    ('0.5 kJ', '0', '2 kWh')
    """
    unit, size = next(
        (unit, size)
        for unit, size in (("kWh", 3.6e6), ("Wh", 3.6e3), ("kJ", 1e3), ("J", 1.0))
        if most >= size * _LEAST[unit]
    )
    text = f"{joules / size:.3g}"
    return f"{text} {unit}" if joules else "0"


_LEAST = {"kWh": 1.0, "Wh": 100.0, "kJ": 1.0, "J": 0.0}


def _shortened(text: str, letters: float) -> str:
    room = max(int(letters), 4)
    return text if len(text) <= room else f"{text[: room - 1]}…"
