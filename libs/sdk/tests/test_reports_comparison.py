"""Runs side by side, and which differences are worth anything."""

import csv
import io
import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ergonaut.api.ledger.v1 import analysis_pb2
from ergonaut.errors import Refused
from ergonaut.reports import (
    RunReport,
    analysis_of,
    compare,
    comparison_to_csv,
    comparison_to_json,
    render_comparison_html,
    render_comparison_terminal,
    report_of,
)
from ergonaut.reports.comparison import Standing, Verdict, verdict_of
from ergonaut.reports.doubts import doubt_between
from ergonaut.reports.numbers import MINUS, Figure, carbon, energy, energy_figure, money, significant

from .made_up_analysis import efficiency
from .made_up_runs import T0, component, footprint, report, stamp


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
    elsewhere = {"region": "lab"}
    comparison = compare([report(), report(1.2, **elsewhere), report(2.5, **elsewhere)])
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
    comparison = compare([report(name="<b>first</b>"), report(1.2, region="lab")])
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


def test_runs_that_were_measured_alike_can_be_told_apart_by_less_than_their_ranges() -> None:
    strangers = compare([report(), report(1.2, region="lab")]).pairs[0]
    alike = compare([report(), report(1.2)]).pairs[0]
    assert (strangers.verdict, strangers.is_shared) == (Verdict.WITHIN_RANGE, False)
    assert (alike.verdict, alike.is_shared) == (Verdict.BEYOND_RANGE, True)
    assert (alike.plus_minus_fraction or 0) < (strangers.plus_minus_fraction or 0)


@given(
    fixed=st.tuples(st.floats(1, 100), st.floats(1, 100)),
    loads=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    errors=st.tuples(st.floats(-0.3, 0.3), st.floats(-0.3, 0.3)),
)
def test_what_a_common_error_leaves_open_holds_the_truth(
    fixed: tuple[float, float], loads: tuple[float, float], errors: tuple[float, float]
) -> None:
    """A model of a fixed and a following part, each off by up to 30 %: the true difference lies within the doubt."""
    seconds, (idle, span) = 28.4, fixed
    told = [(idle + span * load) * seconds for load in loads]
    true = [(idle * (1 + errors[0]) + span * load * (1 + errors[1])) * seconds for load in loads]
    runs = [one_component(joules) for joules in told]
    doubt = doubt_between(runs[0], runs[1], lambda part: part.energy_joules)
    assert doubt is not None
    # What both have in common scales the difference and does not turn its sign.
    common = (true[0] / told[0] + true[1] / told[1]) / 2
    off_by = abs((true[1] - true[0]) / common - (told[1] - told[0]))
    assert off_by <= doubt.plus_minus / min(1.0, common) + 1e-6


def with_an_unmeasured_part(scale: float = 1.0, **run: str) -> RunReport:
    """The processor of a second host was not measured, as the accounts tell it: as an entry of its own behind the first."""
    told = footprint(scale=scale, **run)
    told.components.append(component("cpu", None, "not-measured", source="no meter on host-2", samples=7))
    return report_of(told)


def test_a_part_that_was_not_measured_leaves_the_range_of_the_part_that_was() -> None:
    whole, partly = compare([report(), report(1.2, region="lab")]), compare([report(), with_an_unmeasured_part(1.2, region="lab")])  # fmt: skip  # noqa: E501
    assert partly.pairs[0].plus_minus_fraction == pytest.approx(whole.pairs[0].plus_minus_fraction)
    assert partly.pairs[0].plus_minus_fraction == pytest.approx((931.4 * 0.3 + 118.2 * 0.5) * 2.2 / (931.4 + 118.2))
    assert partly.notes == (
        "7 of 35 samples of CPU of run-01kq4x7e1t9h2m8d5v3b6n0c2a were not measured; its figures are too low.",
    )


def test_a_component_that_two_meters_measured_counts_with_both_ranges() -> None:
    told = footprint(region="lab")
    told.components.append(component("cpu", 100.0, "counter", source="RAPL", range_fraction=0.05))
    doubt = doubt_between(report(), report_of(told), lambda part: part.energy_joules)
    assert doubt is not None
    assert doubt.plus_minus == pytest.approx(2 * (931.4 * 0.3 + 118.2 * 0.5) + 100 * 0.05)


def test_runs_of_equal_power_are_told_apart_also_where_one_was_paused() -> None:
    longer = {"ended_at": stamp(T0 + timedelta(seconds=28.4 * 2)), "paused_seconds": 28.4}
    plain, paused = compare([report(), report()]).pairs[0], compare([report(), report(**longer)]).pairs[0]
    assert paused.plus_minus_fraction == pytest.approx(plain.plus_minus_fraction)


def test_rounding_of_a_range_does_not_make_strangers_of_runs_that_were_measured_alike() -> None:
    told = footprint(scale=1.2)
    told.components[0].range_fraction = 0.1 + 0.2
    assert told.components[0].range_fraction != 0.3
    near, far = compare([report(), report_of(told)]).pairs[0], compare([report(), report(1.2)]).pairs[0]
    assert near.plus_minus_fraction == pytest.approx(far.plus_minus_fraction)


def one_component(joules: float) -> RunReport:
    given_ = footprint()
    del given_.components[1:]
    given_.components[0].energy_joules = given_.energy_joules = joules
    return report_of(given_)


def test_the_best_run_is_marked_with_those_that_cannot_be_told_from_it() -> None:
    comparison = compare([report(2.0), report(1.0), report(1.01)])
    assert [cell.standing for cell in comparison.rows[0].cells] == [Standing.OTHER, Standing.BEST, Standing.AS_GOOD]
    scores = compare([report(metrics={"val_accuracy": 0.9, "loss": 0.2, "epochs": 3.0}), report(metrics={"val_accuracy": 0.8, "loss": 0.1, "epochs": 4.0})])  # fmt: skip  # noqa: E501
    rows = {row.name: [cell.standing for cell in row.cells] for row in scores.rows}
    assert rows["val_accuracy"] == [Standing.BEST, Standing.OTHER]
    assert rows["loss"] == [Standing.OTHER, Standing.BEST]
    assert rows["epochs"] == [Standing.OTHER, Standing.OTHER]


def test_pairs_are_told_in_words() -> None:
    near, far = compare([report(name="a"), report(1.01, name="b")]), compare([report(name="a"), report(3.0, name="b")])
    assert near.words()[0].startswith("b (2) used 1.0 % more energy than a (1); that is within the error range of ± ")
    assert near.words()[0].endswith("for runs that were measured alike and may be no difference at all.")
    assert "200 % more energy than a (1); that is beyond the error range" in far.words()[0]
    many = compare([report(1 + n / 100, name=f"r{n}") for n in range(20)])
    assert len(many.pairs) == 3 * 190
    assert [sentence.partition(":")[0] for sentence in many.words()] == [
        "Energy against r0 (1), beyond the error range", "Energy against r0 (1), within the error range",
    ]  # fmt: skip


def test_units_are_compared_where_two_runs_counted_them() -> None:
    both = [report_of(footprint(scale=scale), analysis=analysis_of(scaled_efficiency(scale))) for scale in (1.0, 0.5)]
    rows = {row.name: row for row in compare(both).rows}
    assert rows["Energy per million tokens"].cells[1].change_text == f"{MINUS}50 %"
    assert rows["Energy per million tokens"].cells[1].verdict is Verdict.BEYOND_RANGE
    assert "29.2" in rows["Energy per 1,000 predictions"].cells[0].text
    alone = compare([both[0], report()])
    assert not any("per" in row.name for row in alone.rows)


def test_a_unit_is_as_doubtful_as_what_each_run_used_for_one() -> None:
    """One run is all a guess of 50 %, the other a counter's 1 %; the other has done ten times as much."""

    def made(joules: float, fraction: float, count: float, **run: str) -> RunReport:
        told = footprint(**run)
        del told.components[1:]
        told.components[0].CopyFrom(component("cpu", joules, "counter", range_fraction=fraction))
        told.energy_joules = joules
        unit = analysis_pb2.UnitFootprint(
            unit="epoch", count=count, energy_joules=joules / count, range_fraction=fraction
        )
        return report_of(told, analysis=analysis_of(analysis_pb2.GetEfficiencyResponse(units=[unit])))

    guessed, counted = made(100.0, 0.5, 1.0), made(1_200.0, 0.01, 10.0, region="lab")
    row = next(row for row in compare([guessed, counted]).rows if row.name == "Energy per epoch")
    assert [cell.figure.value for cell in row.cells] == [100.0, 120.0]
    assert row.cells[1].verdict is Verdict.WITHIN_RANGE


def scaled_efficiency(scale: float) -> analysis_pb2.GetEfficiencyResponse:
    told = efficiency()
    for unit in told.units:
        unit.energy_joules *= scale
    return told


def test_twenty_runs_fit_a_page_and_a_screen() -> None:
    many = compare([report(1 + n / 50, name=f"run-{n}") for n in range(20)])
    html = render_comparison_html(many)
    assert html.count('class="bar') >= 40
    assert "Each against each" in html
    console = Console(width=120, file=io.StringIO(), color_system=None)
    console.print(render_comparison_terminal(many))
    assert max(map(len, console.file.getvalue().splitlines())) <= 120  # type: ignore[attr-defined]
    pairs = json.loads(comparison_to_json(many))["pairs"]
    assert (len(pairs), pairs[0]["measured_alike"]) == (570, True)


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
