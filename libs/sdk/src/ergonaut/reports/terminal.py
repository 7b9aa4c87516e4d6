"""Reports on a terminal, by rich. Every text from outside is put in as text, never as markup."""

from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ergonaut.reports import numbers
from ergonaut.reports.analysis import (
    NOTHING_SAVES,
    Analysis,
    Anomaly,
    Phase,
    Recommendation,
    Unit,
    nothing_odd,
    saving_of,
)
from ergonaut.reports.charts_phases import top_phases
from ergonaut.reports.comparison import Cell, Comparison, Standing, Verdict
from ergonaut.reports.report import RENT, Component, Place, PowerPoint, RunReport, label_of

PLACES_SHOWN = 8
"""Places on a screen; the HTML report has all."""

PHASES_SHOWN = 15
"""Phases on a screen; --csv and --html have more."""

SIDE_BY_SIDE_MAX = 4
"""Runs that fit beside each other in 120 columns."""

SPARK_WIDTH = 60
_SPARKS = "▁▂▃▄▅▆▇█"
_VERDICT_STYLES = {Verdict.WITHIN_RANGE: "green", Verdict.SAME: "green", Verdict.BEYOND_RANGE: "yellow"}


def report_for_terminal(report: RunReport) -> RenderableType:
    """The report of one run."""
    parts: list[RenderableType] = [_headline(report), _figures(report)]
    if report.power:
        parts += [title_of("Power over time"), _sparks(report.power)]
    parts += [title_of("By component"), _components(report)]
    analysis = report.analysis
    if analysis.anomalies:
        parts += [title_of("Anomalies"), anomalies_for_terminal(analysis.anomalies)]
    if analysis.units:
        parts += [title_of("By unit of work"), units_for_terminal(analysis.units)]
    if analysis.phases:
        parts += [title_of("By phase"), phases_for_terminal(analysis.phases, analysis.phases_omitted)]
    if analysis.recommendations:
        parts += [title_of("What would save"), recommendations_for_terminal(analysis.recommendations)]
    parts += [Text(f"\nNot analysed, {each}", style="yellow") for each in analysis.missing]
    if report.metrics:
        told = ((name, numbers.metric(value)) for name, value in report.metrics.items())
        parts += [title_of("What the run told"), pairs_of(told)]
    if report.expected:
        parts += [title_of("Expected and measured"), _expected(report)]
    if report.places:
        parts += [title_of("The same run elsewhere, an estimate"), _places(report)]
    if report.hours:
        parts += [title_of("The same run at other hours, an estimate"), _hours(report)]
    if report.method:
        parts.append(Text(report.method, style="dim"))
    return Group(*parts, title_of("How it was measured"), _measured(report))


def comparison_for_terminal(comparison: Comparison) -> RenderableType:
    """Runs side by side."""
    many = len(comparison.reports) > SIDE_BY_SIDE_MAX
    table = _one_below_another(comparison) if many else _side_by_side(comparison)
    words = [Text(sentence) for sentence in comparison.words()]
    notes = [Text(note, style="yellow") for note in comparison.notes]
    legend = (
        "Each run is held against the first; ≈ is within the error range of the two and may be no difference; "
        "* is the best, ~ cannot be told from it."
    )
    return Group(table, Text(), *words, *notes, Text(legend, style="dim"))


def _side_by_side(comparison: Comparison) -> Table:
    headings = (f"{index} {report.name}\n{report.run_id}" for index, report in enumerate(comparison.reports, 1))
    table = table_of("", *headings)
    for row in comparison.rows:
        table.add_row(Text(row.name), *(_cell(cell) for cell in row.cells))
    return table


def _one_below_another(comparison: Comparison) -> Table:
    """More runs than a screen has columns: one row a run, and the figures that matter most; --csv and --html have all."""
    per_unit = [row for row in comparison.rows if row.name.startswith("Energy per ")]
    rows = [*comparison.rows[:4], *per_unit[:1]]
    table = table_of("", *(row.name for row in rows))
    for index, report in enumerate(comparison.reports):
        table.add_row(Text(f"{index + 1} {report.name}"), *(_cell(row.cells[index]) for row in rows))
    return table


def efficiency_for_terminal(analysis: Analysis) -> RenderableType:
    """What a run used by unit and by phase."""
    parts: list[RenderableType] = []
    if analysis.units:
        parts += [Text("By unit of work", style="bold"), units_for_terminal(analysis.units)]
    if analysis.phases:
        parts += [title_of("By phase"), phases_for_terminal(analysis.phases, analysis.phases_omitted)]
    return (
        Group(*parts) if parts else Text("The run told of no phases and counted no work: see run.phase and run.count.")
    )


def units_for_terminal(units: Sequence[Unit]) -> RenderableType:
    """What one unit of a run's work used."""
    table = table_of("For one", "Energy", "CO₂e", "Cost", "SCI", "How many")
    for unit in units:
        sci = numbers.carbon(unit.sci_grams_co2e * unit.per) if unit.sci_grams_co2e is not None else numbers.NOTHING
        figures = (
            numbers.energy_figure(numbers.scaled(unit.energy, unit.per)),
            numbers.carbon_figure(numbers.scaled(unit.carbon, unit.per)),
            numbers.money_figure(numbers.scaled(unit.cost, unit.per)),
        )
        table.add_row(Text(unit.label), *figures, sci, unit.count_text)
    return table


def phases_for_terminal(phases: Sequence[Phase], omitted: int = 0) -> RenderableType:
    """What each phase used, and a line of bars over those that are alike."""
    alike = [phase.energy.value or 0.0 for phase in top_phases(phases)]
    table = table_of("Phase", "Time", "Energy", "CO₂e", "Cost")
    names = {phase.phase for phase in phases[:PHASES_SHOWN]}
    for phase in phases[:PHASES_SHOWN]:
        figures = (
            numbers.energy_figure(phase.energy),
            numbers.carbon(phase.carbon_grams_co2e),
            numbers.money(phase.cost_usd),
        )
        table.add_row(Text(_indented(phase, names)), numbers.duration(phase.seconds), *figures)
    left = len(phases) - PHASES_SHOWN + omitted if len(phases) > PHASES_SHOWN else omitted
    if left:
        table.add_row(Text(f"and {left} more", style="dim"))
    parts: list[RenderableType] = [table]
    if len(alike) > 1:
        sparks = _spark_text(_thinned(alike, SPARK_WIDTH), max(alike))
        parts.insert(0, pairs_of([("Energy", f"{sparks}  {numbers.energy(max(alike))} most")]))
    if any("/" in name for name in names):
        parts.append(Text("Phases within phases are parts of those around them and add nothing.", style="dim"))
    return Group(*parts)


def _indented(phase: Phase, names: Collection[str]) -> str:
    """A phase below those around it, as far as these are shown; else by its whole path."""
    outer, _, _ = phase.phase.rpartition("/")
    if outer not in names:
        return phase.label
    return "  " * phase.phase.count("/") + phase.label.removeprefix(f"{outer}/")


def recommendations_for_terminal(recommendations: Sequence[Recommendation]) -> RenderableType:
    """What would save, and on what that rests."""
    if not recommendations:
        return Text(NOTHING_SAVES)
    parts: list[RenderableType] = []
    for each in recommendations:
        parts.append(Text.assemble("• ", each.sentence, "  ", (saving_of(each), "green")))
        parts.append(
            Padding(Text(f"{each.label}, {each.subject}. {each.basis}", style="dim"), (0, 0, 0, 2), expand=False)
        )
    return Group(*parts)


def anomalies_for_terminal(anomalies: Sequence[Anomaly], days: int | None = None) -> RenderableType:
    """What was found, and what to do."""
    if not anomalies:
        return Text(nothing_odd(days))
    parts: list[RenderableType] = []
    for each in anomalies:
        where = " ".join(part for part in (each.run_id, each.host, each.component) if part)
        head = Text.assemble(
            (each.label, "yellow"), "  ", (numbers.moment(each.started_at), "dim"), "  ", (where, "dim")
        )
        parts += [head, Padding(Text(each.because), (0, 0, 0, 2), expand=False)]
    return Group(*parts)


def _headline(report: RunReport) -> Text:
    style = {"succeeded": "green", "running": "cyan"}.get(report.state, "yellow")
    where = " ".join(dict.fromkeys(part for part in (report.provider, report.region, report.machine_type) if part))
    line = Text.assemble((report.name, "bold"), "  ", (report.state, style), "  ", (report.run_id, "dim"))
    zone = f", grid {report.zone}" if report.zone else ""
    return line.append(f"\n{numbers.moment(report.started_at)}  {where}{zone}", style="dim")


def _figures(report: RunReport) -> RenderableType:
    seconds, watts = report.duration_seconds, report.mean_power_watts
    mean = f", {numbers.power(watts)} on average" if watts is not None else ""
    rows = [
        ("Energy", f"{numbers.energy_figure(report.energy)}  ({numbers.kilowatt_hours(report.energy.value)})"),
        ("CO₂e", numbers.carbon_figure(report.carbon)),
        ("Cost", numbers.money_figure(report.cost)),
        ("Time", f"{numbers.duration(seconds) if seconds is not None else 'still running'}{mean}"),
    ]
    if report.electricity_usd is not None and report.rent_usd is not None:
        split = f"{numbers.money(report.electricity_usd)} electricity, {numbers.money(report.rent_usd)} rent"
        rows.insert(3, ("of that", split))
    if report.embodied_grams_co2e is not None:
        rows.append(
            ("Embodied", f"{numbers.carbon(report.embodied_grams_co2e)} CO₂e of making the machine, in no sum above")
        )
    if report.not_measured:
        rows.append(("Not measured", f"{', '.join(report.not_measured)}: in no sum"))
    if report.samples_missing:
        rows.append(("Missing", f"{report.samples_missing} samples; the figures are too low by what they held"))
    if report.gaps_provable_from:
        rows.append(
            ("Gaps", f"no longer provable before {numbers.moment(report.gaps_provable_from)}; older samples are sums")
        )
    return pairs_of(rows)


def _components(report: RunReport) -> RenderableType:
    table = table_of("Component", "Energy", "CO₂e", "Cost", "How", left=("Component", "How"))
    for part in report.components:
        table.add_row(Text(part.label), *_component_figures(part), Text(_how(part)))
    total = (
        numbers.energy_figure(report.energy),
        numbers.carbon(report.carbon.value),
        numbers.money(report.cost.value),
    )
    table.add_row("Total", *total, "", style="bold")
    return table


def _component_figures(part: Component) -> list[str]:
    energy, carbon = numbers.energy_figure(part.energy), numbers.carbon(part.carbon_grams_co2e)
    cost = (
        numbers.money(part.cost_usd) if part.cost_usd is not None or part.energy_joules is not None else numbers.NOTHING
    )
    return [numbers.NOTHING, numbers.NOTHING, cost] if part.component == RENT else [energy, carbon, cost]


def _how(part: Component) -> str:
    return ", ".join(word for word in (part.method_label, numbers.plus_minus(part.range_fraction)) if word)


def _places(report: RunReport) -> RenderableType:
    own, first = report.own_place, list(report.places[:PLACES_SHOWN])
    if own is not None and own not in first:
        first.append(own)
    table = table_of("Place", "Zone", "Market", "Cost", "CO₂e", "CO₂e against here", left=("Place", "Zone", "Market"))
    for place in first:
        here = place is own
        against = "this run" if here else _against(place, own)
        figures = (numbers.money(place.cost_usd), numbers.carbon(place.carbon_grams_co2e), against)
        table.add_row(Text(place.label), Text(place.zone), Text(place.market), *figures, style="bold" if here else "")
    if len(report.places) > len(first):
        table.add_row(Text(f"and {len(report.places) - len(first)} more in the HTML report", style="dim"))
    return table


def _against(place: Place, own: Place | None) -> str:
    if own is None or not own.carbon_grams_co2e:
        return ""
    return numbers.times(place.carbon_grams_co2e / own.carbon_grams_co2e)


def _hours(report: RunReport) -> RenderableType:
    best = min(report.hours, key=lambda hour: hour.carbon_grams_co2e)
    worst = max(report.hours, key=lambda hour: hour.carbon_grams_co2e)
    sparks = _spark_text([hour.carbon_grams_co2e for hour in report.hours], worst.carbon_grams_co2e)
    rows = [(f"{report.hours[0].starts_at:%H}{numbers.NOTHING}{report.hours[-1].starts_at:%H} h UTC", sparks)]
    for name, hour in (("Cleanest", best), ("Dirtiest", worst)):
        figures = f"{numbers.carbon(hour.carbon_grams_co2e)}, {numbers.money(hour.cost_usd)}"
        rows.append((name, f"{hour.starts_at:%H:%M}  {figures}"))
    if best.carbon_grams_co2e >= worst.carbon_grams_co2e * 0.999:
        rows = [("All hours", f"{numbers.carbon(best.carbon_grams_co2e)}; no hourly figures are known for this grid")]
    return pairs_of(rows)


def _expected(report: RunReport) -> RenderableType:
    assert report.expected is not None, "asked only where something was expected"
    expected, table = report.expected, table_of("", "Expected", "Measured")
    table.add_row("Energy", numbers.energy(expected.energy_joules), numbers.energy_figure(report.energy))
    table.add_row("CO₂e", numbers.carbon(expected.carbon_grams_co2e), numbers.carbon_figure(report.carbon))
    table.add_row("Cost", numbers.money(expected.cost_usd), numbers.money_figure(report.cost))
    return table


def _measured(report: RunReport) -> RenderableType:
    rows = [(part.label, f"{part.source} ({_how(part)}, {part.samples} samples)") for part in report.components]
    if report.intensity_grams_per_kwh:
        mean = numbers.intensity(report.intensity_grams_per_kwh)
        rows.append(("Grid", "; ".join((mean, *report.intensity_sources))))
    if report.intensity_bases:
        rows.append(("Basis", "; ".join(report.intensity_bases)))
    missing = f"{report.samples_missing} missing" if report.samples_missing else "none missing"
    if report.gaps_provable_from:
        missing += f" since {numbers.moment(report.gaps_provable_from)}"
    rows.append(("Samples", f"{report.samples}, {missing}"))
    return pairs_of(rows)


def _sparks(power: Sequence[PowerPoint]) -> RenderableType:
    """A line of bars a component, all to the same height."""
    series: dict[str, list[float]] = {}
    for point in power:
        series.setdefault(point.component, []).append(point.power_watts)
    highest = max(max(watts) for watts in series.values())
    rows = []
    for component, watts in series.items():
        told = f"{numbers.power(sum(watts) / len(watts))} mean, {numbers.power(max(watts))} most"
        rows.append((label_of(component), f"{_spark_text(_thinned(watts, SPARK_WIDTH), highest)}  {told}"))
    return pairs_of(rows)


def _spark_text(values: Sequence[float], highest: float) -> str:
    last = len(_SPARKS) - 1
    return "".join(_SPARKS[min(round(value / (highest or 1.0) * last), last)] for value in values)


def _thinned(values: Sequence[float], count: int) -> list[float]:
    """At most so many means over equal pieces."""
    if len(values) <= count:
        return list(values)
    cuts = [index * len(values) // count for index in range(count + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in pairwise(cuts)]


def _cell(cell: Cell) -> Text:
    mark = " ≈" if cell.verdict is Verdict.WITHIN_RANGE else ""
    standing = {Standing.BEST: " *", Standing.AS_GOOD: " ~"}.get(cell.standing, "")
    text = Text(f"{cell.text}{standing}", style="bold" if cell.standing is Standing.BEST else "")
    if cell.change_text:
        text.append(f"\n{cell.change_text}{mark}", style=_VERDICT_STYLES.get(cell.verdict, "dim"))
    return text


def title_of(text: str) -> Text:
    """A heading with room above it."""
    return Text(f"\n{text}", style="bold")


def pairs_of(rows: Iterable[tuple[str, str]]) -> Table:
    """Names and their values."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(Text(name), Text(value))
    return table


def table_of(*columns: str, left: Sequence[str] = ()) -> Table:
    """A table without lines; the first column and those named in `left` hold texts, the others figures."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for index, column in enumerate(columns):
        table.add_column(Text(column), justify="left" if column in left or not index else "right", overflow="fold")
    return table
