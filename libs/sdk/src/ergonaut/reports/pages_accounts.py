"""The pages of accounts: statements, compliance reports, and usage over time. Needs jinja2."""

from typing import Any

from ergonaut.reports import charts, charts_accounts
from ergonaut.reports.accounts import Compliance, Statement
from ergonaut.reports.accounts_words import amount_of, figures_of
from ergonaut.reports.charts_accounts import Draw
from ergonaut.reports.templating import both, rendered
from ergonaut.reports.usage import Usage

LINES_SHOWN = 1_000
"""Lines of a statement or of usage on a page; CSV has all."""


def statement_page(statement: Statement) -> str:
    """What was used and what it cost, line by line."""
    shown = statement.lines[:LINES_SHOWN]
    return rendered(
        "statement.html.j2",
        statement=statement,
        lines=[*shown, statement.total],
        total=statement.total,
        amount_of=amount_of,
        lines_left_out=len(statement.lines) - len(shown) + statement.lines_omitted,
        energy_most=max((line.energy.value or 0.0 for line in shown), default=0.0),
        carbon_most=max((line.carbon_grams_co2e_location or 0.0 for line in shown), default=0.0),
        charts=_drawn(charts_accounts.statement_charts(statement.lines)),
        legends={"CO₂e": charts_accounts.CARBON_LEGEND, "Cost": charts_accounts.COST_LEGEND},
        by_day=charts_accounts.are_days(statement.lines),
        rows_drawn=charts_accounts.ROWS_DRAWN,
    )


def compliance_page(report: Compliance) -> str:
    """Emissions by the GHG Protocol and ISO/IEC 21031, with the factors and their sources."""
    return rendered(
        "compliance.html.j2",
        report=report,
        figures=figures_of(report),
        amount_of=amount_of,
        factor_most=max((factor.energy_joules for factor in report.factors), default=0.0) or 1.0,
        emissions=both(lambda width: charts_accounts.emissions_chart(report, width), wide=charts.BROAD),
        covered=both(lambda width: charts_accounts.covered_chart(report, width), wide=charts.BROAD),
        by_factor=both(lambda width: charts_accounts.factors_chart(report.factors, width), wide=charts.BROAD),
        covered_legend=(("covered by certificates", "c2"), ("not covered", "c0")),
        rows_drawn=charts_accounts.ROWS_DRAWN,
    )


def usage_page(usage: Usage) -> str:
    """What was used over time, as charts and line by line."""
    shown = usage.uses[:LINES_SHOWN]
    is_total = usage.step not in charts_accounts.STEPS
    return rendered(
        "usage.html.j2",
        usage=usage,
        total=usage.total,
        uses_and_total=[*shown, usage.total],
        left_out=len(usage.uses) - len(shown),
        not_measured=[*dict.fromkeys(use.title for use in usage.not_measured)],
        is_total=is_total,
        charts=_drawn(charts_accounts.usage_charts(usage)),
        legend=charts_accounts.usage_legend(usage),
        carbon_legend=charts_accounts.CARBON_LEGEND if is_total else (),
        rows_drawn=charts_accounts.ROWS_DRAWN if is_total and len(usage.uses) > charts_accounts.ROWS_DRAWN else 0,
    )


def _drawn(draws: dict[str, Draw]) -> dict[str, dict[str, Any]]:
    """Charts for wide and narrow pages; those that have nothing to show are left out."""
    charts_drawn = {name: both(draw, wide=charts.BROAD) for name, draw in draws.items()}
    return {name: chart for name, chart in charts_drawn.items() if chart["wide"]}
