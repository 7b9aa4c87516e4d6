"""Every report in every form tells the ledger's figures: text, page, CSV and JSON, with ranges and with what nobody knows."""

import csv
import io

import pytest

from ergonaut.reports import compliance_of, compliance_to_csv, report_of, to_csv

from .made_up_analysis import compliance
from .made_up_runs import footprint

Rows = list[dict[str, str]]


def rows_of(text: str) -> Rows:
    """Rows under one header, each as wide as it."""
    head, *rows = csv.reader(io.StringIO(text))
    assert all(len(row) == len(head) for row in rows)
    assert len(set(head)) == len(head)
    return [dict(zip(head, row, strict=True)) for row in rows]


def number(cell: str) -> float | None:
    """What a program makes of a cell; None where it is empty."""
    return float(cell) if cell else None


def test_the_compliance_csv_has_both_methods_of_scope_2_and_scope_3_and_the_sci() -> None:
    told = compliance()
    figures = {row["name"]: row for row in rows_of(compliance_to_csv(compliance_of(told))) if row["row"] == "figure"}
    grams = {name: number(row["grams_co2e"]) for name, row in figures.items()}
    assert grams["scope2_location_based"] == told.scope2_location_grams_co2e
    assert grams["scope2_market_based"] == told.scope2_market_grams_co2e
    assert grams["scope3_embodied"] == told.scope3_embodied_grams_co2e
    assert grams["offsets"] == told.offset_grams_co2e
    energy, sci = figures["energy"], figures["sci"]
    assert (number(energy["energy_kwh"]), number(energy["energy_kwh_plus_minus"])) == (912.7, 109.5)
    assert number(figures["certified"]["energy_kwh"]) == told.certified_kwh
    assert number(sci["sci_grams_co2e_per_unit"]) == told.sci_grams_co2e
    assert (number(sci["functional_units"]), sci["functional_unit"]) == (2.4e9, "tokens")


def test_the_factors_of_the_compliance_csv_add_up_to_its_location_based_grams() -> None:
    told = compliance()
    factors = [row for row in rows_of(compliance_to_csv(compliance_of(told))) if row["row"] == "factor"]
    assert [(row["zone"], row["year"], row["kind"]) for row in factors] == [
        ("DE", "2024", "yearly"),
        ("", "2019", "world-average"),
    ]
    grams = sum(float(row["intensity_grams_per_kwh"]) * float(row["energy_joules"]) / 3.6e6 for row in factors)
    assert grams == pytest.approx(sum(f.intensity_grams_per_kwh * f.energy_joules / 3.6e6 for f in told.factors))


def test_what_a_compliance_csv_does_not_know_is_an_empty_cell() -> None:
    told = compliance()
    told.ClearField("scope3_embodied_grams_co2e")
    told.ClearField("sci_grams_co2e")
    figures = {row["name"]: row for row in rows_of(compliance_to_csv(compliance_of(told)))}
    assert figures["scope3_embodied"]["grams_co2e"] == figures["sci"]["sci_grams_co2e_per_unit"] == ""
    assert number(figures["scope2_market_based"]["grams_co2e"]) == told.scope2_market_grams_co2e


def test_the_run_csv_has_embodied_grams_where_they_are_known() -> None:
    told = footprint()
    told.components[0].embodied_grams_co2e = 0.02
    told.embodied_grams_co2e = 0.02
    rows = {row["component"]: row for row in rows_of(to_csv(report_of(told)))}
    assert number(rows["cpu"]["embodied_grams_co2e"]) == number(rows["total"]["embodied_grams_co2e"]) == 0.02
    assert rows["dram"]["embodied_grams_co2e"] == rows["gpu0"]["energy_joules"] == ""
    unknown = {row["component"]: row for row in rows_of(to_csv(report_of(footprint())))}
    assert unknown["total"]["embodied_grams_co2e"] == ""
