"""The real meters of this host, with real processes; and the RAPL counters of a made-up one."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ergonaut.events.telemetry import Share
from ergonaut.ids import new_id
from ergonaut.metering import CounterMark, discover
from ergonaut.metering.meters import NOBODYS_PID
from ergonaut.runcontext import RunContext
from ergonaut_telemetry.adapters.host_meters import HostMeters
from ergonaut_telemetry.domain import HostReading, charges_between
from ergonaut_telemetry.fakes import FakeCard

RUN_ID = new_id("run")
"""Of this test session alone: the meters see every process of the machine, those of another session too."""

# Works until it has used more than 0.3 s of CPU time by the kernel's ticks too, tells so, and waits to be told to go.
BUSY = "import sys, time\nwhile time.process_time() < 0.35: pass\nprint('worked', flush=True)\nsys.stdin.read()"
SHELL_WITH_CHILD = [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BUSY!r}])"]


@contextmanager
def running(context: RunContext, command: list[str]) -> Iterator[None]:
    """A program of a run that has used 0.3 CPU-seconds when the block begins, and is gone when it has ended."""
    environment = {**os.environ, **context.to_environment()}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        program.stdout.readline()
        yield


def run_ids(reading: HostReading) -> set[str]:
    return {run.context.run_id for run in reading.runs}


def test_a_run_is_found_by_its_environment_with_the_cpu_time_of_its_children(tmp_path: Path) -> None:
    meters = HostMeters(discover(powercap=tmp_path))
    meters.read()
    with running(RunContext(run_id=RUN_ID, tenant="acme", metered=True), SHELL_WITH_CHILD):
        reading = meters.read()
    meters.close()

    (run,) = (run for run in reading.runs if run.context.run_id == RUN_ID)
    assert run.key == ("acme", RUN_ID)
    assert run.cpu_seconds >= 0.3
    assert len(run.members) == 2
    assert all(0 < stat.started <= reading.process_clock_seconds + 0.02 for stat in run.members)


def test_a_program_that_meters_itself_is_left_alone(tmp_path: Path) -> None:
    meters = HostMeters(discover(powercap=tmp_path))
    with running(RunContext(run_id="run-itself", metered=False), [sys.executable, "-c", BUSY]):
        reading = meters.read()
    meters.close()

    assert "run-itself" not in run_ids(reading)


def test_a_run_whose_processes_are_gone_is_told_no_more(tmp_path: Path) -> None:
    meters = HostMeters(discover(powercap=tmp_path))
    with running(RunContext(run_id=RUN_ID, metered=True), [sys.executable, "-c", BUSY]):
        during = meters.read()
    after = meters.read()
    meters.close()

    assert RUN_ID in run_ids(during)
    assert RUN_ID not in run_ids(after)


def test_a_second_life_of_the_agent_sees_the_same_processes_and_the_same_counting(tmp_path: Path) -> None:
    first, second = HostMeters(discover(powercap=tmp_path)), HostMeters(discover(powercap=tmp_path))
    with running(RunContext(run_id=RUN_ID, metered=True), [sys.executable, "-c", BUSY]):
        before, after = first.read(), second.read()
    first.close()
    second.close()

    assert before.boot_id == after.boot_id
    assert before.agent != after.agent
    ours = [next(run for run in reading.runs if run.context.run_id == RUN_ID) for reading in (before, after)]
    assert [stat.started for stat in ours[0].members] == [stat.started for stat in ours[1].members]
    lasting = {part.reading.component: part.reading.energy_joules or 0.0 for part in before.components if part.lasting}
    assert {"cpu", "dram"} <= lasting.keys()
    for part in after.components:
        if part.lasting:
            assert lasting[part.reading.component] <= (part.reading.energy_joules or 0.0)


def test_rapl_counters_are_marked_by_component(tmp_path: Path) -> None:
    for folder, name, microjoules in (
        ("intel-rapl:0", "package-0", 5_000_000),
        ("intel-rapl:0:0", "core", 1),
        ("intel-rapl:0:1", "dram", 7_000_000),
        ("intel-rapl:1", "package-1", 6_000_000),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "name").write_text(f"{name}\n")
        (tmp_path / folder / "energy_uj").write_text(f"{microjoules}\n")
        (tmp_path / folder / "max_energy_range_uj").write_text("262143328850\n")

    meters = HostMeters(discover(powercap=tmp_path))
    marks = {part.reading.component: part.reading.marks for part in meters.read().components}
    meters.close()

    wraps_at = 262_143_328_850
    assert marks["cpu"] == (
        CounterMark("intel-rapl:0", 5_000_000, wraps_at),
        CounterMark("intel-rapl:1", 6_000_000, wraps_at),
    )
    assert marks["dram"] == (CounterMark("intel-rapl:0:1", 7_000_000, wraps_at),)


def spin_for_cpu_seconds(cpu_seconds: float) -> None:
    """Use so much CPU: the host counts its own in ticks of 10 ms, so less might not be seen at all."""
    until = time.process_time() + cpu_seconds
    while time.process_time() < until:
        pass


def test_what_a_run_did_on_a_gpu_before_it_ended_is_the_runs() -> None:
    card = FakeCard()
    meters = HostMeters([card])
    with running(RunContext(run_id=RUN_ID, tenant="acme", metered=True), [sys.executable, "-c", BUSY]):
        before = meters.read()
        (run,) = (run for run in before.runs if run.context.run_id == RUN_ID)
        card.working = {stat.pid: 3.0 for stat in run.members} | {-1: 1.0, NOBODYS_PID: 4.0}
    card.joules = 800.0
    charges = charges_between(before, meters.read())

    # Another run of this host, which used none of it, has a line of its own.
    by_share: Counter[Share] = Counter()
    for charge in charges:
        if charge.component == "gpu0":
            by_share[charge.share] += charge.energy_joules
    assert by_share == {Share.RUN: 300.0, Share.OTHERS: 100.0, Share.IDLE: 400.0}
    assert RUN_ID not in run_ids(meters.read())


def test_a_card_that_nobody_uses_is_idle_and_one_whose_users_are_not_told_goes_by_cpu_time() -> None:
    card = FakeCard()
    meters = HostMeters([card])
    idle_joules = []
    for tells_users in (True, False):
        before = meters.read()
        card.joules += 100.0
        card.tells_users = tells_users
        spin_for_cpu_seconds(0.2)
        charges = charges_between(before, meters.read())
        # Other programs of this host, runs among them, may be at work as well.
        assert sum(charge.energy_joules for charge in charges) == pytest.approx(100.0)
        idle_joules.append(sum(charge.energy_joules for charge in charges if charge.share is Share.IDLE))
    assert idle_joules == [100.0, 0.0]
