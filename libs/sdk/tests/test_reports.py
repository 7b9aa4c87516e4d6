"""A run's report: sums, words for what nobody measured, and nothing from outside that becomes markup."""

import csv
import io
import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
from rich.console import Console

from ergonaut.reports import render_html, render_terminal, report_of, to_csv, to_json
from ergonaut.reports.charts import NARROW, WIDE, hours_chart, places_chart, power_chart

from .made_up_runs import OWN, T0, component, elsewhere, footprint, place, power, report

OWN_MARK = "this run\N{RIGHT SINGLE QUOTATION MARK}s own place"
EVIL = "<script>alert(1)</script> & [bold red]x[/] \"'>"


class Page(HTMLParser):
    """What a browser would see: tags, their attributes, and text."""

    VOID = frozenset({"meta", "br", "link", "img"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += f" {data.strip()}"


def printed(report_width: int = 120, **changes: str) -> str:
    console = Console(width=report_width, file=io.StringIO(), color_system=None)
    console.print(render_terminal(report(**changes)))
    text = console.file
    assert isinstance(text, io.StringIO)
    return text.getvalue()


def test_headline_figures_are_those_of_the_ledger() -> None:
    told = footprint()
    made = report()
    assert made.energy.value == told.energy_joules == pytest.approx(931.4 + 118.2)
    assert made.energy.plus_minus == pytest.approx(931.4 * 0.3 + 118.2 * 0.5)
    assert made.carbon.value == pytest.approx(sum(part.carbon_grams_co2e or 0 for part in made.components))
    assert made.cost.value == pytest.approx(sum(part.cost_usd or 0 for part in made.components))
    assert made.cost.plus_minus == pytest.approx((931.4 * 0.3 + 118.2 * 0.5) / 3.6e6 * 0.15)


def test_what_was_not_measured_is_said_to_be_so_and_never_zero() -> None:
    made = report()
    assert made.not_measured == ("GPU 0",)
    page = Page(render_html(made)).text
    assert "Not measured, and so in no sum: GPU 0" in page
    line = next(line for line in printed().splitlines() if line.startswith("GPU 0"))
    assert "not measured" in line
    assert not re.search(r"\b0\b(?! )", line.replace("GPU 0", ""))


def test_mean_power_is_over_the_time_in_which_the_run_ran() -> None:
    made = report(paused_seconds=8.4)
    assert made.duration_seconds == pytest.approx(28.4)
    assert made.mean_power_watts == pytest.approx((931.4 + 118.2) / 20)


def test_a_component_that_was_measured_in_part_is_said_to_be_so() -> None:
    told = footprint()
    told.components.append(component("cpu", None, "not-measured", source="no meter on host-2"))
    made = report_of(told)
    assert made.not_measured == ("GPU 0", "part of CPU")
    assert (made.energy.value, made.energy.plus_minus) == (told.energy_joules, told.energy_joules_range)


def test_a_run_of_which_nothing_was_measured_has_no_figures() -> None:
    told = footprint()
    del told.components[:]
    told.components.append(component("cpu", None, "not-measured"))
    told.energy_joules = told.energy_joules_range = told.carbon_grams_co2e = told.cost_usd = 0
    made = report_of(told)
    assert (made.energy.value, made.carbon.value, made.cost.value) == (None, None, None)
    page = Page(render_html(made)).text
    assert "0 J" not in page
    assert page.count("not measured") >= 3
    assert '"energy_joules": null' in to_json(made)


@pytest.mark.parametrize("field", ["name", "run_id", "region", "zone", "machine_type", "job_id"])
def test_markup_in_a_text_from_outside_stays_text(field: str) -> None:
    page = Page(render_html(report(**{field: EVIL})))
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<script>alert(1)</script>" in page.text


def test_markup_in_sources_places_and_metrics_stays_text() -> None:
    told = footprint(metrics={EVIL: 1.0})
    told.components[0].source = told.components[0].component = EVIL
    series = power()
    for point in series:
        point.component = EVIL if point.component == "cpu" else point.component
    there = elsewhere()
    for each in there.places[1:]:
        each.region = each.offer_id = each.zone = EVIL
    there.method = EVIL
    page = Page(render_html(report_of(told, series, there)))
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count("<script>alert(1)</script>") > 5


def test_markup_for_a_terminal_stays_text() -> None:
    assert "[bold red]x[/]" in printed(name=EVIL)


def test_a_page_needs_nothing_but_itself() -> None:
    html = render_html(report())
    page = Page(html)
    assert not page.open
    assert not {"script", "link", "img", "iframe", "object", "form"} & {tag for tag, _ in page.tags}
    assert not [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert "url(" not in html
    assert "@import" not in html
    assert len(html) < 200_000


def test_a_page_tells_all_there_is() -> None:
    text = Page(render_html(report())).text
    for words in (
        "1.05 kJ",
        "± 32 %",
        "0.111 g",
        "$0.0000437",
        "28.4 s",
        "Power over time",
        "The same run elsewhere",
        "Cleanest: aws eu-north-1 c7i.xlarge",
        "The same run at other hours",
        "accuracy",
        "0.9722",
        "Expected",
        "cheapest and cleanest within the deadline",
        "load times 65 W",
        "Ember 2024",
        "none missing",
        "run-01kq4x7e1t9h2m8d5v3b6n0c2a",
        "job-01kq4x7dwk",
        "2026-03-01 12:30:05 UTC",
    ):
        assert words in text, words


def test_missing_samples_are_told() -> None:
    told = footprint()
    told.samples_missing = 3
    made = report_of(told)
    assert "3 samples are missing" in Page(render_html(made)).text
    console = Console(width=120, file=io.StringIO())
    console.print(render_terminal(made))
    assert "3 samples; the figures are too low" in console.file.getvalue()  # type: ignore[attr-defined]


def test_gaps_that_can_no_longer_be_proved_are_told() -> None:
    told = footprint()
    told.gaps_provable_from.FromDatetime(datetime(2026, 4, 1, tzinfo=UTC))
    made = report_of(told)
    page = Page(render_html(made)).text
    assert "Gaps before 2026-04-01 00:00:00 UTC are no longer provable" in page
    assert "none missing since 2026-04-01 00:00:00 UTC" in page
    console = Console(width=120, file=io.StringIO())
    console.print(render_terminal(made))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "no longer provable before 2026-04-01 00:00:00 UTC" in text
    assert "none missing since 2026-04-01 00:00:00 UTC" in text


def test_a_run_with_nothing_around_it_still_has_a_page() -> None:
    told = footprint(metrics={}, job_id="")
    told.run.ClearField("ended_at")
    text = Page(render_html(report_of(told))).text
    assert "elsewhere" not in text
    assert "still running" in text


def test_places_beyond_the_first_are_folded_and_the_own_place_is_always_in_sight() -> None:
    there = elsewhere()
    own = next(each for each in there.places if each.offer_id == OWN)
    own.cost_usd = 9.0
    ordered = sorted(there.places, key=lambda each: each.cost_usd)
    del there.places[:]
    there.places.extend(ordered)
    html = render_html(report_of(footprint(), power(), there))
    shown, folded = html.split("<details>")
    assert OWN_MARK in shown
    assert OWN_MARK not in folded
    assert html.count('<td class="right wide-only">') == len(ordered)


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_charts_keep_within_their_frame(width: float) -> None:
    for chart in (power_chart(report(), width), places_chart(report(), width), hours_chart(report(), width)):
        drawn = Page(chart)
        for tag, attributes in drawn.tags:
            for name in ("x", "x1", "x2", "cx"):
                if name in attributes:
                    assert 0 <= float(attributes[name] or 0) <= width, (tag, attributes)


def test_a_place_that_costs_nothing_is_drawn_at_the_left_edge() -> None:
    there = elsewhere()
    there.places[0].cost_usd = 0.0
    drawn = Page(places_chart(report_of(footprint(), (), there), WIDE))
    dots = [attributes for tag, attributes in drawn.tags if tag == "circle"]
    own = next(dot for dot in dots if dot["class"] == "dot own")
    assert float(own["cx"] or 0) == min(float(dot["cx"] or 0) for dot in dots)


def test_a_pause_in_the_samples_is_a_gap_in_the_chart() -> None:
    series = [point for point in power() if not 10 <= point.starts_at.seconds - int(T0.timestamp()) < 20]
    whole = power_chart(report_of(footprint(), power()), WIDE)
    broken = power_chart(report_of(footprint(), series), WIDE)
    assert (whole.count('class="area'), broken.count('class="area')) == (2, 4)


def test_a_flat_day_says_that_no_hour_is_better() -> None:
    there = elsewhere()
    for hour in there.hours:
        hour.carbon_grams_co2e = 0.1
    made = report_of(footprint(), (), there)
    assert "No hourly figures are known for this grid" in Page(render_html(made)).text
    assert "cleanest" not in hours_chart(made, WIDE)


def test_json_holds_every_figure_in_full() -> None:
    values = json.loads(to_json(report()))
    assert values["energy_joules"] == 931.4 + 118.2
    assert values["energy_joules_plus_minus"] == pytest.approx(338.52)
    assert values["components"][2]["energy_joules"] is None
    assert values["started_at"] == "2026-03-01T12:30:05+00:00"
    assert len(values["hours"]) == 24
    assert values["not_measured"] == ["GPU 0"]


def test_csv_has_a_row_a_component_and_the_total() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(report()))))
    assert [row["component"] for row in rows] == ["cpu", "dram", "gpu0", "machine", "total"]
    assert rows[2]["energy_joules"] == ""
    parts = sum(float(row["energy_joules"]) for row in rows[:2])
    assert float(rows[-1]["energy_joules"]) == pytest.approx(parts)


def test_a_spreadsheet_takes_no_cell_for_a_formula() -> None:
    told = footprint()
    told.components[0].source = '=HYPERLINK("http://evil")'
    assert '\'=HYPERLINK(""http://evil"")' in to_csv(report_of(told))


def test_a_place_is_named_without_repeating_itself() -> None:
    there = elsewhere()
    there.places.append(place("local/local/local/free", "DE", 1, 1))
    assert report_of(footprint(), (), there).places[-1].label == "local"


def test_importing_reports_brings_in_no_template_engine() -> None:
    code = "import sys, ergonaut.reports; print(sorted({'jinja2', 'matplotlib', 'rich', 'grpc'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
