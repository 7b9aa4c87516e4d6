"""A program goes on as it would have without a tracker: with no room, threads, stderr or /proc, whoever handles its signals."""

import contextvars
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import ergonaut
from ergonaut.events.runs import RunState
from ergonaut.journal import EntryKind, parsed

from .programs import PREAMBLE, environment_of, journals, only_journal, run
from .test_command import CLI


def in_own_mounts(mount: str, program: str, home: Path) -> "subprocess.CompletedProcess[str]":
    """Run a program after a mount that only it sees; skips where this user may not mount."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if os.geteuid() == 0:
        unshare = ["unshare", "--mount"]
    if sys.platform != "linux" or subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs Linux and the right to mount in a namespace of one's own")
    script = f'{mount} && exec "{sys.executable}" -c "$0"'
    return subprocess.run(
        [*unshare, "sh", "-c", script, PREAMBLE + program],
        env=environment_of(home),
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_handler_that_the_program_installs_within_the_run_is_the_one_that_decides(home: Path) -> None:
    program = """
with ergonaut.track():
    heard = []
    signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.5)
    print(len(heard))
"""
    done = run(program, home)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert only_journal(home)[-1].state is RunState.SUCCEEDED


def test_a_handler_that_calls_the_one_before_it_ends_the_process_with_its_run_kept(home: Path) -> None:
    program = """
with ergonaut.track():
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda *both: before(*both))
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30)
"""
    assert run(program, home).returncode == -signal.SIGTERM
    assert only_journal(home)[-1].because == "ended by SIGTERM"


@pytest.mark.parametrize(
    "stderr",
    [
        "sys.stderr.close()",
        "sys.stderr = None",
        "sys.stderr = type('Log', (), dict.fromkeys(('write', 'flush'), lambda *_: None))()",
    ],
    ids=["closed", "none", "a log"],
)
def test_a_program_without_a_real_stderr_goes_on(home: Path, stderr: str) -> None:
    done = run(f"{stderr}\nwith ergonaut.track(): pass\nos.write(1, b'on')", home)
    assert (done.returncode, done.stdout[-2:]) == (0, "on")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_commands_exit_code_is_the_programs_when_nobody_can_read_what_is_told(home: Path, options: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", CLI, "track", *options, "--", "sh", "-c", "exit 3"],
            env=environment_of(home),
            stderr=full,
            check=False,
        )
    assert done.returncode == 3


def test_a_home_that_nobody_named_and_that_cannot_be_written_keeps_the_run_in_memory(home: Path) -> None:
    (home / "file").touch()
    program = "with ergonaut.track() as run: burn(0.1)\nprint(run.summary.energy_joules > 0, run.summary.journal)"
    done = run(program, home, {"ERGONAUT_HOME": "", "HOME": str(home / "file")})
    assert (done.returncode, done.stdout) == (0, "True None\n"), done.stderr
    assert "is kept in memory only" in done.stderr


def test_a_full_disk_stops_no_program_at_its_start_nor_later(home: Path) -> None:
    program = """
for _ in range(2):
    with ergonaut.track() as run:
        for number in range(3000):
            run.metric("number", number)
        burn(0.3)
    print(run.summary.metrics, run.summary.energy_joules > 0.5, run.summary.journal_entries_missing > 1000)
"""
    done = in_own_mounts('mount -t tmpfs -o size=64k none "$ERGONAUT_HOME"', program, home)
    assert (done.returncode, done.stdout) == (0, 2 * "{'number': 2999.0} True True\n"), done.stderr
    assert "No space left on device" in done.stderr


def test_a_disk_that_was_full_for_a_while_leaves_no_gap(home: Path) -> None:
    program = """
home = Path(os.environ["ERGONAUT_HOME"])
with ergonaut.track() as run:
    (journal,) = home.glob("runs/*/journal.jsonl")
    try:
        with open(home / "ballast", "wb", buffering=0) as ballast:
            while ballast.write(bytes(4096)) == 4096: pass
    except OSError:
        pass
    for number in range(100):
        run.metric("during", number)
    assert b'"value":99' not in journal.read_bytes()
    (home / "ballast").unlink()
    deadline = time.monotonic() + 30
    while b'"after"' not in journal.read_bytes() and time.monotonic() < deadline:
        run.metric("after", 1)
        time.sleep(0.05)
print(run.summary.journal_entries_missing)
print(journal.read_text())
"""
    done = in_own_mounts('mount -t tmpfs -o size=64k none "$ERGONAUT_HOME"', program, home)
    assert done.returncode == 0, done.stderr
    missing, *lines = done.stdout.splitlines()
    assert (missing, done.stderr.count("cannot be written at the moment")) == ("0", 1)
    entries = [entry for line in lines if (entry := parsed(line.encode())) is not None]
    assert [entry.value for entry in entries if entry.name == "during"] == [float(number) for number in range(100)]
    sequences = [entry.sampled.sequence for entry in entries if entry.sampled]
    assert sequences == list(range(1, len(sequences) + 1))
    assert (entries[-1].kind, entries[-1].entries_missing) == (EntryKind.FINISHED, None)


def test_a_container_without_proc_goes_on_with_nothing_measured(home: Path) -> None:
    program = (
        "with ergonaut.track() as run: run.metric('loss', 1)\nprint(run.summary.energy_joules, run.summary.metrics)"
    )
    done = in_own_mounts("mount -t tmpfs none /proc", program, home)
    assert (done.returncode, done.stdout) == (0, "None {'loss': 1.0}\n"), done.stderr
    assert "goes on without metering" in done.stderr
    assert only_journal(home)[-1].kind is EntryKind.FINISHED


def test_a_meter_that_cannot_begin_leaves_the_program_alone(home: Path) -> None:
    program = """
def broken(): raise RuntimeError("no such driver")
meterthread.discover = broken
with ergonaut.track() as run: pass
print(run.summary.state.value)
"""
    done = run(program, home)
    assert (done.returncode, done.stdout) == (0, "succeeded\n")
    assert "no such driver" in done.stderr


def test_a_program_that_never_waits_hands_the_interpreter_to_a_sample_at_once_and_has_its_own_pace_back(
    home: Path,
) -> None:
    program = """
seen = []
class Watching(CpuModel):
    def read(self):
        seen.append(sys.getswitchinterval())
        return super().read()
meterthread.discover = lambda: [Watching()]
sys.setswitchinterval(0.004)
with ergonaut.track():
    burn(1)
print(round(min(seen), 6), round(sys.getswitchinterval(), 6))
"""
    assert run(program, home).stdout == "0.0001 0.004\n"


def test_a_pace_that_the_program_sets_during_a_sample_stays(home: Path) -> None:
    program = """
class Setting(CpuModel):
    def read(self):
        sys.setswitchinterval(0.003)
        return super().read()
meterthread.discover = lambda: [Setting()]
with ergonaut.track():
    burn(0.5)
print(round(sys.getswitchinterval(), 6))
"""
    assert run(program, home).stdout == "0.003\n"


def test_a_program_that_may_start_no_thread_is_metered_at_its_end(home: Path) -> None:
    program = """
import threading
def refused(*_): raise RuntimeError("can't start new thread")
threading._start_new_thread = refused
os.environ["ERGONAUT_NATS_URL"] = "nats://127.0.0.1:9"
with ergonaut.track(exporters=["csv"]) as run: burn(0.2)
print(run.summary.state.value, run.summary.energy_joules > 0.3)
"""
    done = run(program, home, {"ERGONAUT_EXPORT_FOLDER": str(home), "ERGONAUT_ZONE": "DE"})
    assert (done.returncode, done.stdout) == (0, "succeeded True\n"), done.stderr
    assert done.stderr.count("can't start new thread") >= 3


def test_a_program_out_of_file_descriptors_goes_on(home: Path) -> None:
    program = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
with ergonaut.track(): pass
taken = []
try:
    while True: taken.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
with ergonaut.track() as run: pass
print(run.summary.state.value)
"""
    done = run(program, home)
    assert (done.returncode, done.stdout) == (0, "succeeded\n"), done.stderr


def test_a_phase_may_be_left_in_another_context_than_it_was_entered_in(home: Path) -> None:
    def steps() -> Iterator[int]:
        with track.phase("dependency"):
            yield 1

    with ergonaut.track() as track:
        generator = steps()
        assert contextvars.copy_context().run(next, generator) == 1
        assert contextvars.copy_context().run(next, generator, None) is None
    assert [entry.left for entry in only_journal(home) if entry.left] == ["dependency"]


def test_a_generator_is_measured_until_it_is_used_up(home: Path) -> None:
    @ergonaut.track(name="batches")
    def batches() -> Iterator[int]:
        yield from (1, 2)

    assert list(batches()) == [1, 2]
    (entry, *_, last) = only_journal(home)
    assert entry.started is not None
    assert (entry.started.name, last.state) == ("batches", RunState.SUCCEEDED)


def test_an_asynchronous_generator_is_refused_where_it_is_decorated(home: Path) -> None:
    with pytest.raises(TypeError, match="asynchronous generator"):

        @ergonaut.track
        async def batches():  # type: ignore[no-untyped-def]
            yield 1


def test_a_living_run_of_another_container_is_left_alone_until_it_has_long_been_still(home: Path) -> None:
    with ergonaut.track():
        pass
    (journal,) = journals(home)
    lines = journal.read_text().replace('"pid_namespace":"pid:[', '"pid_namespace":"pid:[1').splitlines(keepends=True)
    if '"pid_namespace"' not in lines[0]:
        pytest.skip("this system has no namespaces of processes")
    # Here the container's process 1 is another one, which says nothing about it.
    journal.write_text("".join(lines[:-1]))
    assert ergonaut.recover_runs(home) == []
    long_ago = time.time() - 3600
    os.utime(journal, (long_ago, long_ago))
    assert [summary.because for summary in ergonaut.recover_runs(home)] == ["process died"]
