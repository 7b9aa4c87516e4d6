"""Every report in every form tells the ledger's figures: text, page, CSV and JSON, with ranges and with what nobody knows."""

import csv
import io
import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console

from ergonaut.api.ledger.v1 import analysis_pb2, ledger_pb2
from ergonaut.reports import (
    Usage,
    analysis_of,
    anomalies_to_csv,
    compliance_of,
    compliance_to_csv,
    efficiency_to_csv,
    recommendations_to_csv,
    render_anomalies_html,
    render_anomalies_terminal,
    render_compliance_html,
    render_efficiency_html,
    render_efficiency_terminal,
    render_recommendations_html,
    render_recommendations_terminal,
    render_statement_html,
    render_usage_html,
    render_usage_terminal,
    report_of,
    statement_of,
    to_csv,
    usage_of,
    usage_to_csv,
)
from ergonaut.reports.charts import NARROW, WIDE
from ergonaut.reports.charts_accounts import covered_chart, emissions_chart, statement_charts, usage_charts
from ergonaut.reports.charts_analysis import anomalies_chart, savings_chart, units_chart
from ergonaut.reports.charts_bars import ENERGY, axis

from .made_up_analysis import (
    FEBRUARY,
    JANUARY,
    analysis,
    anomalies,
    compliance,
    efficiency,
    line,
    recommendations,
    statement,
    usage,
    use,
)
from .made_up_runs import footprint
from .test_reports import EVIL, Page

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


def printed(what: Any, width: int = 160) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(what)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def usage_made(step: str = "day") -> Usage:
    return usage_of(usage(step), (JANUARY, FEBRUARY), ["host"])


def figures(chart: str, class_: str) -> list[dict[str, str | None]]:
    """The marks of a class in a chart."""
    return [attributes for _, attributes in Page(chart).tags if class_ in (attributes.get("class") or "").split()]


def test_recommendations_tell_the_same_in_every_form() -> None:
    made = analysis_of(recommendations=recommendations())
    for told, row in zip(recommendations(), rows_of(recommendations_to_csv(made)), strict=True):
        assert (row["kind"], row["subject"], row["sentence"], row["basis"]) == (
            told.kind,
            told.subject,
            told.sentence,
            told.basis,
        )
        assert (number(row["saving_fraction"]), number(row["range_fraction"])) == (
            told.saving_fraction,
            told.range_fraction,
        )
        assert number(row["saving_grams_co2e"]) == told.saving_grams_co2e
        assert number(row["saving_joules"]) == (told.saving_joules if told.HasField("saving_joules") else None)
    for text in (Page(render_recommendations_html(made)).text, printed(render_recommendations_terminal(made))):
        for words in ("Run digits on hetzner hel1", "saves $0.0000100, 0.100 g CO₂e, 90 % ± 32 %", "140 J", "McDonald"):
            assert words in text.replace("\n", " "), words


def test_a_saving_whose_range_nobody_knows_says_so_in_every_form() -> None:
    told = recommendations()[:1]
    told[0].ClearField("range_fraction")
    made = analysis_of(recommendations=told)
    assert "90 %, range not known" in printed(render_recommendations_terminal(made))
    assert Page(render_recommendations_html(made)).text.count("range not known") >= 2
    (row,) = rows_of(recommendations_to_csv(made))
    assert row["range_fraction"] == ""


def test_anomalies_tell_the_same_in_every_form() -> None:
    made = analysis_of(anomalies=anomalies())
    for told, row in zip(anomalies(), rows_of(anomalies_to_csv(made)), strict=True):
        assert (row["anomaly_id"], row["run_id"], row["component"]) == (told.anomaly_id, told.run_id, told.component)
        assert (number(row["value"]), number(row["expected"]), row["unit"]) == (told.value, told.expected, told.unit)
        assert row["started_at"] == told.started_at.ToDatetime().isoformat() + "+00:00"
        assert told.because in printed(render_anomalies_terminal(made))
    page = Page(render_anomalies_html(made)).text
    for words in ("92.0 W", "36.0 W", "130 J a step", "100 J a step", "2026-03-01 12:30:16 UTC", "1.50 s"):
        assert words in page, words


def test_efficiency_tells_the_same_in_every_form() -> None:
    told, made = efficiency(), analysis()
    rows = rows_of(efficiency_to_csv("run-1", made))
    units = {row["name"]: row for row in rows if row["kind"] == "unit"}
    for unit in told.units:
        row = units[unit.unit]
        assert number(row["energy_joules"]) == unit.energy_joules
        assert number(row["energy_joules_plus_minus"]) == pytest.approx(unit.energy_joules * 0.32)
        assert number(row["carbon_grams_co2e_plus_minus"]) == pytest.approx(unit.carbon_grams_co2e * 0.32)
        assert number(row["sci_grams_co2e"]) == unit.sci_grams_co2e
    page = Page(render_efficiency_html("run-1", made)).text
    for text in (page, printed(render_efficiency_terminal(made))):
        for words in (
            "1,000 predictions",
            "29.2 ± 9.3 J",
            "0.00308 ± 0.00099 g",
            "0.00372 g",
            "epoch 10",
            "102 ± 33 J",
        ):
            assert words in text, words
    assert "not measured" in page


def test_usage_tells_the_same_in_every_form() -> None:
    made = usage_made()
    rows = rows_of(usage_to_csv(made))
    for told, row in zip(usage().usage, rows, strict=True):
        known = told.HasField("energy_joules")
        assert row["host"] == told.host
        for name in ("energy_joules", "energy_joules_range", "carbon_grams_co2e", "embodied_grams_co2e", "cost_usd"):
            assert number(row[name]) == (getattr(told, name) if known else None), name
        assert int(row["samples"]) == told.samples
    assert made.total.energy.value == sum(told.energy_joules for told in usage().usage)
    page, text = Page(render_usage_html(made)).text, printed(render_usage_terminal(made))
    for words in ("2026-01-02 00:00", "not measured", "2.00 ± 0.40 kWh", "762 g", "80.0 g", "$0.300", "17.0 ± 3.4 kWh"):
        assert words in page, words
        assert words in text, words
    assert "Not measured, and so in no sum: lab, in 1 of 8 lines" in page


def test_a_machines_rent_is_not_told_as_energy_that_nobody_measured() -> None:
    rent = ledger_pb2.Usage(component="machine", cost_usd=12.0, samples=9)
    made = usage_of(ledger_pb2.GetUsageResponse(usage=[rent], step="total"), (JANUARY, FEBRUARY), ["component"])
    assert made.not_measured == ()
    row = next(row for row in printed(render_usage_terminal(made)).splitlines() if "machine" in row)
    assert "not measured" not in row
    assert "$12.00" in row


@pytest.mark.parametrize("page", [render_recommendations_html, render_anomalies_html])
def test_a_page_of_nothing_says_so(page: Callable[[Any], str]) -> None:
    told = Page(page(analysis_of()))
    assert "Nothing" in told.text
    assert not {"section", "svg"} & {tag for tag, _ in told.tags}


def test_efficiency_and_usage_of_nothing_say_so() -> None:
    assert "run.count" in Page(render_efficiency_html("run-1", analysis_of())).text
    made = usage_of(ledger_pb2.GetUsageResponse(step="day"), (JANUARY, FEBRUARY))
    assert "Nothing was measured" in Page(render_usage_html(made)).text
    assert "Nothing was measured" in printed(render_usage_terminal(made))
    assert rows_of(usage_to_csv(made)) == rows_of(recommendations_to_csv(analysis_of())) == []


def evil_pages() -> list[str]:
    advice, found, told, used = recommendations(), anomalies(), efficiency(2), usage()
    advice[0].sentence = advice[0].subject = advice[0].basis = advice[0].kind = EVIL
    found[0].because = found[0].component = found[0].kind = found[0].unit = EVIL
    told.units[0].unit = told.phases[0].phase = EVIL
    used.usage[0].host = EVIL
    made = analysis_of(told, advice, found)
    days = statement()
    days.lines[0].label = days.lines[0].name = EVIL
    return [
        render_recommendations_html(made),
        render_anomalies_html(made),
        render_efficiency_html(EVIL, made),
        render_usage_html(usage_of(used, (JANUARY, FEBRUARY), ["host"])),
        render_statement_html(statement_of(days)),
    ]


@pytest.mark.parametrize("number_of_page", range(5))
def test_new_pages_need_nothing_but_themselves_and_take_no_markup(number_of_page: int) -> None:
    html = evil_pages()[number_of_page]
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object", "form"} & {tag for tag, _ in page.tags}
    assert "<script>alert(1)" in page.text
    assert "url(" not in html
    assert not page.open


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("step", ["day", "total"])
def test_every_chart_keeps_within_its_frame(width: float, step: str) -> None:
    made, told = analysis(), compliance_of(compliance())
    charts = [
        units_chart(made.units, width),
        savings_chart(made.recommendations, width),
        anomalies_chart(made.anomalies, width),
        emissions_chart(told, width),
        covered_chart(told, width),
        *(draw(width) for draw in statement_charts(statement_of(statement()).lines).values()),
        *(draw(width) for draw in usage_charts(usage_made(step)).values()),
    ]
    for chart in charts:
        boxes = [attributes for tag, attributes in Page(chart).tags if tag == "rect"]
        assert boxes or figures(chart, "dot")
        for box in boxes:
            assert 0 <= float(box["x"] or 0) <= float(box["x"] or 0) + float(box["width"] or 0) <= width


def test_bars_are_as_long_as_their_figures() -> None:
    told = compliance()
    location, market, scope3 = (
        float(bar["width"] or 0) for bar in figures(emissions_chart(compliance_of(told), WIDE), "bar")
    )
    assert market / location == pytest.approx(told.scope2_market_grams_co2e / told.scope2_location_grams_co2e, rel=1e-3)
    assert scope3 / location == pytest.approx(
        told.scope3_embodied_grams_co2e / told.scope2_location_grams_co2e, rel=1e-2
    )


def test_the_compliance_page_draws_both_methods_and_says_how_far_the_energy_may_be_off() -> None:
    page = render_compliance_html(compliance_of(compliance()))
    text = Page(page).text
    assert page.count('aria-label="Emissions by scope and method"') == 2
    for words in (
        "The energy may be off by ± 12 %",
        "not to be added up",
        "305 kg, 381 g/kWh",
        "covered by certificates",
    ):
        assert words in text, words
    unknown = compliance()
    unknown.ClearField("scope3_embodied_grams_co2e")
    assert len(figures(emissions_chart(compliance_of(unknown), WIDE), "nothing")) == 1


def test_a_statement_by_day_is_drawn_over_time_with_days_without_runs_left_blank() -> None:
    told = statement()
    del told.lines[:]
    told.lines.extend([line("2026-01-03", 4.0), line("2026-01-01", 2.0), line("2026-01-05", None, rent_usd=3.0)])
    charts = statement_charts(statement_of(told).lines)
    energy = charts["Energy"](WIDE)
    first, third = (float(bar["height"] or 0) for bar in figures(energy, "bar"))
    assert third / first == pytest.approx(2.0, rel=1e-2)
    assert len(figures(energy, "nothing")) == 1
    assert all(f"01-0{day}" in Page(energy).text for day in range(1, 6))
    assert "Energy by day" in Page(render_statement_html(statement_of(told))).text


def test_a_line_that_only_looks_like_a_day_is_no_day() -> None:
    told = statement()
    told.lines[0].label = "2026-02-30"
    assert "Apollo" in Page(statement_charts(statement_of(told).lines)["Energy"](WIDE)).text


def test_what_was_not_measured_in_a_step_is_a_dashed_box_on_its_column() -> None:
    energy = usage_charts(usage_made())["Energy"](WIDE)
    assert len(figures(energy, "nothing")) == 1
    assert "01-02: 2.00 ± 0.40 kWh; not measured: lab" in Page(energy).text
    assert "01-04: nothing told" not in Page(energy).text


def test_a_long_time_is_drawn_as_means_that_say_so() -> None:
    hours = [use(JANUARY + timedelta(hours=hour), "", 3.6e6) for hour in range(31 * 24)]
    made = usage_of(ledger_pb2.GetUsageResponse(usage=hours, step="hour"), (JANUARY, FEBRUARY))
    energy = Page(usage_charts(made)["Energy"](WIDE))
    assert "hour, UTC, means of 7" in energy.text
    assert "01-01 00:00: 1.00 ± 0.20 kWh" in energy.text


def test_a_unit_that_was_not_measured_and_one_whose_range_reaches_nothing_are_drawn() -> None:
    units = analysis_pb2.GetEfficiencyResponse(
        units=[
            analysis_pb2.UnitFootprint(unit="epoch", count=1, energy_joules=100.0, range_fraction=1.5),
            analysis_pb2.UnitFootprint(unit="tokens", count=9),
        ]
    )
    chart = units_chart(analysis_of(units).units, NARROW)
    assert (len(figures(chart, "dot")), len(figures(chart, "nothing"))) == (1, 1)
    assert units_chart(analysis_of(analysis_pb2.GetEfficiencyResponse(units=units.units[1:])).units, WIDE) == ""


def test_the_whisker_of_a_saving_ends_at_all_of_it() -> None:
    chart = savings_chart(analysis().recommendations, WIDE)
    assert max(float(mark["x2"] or 0) for mark in figures(chart, "whisker")) <= WIDE - 2
    assert "90 %, from 62 to 100" in Page(chart).text


@pytest.mark.parametrize("most_joules", [0.0, 0.3, 350e3, 4e6, 5e9])
def test_marks_of_an_axis_are_round_in_their_unit_and_reach_the_most(most_joules: float) -> None:
    marks = axis(ENERGY, most_joules)
    assert marks[-1][0] >= most_joules
    for _, text in marks[1:]:
        value = float(text.split()[0].replace(",", ""))
        mantissa = value / 10 ** math.floor(math.log10(value))
        assert mantissa * 4 == pytest.approx(round(mantissa * 4)), text
