"""Reports of runs, for people and programs: on a terminal, as one HTML file, as JSON and CSV. Made from the ledger's answers.

report = report_of(footprint, power, elsewhere)
console.print(render_terminal(report))
path.write_text(render_html(report))          # needs `pip install ergonaut[report]`

comparison = compare([first, second])
console.print(render_comparison_terminal(comparison))
"""

from typing import TYPE_CHECKING

from ergonaut.errors import Refused
from ergonaut.reports.accounts import Compliance, Statement, certificate_of, compliance_of, statement_of
from ergonaut.reports.analysis import Analysis, analysis_of
from ergonaut.reports.comparison import Comparison, compare
from ergonaut.reports.exports import (
    anomalies_to_csv,
    certificates_to_csv,
    comparison_to_csv,
    comparison_to_json,
    compliance_to_csv,
    compliance_to_json,
    efficiency_to_csv,
    recommendations_to_csv,
    statement_to_csv,
    statement_to_json,
    to_csv,
    to_json,
    usage_to_csv,
)
from ergonaut.reports.report import RunReport, report_of
from ergonaut.reports.usage import Usage, usage_of

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = [
    "Analysis",
    "Comparison",
    "Compliance",
    "RunReport",
    "Statement",
    "Usage",
    "analysis_of",
    "anomalies_to_csv",
    "certificate_of",
    "certificates_to_csv",
    "compare",
    "comparison_to_csv",
    "comparison_to_json",
    "compliance_of",
    "compliance_to_csv",
    "compliance_to_json",
    "efficiency_to_csv",
    "recommendations_to_csv",
    "render_anomalies_html",
    "render_anomalies_terminal",
    "render_comparison_html",
    "render_comparison_terminal",
    "render_compliance_html",
    "render_compliance_terminal",
    "render_efficiency_html",
    "render_efficiency_terminal",
    "render_html",
    "render_recommendations_html",
    "render_recommendations_terminal",
    "render_statement_html",
    "render_statement_terminal",
    "render_terminal",
    "render_usage_html",
    "render_usage_terminal",
    "report_of",
    "statement_of",
    "statement_to_csv",
    "statement_to_json",
    "to_csv",
    "to_json",
    "usage_of",
    "usage_to_csv",
]


def render_terminal(report: RunReport) -> "RenderableType":
    """The report for a terminal, something that a rich console prints."""
    from ergonaut.reports.terminal import report_for_terminal

    return report_for_terminal(report)


def render_comparison_terminal(comparison: Comparison) -> "RenderableType":
    """The comparison for a terminal, something that a rich console prints."""
    from ergonaut.reports.terminal import comparison_for_terminal

    return comparison_for_terminal(comparison)


def render_efficiency_terminal(analysis: Analysis) -> "RenderableType":
    """Units and phases of a run for a terminal."""
    from ergonaut.reports.terminal import efficiency_for_terminal

    return efficiency_for_terminal(analysis)


def render_recommendations_terminal(analysis: Analysis) -> "RenderableType":
    """What would save, for a terminal."""
    from ergonaut.reports.terminal import recommendations_for_terminal

    return recommendations_for_terminal(analysis.recommendations)


def render_anomalies_terminal(analysis: Analysis, days: int | None = None) -> "RenderableType":
    """Anomalies for a terminal; `days` is how far back was looked."""
    from ergonaut.reports.terminal import anomalies_for_terminal

    return anomalies_for_terminal(analysis.anomalies, days)


def render_efficiency_html(run_id: str, analysis: Analysis) -> str:
    """Units and phases of a run as one HTML file. Raises Refused where the extra `report` is not installed."""
    _need_jinja()
    from ergonaut.reports.pages_analysis import efficiency_page

    return efficiency_page(run_id, analysis)


def render_recommendations_html(analysis: Analysis) -> str:
    """What would save, as one HTML file. Raises Refused where the extra `report` is not installed."""
    _need_jinja()
    from ergonaut.reports.pages_analysis import recommendations_page

    return recommendations_page(analysis.recommendations)


def render_anomalies_html(analysis: Analysis, days: int | None = None) -> str:
    """Anomalies as one HTML file; `days` is how far back was looked. Raises Refused where the extra `report` is not installed."""
    _need_jinja()
    from ergonaut.reports.pages_analysis import anomalies_page

    return anomalies_page(analysis.anomalies, days)


def render_html(report: RunReport) -> str:
    """The report as one HTML file that needs nothing else. Raises Refused where the extra `report` is not installed."""
    _need_jinja()
    from ergonaut.reports.pages import report_page

    return report_page(report)


def render_comparison_html(comparison: Comparison) -> str:
    """The comparison as one HTML file. Raises Refused where the extra `report` is not installed."""
    _need_jinja()
    from ergonaut.reports.pages import comparison_page

    return comparison_page(comparison)


def render_statement_terminal(statement: Statement) -> "RenderableType":
    """The statement for a terminal."""
    from ergonaut.reports.terminal_accounts import statement_for_terminal

    return statement_for_terminal(statement)


def render_statement_html(statement: Statement) -> str:
    """The statement as one HTML file. Raises Refused where the extra `report` is not installed."""
    _need_jinja()
    from ergonaut.reports.pages_accounts import statement_page

    return statement_page(statement)


def render_compliance_terminal(report: Compliance) -> "RenderableType":
    """The compliance report for a terminal."""
    from ergonaut.reports.terminal_accounts import compliance_for_terminal

    return compliance_for_terminal(report)


def render_compliance_html(report: Compliance) -> str:
    """The compliance report as one HTML file. Raises Refused where the extra `report` is not installed."""
    _need_jinja()
    from ergonaut.reports.pages_accounts import compliance_page

    return compliance_page(report)


def render_usage_terminal(usage: Usage) -> "RenderableType":
    """What was used over time, for a terminal."""
    from ergonaut.reports.terminal_accounts import usage_for_terminal

    return usage_for_terminal(usage)


def render_usage_html(usage: Usage) -> str:
    """What was used over time, as one HTML file. Raises Refused where the extra `report` is not installed."""
    _need_jinja()
    from ergonaut.reports.pages_accounts import usage_page

    return usage_page(usage)


def _need_jinja() -> None:
    try:
        import jinja2  # noqa: F401
    except ImportError as error:
        raise Refused("HTML reports need jinja2; install it with `pip install 'ergonaut[report]'`") from error
