"""Meters that are programs are spoken to at the wire: real processes that answer as ipmitool and powermetrics do."""

import plistlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ergonaut.events.telemetry import Method
from ergonaut.metering import Reading, apple, ipmi
from ergonaut.metering.ipmi import ASK_EVERY_SECONDS, IpmiMeter
from ergonaut.metering.meters import HostContext

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the programs are of Unix")

DCMI = """\

    Instantaneous power reading:                   {watts} Watts
    Minimum during sampling period:                 18 Watts
    Maximum during sampling period:                612 Watts
    Average power reading over sample period:      230 Watts
    IPMI timestamp:                           Sat Nov 21 11:00:00 2026
    Sampling period:                          00000001 Seconds.
    Power reading state is:                   activated
"""


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the interpreters that stand in for the programs take longer to start than the programs."""
    monkeypatch.setattr(ipmi, "_FIRST_ANSWER_SECONDS_MAX", 20.0)
    monkeypatch.setattr(apple, "_FIRST_SECONDS_MAX", 20.0)


def program(folder: Path, name: str, body: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{body}")
    path.chmod(0o755)
    return path


def ipmitool(folder: Path, watts: int) -> Path:
    (folder / "watts").write_text(DCMI.format(watts=watts))
    return program(
        folder,
        "ipmitool",
        "import sys\nassert sys.argv[1:] == ['dcmi', 'power', 'reading'], sys.argv\n"
        f"print(open({str(folder / 'watts')!r}).read())\n",
    )


def until(condition: Callable[[], bool]) -> None:
    """Wait for another process, which no clock of ours can hurry."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_controller_is_asked_now_and_then_and_its_power_summed_up(tmp_path: Path) -> None:
    now = [1000.0]
    meter = IpmiMeter(str(ipmitool(tmp_path, 200)), lambda: now[0])
    (first,) = meter.read()
    assert (first.component, first.method, first.energy_joules) == ("platform", Method.POWER_SAMPLES, 0.0)
    now[0] += 10
    (reading,) = meter.read()
    assert reading.energy_joules == 2000.0
    ipmitool(tmp_path, 400)
    now[0] += ASK_EVERY_SECONDS
    meter.read()
    until(lambda: meter._asking is None or meter._asking.poll() is not None)
    meter.read()
    now[0] += 1
    (before,) = meter.read()
    now[0] += 1
    (after,) = meter.read()
    assert (after.energy_joules or 0) - (before.energy_joules or 0) == pytest.approx(400.0)
    meter.close()
    meter.close()


def test_a_controller_that_refuses_is_not_measured_and_says_why(tmp_path: Path) -> None:
    path = program(tmp_path, "ipmitool", "print('DCMI request failed because: Invalid command (c1)'); exit(1)\n")
    (reading,) = IpmiMeter(str(path)).read()
    assert (reading.method, reading.energy_joules) == (Method.NOT_MEASURED, None)
    assert "Invalid command" in reading.source


def test_a_controller_whose_measuring_is_off_is_not_measured(tmp_path: Path) -> None:
    path = program(tmp_path, "ipmitool", f"print({DCMI.format(watts=0).replace('activated', 'deactivated')!r})\n")
    (reading,) = IpmiMeter(str(path)).read()
    assert reading.method is Method.NOT_MEASURED


def test_a_program_that_vanishes_is_not_measured(tmp_path: Path) -> None:
    now = [0.0]
    path = ipmitool(tmp_path, 200)
    meter = IpmiMeter(str(path), lambda: now[0])
    assert meter.read()[0].measured
    path.unlink()
    now[0] += ASK_EVERY_SECONDS
    (reading,) = meter.read()
    assert reading.method is Method.NOT_MEASURED
    assert "cannot be started" in reading.source


def test_a_controller_that_hangs_is_given_up_and_never_waited_for(tmp_path: Path) -> None:
    now = [0.0]
    path = ipmitool(tmp_path, 200)
    meter = IpmiMeter(str(path), lambda: now[0])
    meter.read()
    program(tmp_path, "ipmitool", "import time; time.sleep(600)\n")
    now[0] += ASK_EVERY_SECONDS
    assert meter.read()[0].measured
    hung = meter._asking
    assert hung is not None
    now[0] += 11
    (reading,) = meter.read()
    assert "no answer within" in reading.source
    assert hung.poll() is not None


def test_a_controller_that_hangs_at_the_start_is_soon_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipmi, "_FIRST_ANSWER_SECONDS_MAX", 0.05)
    path = program(tmp_path, "ipmitool", "import time; time.sleep(600)\n")
    meter = IpmiMeter(str(path))
    (reading,) = meter.read()
    assert "no answer within 0.05 s" in reading.source
    assert meter._asking is None


def ipmi_host(tmp_path: Path, *, installed: bool) -> HostContext:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/ipmi0").touch()
    if installed:
        ipmitool(tmp_path, 123)
    return HostContext(root=tmp_path, path_variable=str(tmp_path))


def test_a_host_with_a_controller_and_the_program_has_the_meter(tmp_path: Path) -> None:
    (meter,) = ipmi.open_meters(ipmi_host(tmp_path, installed=True))
    assert meter.read()[0].method is Method.POWER_SAMPLES
    meter.close()


def test_a_host_with_a_controller_but_no_program_is_told_to_install_it(tmp_path: Path) -> None:
    (meter,) = ipmi.open_meters(ipmi_host(tmp_path, installed=False))
    assert "ipmitool; install it" in meter.read()[0].source


def test_a_controller_for_root_only_says_how_to_grant_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipmi.os, "access", lambda path, _: not str(path).endswith("ipmi0"))
    (meter,) = ipmi.open_meters(ipmi_host(tmp_path, installed=True))
    assert "udev rule" in meter.read()[0].source


def test_a_host_without_a_controller_has_no_such_meter(tmp_path: Path) -> None:
    assert ipmi.open_meters(HostContext(root=tmp_path)) == []


def powermetrics(folder: Path, *lists: dict[str, object], then: str = "import time; time.sleep(600)") -> Path:
    """Writes lists as powermetrics does, each next after a zero byte, waiting for a file to appear before each but the first."""
    chunks = [plistlib.dumps(told) + b"\n" for told in lists]
    body = (
        "import os, sys, time\n"
        "assert sys.argv[1:] == ['--samplers', 'cpu_power,gpu_power', '-i', '1000', '-f', 'plist'], sys.argv\n"
        f"for index, chunk in enumerate({chunks!r}):\n"
        f"    while index and not os.path.exists({str(folder)!r} + f'/go{{index}}'): time.sleep(0.01)\n"
        "    sys.stdout.buffer.write((b'\\0' if index else b'') + chunk[:40]); sys.stdout.flush()\n"
        "    sys.stdout.buffer.write(chunk[40:]); sys.stdout.flush()\n"
        f"{then}\n"
    )
    return program(folder, "powermetrics", body)


def chip(cpu: int, gpu: int, ane: int) -> dict[str, object]:
    return {
        "is_delta": True,
        "elapsed_ns": 1_000_000_000,
        "hw_model": "Mac14,3",
        "processor": {"cpu_energy": cpu, "gpu_energy": gpu, "ane_energy": ane, "combined_power": 1.0},
    }


def told_by(meter: apple.AppleMeter) -> dict[str, Reading]:
    return {reading.component: reading for reading in meter.read()}


def test_the_energies_of_an_apple_chip_add_up_over_its_lists(tmp_path: Path) -> None:
    path = powermetrics(tmp_path, chip(2500, 400, 0), chip(1500, 100, 30))
    (meter,) = apple.open_meters(HostContext(path_variable=str(tmp_path)))
    assert isinstance(meter, apple.AppleMeter)
    first = told_by(meter)
    assert {name: reading.energy_joules for name, reading in first.items()} == {"cpu": 2.5, "gpu0": 0.4, "ane": 0.0}
    assert {reading.method for reading in first.values()} == {Method.POWER_SAMPLES}
    (path.parent / "go1").touch()
    until(lambda: told_by(meter)["cpu"].energy_joules == 4.0)
    assert told_by(meter)["ane"].energy_joules == pytest.approx(0.03)
    meter.close()
    meter.close()


def test_an_intel_mac_tells_its_package(tmp_path: Path) -> None:
    meter = apple.AppleMeter([str(powermetrics(tmp_path, {"processor": {"package_joules": 12.5}}))])
    assert {name: reading.energy_joules for name, reading in told_by(meter).items()} == {"cpu": 12.5}
    meter.close()


def test_a_program_that_ends_is_not_measured_any_more(tmp_path: Path) -> None:
    meter = apple.AppleMeter([str(powermetrics(tmp_path, chip(1, 1, 1), then="sys.exit(3)"))])
    until(lambda: not told_by(meter)["cpu"].measured)
    assert "has ended with 3" in told_by(meter)["cpu"].source
    meter.close()


def test_a_program_that_talks_nonsense_is_not_measured(tmp_path: Path) -> None:
    path = program(tmp_path, "powermetrics", "import time; print('garbage </plist>', flush=True); time.sleep(600)\n")
    meter = apple.AppleMeter([str(path)])
    assert not told_by(meter)["cpu"].measured
    meter.close()


def test_a_program_that_cannot_be_started_is_not_measured(tmp_path: Path) -> None:
    meter = apple.AppleMeter([str(tmp_path / "powermetrics")])
    assert "cannot be started" in told_by(meter)["cpu"].source
    meter.close()


def test_a_host_without_powermetrics_has_no_such_meter(tmp_path: Path) -> None:
    assert apple.open_meters(HostContext(path_variable=str(tmp_path))) == []


def test_a_user_who_may_not_start_powermetrics_is_told_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    powermetrics(tmp_path, chip(1, 1, 1))
    program(tmp_path, "sudo", "exit(1)\n")
    monkeypatch.setattr(apple.sys, "platform", "darwin")
    monkeypatch.setattr(apple.os, "geteuid", lambda: 501)
    meters = apple.open_meters(HostContext(path_variable=str(tmp_path)))
    assert {meter.read()[0].component for meter in meters} == {"cpu", "gpu"}
    assert "sudoers" in meters[0].read()[0].source


def test_a_program_of_roots_that_may_not_be_killed_ends_when_it_is_closed(tmp_path: Path) -> None:
    told = plistlib.dumps({"processor": {"package_joules": 1.0}})
    talking = program(
        tmp_path,
        "powermetrics",
        f"import os, time\nwhile True:\n    os.write(1, {told!r})\n    time.sleep(0.01)\n",
    )
    meter = apple.AppleMeter([str(talking)])
    running = meter._program
    assert running is not None

    def refuse() -> None:
        raise PermissionError(1, "Operation not permitted")

    running.kill = refuse  # type: ignore[method-assign]
    meter.close()
    until(lambda: running.poll() is not None)
    assert "was closed" in meter.read()[0].source
