"""A run's report is the sum of its samples, and says how each figure came to be."""

from pathlib import Path

import pytest
from servers import Installation, accounted, write_job

SPIN = "import time\nwhile time.process_time() < 3: pass"


@pytest.fixture(scope="module")
def run_id(system: Installation, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = write_job(tmp_path_factory.mktemp("accounts") / "job", SPIN)
    run_id = str(system.cli_json("submit", str(folder))["run_id"])
    accounted(system, run_id)
    return run_id


def test_energy_carbon_and_cost_are_the_sums_of_the_samples(system: Installation, run_id: str) -> None:
    report, samples = accounted(system, run_id)
    assert report["samples_missing"] == 0
    for figure in ("energy_joules", "carbon_grams_co2e", "cost_usd"):
        assert report[figure] == pytest.approx(sum(sample.get(figure) or 0 for sample in samples), rel=1e-9)
        assert report[figure] > 0


def test_each_component_says_how_it_was_measured(system: Installation, run_id: str) -> None:
    parts = {part["component"]: part for part in system.cli_json("report", run_id)["components"]}
    assert parts["cpu"]["method"] in ("model", "counter")
    assert parts["cpu"]["range_fraction"] is None or parts["cpu"]["range_fraction"] > 0
    if "gpu" in parts:
        assert (parts["gpu"]["method"], parts["gpu"]["energy_joules"]) == ("not-measured", None)
    text = system.cli("report", run_id).stdout
    if parts["cpu"]["method"] == "model":
        assert f"model, ± {parts['cpu']['range_fraction']:.0%}".replace("%", " %") in text
    if "gpu" in parts:
        assert "not measured" in text


def test_an_unknown_place_uses_the_worlds_average_and_says_so(system: Installation, run_id: str) -> None:
    report = system.cli_json("report", run_id)
    assert report["zone"] == ""
    assert report["intensity_grams_per_kwh"] == pytest.approx(475)
    assert all(source.startswith("world-average") for source in report["intensity_sources"])


def test_the_html_report_needs_nothing_else(system: Installation, run_id: str, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    system.cli("report", run_id, "--html", str(page))
    text = page.read_text()
    assert run_id in text
    assert "<svg" in text
    assert not [mark for mark in ("<script", 'src="http', 'href="http', "@import") if mark in text]


def test_two_runs_are_compared(system: Installation, run_id: str, tmp_path: Path) -> None:
    other = system.cli_json("submit", str(write_job(tmp_path / "job", SPIN)))["run_id"]
    accounted(system, other)
    rows = {row["name"]: row for row in system.cli_json("compare", run_id, other)["rows"]}
    assert [cell["run_id"] for cell in rows["Energy"]["runs"]] == [run_id, other]


def test_a_run_that_nobody_knows_is_not_found(system: Installation) -> None:
    done = system.cli("report", "run-unknown", expect=66)
    assert "run-unknown" in done.stderr
