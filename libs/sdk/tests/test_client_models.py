"""What a run used, as a model's lineage tells it."""

import pytest

from ergonaut.api.ledger.v1 import ledger_pb2 as ledger
from ergonaut.client.models import lineage_from
from ergonaut.reports import report_of


def footprint(*parts: ledger.ComponentFootprint) -> ledger.GetRunFootprintResponse:
    told = ledger.GetRunFootprintResponse(components=parts)
    for part in parts:
        told.energy_joules += part.energy_joules
        told.energy_joules_range += part.energy_joules * part.range_fraction
        told.carbon_grams_co2e += part.carbon_grams_co2e
        told.cost_usd += part.cost_usd
    return told


MEASURED = ledger.ComponentFootprint(
    component="cpu", range_fraction=0.1, energy_joules=100.0, carbon_grams_co2e=2.0, cost_usd=0.01
)
RENT = ledger.ComponentFootprint(component="machine", cost_usd=0.5)
NOT_MEASURED = ledger.ComponentFootprint(component="gpu0", method="not-measured")


def test_a_lineage_says_what_the_runs_report_says() -> None:
    told = footprint(MEASURED, RENT, NOT_MEASURED)
    lineage, report = lineage_from(told), report_of(told)
    for name, figure in (
        ("energy_joules", report.energy),
        ("carbon_grams_co2e", report.carbon),
        ("cost_usd", report.cost),
    ):
        assert getattr(lineage, name) == pytest.approx(figure.value)
        assert getattr(lineage, f"{name}_range") == pytest.approx(figure.plus_minus)


def test_what_nobody_measured_is_not_told_and_never_0() -> None:
    assert lineage_from(footprint(NOT_MEASURED)).ListFields() == []
    assert [field.name for field, _ in lineage_from(footprint(RENT)).ListFields()] == ["cost_usd", "cost_usd_range"]
