"""Phases and units: what they use adds up to what the run used."""

from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergonaut.events.runs import PhaseSpan
from ergonaut_ledger.domain.efficiency import Slice, counted, phase_footprints, unit_footprints
from ergonaut_ledger.domain.footprints import ComponentSum, Footprint, RunRecord

from .told import T0


def at(seconds: float) -> object:
    return T0 + timedelta(seconds=seconds)


def span(start: float, end: float, phase: str = "epoch", step: int | None = None) -> PhaseSpan:
    return PhaseSpan(phase=phase, step=step, started_at=at(start), ended_at=at(end))


def piece(start: float, end: float, joules: float | None) -> Slice:
    grams = None if joules is None else joules / 3.6e6 * 400
    return Slice(at(start), at(end), joules, None if joules is None else joules * 0.1, grams, None)  # type: ignore[arg-type]


def footprint(**changes: float | None) -> Footprint:
    values = {"energy_joules": 900.0, "carbon_grams_co2e": 0.1, "cost_usd": 0.01, "embodied_grams_co2e": None} | changes
    part = ComponentSum(component="cpu", method="model", source="", range_fraction=0.3, samples=9, **values)  # type: ignore[arg-type]
    return Footprint(RunRecord("run-1", "", "digits", "succeeded", T0, None), (part,), None)


@given(
    cuts=st.lists(st.floats(0.001, 99.999), max_size=30),
    pieces=st.lists(st.tuples(st.floats(0, 99), st.floats(0.01, 60), st.floats(0, 1e6)), min_size=1, max_size=40),
)
def test_phases_that_tile_the_run_add_up_to_the_run(
    cuts: list[float], pieces: list[tuple[float, float, float]]
) -> None:
    slices = [piece(start, min(start + length, 100), joules) for start, length, joules in pieces]
    edges = [0.0, *sorted({round(cut, 6) for cut in cuts}), 100.0]
    phases = [span(start, end, step=index) for index, (start, end) in enumerate(pairwise(edges)) if end > start]
    found = phase_footprints(phases, slices)
    total = sum(each.energy_joules or 0 for each in slices)
    assert sum(phase.energy_joules or 0 for phase in found) == pytest.approx(total, rel=1e-9, abs=1e-6)
    assert sum(phase.carbon_grams_co2e or 0 for phase in found) == pytest.approx(
        total / 3.6e6 * 400, rel=1e-9, abs=1e-6
    )
    assert all(phase.cost_usd is None for phase in found)


@given(
    ends=st.tuples(st.floats(-50, 150), st.floats(0.01, 200)),
    pieces=st.lists(st.tuples(st.floats(0, 99), st.floats(0.01, 60), st.floats(0, 1e6)), max_size=20),
)
def test_a_phase_has_of_each_sample_the_part_that_lies_within_it(
    ends: tuple[float, float], pieces: list[tuple[float, float, float]]
) -> None:
    start, end = round(ends[0], 6), round(ends[0] + ends[1], 6)
    slices = [piece(round(at, 6), round(at + length, 6), joules) for at, length, joules in pieces]
    [found] = phase_footprints([span(start, end)], slices)
    inside = [
        (
            joules,
            max(min(end, round(at + length, 6)) - max(start, round(at, 6)), 0) / (round(at + length, 6) - round(at, 6)),
        )
        for at, length, joules in pieces
    ]
    expected = sum(joules * share for joules, share in inside)
    assert (found.energy_joules or 0) == pytest.approx(expected, rel=1e-6, abs=1e-3)


def test_a_sample_over_an_edge_is_split_by_time() -> None:
    first, second = phase_footprints([span(0, 3), span(3, 10)], [piece(2, 6, 40.0)])
    assert (first.energy_joules, second.energy_joules) == (pytest.approx(10.0), pytest.approx(30.0))
    assert second.energy_joules_range == pytest.approx(3.0)


def test_a_phase_in_which_nothing_was_measured_has_no_joules() -> None:
    first, second, third = phase_footprints([span(0, 2), span(2, 4), span(4, 6)], [piece(0, 2, 0.0), piece(2, 4, None)])
    assert (first.energy_joules, second.energy_joules, third.energy_joules) == (0.0, None, None)


def test_nested_phases_are_parts_of_those_around_them() -> None:
    inner = span(1, 2, "epoch/evaluation")
    outer, within = phase_footprints([inner, span(0, 4)], [piece(0, 4, 40.0)])
    assert (outer.energy_joules, within.energy_joules) == (pytest.approx(40.0), pytest.approx(10.0))


def test_a_phase_told_twice_counts_once() -> None:
    assert len(phase_footprints([span(0, 1, step=1), span(0, 1, step=1)], [])) == 1
    assert counted({}, [span(0, 1, step=1), span(0, 1, step=1)], 0) == {"epoch": 1.0}


def test_a_phase_without_length_used_nothing_that_is_known() -> None:
    [found] = phase_footprints([span(1, 1)], [piece(0, 2, 5.0)])
    assert found.energy_joules is None


def test_units_are_the_whole_run_over_their_number() -> None:
    [tokens] = unit_footprints(footprint(), {"tokens": 300.0})
    assert (tokens.energy_joules, tokens.cost_usd) == (pytest.approx(3.0), pytest.approx(0.01 / 300))
    assert tokens.range_fraction == pytest.approx(0.3)


def test_software_carbon_intensity_needs_operational_and_embodied_carbon() -> None:
    [without] = unit_footprints(footprint(), {"tokens": 10.0})
    [both] = unit_footprints(footprint(embodied_grams_co2e=0.4), {"tokens": 10.0})
    [neither] = unit_footprints(footprint(carbon_grams_co2e=None, embodied_grams_co2e=0.4), {"tokens": 10.0})
    assert (without.sci_grams_co2e, neither.sci_grams_co2e) == (None, None)
    assert both.sci_grams_co2e == pytest.approx(0.05)


def test_what_was_not_measured_has_no_footprint_of_a_unit() -> None:
    [unit] = unit_footprints(footprint(energy_joules=None, carbon_grams_co2e=None), {"tokens": 10.0})
    assert (unit.energy_joules, unit.carbon_grams_co2e, unit.range_fraction) == (None, None, None)


def test_what_a_run_says_it_counted_is_believed_whatever_its_name() -> None:
    metrics = {"proofs": 5.0, "samples": 0.2, "steps": 9.0}
    assert counted(metrics, [], 0, told=["proofs"]) == {"proofs": 5.0}
    assert counted(metrics, [], 0, told=[]) == {}
    assert counted(metrics, [], 0) == {"samples": 0.2, "steps": 9.0}


def test_only_figures_that_count_are_units() -> None:
    metrics = {"tokens": 5.0, "accuracy": 0.9, "tokens_per_second": 7.0, "images": 0.0, "eval/samples": 3.0}
    phases = [span(0, 1, "training/epoch", 1), span(1, 2, "training/epoch", 2), span(0, 1, "warm-up")]
    assert counted(metrics, phases, 40) == {"tokens": 5.0, "eval/samples": 3.0, "epoch": 2.0, "predictions": 40.0}
