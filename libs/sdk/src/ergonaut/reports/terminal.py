"""Reports on a terminal, by rich. Every text from outside is put in as text, never as markup."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ergonaut.reports import numbers
from ergonaut.reports.comparison import Cell, Comparison, Verdict
from ergonaut.reports.report import RENT, Component, Place, PowerPoint, RunReport, label_of

PLACES_SHOWN = 8
"""Places on a screen; the HTML report has all."""

SPARK_WIDTH = 60
_SPARKS = "▁▂▃▄▅▆▇█"
_VERDICT_STYLES = {Verdict.WITHIN_RANGE: "green", Verdict.SAME: "green", Verdict.BEYOND_RANGE: "yellow"}


def report_for_terminal(report: RunReport) -> RenderableType:
    """The report of one run."""
    parts: list[RenderableType] = [_headline(report), _figures(report)]
    if report.power:
        parts += [_title("Power over time"), _sparks(report.power)]
    parts += [_title("By component"), _components(report)]
    if report.metrics:
        told = ((name, numbers.metric(value)) for name, value in report.metrics.items())
        parts += [_title("What the run told"), _pairs(told)]
    if report.expected:
        parts += [_title("Expected and measured"), _expected(report)]
    if report.places:
        parts += [_title("The same run elsewhere, an estimate"), _places(report)]
    if report.hours:
        parts += [_title("The same run at other hours, an estimate"), _hours(report)]
    if report.method:
        parts.append(Text(report.method, style="dim"))
    return Group(*parts, _title("How it was measured"), _measured(report))


def comparison_for_terminal(comparison: Comparison) -> RenderableType:
    """Runs side by side."""
    table = _table("", *(f"{report.name}\n{report.run_id}" for report in comparison.reports))
    for row in comparison.rows:
        table.add_row(Text(row.name), *(_cell(cell) for cell in row.cells))
    told = "Each run is held against the first; ≈ is a difference within the added error ranges, which may be none."
    notes = [Text(note, style="yellow") for note in comparison.notes]
    return Group(table, *notes, Text(told, style="dim"))


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
    if report.not_measured:
        rows.append(("Not measured", f"{', '.join(report.not_measured)}: in no sum"))
    if report.samples_missing:
        rows.append(("Missing", f"{report.samples_missing} samples; the figures are too low by what they held"))
    return _pairs(rows)


def _components(report: RunReport) -> RenderableType:
    table = _table("Component", "Energy", "CO₂e", "Cost", "How", left=("Component", "How"))
    for part in report.components:
        table.add_row(Text(part.label), *_component_figures(part), Text(_how(part)))
    total = (numbers.energy_figure(report.energy), numbers.carbon_figure(report.carbon))
    table.add_row("Total", *total, numbers.money_figure(report.cost), "", style="bold")
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
    table = _table("Place", "Zone", "Market", "Cost", "CO₂e", "CO₂e against here", left=("Place", "Zone", "Market"))
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
    return _pairs(rows)


def _expected(report: RunReport) -> RenderableType:
    assert report.expected is not None, "asked only where something was expected"
    expected, table = report.expected, _table("", "Expected", "Measured")
    table.add_row("Energy", numbers.energy(expected.energy_joules), numbers.energy_figure(report.energy))
    table.add_row("CO₂e", numbers.carbon(expected.carbon_grams_co2e), numbers.carbon_figure(report.carbon))
    table.add_row("Cost", numbers.money(expected.cost_usd), numbers.money_figure(report.cost))
    return table


def _measured(report: RunReport) -> RenderableType:
    rows = [(part.label, f"{part.source} ({_how(part)}, {part.samples} samples)") for part in report.components]
    if report.intensity_grams_per_kwh:
        mean = numbers.intensity(report.intensity_grams_per_kwh)
        rows.append(("Grid", "; ".join((mean, *report.intensity_sources))))
    missing = f"{report.samples_missing} missing" if report.samples_missing else "none missing"
    rows.append(("Samples", f"{report.samples}, {missing}"))
    return _pairs(rows)


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
    return _pairs(rows)


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
    text = Text(cell.text)
    if cell.change_text:
        text.append(f"\n{cell.change_text}{mark}", style=_VERDICT_STYLES.get(cell.verdict, "dim"))
    return text


def _title(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _pairs(rows: Iterable[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(Text(name), Text(value))
    return table


def _table(*columns: str, left: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for index, column in enumerate(columns):
        table.add_column(Text(column), justify="left" if column in left or not index else "right", overflow="fold")
    return table
