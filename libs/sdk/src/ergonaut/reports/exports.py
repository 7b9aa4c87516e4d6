"""Reports for programs: JSON with every figure in full, CSV with one row a component or run. What is not measured is null."""

import csv
import dataclasses
import io
import json
from datetime import datetime
from typing import Any

from ergonaut.reports.comparison import Comparison
from ergonaut.reports.report import RunReport

_DANGEROUS_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a text that begins so for a formula."""


def to_json(report: RunReport) -> str:
    """The whole report; times are ISO 8601, units are in the names."""
    return _json(_values(report))


def comparison_to_json(comparison: Comparison) -> str:
    """Every figure of every run, its change against the first run and what that is worth."""
    rows = [
        {
            "name": row.name,
            "runs": [
                {
                    "run_id": report.run_id,
                    "value": cell.figure.value,
                    "plus_minus": cell.figure.plus_minus,
                    "change_fraction": cell.change_fraction,
                    "verdict": cell.verdict.value,
                }
                for report, cell in zip(comparison.reports, row.cells, strict=True)
            ],
        }
        for row in comparison.rows
    ]
    return _json({"rows": rows, "notes": list(comparison.notes)})


def to_csv(report: RunReport) -> str:
    """One row a component, then the total; an empty cell is not measured."""
    head = ["run_id", "component", "method", "source", "range_fraction", "energy_joules", "carbon_grams_co2e"]
    rows: list[list[Any]] = [[*head, "cost_usd", "samples"]]
    for part in report.components:
        figures = [part.range_fraction, part.energy_joules, part.carbon_grams_co2e, part.cost_usd, part.samples]
        rows.append([report.run_id, part.component, part.method, part.source, *figures])
    totals = [report.energy.range_fraction, report.energy.value, report.carbon.value, report.cost.value]
    rows.append([report.run_id, "total", "", "", *totals, report.samples])
    return _csv(rows)


def comparison_to_csv(comparison: Comparison) -> str:
    """One row a figure and run."""
    rows: list[list[Any]] = [["figure", "run_id", "name", "value", "plus_minus", "change_fraction", "verdict"]]
    for row in comparison.rows:
        for report, cell in zip(comparison.reports, row.cells, strict=True):
            figure = [cell.figure.value, cell.figure.plus_minus, cell.change_fraction, cell.verdict.value]
            rows.append([row.name, report.run_id, report.name, *figure])
    return _csv(rows)


def _values(report: RunReport) -> dict[str, Any]:
    values = dataclasses.asdict(report)
    values["duration_seconds"] = report.duration_seconds
    values["not_measured"] = list(report.not_measured)
    for name, unit in (("energy", "joules"), ("carbon", "grams_co2e"), ("cost", "usd")):
        figure = values.pop(name)
        values[f"{name}_{unit}"] = figure["value"]
        values[f"{name}_{unit}_plus_minus"] = figure["plus_minus"]
    return values


def _json(value: Any) -> str:
    def plain(other: Any) -> str:
        if isinstance(other, datetime):
            return other.isoformat()
        raise TypeError(f"{type(other).__name__} has no JSON form")

    return json.dumps(value, indent=2, default=plain, ensure_ascii=False) + "\n"


def _csv(rows: list[list[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, str) and value.startswith(_DANGEROUS_STARTS):
        return f"'{value}"
    return value
