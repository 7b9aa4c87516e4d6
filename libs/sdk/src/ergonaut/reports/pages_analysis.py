"""The pages of the analysis: what a run's phases and units of work used, what would save, and what was odd. Needs jinja2."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ergonaut.reports import charts, charts_analysis
from ergonaut.reports.analysis import NOTHING_SAVES, Analysis, Anomaly, Phase, Recommendation, Unit, nothing_odd
from ergonaut.reports.charts_phases import phases_chart, top_phases
from ergonaut.reports.templating import both, rendered

PHASES_SHOWN = 200
"""Phases in the table; the chart has all, and the CSV export has their figures."""

PHASE_METRICS_SHOWN = 3
HEADS_SHOWN = 4


def efficiency_page(run_id: str, analysis: Analysis) -> str:
    """What a run used for each unit of its work and in each phase."""
    return rendered(
        "efficiency.html.j2",
        run_id=run_id,
        analysis=analysis,
        heads=analysis.units[:HEADS_SHOWN],
        units_chart=units_drawn(analysis.units),
        told=phases_told(analysis),
    )


def recommendations_page(recommendations: Sequence[Recommendation]) -> str:
    """What would save, how much, and on what that rests."""
    return rendered(
        "recommendations.html.j2",
        recommendations=recommendations,
        nothing=NOTHING_SAVES,
        drawn_max=charts_analysis.DRAWN_MAX,
        chart=both(lambda width: charts_analysis.savings_chart(recommendations, width), wide=charts.BROAD),
    )


def anomalies_page(anomalies: Sequence[Anomaly], days: int | None = None) -> str:
    """Figures that are far from the usual ones, against what, and what to do."""
    return rendered(
        "anomalies.html.j2",
        anomalies=anomalies,
        nothing=nothing_odd(days),
        drawn_max=charts_analysis.DRAWN_MAX,
        chart=both(lambda width: charts_analysis.anomalies_chart(anomalies, width), wide=charts.BROAD),
    )


def units_drawn(units: Sequence[Unit]) -> dict[str, Any] | None:
    """The chart of units; None where there is nothing to draw."""
    return both(lambda width: charts_analysis.units_chart(units, width)) if units else None


def phases_told(analysis: Analysis) -> dict[str, Any]:
    """What the part of a page on phases needs."""
    phases = analysis.phases[:PHASES_SHOWN]
    drawn = top_phases(analysis.phases)
    return {
        "phases": phases,
        "left_out": len(analysis.phases) - len(phases) + analysis.phases_omitted,
        "metrics": _metrics_of(phases),
        "chart": both(lambda width: phases_chart(drawn, width)),
    }


def _metrics_of(phases: Sequence[Phase]) -> list[str]:
    """The metrics that most phases told."""
    told = Counter(name for phase in phases for name in phase.metrics)
    return [name for name, _ in told.most_common(PHASE_METRICS_SHOWN)]
