"""Writes Grafana's dashboards, which are described in `dashboard_pages.py`, into `deploy/grafana/dashboards`.

`python tools/dashboards.py` writes them (`make docs` does too); `tests/deploy/test_dashboards.py` checks that they are current.
Each page comes twice: from Prometheus, which sees now, and from ClickHouse, which has every sample.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "deploy" / "grafana" / "dashboards"

PROMETHEUS = {"type": "prometheus", "uid": "${datasource}"}
CLICKHOUSE = {"type": "grafana-clickhouse-datasource", "uid": "${datasource}"}
SCHEMA_VERSION = 39
COLUMNS = 24
HEIGHTS = {"stat": 4, "gauge": 6, "timeseries": 8, "table": 9, "bargauge": 8}

# The order of Okabe and Ito (2008), whose colours the colour-blind can tell apart; the same as in the reports.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture: its title, the question that fills it, its unit in Grafana's words, and what a reader should know."""

    title: str
    query: str
    unit: str
    about: str
    kind: str = "timeseries"
    legend: str = ""
    width: int = 12
    stacked: bool = False
    limits: tuple[float, float] | None = None
    """Where it turns from green to amber and from amber to red."""


@dataclass(frozen=True, slots=True)
class Variable:
    """What a reader may choose above the page: a label of a metric, or the values that a question finds."""

    name: str
    label: str
    query: str


@dataclass(frozen=True, slots=True)
class Page:
    """One dashboard."""

    name: str
    title: str
    about: str
    source: str
    """`prometheus` or `clickhouse`."""
    panels: Sequence[Panel]
    variables: Sequence[Variable] = ()
    since: str = "now-1h"
    refresh: str = "10s"

    @property
    def file(self) -> Path:
        """Where it is written."""
        return FOLDER / f"{self.name}-{self.source}.json"


def dashboard(page: Page) -> dict[str, Any]:
    """The page as Grafana imports it."""
    return {
        "uid": f"ergonaut-{page.name}-{page.source}",
        "title": f"Ergonaut: {page.title}" + (" (ClickHouse)" if page.source == "clickhouse" else ""),
        "description": page.about,
        "tags": ["ergonaut", page.source],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "refresh": page.refresh,
        "time": {"from": page.since, "to": "now"},
        "timezone": "utc",
        "templating": {"list": [_source_variable(page), *(_variable(page, one) for one in page.variables)]},
        "panels": [_panel(page, panel, place) for panel, place in zip(page.panels, places(page.panels), strict=True)],
    }


def places(panels: Sequence[Panel]) -> list[dict[str, int]]:
    """Where each panel stands: from left to right, then a new row as high as the highest before it."""
    found, x, y, height = [], 0, 0, 0
    for number, panel in enumerate(panels):
        if x + panel.width > COLUMNS:
            x, y, height = 0, y + height, 0
        found.append({"id": number + 1, "x": x, "y": y, "w": panel.width, "h": HEIGHTS[panel.kind]})
        x, height = x + panel.width, max(height, HEIGHTS[panel.kind])
    return found


def _panel(page: Page, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": place["id"],
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _source(page),
        "gridPos": {key: place[key] for key in ("x", "y", "w", "h")},
        "targets": [_target(page, panel)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel),
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": COLOURS[2], "value": None}]
    if panel.limits:
        steps += [{"color": COLOURS[1], "value": panel.limits[0]}, {"color": COLOURS[5], "value": panel.limits[1]}]
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "noValue": "not measured",
        "color": {"mode": "palette-classic-by-name" if panel.kind == "timeseries" else "thresholds"},
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.stacked else "none", "group": "A"}
        # A gap in the figures is a gap in the line: nothing is drawn where nothing was measured.
        defaults["custom"] = {
            "lineWidth": 1,
            "fillOpacity": 25 if panel.stacked else 8,
            "spanNulls": False,
            "stacking": stacking,
        }
    return defaults


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "timeseries":
        legend = {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["mean", "lastNotNull"]}
        return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
    if panel.kind == "table":
        return {"showHeader": True, "cellHeight": "sm"}
    return {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "orientation": "auto"}


def _target(page: Page, panel: Panel) -> dict[str, Any]:
    if page.source == "prometheus":
        told = {"expr": panel.query, "legendFormat": panel.legend or "__auto"}
        instant = panel.kind != "timeseries"
        shape = {
            "instant": instant,
            "range": not instant,
            "format": "table" if panel.kind == "table" else "time_series",
        }
        return {"refId": "A", "datasource": _source(page), **told, **shape}
    kind = "timeseries" if panel.kind == "timeseries" else "table"
    numbered = 0 if kind == "timeseries" else 1
    return {
        "refId": "A",
        "datasource": _source(page),
        "editorType": "sql",
        "queryType": kind,
        "format": numbered,
        "rawSql": panel.query.strip(),
    }


def _source(page: Page) -> dict[str, str]:
    return PROMETHEUS if page.source == "prometheus" else CLICKHOUSE


def _source_variable(page: Page) -> dict[str, Any]:
    return {"name": "datasource", "label": "Source", "type": "datasource", "query": _source(page)["type"], "hide": 0}


def _variable(page: Page, variable: Variable) -> dict[str, Any]:
    # All of them are all that have a name: `.*` would take in what others and idling use, which have no tenant and no run.
    chosen = {"multi": True, "includeAll": True, "allValue": ".+"} if page.source == "prometheus" else {"multi": False}
    return {
        "name": variable.name,
        "label": variable.label,
        "type": "query",
        "datasource": _source(page),
        "query": variable.query,
        "refresh": 2,
        "sort": 1,
        **chosen,
    }


def files() -> dict[Path, str]:
    """Every dashboard's file and what belongs in it."""
    from dashboard_pages import PAGES

    return {page.file: json.dumps(dashboard(page), indent=2) + "\n" for page in PAGES}


def main() -> None:
    """Write every dashboard; those of pages that are gone are removed."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = files()
    for old in set(FOLDER.glob("*.json")) - wanted.keys():
        old.unlink()
    for path, text in wanted.items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
