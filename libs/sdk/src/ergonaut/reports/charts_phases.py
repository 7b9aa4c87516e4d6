"""The charts of what runs are made of and how they compare: energy by phase, and runs beside each other."""

from collections.abc import Sequence

from ergonaut.reports.analysis import Phase
from ergonaut.reports.charts_bars import columns_chart, figure_bar, rows_chart
from ergonaut.reports.comparison import Comparison, Standing


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
    if not phases:
        return ""
    names = [phase.label if phase.step is None else str(phase.step) for phase in phases]
    bars = [figure_bar(name, phase.energy) for name, phase in zip(names, phases, strict=True)]
    below = "phase" if phases[0].step is None else phases[0].phase
    return columns_chart("Energy by phase", bars, width, below=below)


def runs_chart(comparison: Comparison, width: float) -> str:
    """Energy of each run with what it may be off by, the best marked."""
    bars = []
    for index, (report, cell) in enumerate(zip(comparison.reports, comparison.rows[0].cells, strict=True), 1):
        colour = "c2" if cell.standing is Standing.BEST else "c0"
        bars.append(figure_bar(f"{index}  {report.name}", cell.figure, colour, text=cell.text))
    return rows_chart("Energy of each run", bars, width)
