"""What an estimate of a machine's making says of itself, wherever it is told."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ergonaut.events.telemetry import PowerSample
from ergonaut.runcontext import RunContext
from ergonaut.tracking.options import Options
from ergonaut.tracking.places import embodied_per_hour, embodied_source
from ergonaut.tracking.stamps import Stamps

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)


def machine_sample(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **environment: str) -> PowerSample:
    for name, value in (environment | {"ERGONAUT_HOME": str(tmp_path), "ERGONAUT_CLOUD_METADATA": "off"}).items():
        monkeypatch.setenv(name, value)

    context = RunContext(run_id="run-1", tenant="default")
    stamps = Stamps(context, Options.from_environment(os.environ))
    [sample] = stamps.machine(T0, T0 + timedelta(hours=1))
    return sample


def test_a_zone_of_no_table_is_told_of_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ERGONAUT_HOME", str(tmp_path))
    monkeypatch.delenv("ERGONAUT_PRICING_ADDRESS", raising=False)
    monkeypatch.setenv("ERGONAUT_ZONE", "qz-nowhere")
    stamps = [Stamps(RunContext(run_id="run-1"), Options.from_environment(os.environ)) for _ in range(2)]
    assert [one.intensity_at(T0).kind for one in stamps] == ["world-average", "world-average"]
    assert capsys.readouterr().err.count("zone QZ-NOWHERE is in no table") == 1


def test_a_zone_in_lower_case_is_the_same_zone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ERGONAUT_HOME", str(tmp_path))
    intensity = Options.from_environment(os.environ, zone="us-cal-ciso").intensity
    assert (intensity.zone, intensity.kind) == ("US-CAL-CISO", "yearly")


def test_an_estimate_of_a_machines_making_says_so_with_its_range(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sample = machine_sample(monkeypatch, tmp_path, ERGONAUT_EMBODIED_MACHINE="laptop")
    assert sample.embodied_grams_co2e == pytest.approx(280_000 / (4 * 365.25 * 24))
    assert "estimate for a laptop from embodied.csv, to within 50%" in sample.source


def test_a_figure_that_somebody_set_is_no_estimate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sample = machine_sample(monkeypatch, tmp_path, ERGONAUT_EMBODIED_GRAMS_CO2E="1461000")
    assert "estimate" not in sample.source


def test_what_a_lease_tells_is_not_taken_for_an_estimate_of_this_machine() -> None:
    environment = {"ERGONAUT_EMBODIED_MACHINE": "laptop"}
    assert embodied_source(environment, embodied_per_hour(environment, None)) != ""
    assert embodied_source(environment, 17.5) == ""
