"""Sensors are read from trees as the kernel shows them, here laid out on disk: present, absent, unreadable and vanishing."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from ergonaut.events.telemetry import Method
from ergonaut.metering import Meter, Reading, battery, hwmon, jetson, sysfs
from ergonaut.metering.meters import HostContext
from ergonaut.metering.powersum import GAP_SECONDS_MAX, PowerSum, TooFarApart


class Host:
    """A host laid out under a folder, whose clock the test sets."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.seconds = 0.0
        self.context = HostContext(root=root, seconds=lambda: self.seconds)

    def put(self, folder: str, **files: object) -> Path:
        path = self.root / folder
        path.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (path / name).write_text(f"{content}\n")
        return path


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def the_one(meters: Sequence[Meter]) -> Reading:
    (reading,) = [reading for meter in meters for reading in meter.read()]
    return reading


BATTERY = "sys/class/power_supply/BAT0"


def test_a_discharging_battery_tells_what_the_host_takes(host: Host) -> None:
    host.put(BATTERY, type="Battery", status="Discharging", power_now=10_000_000)
    meters = battery.open_meters(host.context)
    the_one(meters)
    host.seconds = 2.0
    host.put(BATTERY, power_now=20_000_000)
    reading = the_one(meters)
    assert (reading.component, reading.method, reading.energy_joules) == ("platform", Method.POWER_SAMPLES, 30.0)
    assert getattr(meters[0], "intermittent", False)


def test_a_battery_that_tells_current_and_voltage_is_read_too(host: Host) -> None:
    host.put(BATTERY, type="Battery", status="Discharging", current_now=-1_000_000, voltage_now=12_000_000)
    meters = battery.open_meters(host.context)
    the_one(meters)
    host.seconds = 10.0
    assert the_one(meters).energy_joules == pytest.approx(120.0)


def test_on_mains_a_battery_measures_nothing_and_that_time_is_not_made_up(host: Host) -> None:
    host.put(BATTERY, type="Battery", status="Discharging", power_now=10_000_000)
    meters = battery.open_meters(host.context)
    the_one(meters)
    host.seconds = 10.0
    host.put(BATTERY, status="Charging")
    on_mains = the_one(meters)
    assert (on_mains.method, on_mains.energy_joules) == (Method.NOT_MEASURED, None)
    assert "mains" in on_mains.source
    host.seconds = 20.0
    host.put(BATTERY, status="Discharging")
    assert the_one(meters).energy_joules == 0.0


def test_a_mouse_is_not_the_hosts_battery(host: Host) -> None:
    host.put("sys/class/power_supply/hid-mouse", type="Battery", scope="Device", status="Discharging")
    host.put("sys/class/power_supply/AC", type="Mains", online=1)
    assert battery.open_meters(host.context) == []


def test_a_battery_that_is_taken_out_is_not_measured(host: Host) -> None:
    folder = host.put(BATTERY, type="Battery", status="Discharging", power_now=1)
    meters = battery.open_meters(host.context)
    (folder / "power_now").unlink()
    assert the_one(meters).method is Method.NOT_MEASURED


def test_power_between_readings_that_are_far_apart_is_not_made_up() -> None:
    now = [0.0]
    power = PowerSum(lambda: now[0])
    power.add(100.0)
    now[0] = GAP_SECONDS_MAX
    assert power.add(100.0) == 100.0 * GAP_SECONDS_MAX
    now[0] += GAP_SECONDS_MAX + 1
    with pytest.raises(TooFarApart):
        power.add(100.0)
    now[0] += 1.0
    assert power.add(100.0) == 100.0 * (GAP_SECONDS_MAX + 1)


def test_the_longest_interval_that_may_be_set_is_no_gap(host: Host) -> None:
    host.put(BATTERY, type="Battery", status="Discharging", power_now=10_000_000)
    meters = battery.open_meters(host.context)
    the_one(meters)
    # A minute, and as long again for a host that is too busy to keep it.
    host.seconds = 120.0
    assert the_one(meters).energy_joules == 1200.0


def test_a_gap_between_readings_is_not_measured_rather_than_nothing(host: Host) -> None:
    host.put(BATTERY, type="Battery", status="Discharging", power_now=10_000_000)
    meters = battery.open_meters(host.context)
    the_one(meters)
    host.seconds = GAP_SECONDS_MAX + 1
    reading = the_one(meters)
    assert (reading.method, reading.energy_joules) == (Method.NOT_MEASURED, None)
    assert "battery BAT0: was not read for" in reading.source
    host.seconds += 2.0
    assert the_one(meters).energy_joules == 20.0


def test_a_host_without_sensors_has_no_such_meters(host: Host) -> None:
    for module in (battery, hwmon, jetson):
        assert list(module.open_meters(host.context)) == []


HWMON = "sys/class/hwmon/hwmon"


def test_the_sockets_counters_of_an_amd_cpu_add_up_and_its_cores_do_not(host: Host) -> None:
    host.put(
        f"{HWMON}3",
        name="amd_energy",
        energy1_label="Ecore000",
        energy1_input=7_000_000,
        energy65_label="Esocket0",
        energy65_input=40_000_000,
        energy66_label="Esocket1",
        energy66_input=2_500_000,
    )
    reading = the_one(hwmon.open_meters(host.context))
    assert (reading.component, reading.method, reading.energy_joules) == ("cpu", Method.COUNTER, 42.5)


def test_a_servers_own_meter_is_the_platform(host: Host) -> None:
    host.put(f"{HWMON}0", name="power_meter", power1_average=212_000_000)
    meters = hwmon.open_meters(host.context)
    the_one(meters)
    host.seconds = 2.0
    reading = the_one(meters)
    assert (reading.component, reading.energy_joules) == ("platform", 424.0)


def test_an_amd_card_without_its_library_is_read_by_its_power(host: Host) -> None:
    host.put(f"{HWMON}1", name="amdgpu", power1_average=50_000_000, power1_cap=300_000_000)
    host.put(f"{HWMON}2", name="amdgpu", power1_input=80_000_000, power1_cap=300_000_000)
    meters = hwmon.open_meters(host.context)
    [meter.read() for meter in meters]
    host.seconds = 1.0
    told = {reading.component: reading.energy_joules for meter in meters for reading in meter.read()}
    assert told == {"gpu-amd0": 50.0, "gpu-amd1": 80.0}


def test_an_integrated_gpu_is_left_to_the_package_that_counts_it(host: Host) -> None:
    host.put(f"{HWMON}1", name="amdgpu", power1_average=9_000_000)
    host.put(f"{HWMON}2", name="i915")
    host.put(f"{HWMON}3", name="coretemp", temp1_input=45000)
    assert hwmon.open_meters(host.context) == []


def test_an_intel_card_is_read_by_its_counter(host: Host) -> None:
    host.put(f"{HWMON}1", name="xe", energy1_input=3_000_000)
    reading = the_one(hwmon.open_meters(host.context))
    assert (reading.component, reading.method, reading.energy_joules) == ("gpu-intel0", Method.COUNTER, 3.0)


def test_a_counter_for_root_only_says_how_to_grant_it(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.put(f"{HWMON}3", name="amd_energy", energy1_label="Esocket0", energy1_input=1)
    meters = hwmon.open_meters(host.context)

    def refused(path: object, flags: int) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(sysfs.os, "open", refused)
    reading = the_one(meters)
    assert reading.method is Method.NOT_MEASURED
    assert "sudo chmod a+r" in reading.source
    assert "energy1_input" in reading.source


def test_a_sensor_that_vanishes_or_talks_nonsense_is_not_measured(host: Host) -> None:
    folder = host.put(f"{HWMON}1", name="xe", energy1_input=3_000_000)
    meters = hwmon.open_meters(host.context)
    (folder / "energy1_input").write_text("N/A\n")
    assert the_one(meters).method is Method.NOT_MEASURED
    (folder / "energy1_input").unlink()
    assert the_one(meters).method is Method.NOT_MEASURED


def test_a_jetsons_rails_are_its_components(host: Host) -> None:
    host.put(
        "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3",
        in1_label="VDD_GPU_SOC", in1_input=5000, curr1_input=2000,
        in2_label="VDD_CPU_CV", in2_input=5000, curr2_input=1000,
        in3_label="VDD_IN", in3_input=19000, curr3_input=1000,
        in7_label="sum of shunt voltages",
    )  # fmt: skip
    meters = jetson.open_meters(host.context)
    [meter.read() for meter in meters]
    host.seconds = 1.0
    told = {reading.component: reading.energy_joules for meter in meters for reading in meter.read()}
    assert told == pytest.approx({"platform": 19.0, "cpu": 5.0, "gpu0": 10.0})


def test_a_rail_that_feeds_cpu_and_gpu_is_said_to(host: Host) -> None:
    host.put(
        "sys/bus/i2c/drivers/ina3221x/7-0040/iio:device0",
        rail_name_0="VDD_IN", in_power0_input=5000, rail_name_1="VDD_CPU_GPU_CV", in_power1_input=2000,
    )  # fmt: skip
    meters = jetson.open_meters(host.context)
    [meter.read() for meter in meters]
    host.seconds = 1.0
    readings = {reading.component: reading for meter in meters for reading in meter.read()}
    assert (readings["platform"].energy_joules, readings["cpu"].energy_joules) == pytest.approx((5.0, 2.0))
    assert readings["gpu"].method is Method.NOT_MEASURED
    assert "VDD_CPU_GPU_CV" in readings["gpu"].source


def test_a_sysfs_file_without_a_number_is_refused(tmp_path: Path) -> None:
    (tmp_path / "odd").write_text("on\n")
    assert sysfs.read_text(tmp_path / "odd") == "on"
    with pytest.raises(ValueError, match="on"):
        sysfs.read_number(tmp_path / "odd")
    assert sysfs.text_or_empty(tmp_path / "none") == ""


def test_a_card_without_its_library_says_that_its_users_are_not_told(host: Host) -> None:
    host.put("sys/class/hwmon/hwmon0", name="xe", energy1_input=5_000_000)
    reading = the_one(hwmon.open_meters(host.context))
    assert "who uses it is not told" in reading.source
