"""A signal that ends a program takes nothing of its run with it, and still ends the program as it would have."""

import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

import ergonaut
from ergonaut.events.runs import RunState
from ergonaut.journal import EntryKind, JournalEntry, all_entries
from ergonaut.journal_phases import phases_of

from .programs import JOULES_PER_CPU_SECOND, journals, only_journal, run, start


def ended_by(program: str, home: Path, number: signal.Signals = signal.SIGTERM) -> tuple[int, list[JournalEntry], str]:
    """Start a program that prints a line when it is under way, signal it, and give what is left of it."""
    with start(program, home) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "on\n", process.stderr.read()
        process.send_signal(number)
        code = process.wait(30)
        errors = process.stderr.read()
    return code, only_journal(home), errors


@pytest.mark.chaos
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_loses_nothing_and_ends_the_process_as_it_would_have(home: Path, number: signal.Signals) -> None:
    program = """
with ergonaut.track() as run, run.phase("epoch", 7):
    burn(0.5)
    run.count("tokens", 5)
    run.count("tokens", 6)
    print("on", flush=True)
    time.sleep(60)
"""
    code, entries, errors = ended_by(program, home, number)
    died_at = datetime.now(UTC)
    assert (code, errors) == (-number, "")
    last = entries[-1]
    assert (last.kind, last.state, last.because) == (EntryKind.FINISHED, RunState.FAILED, f"ended by {number.name}")
    assert last.exit_code is None
    samples = [entry.sampled for entry in entries if entry.sampled]
    assert (died_at - samples[-1].samples[0].ended_at).total_seconds() < 2
    joules = sum(sample.energy_joules or 0 for each in samples for sample in each.samples)
    # A lost interval would be two fifths of it; clock ticks and a crowded machine take up to a tenth.
    assert joules >= 0.45 * JOULES_PER_CPU_SECOND
    assert [(span.phase, span.step, span.metrics) for span in phases_of(entries)] == [("epoch", 7, {"tokens": 11})]
    assert ergonaut.recover_runs(home) == []


@pytest.mark.chaos
def test_exporters_have_the_end_of_a_run_that_a_signal_ended(home: Path) -> None:
    program = """
os.chdir(os.environ["ERGONAUT_HOME"])
with ergonaut.track(exporters=["csv", "json"]):
    print("on", flush=True)
    time.sleep(60)
"""
    code, entries, _ = ended_by(program, home)
    assert code == -signal.SIGTERM
    assert entries[0].started is not None
    assert ",failed,ended by SIGTERM," in (home / "ergonaut-runs.csv").read_text()
    assert '"because": "ended by SIGTERM"' in (home / f"{entries[0].started.run_id}.json").read_text()


@pytest.mark.chaos
def test_a_bus_that_is_away_keeps_a_signalled_process_for_seconds_only(home: Path) -> None:
    program = """
os.environ["ERGONAUT_NATS_URL"] = "nats://127.0.0.1:9"
with ergonaut.track():
    print("on", flush=True)
    time.sleep(60)
"""
    began = time.monotonic()
    code, entries, errors = ended_by(program, home)
    assert (code, entries[-1].because) == (-signal.SIGTERM, "ended by SIGTERM")
    assert "could be sent" in errors
    assert time.monotonic() - began < 20


@pytest.mark.chaos
def test_a_program_that_is_deep_in_native_code_is_ended_too(home: Path) -> None:
    # The hash takes minutes in native code that looks at no signal meanwhile, as a long kernel of a training would.
    program = """
import hashlib
with ergonaut.track():
    print("on", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 500_000_000)
"""
    code, entries, _ = ended_by(program, home)
    assert (code, entries[-1].because) == (-signal.SIGTERM, "ended by SIGTERM")


@pytest.mark.chaos
def test_a_signal_during_a_sample_of_the_programs_own_asking_does_not_hang(home: Path) -> None:
    program = "with ergonaut.track() as run:\n    print('on', flush=True)\n    while True: run.footprint()"
    code, entries, _ = ended_by(program, home)
    assert (code, entries[-1].because) == (-signal.SIGTERM, "ended by SIGTERM")


@pytest.mark.chaos
def test_an_event_loop_with_handlers_of_its_own_decides_itself(home: Path) -> None:
    program = """
import asyncio
async def main():
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    with ergonaut.track():
        print("on", flush=True)
        await stopped.wait()
asyncio.run(main())
"""
    code, entries, _ = ended_by(program, home)
    assert (code, entries[-1].state) == (0, RunState.SUCCEEDED)


@pytest.mark.chaos
def test_an_event_loop_that_does_not_care_is_ended_with_its_run_kept(home: Path) -> None:
    program = """
import asyncio
@ergonaut.track
async def main():
    print("on", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    code, entries, _ = ended_by(program, home)
    assert (code, entries[-1].because) == (-signal.SIGTERM, "ended by SIGTERM")


@pytest.mark.chaos
def test_a_run_after_a_coroutines_is_watched_as_well(home: Path) -> None:
    # A coroutine's run ends in another thread, where Python lets nobody put handlers back.
    program = """
import asyncio
@ergonaut.track
async def first():
    pass
asyncio.run(first())
with ergonaut.track(name="second"):
    print("on", flush=True)
    time.sleep(60)
"""
    with start(program, home) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        assert process.wait(30) == -signal.SIGTERM
    ends = [list(all_entries(journal))[-1] for journal in journals(home)]
    assert [end.because for end in ends] == ["", "ended by SIGTERM"]


@pytest.mark.chaos
def test_a_signal_after_a_coroutines_run_still_ends_the_process(home: Path) -> None:
    program = """
import asyncio
@ergonaut.track
async def first():
    pass
asyncio.run(first())
print("on", flush=True)
time.sleep(60)
"""
    code, entries, _ = ended_by(program, home)
    assert (code, entries[-1].state) == (-signal.SIGTERM, RunState.SUCCEEDED)


def test_a_program_that_handles_sigterm_itself_ends_its_run_as_it_wishes(home: Path) -> None:
    program = """
signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
with ergonaut.track():
    print("on", flush=True)
    nap()
"""
    code, entries, _ = ended_by(program, home)
    assert code == 5
    assert (entries[-1].state, entries[-1].exit_code) == (RunState.FAILED, 5)
    assert ergonaut.recover_runs(home) == []


@pytest.mark.chaos
def test_a_program_that_stops_itself_saves_its_state_first(home: Path) -> None:
    program = """
with ergonaut.track(stops_itself=True) as run:
    print("on", flush=True)
    while not run.should_stop:
        burn(0.01)
    run.metric("saved", 1)
    Path(os.environ["ERGONAUT_HOME"], "checkpoint").touch()
"""
    code, entries, _ = ended_by(program, home)
    assert code == 0
    assert (home / "checkpoint").exists()
    assert (entries[-1].state, entries[-1].because) == (RunState.CANCELLED, "asked to stop: SIGTERM")


@pytest.mark.chaos
def test_a_second_signal_ends_a_program_that_did_not_stop_itself(home: Path) -> None:
    program = """
with ergonaut.track(stops_itself=True) as run:
    print("on", flush=True)
    while not run.should_stop:
        time.sleep(0.01)
    print("heard", flush=True)
    nap()
"""
    with start(program, home) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        assert process.stdout.readline() == "heard\n"
        process.terminate()
        assert process.wait(30) == -signal.SIGTERM
    assert only_journal(home)[-1].because == "ended by SIGTERM"


@pytest.mark.chaos
def test_a_program_inside_a_job_hears_that_it_should_stop(home: Path) -> None:
    program = """
os.environ |= {"ERGONAUT_RUN_ID": "run-1", "ERGONAUT_METERED": "True", "ERGONAUT_CHECKPOINT_FOLDER": "/kept"}
with ergonaut.track(stops_itself=True) as run:
    os.kill(os.getpid(), signal.SIGTERM)
    while not run.should_stop:
        time.sleep(0.01)
    print(run.checkpoint_folder)
"""
    done = run(program, home)
    assert (done.returncode, done.stdout) == (0, "/kept\n")


@pytest.mark.chaos
def test_a_forked_child_dies_of_a_signal_and_leaves_its_parents_run_alone(home: Path) -> None:
    program = """
with ergonaut.track(name="parent") as run:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"x")
        time.sleep(60)
        os._exit(0)
    os.read(reader, 1)
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
    burn(0.3)
"""
    done = run(program, home)
    assert done.returncode == 0, done.stderr
    entries = only_journal(home)
    assert [entry.state for entry in entries if entry.kind is EntryKind.FINISHED] == [RunState.SUCCEEDED]


@pytest.mark.chaos
def test_children_that_another_program_is_started_as_have_the_default_handlers(home: Path) -> None:
    program = """
with ergonaut.track():
    child = subprocess.Popen(["sh", "-c", "echo up; exec sleep 60"], stdout=subprocess.PIPE)
    child.stdout.readline()
    child.terminate()
    assert child.wait() == -signal.SIGTERM
"""
    done = run(program, home)
    assert done.returncode == 0, done.stderr


@pytest.mark.chaos
def test_sigkill_loses_at_most_a_second(home: Path) -> None:
    # A busy machine may keep the meter's thread from a sample once; what is lost as a rule is lost each time.
    attempts = (lost_by_sigkill(home / str(number)) for number in range(3))
    assert any(0 <= lost_seconds <= 1.05 for lost_seconds in attempts)


def lost_by_sigkill(home: Path) -> float:
    program = "with ergonaut.track():\n    print('on', flush=True)\n    burn(60)"
    with start(program, home, {"ERGONAUT_TRACK_INTERVAL_SECONDS": "1"}) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(3.7)
        os.kill(process.pid, signal.SIGKILL)
        killed_at = datetime.now(UTC)
        process.wait()
    (summary,) = ergonaut.recover_runs(home)
    return (killed_at - summary.ended_at).total_seconds()


@pytest.mark.parametrize(("wish", "lost"), [("False", "what the last second used unwritten"), ("True", "should_stop")])
def test_a_run_that_cannot_hear_of_signals_says_so_once(home: Path, wish: str, lost: str) -> None:
    program = f"""
import threading
def work():
    with ergonaut.track(stops_itself={wish}):
        pass
for _ in range(2):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
"""
    done = run(program, home)
    (line,) = done.stderr.splitlines()
    assert "track() was entered outside the main thread" in line
    assert lost in line


def test_a_run_in_a_thread_is_silent_where_the_program_handles_signals(home: Path) -> None:
    program = """
import threading
def work():
    with ergonaut.track():
        pass
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda *_: sys.exit(5))
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
    assert run(program, home).stderr == ""
