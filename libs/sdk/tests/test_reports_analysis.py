"""What the analysis adds to reports, and the accounts: in every form, with what is unknown said to be so."""

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from ergonaut.api.ledger.v1 import analysis_pb2
from ergonaut.reports import (
    analysis_of,
    compliance_of,
    compliance_to_json,
    efficiency_to_csv,
    render_anomalies_terminal,
    render_compliance_html,
    render_compliance_terminal,
    render_efficiency_terminal,
    render_html,
    render_recommendations_terminal,
    render_statement_html,
    render_statement_terminal,
    render_terminal,
    report_of,
    statement_of,
    statement_to_csv,
    statement_to_json,
    to_json,
)
from ergonaut.reports.analysis import Phase
from ergonaut.reports.charts import NARROW, WIDE, power_chart
from ergonaut.reports.charts_bars import COLUMNS_MAX, together_of
from ergonaut.reports.charts_phases import phases_chart, top_phases
from ergonaut.reports.numbers import Figure
from ergonaut.reports.terminal import phases_for_terminal

from .made_up_analysis import analysis, anomalies, compliance, efficiency, line, recommendations, statement
from .made_up_runs import elsewhere, footprint, placement, power
from .test_reports import EVIL, Page


def printed(what: Any, width: int = 120) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(what)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def whole_report(epochs: int = 10) -> Any:
    told = footprint(project="apollo")
    told.embodied_grams_co2e, told.electricity_usd, told.rent_usd = 0.023, 0.0000437, 0.01
    told.intensity_bases.append("average, location-based, life-cycle")
    return report_of(told, power(), elsewhere(), placement(), analysis(epochs))


def test_a_page_tells_what_the_analysis_found() -> None:
    page = Page(render_html(whole_report()))
    for words in (
        "By phase", "epoch 10", "warm-up", "not measured", "By unit of work", "1,000 predictions", "million tokens",
        "What would save", "hetzner hel1", "saves $0.0000100, 0.100 g CO", "Power spike", "look for data that grows",
        "Where cost and carbon come from", "0.0230 g", "average, location-based, life-cycle", "apollo",
    ):  # fmt: skip
        assert words in page.text, words
    assert not page.open


def test_a_screen_tells_the_same() -> None:
    text = printed(render_terminal(whole_report()))
    for words in (
        "By phase",
        "epoch 10",
        "million tokens",
        "What would save",
        "Power spike",
        "electricity",
        "Embodied",
        "Basis",
    ):
        assert words in text, words


def test_a_report_without_an_analysis_has_none_of_its_parts() -> None:
    text = Page(render_html(report_of(footprint(), power()))).text
    for words in ("By phase", "By unit of work", "What would save", "Where cost and carbon come from", "Basis"):
        assert words not in text, words


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_anomalies_are_marked_on_the_power_chart_within_its_frame(width: float) -> None:
    chart = Page(power_chart(whole_report(), width))
    bands = [attributes for tag, attributes in chart.tags if tag == "rect" and attributes["class"] == "anomaly"]
    assert len(bands) == 2
    for band in bands:
        assert float(band["x"] or 0) + float(band["width"] or 0) <= width
        assert float(band["width"] or 0) >= 3


def test_an_anomaly_outside_the_samples_is_not_drawn() -> None:
    late = anomalies()[0]
    late.started_at.seconds += 9_000
    late.ended_at.seconds += 9_000
    chart = power_chart(report_of(footprint(), power(), analysis=analysis_of(anomalies=[late])), WIDE)
    assert "anomaly" not in chart


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("epochs", [1, 10, 500])
def test_the_chart_of_phases_keeps_within_its_frame(width: float, epochs: int) -> None:
    chart = Page(phases_chart(top_phases(analysis(epochs).phases), width))
    bars = [attributes for tag, attributes in chart.tags if tag == "rect"]
    assert len(bars) == -(-epochs // together_of(epochs, width - 68)) <= COLUMNS_MAX
    assert ("means of" in chart.text) == (len(bars) < epochs)
    assert all(float(bar["x"] or 0) >= 0 and float(bar["x"] or 0) + float(bar["width"] or 0) <= width for bar in bars)


def test_a_phase_that_was_not_measured_is_drawn_as_just_that() -> None:
    told = efficiency(3)
    told.phases[1].ClearField("energy_joules")
    chart = phases_chart(top_phases(analysis_of(told).phases), WIDE)
    assert chart.count('class="nothing"') == 1
    assert chart.count('class="bar c0"') == 2


def test_numbered_phases_are_drawn_before_those_around_them() -> None:
    assert {phase.phase for phase in top_phases(analysis().phases)} == {"epoch"}
    assert top_phases([]) == []


def test_units_are_told_in_sizes_that_people_speak_of() -> None:
    text = printed(render_efficiency_terminal(analysis()))
    tokens = next(row for row in text.splitlines() if row.startswith("million tokens"))
    assert "437 ± 140 J" in tokens
    assert "2,400,000" in tokens
    nothing = printed(render_efficiency_terminal(analysis_of(analysis_pb2.GetEfficiencyResponse())))
    assert "run.count" in nothing


def test_a_saving_that_nobody_knows_is_left_out_rather_than_zero() -> None:
    text = printed(render_recommendations_terminal(analysis()))
    assert "saves 0.0150 g CO₂e, 140 J, 14 % ± 100 %" in text.replace("\n", " ")
    assert "$0" not in text.split("Limit gpu0")[1]


def test_what_comes_from_outside_stays_text() -> None:
    found, advice, told = anomalies(), recommendations(), efficiency(2)
    found[0].because = advice[0].sentence = advice[0].basis = told.phases[0].phase = told.units[0].unit = EVIL
    told.phases[0].metrics[EVIL] = 1.0
    page = Page(render_html(report_of(footprint(), power(), analysis=analysis_of(told, advice, found))))
    assert "script" not in {tag for tag, _ in page.tags}
    made = analysis_of(told, advice, found)
    for text in (printed(render_anomalies_terminal(made)), printed(render_recommendations_terminal(made))):
        assert "[bold red]x[/]" in text


def test_json_and_csv_hold_the_analysis_in_full() -> None:
    values = json.loads(to_json(whole_report()))
    assert len(values["analysis"]["phases"]) == 11
    assert values["embodied_grams_co2e"] == 0.023
    rows = list(csv.DictReader(io.StringIO(efficiency_to_csv("run-1", analysis()))))
    assert [row["kind"] for row in rows].count("phase") == 11
    assert rows[10]["energy_joules"] == ""
    assert float(rows[-1]["energy_joules"]) == pytest.approx(1049.6 / 2.4e6)


def test_a_statement_is_told_in_every_form() -> None:
    made = statement_of(statement())
    for text in (Page(render_statement_html(made)).text, printed(render_statement_terminal(made))):
        for words in (
            "2026-01-01 to 2026-01-31",
            "Apollo",
            "812 ± 97 kWh",
            "$121.80",
            "not measured",
            "GO-DE-2026-0001",
            "lab-3",
        ):
            assert words in text, words
    rows = list(csv.DictReader(io.StringIO(statement_to_csv(made))))
    assert [row["label"] for row in rows] == ["apollo", "gemini", "", "dark", "total"]
    assert (rows[3]["energy_joules"], rows[1]["rent_usd"]) == ("", "")
    assert json.loads(statement_to_json(made))["lines"][3]["energy"]["value"] is None


def test_lines_that_are_left_out_are_told() -> None:
    told = statement()
    told.lines_omitted = 7
    assert "7 more" in Page(render_statement_html(statement_of(told))).text
    assert "7 more" in printed(render_statement_terminal(statement_of(told)))


def test_a_compliance_report_is_told_in_every_form() -> None:
    made = compliance_of(compliance())
    for text in (Page(render_compliance_html(made)).text, printed(render_compliance_terminal(made), 160)):
        for words in (
            "348 kg",
            "195 kg",
            "36.5 kg",
            "0.000160 g",
            "913 ± 110 kWh",
            "Ember 2024",
            "2024",
            "unknown",
            "Gold Standard",
        ):
            assert words in text, words
    assert json.loads(compliance_to_json(made))["energy_kwh_plus_minus"] == 109.5


def test_what_a_compliance_report_does_not_know_is_no_zero() -> None:
    told = compliance()
    told.ClearField("scope3_embodied_grams_co2e")
    told.ClearField("sci_grams_co2e")
    made = compliance_of(told)
    assert Page(render_compliance_html(made)).text.count("not known") >= 4
    assert printed(render_compliance_terminal(made)).count("not known") == 2


@pytest.mark.parametrize(
    "page",
    [
        lambda: render_statement_html(statement_of(evil_statement())),
        lambda: render_compliance_html(compliance_of(evil_compliance())),
    ],
)
def test_accounts_need_nothing_but_themselves_and_take_no_markup(page: Callable[[], str]) -> None:
    html = page()
    tags = {tag for tag, _ in Page(html).tags}
    assert not {"script", "link", "img", "iframe", "object", "form"} & tags
    assert "url(" not in html
    assert not Page(html).open


def evil_statement() -> Any:
    told = statement()
    told.lines.append(line(EVIL, 1.0, name=EVIL))
    told.notes.append(EVIL)
    told.certificates[0].registry = EVIL
    return told


def evil_compliance() -> Any:
    told = compliance()
    told.functional_unit = told.factors[0].source = told.certificates[0].certificate_id = EVIL
    told.notes.append(EVIL)
    return told


def test_a_phase_within_a_phase_stands_below_it_and_is_said_to_add_nothing() -> None:
    begun = datetime(2026, 3, 1, tzinfo=UTC)

    def phase(name: str, step: int | None, start: int, end: int) -> Phase:
        return Phase(
            name, step, begun + timedelta(seconds=start), begun + timedelta(seconds=end), Figure(5.0), None, None
        )

    nested = (phase("epoch", 1, 0, 9), phase("epoch/evaluation", None, 7, 9), phase("load/read", None, 9, 10))
    console = Console(width=80, file=io.StringIO())
    console.print(phases_for_terminal(nested))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line[:14].rstrip() for line in lines if line[:14].strip()][1:-1] == ["epoch 1", "  evaluation", "load/read"]
    assert "add nothing" in lines[-1]
