"""Statements and compliance reports on a terminal, by rich. Every text from outside is put in as text, never as markup."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from ergonaut.reports import numbers
from ergonaut.reports.accounts import Certificate, Compliance, Line, Statement
from ergonaut.reports.accounts_words import amount_of, figures_of
from ergonaut.reports.terminal import pairs_of, table_of, title_of
from ergonaut.reports.usage import Usage, Use


def statement_for_terminal(statement: Statement) -> RenderableType:
    """What was used and what it cost, line by line."""
    table = table_of("", "Energy", "CO₂e", "Embodied", "Electricity", "Rent", "Runs")
    for line in statement.lines:
        table.add_row(Text(line.title), *_figures(line), f"{line.runs:,}")
    if statement.lines_omitted:
        table.add_row(Text(f"and {statement.lines_omitted:,} more, in the total", style="dim"))
    table.add_row("Total", *_figures(statement.total), f"{statement.total.runs:,}", style="bold")
    head = Text.assemble(("Statement", "bold"), "  ", (statement.period.label, "dim"))
    legend = Text(
        "CO₂e is operational and location-based. Certificates and offsets are subtracted nowhere.", style="dim"
    )
    return Group(head, Text(), table, *_certificates(statement.certificates), *_notes(statement.notes), legend)


def compliance_for_terminal(report: Compliance) -> RenderableType:
    """Emissions by the GHG Protocol and ISO/IEC 21031, with the factors."""
    table = table_of("Zone", "g/kWh", "kWh", "Year", "Rests on", "Source", left=("Zone", "Rests on", "Source"))
    for factor in report.factors:
        rests_on = ", ".join(part for part in (factor.kind, factor.signal, factor.accounting, factor.boundary) if part)
        figures = (numbers.significant(factor.intensity_grams_per_kwh), numbers.significant(factor.energy_kwh))
        year = str(factor.year) if factor.year else numbers.NOTHING
        table.add_row(Text(factor.zone or "unknown"), *figures, year, Text(rests_on), Text(factor.source))
    head = Text.assemble(("Compliance report", "bold"), "  ", (report.period.label, "dim"))
    parts: list[RenderableType] = [head, Text(), pairs_of(figures_of(report))]
    if report.factors:
        parts += [title_of("Factors"), table]
    return Group(*parts, *_certificates(report.certificates), *_notes(report.notes))


def usage_for_terminal(usage: Usage) -> RenderableType:
    """What was used over time, step by step."""
    if not usage.uses:
        return Text("Nothing was measured in this time.")
    table = table_of("From, UTC", *usage.by, "Energy", "CO₂e", "Embodied", "Cost", "Samples", left=usage.by)
    for use in usage.uses:
        labels = (Text(label or "none") for label in use.labels)
        table.add_row(f"{use.starts_at:%F %T}", *labels, *_used(use))
    total = usage.total
    if len(usage.uses) > 1:
        table.add_row("Total", *("" for _ in usage.by), *_used(total), style="bold")
    return table


def _used(use: Use) -> tuple[str, ...]:
    embodied = use.embodied_grams_co2e
    energy, carbon = numbers.energy_figure(use.energy), numbers.carbon(use.carbon_grams_co2e)
    return (
        numbers.NOTHING if use.is_rent else energy,
        numbers.NOTHING if use.is_rent else carbon,
        numbers.carbon(embodied) if embodied is not None else numbers.NOT_KNOWN,
        numbers.money(use.cost_usd),
        f"{use.samples:,}",
    )


def _figures(line: Line) -> tuple[str, ...]:
    embodied = line.embodied_grams_co2e
    return (
        numbers.energy_figure(line.energy),
        numbers.carbon(line.carbon_grams_co2e_location),
        numbers.carbon(embodied) if embodied is not None else numbers.NOT_KNOWN,
        numbers.money(line.electricity_usd),
        numbers.money(line.rent_usd) if line.rent_usd is not None else "none told",
    )


def _certificates(certificates: Sequence[Certificate]) -> list[RenderableType]:
    if not certificates:
        return []
    columns = ("Certificate", "Kind", "Registry", "Zone", "Amount", "Period")
    table = table_of(*columns, left=("Certificate", "Kind", "Registry", "Zone", "Period"))
    for each in certificates:
        texts = (each.certificate_id, each.kind, each.registry, each.zone or numbers.NOTHING)
        period = f"{each.period.label}{' (voided)' if each.voided else ''}"
        table.add_row(*map(Text, texts), amount_of(each), Text(period), style="dim strike" if each.voided else "")
    return [title_of("Certificates and offsets"), table]


def _notes(notes: Sequence[str]) -> list[RenderableType]:
    return [title_of("Notes"), *(Text(f"• {note}") for note in notes)] if notes else [Text()]
