"""The CPU model rests on a table of what makers state, and says so; unknown names get the average of servers."""

import csv
from importlib import resources
from pathlib import Path

import pytest

from ergonaut.metering import HostLoad
from ergonaut.metering.cpu_model import CpuModel, open_meters
from ergonaut.metering.cpu_table import MODEL_RANGE_FRACTION, CpuPower, cpu_power
from ergonaut.metering.hosts import cpu_identity
from ergonaut.metering.meters import HostContext


def products() -> list[dict[str, str]]:
    text = (resources.files("ergonaut.metering") / "tables" / "cpus.csv").read_text()
    return list(csv.DictReader(text.splitlines()))


def test_every_cpu_of_the_table_has_a_source_and_plausible_numbers() -> None:
    rows = products()
    assert len(rows) >= 150
    assert len({row["name"] for row in rows}) == len(rows)
    for row in rows:
        assert row["source"].startswith("https://"), row
        assert row["basis"] in ("specification", "estimate"), row
        assert 5 <= int(row["tdp_watts"]) <= 500, row
        assert int(row["cores"]) <= int(row["threads"]) <= 2 * int(row["cores"]), row
        assert 0.9 <= int(row["tdp_watts"]) / int(row["threads"]) <= 24, row


def test_every_cpu_of_the_table_is_found_by_its_own_name() -> None:
    for row in products():
        power = cpu_power(row["name"])
        assert power is not None
        assert power.tdp_watts_per_thread == int(row["tdp_watts"]) / int(row["threads"]), row


@pytest.mark.parametrize(
    ("name", "watts_per_thread"),
    [
        ("Intel(R) Xeon(R) Platinum 8480+", 350 / 112),
        ("Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz", 120 / 28),
        ("AMD EPYC 7763 64-Core Processor", 280 / 128),
        ("AMD EPYC 9654P 96-Core Processor", 360 / 192),
    ],
)
def test_a_cpu_is_known_by_the_name_that_linux_shows(name: str, watts_per_thread: float) -> None:
    power = cpu_power(name)
    assert power is not None
    assert (power.tdp_watts_per_thread, power.range_fraction) == (watts_per_thread, MODEL_RANGE_FRACTION)


@pytest.mark.parametrize(
    ("name", "watts_per_thread", "watts_per_thread_most"),
    [
        ("12th Gen Intel(R) Core(TM) i9-12900K", 125 / 24, 241 / 24),
        ("AMD Ryzen 7 7840U with Radeon 780M Graphics", 28 / 16, 30 / 16),
    ],
)
def test_the_range_of_a_desktops_or_notebooks_cpu_takes_in_its_stated_turbo(
    name: str, watts_per_thread: float, watts_per_thread_most: float
) -> None:
    power = cpu_power(name)
    assert power is not None
    assert power.tdp_watts_per_thread == watts_per_thread
    model = CpuModel(power=power)
    (reading,) = model.read()
    assert model.full_watts_per_cpu * (1 + (reading.range_fraction or 0.0)) >= watts_per_thread_most


@pytest.mark.parametrize(
    ("name", "family", "model", "told"),
    [
        ("AMD EPYC", 25, 17, "Genoa"),
        ("AMD EPYC 7R13 Processor", 25, 1, "Milan"),
        ("AMD EPYC-Rome Processor", 23, 49, "Rome"),
        ("Intel Xeon Processor (Cascadelake)", 6, 85, "CascadeLake"),
        ("Intel Xeon Processor (Skylake, IBRS)", 6, 85, "Skylake"),
        ("Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz", 6, 106, "IceLake"),
        ("Intel(R) Xeon(R) CPU @ 2.20GHz", 0, 0, "Intel Xeon"),
        ("ARM Neoverse-N1", 0, 0, "Neoverse-N1"),
    ],
)
def test_a_guest_that_sees_only_a_family_gets_its_mean_with_a_wider_range(
    name: str, family: int, model: int, told: str
) -> None:
    power = cpu_power(name, family, model)
    assert power is not None
    assert f"family {told} " in power.source
    assert 1.0 < power.tdp_watts_per_thread < 6.0
    assert power.range_fraction > MODEL_RANGE_FRACTION


@pytest.mark.parametrize("name", ["", "QEMU Virtual CPU version 2.5+", "Common KVM processor", "Apple M99", "riscv64"])
def test_a_name_that_nobody_knows_is_in_no_family(name: str) -> None:
    assert cpu_power(name) is None


def test_an_estimate_of_somebody_else_has_a_wider_range_than_a_specification() -> None:
    graviton, epyc = cpu_power("AWS Graviton2"), cpu_power("AMD EPYC 7763")
    assert graviton is not None
    assert epyc is not None
    assert graviton.range_fraction > epyc.range_fraction


def loads(*busy_cpu_seconds: float) -> object:
    told = iter(HostLoad(100.0 + 10 * index, busy, 4, 1, 1) for index, busy in enumerate(busy_cpu_seconds))
    return lambda: next(told)


@pytest.mark.parametrize(("busy", "watts"), [(0.0, 4 * 2.5 * 0.20), (40.0, 4 * 2.5 * 1.08)])
def test_a_guest_has_the_part_of_the_power_that_it_has_of_the_threads(busy: float, watts: float) -> None:
    model = CpuModel(power=CpuPower(2.5, 0.4, "made up"), load=loads(7.0, 7.0 + busy))  # type: ignore[arg-type]
    (before,), (after,) = model.read(), model.read()
    assert (after.energy_joules or 0) - (before.energy_joules or 0) == pytest.approx(watts * 10)
    assert after.idle_fraction == pytest.approx(0.20 / 1.08)


def test_the_straight_line_is_within_its_range_of_what_was_measured_at_work() -> None:
    for load, part_of_tdp in ((0.1, 0.32), (0.5, 0.75), (1.0, 1.02)):
        line = 0.20 + (1.08 - 0.20) * load
        assert abs(line - part_of_tdp) / part_of_tdp <= MODEL_RANGE_FRACTION / 2


def host_with(tmp_path: Path, cpuinfo: str, vendor: str = "") -> HostContext:
    for path, text in (("proc/cpuinfo", cpuinfo), ("sys/class/dmi/id/sys_vendor", vendor)):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return HostContext(root=tmp_path)


def test_the_model_of_a_host_follows_its_cpuinfo(tmp_path: Path) -> None:
    cpuinfo = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\n"
    host = host_with(tmp_path, cpuinfo)
    (reading,) = open_meters(host)[0].read()
    assert "family Genoa" in reading.source


def test_an_unknown_cpu_gets_the_average_server_and_says_so(tmp_path: Path) -> None:
    (reading,) = open_meters(host_with(tmp_path, "model name\t: Nobody's CPU\n"))[0].read()
    assert "SPECpower" in reading.source
    assert reading.idle_fraction == pytest.approx(0.74 / 3.5)


@pytest.mark.parametrize(("vendor", "name"), [("Amazon EC2", "AWS Graviton2"), ("Oracle", "ARM Neoverse-N1")])
def test_an_arm_cpu_is_known_by_its_part_number(tmp_path: Path, vendor: str, name: str) -> None:
    cpuinfo = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n"
    assert cpu_identity(host_with(tmp_path, cpuinfo, vendor)).name == name
