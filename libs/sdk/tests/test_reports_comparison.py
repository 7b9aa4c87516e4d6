"""Runs side by side, and which differences are worth anything."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ergonaut.errors import Refused
from ergonaut.reports import (
    compare,
    comparison_to_csv,
    comparison_to_json,
    render_comparison_html,
    render_comparison_terminal,
    report_of,
)
from ergonaut.reports.comparison import Verdict, verdict_of
from ergonaut.reports.numbers import Figure, carbon, energy, energy_figure, money, significant

from .made_up_runs import component, footprint, report


@pytest.mark.parametrize(
    ("first", "other", "verdict"),
    [
        (Figure(100, 30), Figure(100, 30), Verdict.SAME),
        (Figure(100, 30), Figure(160, 30), Verdict.WITHIN_RANGE),
        (Figure(100, 30), Figure(161, 30), Verdict.BEYOND_RANGE),
        (Figure(100, 0), Figure(100.1, 0), Verdict.BEYOND_RANGE),
        (Figure(100), Figure(101, 5), Verdict.PLAIN),
        (Figure(None), Figure(101, 5), Verdict.UNKNOWN),
        (Figure(0, 0), Figure(None), Verdict.UNKNOWN),
    ],
)
def test_a_difference_is_worth_what_the_ranges_leave(first: Figure, other: Figure, verdict: Verdict) -> None:
    assert verdict_of(first, other) is verdict


def test_each_run_is_held_against_the_first() -> None:
    comparison = compare([report(), report(1.2), report(2.5)])
    energy_row = comparison.rows[0]
    assert [cell.verdict for cell in energy_row.cells] == [Verdict.BASE, Verdict.WITHIN_RANGE, Verdict.BEYOND_RANGE]
    assert [cell.change_text for cell in energy_row.cells] == ["", "+20 %", "+150 %"]


def test_metrics_that_one_run_did_not_tell_are_no_zero() -> None:
    comparison = compare([report(metrics={"accuracy": 0.9}), report(metrics={"loss": 0.1})])
    accuracy = next(row for row in comparison.rows if row.name == "accuracy")
    assert [cell.text for cell in accuracy.cells] == ["0.9", "not told"]
    assert accuracy.cells[1].verdict is Verdict.UNKNOWN


def test_runs_measured_differently_are_noted() -> None:
    with_gpu = footprint(run_id="run-gpu")
    with_gpu.components[2].CopyFrom(component("gpu0", 5_000.0, "counter", range_fraction=0.05))
    comparison = compare([report(), report_of(with_gpu)])
    assert any("Not the same components were measured" in note for note in comparison.notes)
    assert compare([report(), report()]).notes == ()


def test_missing_samples_and_running_runs_are_noted() -> None:
    told = footprint(run_id="run-2")
    told.samples_missing = 4
    told.run.ClearField("ended_at")
    notes = compare([report(), report_of(told)]).notes
    assert notes == ("4 samples of run-2 are missing; its figures are too low.", "run-2 still runs; its figures grow.")


@pytest.mark.parametrize("count", [0, 1, 21])
def test_fewer_than_two_and_more_than_twenty_runs_are_refused(count: int) -> None:
    with pytest.raises(Refused, match="runs: "):
        compare([report()] * count)


def test_it_is_shown_in_every_form() -> None:
    comparison = compare([report(name="<b>first</b>"), report(1.2)])
    html = render_comparison_html(comparison)
    assert "<b>first</b>" not in html
    assert "&lt;b&gt;first&lt;/b&gt;" in html
    assert "within the error range" in html
    console = Console(width=120, file=io.StringIO(), color_system=None)
    console.print(render_comparison_terminal(comparison))
    assert "+20 % ≈" in console.file.getvalue()  # type: ignore[attr-defined]
    values = json.loads(comparison_to_json(comparison))
    assert values["rows"][0]["runs"][1]["change_fraction"] == pytest.approx(0.2)
    rows = list(csv.DictReader(io.StringIO(comparison_to_csv(comparison))))
    assert rows[1]["verdict"] == "within the error range"


@given(st.floats(1e-12, 1e15))
def test_numbers_have_three_digits_and_no_powers_of_ten(value: float) -> None:
    text = significant(value)
    assert "e" not in text
    assert float(text.replace(",", "")) == pytest.approx(value, rel=0.0051)


@given(st.floats(1e-9, 1e12))
def test_a_written_energy_is_the_energy(joules: float) -> None:
    number, unit = energy(joules).split(" ")
    size = {"J": 1, "kJ": 1e3, "Wh": 3600, "kWh": 3.6e6, "MWh": 3.6e9}[unit]
    assert float(number.replace(",", "")) * size == pytest.approx(joules, rel=0.0051)


def test_a_range_is_never_rounded_to_nothing() -> None:
    assert energy_figure(Figure(1234, 0.4)) == "1.23 ± 0.0004 kJ"


def test_a_hundredth_of_a_cent_is_still_a_number() -> None:
    assert money(0.0001) == "$0.000100"
    assert carbon(0.0001) == "0.000100 g"
