"""Reports of runs, for people and programs: on a terminal, as one HTML file, as JSON and CSV. Made from the ledger's answers.

report = report_of(footprint, power, elsewhere)
console.print(render_terminal(report))
path.write_text(render_html(report))          # needs `pip install ergonaut[report]`

comparison = compare([first, second])
console.print(render_comparison_terminal(comparison))
"""

from typing import TYPE_CHECKING

from ergonaut.errors import Refused
from ergonaut.reports.comparison import Comparison, compare
from ergonaut.reports.exports import comparison_to_csv, comparison_to_json, to_csv, to_json
from ergonaut.reports.report import RunReport, report_of

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = [
    "Comparison",
    "RunReport",
    "compare",
    "comparison_to_csv",
    "comparison_to_json",
    "render_comparison_html",
    "render_comparison_terminal",
    "render_html",
    "render_terminal",
    "report_of",
    "to_csv",
    "to_json",
]


def render_terminal(report: RunReport) -> "RenderableType":
    """The report for a terminal, something that a rich console prints."""
    from ergonaut.reports.terminal import report_for_terminal

    return report_for_terminal(report)


def render_comparison_terminal(comparison: Comparison) -> "RenderableType":
    """The comparison for a terminal, something that a rich console prints."""
    from ergonaut.reports.terminal import comparison_for_terminal

    return comparison_for_terminal(comparison)


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


def _need_jinja() -> None:
    try:
        import jinja2  # noqa: F401
    except ImportError as error:
        raise Refused("HTML reports need jinja2; install it with `pip install 'ergonaut[report]'`") from error
