"""What a run's parts add up to, and what is in no sum."""

from typing import Any

import pytest

from ergonaut_ledger.domain.footprints import ComponentSum, Footprint, RunRecord

from .told import RUN, T0


def part(component: str, joules: float | None, **changes: Any) -> ComponentSum:
    values: dict[str, Any] = {
        "method": "not-measured" if joules is None else "counter",
        "source": "",
        "range_fraction": None if joules is None else 0.1,
        "carbon_grams_co2e": None,
        "cost_usd": None,
        "samples": 1,
    }
    return ComponentSum(component, energy_joules=joules, **(values | changes))


def footprint(*parts: ComponentSum) -> Footprint:
    return Footprint(RunRecord(RUN, "", "digits", "succeeded", T0, None), parts, None)


def test_a_component_that_was_measured_in_part_counts_with_its_range_and_is_named_as_such() -> None:
    whole = footprint(part("gpu0", 100.0), part("gpu0", None, source="no driver on host-2"), part("dram", None))
    assert whole.not_measured == ["dram", "part of gpu0"]
    assert (whole.energy_joules, whole.energy_joules_range) == (100.0, pytest.approx(10.0))


def test_a_machine_is_nothing_that_was_not_measured_whether_its_rent_is_known_or_only_its_making() -> None:
    assert footprint(part("cpu", 1.0), part("machine", None, cost_usd=0.1)).not_measured == []
    assert footprint(part("cpu", 1.0), part("machine", None, embodied_grams_co2e=0.2)).not_measured == []
