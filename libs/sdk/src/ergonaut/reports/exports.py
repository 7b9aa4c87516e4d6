"""Reports for programs: JSON with every figure in full, CSV with one row a component or run. What is not measured is null."""

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ergonaut.reports.accounts import Certificate, Compliance, Factor, Statement
from ergonaut.reports.analysis import Analysis, Anomaly, Recommendation
from ergonaut.reports.comparison import Comparison
from ergonaut.reports.report import RunReport
from ergonaut.reports.usage import LABEL_FIELDS, Usage

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_DANGEROUS_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a text that begins so for a formula."""


def to_json(report: RunReport) -> str:
    """The whole report; times are ISO 8601, units are in the names."""
    return json_of(_values(report))


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
                    "standing": cell.standing.value,
                }
                for report, cell in zip(comparison.reports, row.cells, strict=True)
            ],
        }
        for row in comparison.rows
    ]
    pairs = [
        {
            "figure": pair.figure,
            "first_run_id": comparison.reports[pair.first].run_id,
            "second_run_id": comparison.reports[pair.second].run_id,
            "change_fraction": pair.change_fraction,
            "plus_minus_fraction": pair.plus_minus_fraction,
            "measured_alike": pair.is_shared,
            "verdict": pair.verdict.value,
            "sentence": comparison.sentence(pair),
        }
        for pair in comparison.pairs
    ]
    return json_of({"rows": rows, "pairs": pairs, "notes": list(comparison.notes)})


def to_csv(report: RunReport) -> str:
    """One row a component, then the total; an empty cell is not measured. Embodied grams are in no operational gram."""
    head = ["run_id", "component", "method", "source", "range_fraction", "energy_joules", "carbon_grams_co2e"]
    rows: list[list[Any]] = [[*head, "cost_usd", "samples", "embodied_grams_co2e"]]
    for part in report.components:
        figures = [part.range_fraction, part.energy_joules, part.carbon_grams_co2e, part.cost_usd, part.samples]
        how = [part.component, part.method, part.source]
        rows.append([report.run_id, *how, *figures, part.embodied_grams_co2e])
    totals = [report.energy.range_fraction, report.energy.value, report.carbon.value, report.cost.value]
    rows.append([report.run_id, "total", "", "", *totals, report.samples, report.embodied_grams_co2e])
    return csv_of(rows)


def comparison_to_csv(comparison: Comparison) -> str:
    """One row a figure and run."""
    rows: list[list[Any]] = [
        ["figure", "run_id", "name", "value", "plus_minus", "change_fraction", "verdict", "standing"]
    ]
    for row in comparison.rows:
        for report, cell in zip(comparison.reports, row.cells, strict=True):
            figure = [
                cell.figure.value,
                cell.figure.plus_minus,
                cell.change_fraction,
                cell.verdict.value,
                cell.standing.value,
            ]
            rows.append([row.name, report.run_id, report.name, *figure])
    return csv_of(rows)


def efficiency_to_csv(run_id: str, analysis: Analysis) -> str:
    """One row a phase, then one row a unit; an empty cell is not measured."""
    head = [
        "run_id",
        "kind",
        "name",
        "step",
        "started_at",
        "ended_at",
        "count",
        "energy_joules",
        "energy_joules_plus_minus",
    ]
    rows: list[list[Any]] = [[*head, "carbon_grams_co2e", "cost_usd", "sci_grams_co2e", "carbon_grams_co2e_plus_minus"]]
    for phase in analysis.phases:
        when = [phase.started_at, phase.ended_at, None]
        figures = [phase.energy.value, phase.energy.plus_minus, phase.carbon_grams_co2e, phase.cost_usd, None, None]
        rows.append([run_id, "phase", phase.phase, phase.step, *when, *figures])
    for unit in analysis.units:
        figures = [unit.energy.value, unit.energy.plus_minus, unit.carbon.value, unit.cost.value, unit.sci_grams_co2e]
        rows.append([run_id, "unit", unit.unit, None, None, None, unit.count, *figures, unit.carbon.plus_minus])
    return csv_of(rows)


def recommendations_to_csv(analysis: Analysis) -> str:
    """One row a recommendation; an empty cell is not known. The range is a part of each saving."""
    return csv_of([_names_of(Recommendation), *(_cells_of(each) for each in analysis.recommendations)])


def anomalies_to_csv(analysis: Analysis) -> str:
    """One row an anomaly; `unit` is that of `value` and `expected`."""
    return csv_of([_names_of(Anomaly), *(_cells_of(each) for each in analysis.anomalies)])


def usage_to_csv(usage: Usage) -> str:
    """One row a step and its labels; an empty cell is not measured or not known."""
    figures = (
        "energy_joules",
        "energy_joules_range",
        "carbon_grams_co2e",
        "embodied_grams_co2e",
        "cost_usd",
        "samples",
    )
    rows: list[list[Any]] = [["starts_at", *(LABEL_FIELDS.get(label, label) for label in usage.by), *figures]]
    for use in usage.uses:
        cells = [use.energy.value, use.energy.plus_minus, use.carbon_grams_co2e, use.embodied_grams_co2e]
        rows.append([use.starts_at, *use.labels, *cells, use.cost_usd, use.samples])
    return csv_of(rows)


def statement_to_json(statement: Statement) -> str:
    """Every line and certificate of a statement."""
    return json_of(dataclasses.asdict(statement))


def statement_to_csv(statement: Statement) -> str:
    """One row a line, then the total; an empty cell is not measured or not known."""
    head = [
        "label",
        "name",
        "energy_joules",
        "energy_joules_range",
        "carbon_grams_co2e_location",
        "embodied_grams_co2e",
    ]
    rows: list[list[Any]] = [[*head, "electricity_usd", "rent_usd", "runs", "samples"]]
    for line in (*statement.lines, statement.total):
        figures = [line.energy.value, line.energy.plus_minus, line.carbon_grams_co2e_location, line.embodied_grams_co2e]
        rows.append([line.label, line.name, *figures, line.electricity_usd, line.rent_usd, line.runs, line.samples])
    return csv_of(rows)


def compliance_to_json(report: Compliance) -> str:
    """Every figure, factor and certificate of a compliance report."""
    values = dataclasses.asdict(report)
    energy = values.pop("energy_kwh")
    return json_of(values | {"energy_kwh": energy["value"], "energy_kwh_plus_minus": energy["plus_minus"]})


COMPLIANCE_FIGURES = (
    "energy_kwh",
    "energy_kwh_plus_minus",
    "grams_co2e",
    "sci_grams_co2e_per_unit",
    "functional_units",
)


def compliance_to_csv(report: Compliance) -> str:
    """One row a figure, then one row a factor, from which an auditor recomputes them; an empty cell is not known.

    `row` says which it is, `name` names the figure, and the SCI's unit is the text `functional_unit`.
    """
    factor_names = _names_of(Factor)
    rows: list[list[Any]] = [["row", "name", *COMPLIANCE_FIGURES, "functional_unit", *factor_names]]
    for name, figures in _compliance_rows(report):
        unit = report.functional_unit if name == "sci" else None
        rows.append(["figure", name, *map(figures.get, COMPLIANCE_FIGURES), unit, *(None for _ in factor_names)])
    nothing = [None] * (len(COMPLIANCE_FIGURES) + 2)
    for factor in report.factors:
        rows.append(["factor", *nothing, *_cells_of(factor)])
    return csv_of(rows)


def _compliance_rows(report: Compliance) -> list[tuple[str, dict[str, float | None]]]:
    """Each figure's name and its cells."""
    energy, sci = report.energy_kwh, report.sci_grams_co2e
    return [
        ("energy", {"energy_kwh": energy.value, "energy_kwh_plus_minus": energy.plus_minus}),
        ("scope2_location_based", {"grams_co2e": report.scope2_location_grams_co2e}),
        ("scope2_market_based", {"grams_co2e": report.scope2_market_grams_co2e}),
        ("certified", {"energy_kwh": report.certified_kwh}),
        ("scope3_embodied", {"grams_co2e": report.scope3_embodied_grams_co2e}),
        ("sci", {"sci_grams_co2e_per_unit": sci, "functional_units": report.functional_units}),
        ("offsets", {"grams_co2e": report.offset_grams_co2e}),
    ]


def certificates_to_csv(certificates: Sequence[Certificate]) -> str:
    """One row a certificate; an empty cell is not told."""
    columns = [name for name in _names_of(Certificate) if name != "period"]
    rows = [
        [*(getattr(each, name) for name in columns), each.period.starts_at, each.period.ends_at]
        for each in certificates
    ]
    return csv_of([[*columns, "starts_at", "ends_at"], *rows])


def _names_of(kind: "type[DataclassInstance]") -> list[Any]:
    return [field.name for field in dataclasses.fields(kind)]


def _cells_of(row: "DataclassInstance") -> list[Any]:
    return [getattr(row, field.name) for field in dataclasses.fields(row)]


def _values(report: RunReport) -> dict[str, Any]:
    values = dataclasses.asdict(report)
    values["duration_seconds"] = report.duration_seconds
    values["not_measured"] = list(report.not_measured)
    for name, unit in (("energy", "joules"), ("carbon", "grams_co2e"), ("cost", "usd")):
        figure = values.pop(name)
        values[f"{name}_{unit}"] = figure["value"]
        values[f"{name}_{unit}_plus_minus"] = figure["plus_minus"]
    return values


def json_of(value: Any) -> str:
    """JSON for programs; times are ISO 8601."""

    def plain(other: Any) -> str:
        if isinstance(other, datetime):
            return other.isoformat()
        raise TypeError(f"{type(other).__name__} has no JSON form")

    return json.dumps(value, indent=2, default=plain, ensure_ascii=False) + "\n"


def csv_of(rows: list[list[Any]]) -> str:
    """CSV in which no cell is taken for a formula; None is an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str) and value.startswith(_DANGEROUS_STARTS):
        return f"'{value}"
    return value
