"""`ergonaut track -- COMMAND` meters any program and otherwise is not there."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from ergonaut.journal import EntryKind

from .programs import JOULES_PER_CPU_SECOND, PREAMBLE, environment_of, only_journal

# The same meter on every machine, and only the command under test.
CLI = f"""{PREAMBLE}
import typer
from ergonaut.cli import track
app = typer.Typer()
track.register(app)
app()
"""


def _heed_signals() -> None:
    """Who runs the tests in the background of a shell ignores SIGINT, under nohup SIGHUP, and so would all that they start."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def start(home: Path, arguments: Sequence[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", CLI, *arguments],
        env=environment_of(home),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_heed_signals,  # noqa: PLW1509 - the parent has no threads
    )


def track(home: Path, *arguments: str, given: str = "") -> "subprocess.CompletedProcess[str]":
    with start(home, ["track", *arguments]) as process:
        output, errors = process.communicate(given)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def test_stdin_stdout_and_the_exit_code_are_the_programs(home: Path) -> None:
    done = track(home, "--", "sh", "-c", "cat; exit 7", given="hello")
    assert (done.stdout, done.returncode) == ("hello", 7)
    assert "model" in done.stderr
    assert "± 40%" in done.stderr
    last = only_journal(home)[-1]
    assert (last.kind, last.exit_code) == (EntryKind.FINISHED, 7)


def test_the_program_has_the_descriptors_that_it_would_have_without_us(home: Path) -> None:
    # As make's job server and sockets of systemd are handed on.
    reader, writer = os.pipe()
    shell = f"ls /dev/fd | tr '\\n' ' '; echo handed on > /dev/fd/{writer}"
    try:
        without, tracked = (
            subprocess.run(
                [*before, "sh", "-c", shell],
                env=environment_of(home),
                pass_fds=[writer],
                capture_output=True,
                text=True,
            )
            for before in ([], [sys.executable, "-c", CLI, "track", "--"])
        )
        os.close(writer)
        assert os.read(reader, 100) == b"handed on\n" * 2
    finally:
        os.close(reader)
    assert (tracked.returncode, tracked.stdout) == (0, without.stdout)


def test_options_of_the_program_are_not_taken_for_ours(home: Path) -> None:
    assert track(home, "echo", "--name", "x").stdout == "--name x\n"


def test_a_program_shorter_than_a_sample_is_charged(home: Path) -> None:
    done = track(home, "--json", "--name", "short", "--zone", "DE", "--", *python("sum(range(10_000_000))"))
    summary = json.loads(done.stderr)
    assert (summary["name"], summary["zone"], done.stdout) == ("short", "DE", "")
    assert summary["energy_joules"] > 0.05 * JOULES_PER_CPU_SECOND


def test_children_that_outlive_their_parent_are_charged_until_the_program_ends(home: Path) -> None:
    grandchild = "import time\nwhile time.process_time() < 0.6: pass\nopen('done', 'w')"
    shell = f'cd {home}; ("{sys.executable}" -c "$0" &) ; while [ ! -e done ]; do sleep 0.1; done; sleep 0.3'
    file = home / "summary.json"
    done = track(home, "--json-file", str(file), "--", "sh", "-c", shell, grandchild)
    assert done.returncode == 0, done.stderr
    assert json.loads(file.read_text())["energy_joules"] == pytest.approx(0.65 * JOULES_PER_CPU_SECOND, rel=0.3)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_reach_the_program_and_its_death_is_told_as_shells_do(home: Path, number: signal.Signals) -> None:
    with start(home, ["track", "--", "sh", "-c", "echo on; exec sleep 60"]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        process.send_signal(number)
        assert process.wait() == 128 + number


def test_a_program_that_handles_a_signal_decides_itself(home: Path) -> None:
    program = f"import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(4))\nprint('on', flush=True)\n{NAPS}"
    with start(home, ["track", "--", *python(program)]) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        assert process.wait() == 4


# Python looks at a signal that comes just before it pauses only when it goes on again.
NAPS = "while True: time.sleep(0.01)"

# Says each signal that it gets, and goes on.
TELLS_SIGNALS = (
    """
import os, signal, sys, time
def tell(number, _frame):
    os.write(1, signal.Signals(number).name.encode() + b"\\n")
for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCONT):
    signal.signal(each, tell)
if "alone" in sys.argv:
    os.setsid()
print("on", flush=True)
"""
    + NAPS
)


def children_of(pid: int) -> set[int]:
    return {each.pid for each in psutil.Process(pid).children()}


def wait_for_more(children: set[int], pid: int) -> None:
    """By then the tracker has seen to a signal: who told it whether the program had the signal has a successor."""
    deadline = time.monotonic() + 60
    while not children_of(pid) - children:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextlib.contextmanager
def telling_signals(home: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    with start(home, ["track", "--", *python(TELLS_SIGNALS), *arguments]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        programs = psutil.Process(process.pid).children()
        try:
            yield process
        finally:
            for program in programs:
                with contextlib.suppress(psutil.NoSuchProcess):
                    program.kill()
            assert process.wait() == 128 + signal.SIGKILL


@pytest.mark.chaos
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_to_the_whole_group_reaches_the_program_once(home: Path, number: signal.Signals) -> None:
    with telling_signals(home) as process:
        assert process.stdout is not None
        for _ in range(3):
            children = children_of(process.pid)
            os.killpg(process.pid, number)
            assert process.stdout.readline() == f"{number.name}\n"
            wait_for_more(children, process.pid)
            # Comes after what was passed on before it, which by then would have been told.
            process.send_signal(signal.SIGCONT)
            assert process.stdout.readline() == "SIGCONT\n"
        process.send_signal(number)
        assert process.stdout.readline() == f"{number.name}\n", "a signal to us alone is passed on all the same"


@pytest.mark.chaos
def test_a_program_that_left_the_group_gets_its_signals_from_us(home: Path) -> None:
    with telling_signals(home, "alone") as process:
        assert process.stdout is not None
        for number in (signal.SIGTERM, signal.SIGHUP):
            os.killpg(process.pid, number)
            assert process.stdout.readline() == f"{number.name}\n"


@pytest.mark.chaos
def test_a_program_that_stops_itself_saves_its_state_when_its_group_is_asked_to_end(home: Path) -> None:
    program = """
import ergonaut, time
with ergonaut.track(stops_itself=True) as run:
    print("on", flush=True)
    while not run.should_stop:
        time.sleep(0.01)
    time.sleep(0.3)
    print("saved", flush=True)
"""
    with start(home, ["track", "--", *python(program)]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        os.killpg(process.pid, signal.SIGTERM)
        assert process.stdout.readline() == "saved\n"
        assert process.wait() == 0


def test_a_program_that_is_not_there_is_one_clear_error(home: Path) -> None:
    done = track(home, "--", "no-such-program")
    assert done.returncode == 66
    assert "'no-such-program' cannot be run" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_budget_that_nobody_holds_to_since_another_meters_is_told_of(home: Path) -> None:
    inner = ["--budget-joules", "3", "--on-budget", "stop", "--", *python("print('worked')")]
    done = track(home, "--", sys.executable, "-c", CLI, "track", *inner)
    assert (done.returncode, done.stdout) == (0, "worked\n")
    assert "is not held to here: the tracker of process" in done.stderr


def test_a_tracked_program_inside_is_the_same_run(home: Path) -> None:
    program = "import ergonaut\nwith ergonaut.track() as run: run.metric('inner', 1)"
    assert track(home, "--", *python(program)).returncode == 0
    assert [entry.name for entry in only_journal(home) if entry.kind is EntryKind.METRIC] == ["inner"]


@pytest.mark.chaos
def test_a_killed_tracker_is_told_by_recover(home: Path) -> None:
    with start(home, ["track", "--name", "doomed", "--", "sh", "-c", "echo $$; exec sleep 60"]) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        time.sleep(0.5)
        process.kill()
    os.kill(child, signal.SIGKILL)
    with start(home, ["recover"]) as process:
        output, errors = process.communicate()
    assert "1 runs were closed" in output
    assert "doomed" in errors
    assert "failed" in errors


def test_a_command_is_of_a_project_and_is_exported_where_that_is_asked(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    done = track(home, "--project", "vision", "--export", "csv", "--json", "--", "true")
    assert json.loads(done.stderr)["project"] == "vision"
    assert ",vision,succeeded," in (home / "ergonaut-runs.csv").read_text()


@pytest.mark.chaos
def test_recover_tells_again_of_what_was_closed_before(home: Path) -> None:
    with start(home, ["track", "--name", "doomed", "--", "sh", "-c", "echo $$; exec sleep 60"]) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.kill()
    os.kill(child, signal.SIGKILL)
    assert "1 earlier runs had died" in track(home, "--", "true").stderr
    with start(home, ["recover", "--all"]) as process:
        output, errors = process.communicate()
    assert "0 runs were closed, 1 in all" in output
    assert "doomed" in errors
