"""Whom the agent leaves to their own trackers: those who say so themselves, to the agent's own bus, as long as it is true."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ergonaut.events.telemetry import Share
from ergonaut.ids import new_id
from ergonaut.metering.processtable import open_process_table
from ergonaut.metering.tracked import BYTES_MAX, ProcessName, TrackedRun, bus_address, take_back, tell_agent
from ergonaut.runcontext import RunContext
from ergonaut_telemetry.adapters.host_meters import HostMeters
from ergonaut_telemetry.adapters.tracked_programs import TrackedPrograms
from ergonaut_telemetry.domain import HostReading, Memory, RunReading, Terms, account
from ergonaut_telemetry.fakes import FakeCard

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="trackers leave word on Linux only")

BUS_URL = "nats://127.0.0.1:4222"
RUN_ID = new_id("run")
OWN_PID = os.getpid()
ALL_TIME = float("inf")


def tracked(run_id: str = RUN_ID, bus_url: str = BUS_URL) -> TrackedRun:
    run = TrackedRun.of_this_process(RunContext(run_id=run_id, tenant="acme", project="digits"), bus_url)
    assert run is not None
    return run


@pytest.fixture
def programs(tmp_path: Path) -> TrackedPrograms:
    return TrackedPrograms(bus_address(BUS_URL), tmp_path)


def believed(programs: TrackedPrograms, pid: int = OWN_PID) -> RunContext | None:
    programs.look(open_process_table(), ALL_TIME)
    return programs.run_of(pid)


def test_a_program_is_believed_until_it_takes_its_word_back(programs: TrackedPrograms, tmp_path: Path) -> None:
    assert believed(programs) is None
    path = tell_agent(tracked(), OWN_PID, tmp_path)
    assert path is not None
    assert believed(programs) == RunContext(run_id=RUN_ID, tenant="acme", project="digits")
    assert [told.pid for told in programs.told()] == [OWN_PID]
    assert believed(programs) is not None
    assert programs.told() == []

    take_back(path)
    assert programs.look(open_process_table(), ALL_TIME) == {("acme", RUN_ID)}
    assert programs.run_of(OWN_PID) is None
    assert list(tmp_path.iterdir()) == []


def test_a_second_run_of_the_same_process_takes_the_place_of_the_first(
    programs: TrackedPrograms, tmp_path: Path
) -> None:
    tell_agent(tracked("run-first"), OWN_PID, tmp_path)
    believed(programs)
    tell_agent(tracked("run-second"), OWN_PID, tmp_path)

    assert programs.look(open_process_table(), ALL_TIME) == {("acme", "run-first")}
    assert [told.pid for told in programs.told()] == [OWN_PID]


def test_a_file_of_another_user_than_the_processs_is_not_believed(tmp_path: Path) -> None:
    tell_agent(tracked(), OWN_PID, tmp_path)

    assert believed(TrackedPrograms(bus_address(BUS_URL), tmp_path, owner_of=lambda _: os.getuid() + 1)) is None
    assert believed(TrackedPrograms(bus_address(BUS_URL), tmp_path, owner_of=lambda _: None)) is None


def test_word_of_an_earlier_process_of_the_same_pid_is_not_believed(programs: TrackedPrograms, tmp_path: Path) -> None:
    path = tell_agent(tracked(), OWN_PID, tmp_path)
    assert path is not None
    own = ProcessName.of(OWN_PID)
    assert own is not None
    path.rename(tmp_path / replace(own, started_ticks=own.started_ticks - 1).file_name)

    assert believed(programs) is None


def test_a_program_whose_tracker_is_gone_is_not_believed(programs: TrackedPrograms, tmp_path: Path) -> None:
    run = tracked()
    tell_agent(replace(run, tracker=replace(run.tracker, started_ticks=1)), OWN_PID, tmp_path)

    assert believed(programs) is None


def test_what_is_told_to_another_bus_is_still_the_hosts_to_tell(programs: TrackedPrograms, tmp_path: Path) -> None:
    tell_agent(tracked(bus_url="nats://bus.example:4222"), OWN_PID, tmp_path)
    assert believed(programs) is None

    tell_agent(tracked(bus_url="nats://user:secret@localhost"), OWN_PID, tmp_path)
    assert believed(programs) is not None


WELL_FORMED = (
    b'{"run_id": "run-1", "tenant": "acme", "job_id": "", "project": "", "bus": "127.0.0.1:4222", "tracker": %b}'
)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"[" * BYTES_MAX,
        WELL_FORMED % b"null",
        WELL_FORMED % b'{"pid": "1", "started_ticks": 1}',
        WELL_FORMED % b'{"pid": 1, "started_ticks": true}',
        b" " * (BYTES_MAX + 1),
    ],
)
def test_rubbish_is_passed_over(programs: TrackedPrograms, tmp_path: Path, content: bytes) -> None:
    own = ProcessName.of(OWN_PID)
    assert own is not None
    (tmp_path / own.file_name).write_bytes(content)
    (tmp_path / "notes.txt").write_bytes(content)

    assert believed(programs) is None


@pytest.mark.parametrize("field", ["run_id", "tenant", "job_id", "project"])
def test_a_name_that_is_none_is_not_believed(programs: TrackedPrograms, tmp_path: Path, field: str) -> None:
    tell_agent(replace(tracked(), **{field: "../Elsewhere"}), OWN_PID, tmp_path)

    assert believed(programs) is None


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_only_a_plain_file_is_believed(programs: TrackedPrograms, tmp_path: Path, kind: str) -> None:
    path = tell_agent(tracked(), OWN_PID, tmp_path)
    assert path is not None
    aside = path.rename(tmp_path / "aside")
    {"link": lambda: path.symlink_to(aside), "pipe": lambda: os.mkfifo(path), "folder": path.mkdir}[kind]()

    assert believed(programs) is None


def test_where_nothing_can_be_written_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)

    assert tell_agent(tracked(), OWN_PID, tmp_path / "file") is None
    assert tell_agent(tracked(), OWN_PID, tmp_path / "link") is None
    assert tell_agent(tracked(), OWN_PID, tmp_path / "no" / "folder") is None


def test_all_users_may_leave_word_in_the_folder(tmp_path: Path) -> None:
    path = tell_agent(tracked(), OWN_PID, tmp_path / "tracked")

    assert path is not None
    assert path.parent.stat().st_mode & 0o7777 == 0o1777
    assert path.stat().st_mode & 0o777 == 0o644


PROGRAM = f"""
import os, sys, time
from pathlib import Path
from ergonaut.metering.tracked import TrackedRun, take_back, tell_agent
from ergonaut.runcontext import RunContext

def work():
    until = time.process_time() + 0.35
    while time.process_time() < until: pass
    print("worked", flush=True)
    sys.stdin.readline()

run = TrackedRun.of_this_process(RunContext(run_id={RUN_ID!r}, tenant="acme"), {BUS_URL!r})
work()
path = tell_agent(run, os.getpid(), Path(sys.argv[1]))
work()
work()
take_back(path)
work()
"""


class Program:
    """A process that tells the agent that it is tracked after its first work, and takes that back after its third."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.pid = process.pid
        self._process = process

    def work(self) -> None:
        """Wait until it has worked once more."""
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "worked\n"

    def go_on(self) -> None:
        """Let it begin its next work."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()


# Starts what follows as a child with an empty environment.
AS_FORGETFUL_CHILD = ("sh", "-c", 'env -i "$@"; true', "sh")


@contextmanager
def running(
    folder: Path, environment: Mapping[str, str] | None = None, through: Sequence[str] = ()
) -> Iterator[Program]:
    with subprocess.Popen(
        [*through, sys.executable, "-c", PROGRAM, str(folder)],
        env={**os.environ, **(environment or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        yield Program(process)
        os.killpg(process.pid, signal.SIGKILL)


def ours(reading: HostReading) -> RunReading | None:
    return next((run for run in reading.runs if run.context.run_id == RUN_ID), None)


def test_others_do_not_hold_what_a_tracked_program_uses_while_it_is_tracked(tmp_path: Path) -> None:
    card = FakeCard()
    meters = HostMeters([card], tracked=TrackedPrograms(bus_address(BUS_URL), tmp_path))
    with running(tmp_path) as program:
        program.work()
        assert ours(meters.read()) is None
        program.go_on()
        program.work()
        before = meters.read()
        program.go_on()
        program.work()
        card.joules, card.working = 300.0, {program.pid: 3.0}
        reading = meters.read()
        program.go_on()
        program.work()
        after = meters.read()
    run, earlier = ours(reading), ours(before)
    assert run is not None
    assert earlier is not None
    assert run.told_by_tracker
    assert run.cpu_seconds - earlier.cpu_seconds >= 0.3
    turn = account(Memory(before), reading, Terms(host="host-1", producer="agent-1"), {})
    told = {sample.share: sample.energy_joules for event in turn.events for sample in event.samples}
    assert (told[Share.OTHERS], told[Share.IDLE]) == (0.0, 0.0)
    assert [total.energy_joules for total in turn.host.components] == [300.0]
    assert ours(after) is None


def test_a_program_that_begins_between_two_samples_is_its_trackers_from_its_first_moment(tmp_path: Path) -> None:
    meters = HostMeters([], tracked=TrackedPrograms(bus_address(BUS_URL), tmp_path))
    meters.read()
    with running(tmp_path) as program:
        program.work()
        program.go_on()
        program.work()
        run = ours(meters.read())
    assert run is not None
    assert run.cpu_seconds >= 0.6


@pytest.mark.parametrize("through", [(), AS_FORGETFUL_CHILD])
def test_nobody_leaves_a_metered_run_by_calling_itself_tracked(tmp_path: Path, through: Sequence[str]) -> None:
    meters = HostMeters([], tracked=TrackedPrograms(bus_address(BUS_URL), tmp_path))
    meters.read()
    metered = RunContext(run_id="run-metered", metered=True)
    with running(tmp_path, metered.to_environment(), through) as program:
        program.work()
        program.go_on()
        program.work()
        reading = meters.read()
    assert ours(reading) is None
    (run,) = (run for run in reading.runs if run.context.run_id == "run-metered")
    assert not run.told_by_tracker
    assert run.cpu_seconds >= 0.6
