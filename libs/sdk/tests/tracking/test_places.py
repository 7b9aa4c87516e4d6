"""What an estimate of a machine's making says of itself, wherever it is told."""

import json
import os
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ergonaut.events.telemetry import Method, PowerSample, Share
from ergonaut.metering import Charge, Place, Reading, host_name
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


def remember_place(home: Path, place: Place) -> None:
    """Leave a place behind as one that was found since this host's boot."""
    boot_id = Path("/proc/sys/kernel/random/boot_id")
    if not boot_id.exists():
        pytest.skip("a place is kept for a boot, which this system does not name")
    told = {"boot_id": boot_id.read_text().strip(), "asked_at": 0, "place": asdict(place)}
    (home / f"place-{host_name()}.json").write_text(json.dumps(told))


@pytest.mark.parametrize(("set_pue", "told"), [("", (1.15, "provider")), ("1.3", (1.3, "settings"))])
def test_the_pue_of_the_clouds_region_counts_in_grams_and_dollars_unless_one_was_set(
    set_pue: str, told: tuple[float, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {"ERGONAUT_HOME": str(tmp_path), "ERGONAUT_ZONE": "", "ERGONAUT_PUE": set_pue}.items():
        monkeypatch.setenv(name, value)
    remember_place(tmp_path, Place("DE", "aws", "eu-central-1", "", "metadata service of aws", 1.15, "aws (2023)"))
    options = Options.from_environment(os.environ, electricity_usd_per_kwh=0.2)
    stamps = Stamps(RunContext(run_id="run-1"), options)
    stamps._hours.wait(10)
    intensity = stamps.intensity_at(T0)
    reading = Reading("cpu", Method.COUNTER, "a counter", 0.05)
    sample = stamps.sample(Charge(Share.RUN, "run-1", reading, T0, T0 + timedelta(hours=1), 3.6e6), intensity)
    bases = stamps.bases(intensity)
    assert (bases["pue"], bases["pue_source"], bases["zone"]) == (*told, "DE")
    assert sample.carbon_grams_co2e == pytest.approx(381 * told[0])
    assert sample.cost_usd == pytest.approx(0.2 * told[0])


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
