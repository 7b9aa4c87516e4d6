"""RAPL is read from a powercap tree as the kernel shows it, here laid out on disk."""

import os
from pathlib import Path
from typing import Any

import pytest

from ergonaut.events.telemetry import Method
from ergonaut.metering import HostSampler, ProcessScan, discover, sysfs
from ergonaut.metering.meters import CounterMark, Meter, Reading
from ergonaut.metering.rapl import RaplMeter
from ergonaut.runcontext import RunContext


class NoDriver:
    """Stands for the module pynvml on a host without a driver."""

    class NVMLError(Exception):
        value = 12

    def nvmlInit(self) -> None:
        raise self.NVMLError("NVML Shared Library Not Found")


def add_zone(powercap: Path, folder: str, name: str, microjoules: int, wraps_at: int = 262_143_328_850) -> Path:
    zone = powercap / folder
    zone.mkdir(parents=True)
    (zone / "name").write_text(f"{name}\n")
    (zone / "max_energy_range_uj").write_text(f"{wraps_at}\n")
    (zone / "energy_uj").write_text(f"{microjoules}\n")
    return zone / "energy_uj"


def readings_of(meter: RaplMeter) -> dict[str, Reading]:
    return {reading.component: reading for reading in meter.read()}


def components_of(meters: list[Meter]) -> dict[str, Reading]:
    return {reading.component: reading for meter in meters for reading in meter.read()}


def test_packages_add_up_and_what_lies_inside_them_does_not(tmp_path: Path) -> None:
    first = add_zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    core = add_zone(tmp_path, "intel-rapl:0:0", "core", 500_000)
    memory = add_zone(tmp_path, "intel-rapl:0:1", "dram", 0)
    second = add_zone(tmp_path, "intel-rapl:1", "package-1", 7_000_000)
    platform = add_zone(tmp_path, "intel-rapl:2", "psys", 0)
    again = add_zone(tmp_path, "intel-rapl-mmio:0", "package-0", 1_000_000)
    meter = RaplMeter(tmp_path)
    meter.read()
    for counter, microjoules in ((first, 3_000_000), (second, 10_000_000), (memory, 250_000)):
        counter.write_text(str(microjoules))
    for counter in (core, platform, again):
        counter.write_text("99000000")

    readings = readings_of(meter)

    assert {name: reading.energy_joules for name, reading in readings.items()} == {"cpu": 5.0, "dram": 0.25}
    assert {reading.method for reading in readings.values()} == {Method.COUNTER}
    assert readings["cpu"].inside == (("core", 98.5),)


def test_a_reading_carries_its_raw_counters_for_whoever_outlives_the_meter(tmp_path: Path) -> None:
    add_zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000, wraps_at=10_000_000)
    add_zone(tmp_path, "intel-rapl:1", "package-1", 6_000_000, wraps_at=20_000_000)
    assert readings_of(RaplMeter(tmp_path))["cpu"].marks == (
        CounterMark("intel-rapl:0", 5_000_000, 10_000_000),
        CounterMark("intel-rapl:1", 6_000_000, 20_000_000),
    )


def test_a_counter_that_wraps_goes_on_counting(tmp_path: Path) -> None:
    counter = add_zone(tmp_path, "intel-rapl:0", "package-0", 9_000_000, wraps_at=10_000_000)
    meter = RaplMeter(tmp_path)
    meter.read()
    counter.write_text("2000000")
    assert readings_of(meter)["cpu"].energy_joules == pytest.approx(3.0)
    counter.write_text("4000000")
    assert readings_of(meter)["cpu"].energy_joules == pytest.approx(5.0)


def test_a_counter_that_begins_anew_is_taken_for_no_wrap_and_goes_on_from_there(tmp_path: Path) -> None:
    now = [0.0]
    counter = add_zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000_000)
    meter = RaplMeter(tmp_path, lambda: now[0])
    meter.read()
    for at_seconds, microjoules, joules in ((1.0, 2_000_000, 0.0), (2.0, 102_000_000, 100.0)):
        now[0] = at_seconds
        counter.write_text(str(microjoules))
        assert readings_of(meter)["cpu"].energy_joules == pytest.approx(joules)


def test_what_was_used_while_a_counter_began_anew_is_not_measured_though_another_package_counted_on(
    tmp_path: Path,
) -> None:
    now = [0.0]
    counters = [add_zone(tmp_path, f"intel-rapl:{n}", f"package-{n}", 5_000_000_000) for n in range(2)]
    scan = ProcessScan(lambda _: RunContext(run_id="run-1"))
    sampler = HostSampler([RaplMeter(tmp_path, lambda: now[0])], scan)
    told: list[float | None] = []
    for counted in ((5_020_000_000, 5_030_000_000), (2_000_000, 5_060_000_000), (12_000_000, 5_090_000_000)):
        now[0] += 1.0
        for counter, microjoules in zip(counters, counted, strict=True):
            counter.write_text(str(microjoules))
        energies = [charge.energy_joules for charge in sampler.sample().charges]
        told.append(sum(one or 0.0 for one in energies) if energies and None not in energies else None)
    assert told == [pytest.approx(50.0), None, pytest.approx(40.0)]


def test_a_wrap_over_minutes_is_still_bridged(tmp_path: Path) -> None:
    now = [0.0]
    counter = add_zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000_000)
    meter = RaplMeter(tmp_path, lambda: now[0])
    meter.read()
    now[0] = 600.0
    counter.write_text("2000000")
    assert readings_of(meter)["cpu"].energy_joules == pytest.approx(262_143.32885 - 5_000 + 2)


def test_the_platform_counter_is_used_where_there_is_nothing_finer(tmp_path: Path) -> None:
    add_zone(tmp_path, "intel-rapl:0", "psys", 5)
    components = components_of(discover(tmp_path, NoDriver()))
    assert set(components) == {"platform", "gpu"}
    assert components["platform"].method is Method.COUNTER


def test_a_counter_that_may_not_be_read_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = add_zone(tmp_path, "intel-rapl:0", "package-0", 1)
    refuse_reading(counter, monkeypatch)
    reading = readings_of(RaplMeter(tmp_path))["cpu"]
    assert (reading.method, reading.energy_joules) == (Method.NOT_MEASURED, None)
    for way in ("sudo chmod a+r", "/etc/udev/rules.d/", "/etc/tmpfiles.d/"):
        assert way in reading.source


def test_a_model_stands_in_for_counters_that_may_not_be_read_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_reading(add_zone(tmp_path, "intel-rapl:0", "package-0", 1), monkeypatch)
    components = components_of(discover(tmp_path, NoDriver()))
    assert components["cpu"].method is Method.MODEL
    assert "sudo chmod a+r" in components["cpu"].source
    assert components["dram"].method is Method.MODEL


def test_the_package_is_counted_and_memory_modelled_where_rapl_has_no_counter_for_it(tmp_path: Path) -> None:
    add_zone(tmp_path, "intel-rapl:0", "package-0", 1)
    components = components_of(discover(tmp_path, NoDriver()))
    assert {name: reading.method for name, reading in components.items()} == {
        "cpu": Method.COUNTER,
        "dram": Method.MODEL,
        "gpu": Method.NOT_MEASURED,
    }


def test_without_rapl_the_figures_are_a_model_with_a_range(tmp_path: Path) -> None:
    components = components_of(discover(tmp_path, NoDriver()))
    assert components["cpu"].method is Method.MODEL
    assert (components["cpu"].range_fraction or 0.0) >= 0.4
    assert "no RAPL on this machine" in components["cpu"].source
    assert components["gpu"].energy_joules is None


def test_a_counter_that_vanishes_is_not_measured_any_more(tmp_path: Path) -> None:
    counter = add_zone(tmp_path, "intel-rapl:0", "package-0", 1)
    meter = RaplMeter(tmp_path)
    meter.read()
    counter.unlink()
    assert readings_of(meter)["cpu"].method is Method.NOT_MEASURED


def refuse_reading(counter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the kernel refuse this file even where the tests run as root."""
    opened = os.open

    def open_file(path: Any, flags: int, mode: int = 0o777) -> int:
        if str(path) == str(counter):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, flags, mode)

    monkeypatch.setattr(sysfs.os, "open", open_file)
