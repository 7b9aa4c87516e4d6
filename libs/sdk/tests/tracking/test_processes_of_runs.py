"""Runs of many processes, runs beside neighbours, and runs that are killed; each in processes of its own."""

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

import ergonaut
from ergonaut.events.runs import RunState
from ergonaut.journal import EntryKind, all_entries
from ergonaut.tracking.recovery import recovered_runs
from ergonaut.tracking.summary import RunSummary, summary_of

from .programs import JOULES_PER_CPU_SECOND, journals, only_journal, run, start


def summary_in(home: Path) -> RunSummary:
    summary = summary_of(only_journal(home), journals(home)[0])
    assert summary is not None
    return summary


def test_a_sleeping_program_is_not_charged_for_its_busy_neighbours(home: Path) -> None:
    neighbours = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        done = run("with ergonaut.track(): time.sleep(3)", home)
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()
    assert done.returncode == 0, done.stderr
    summary = summary_in(home)
    assert summary.energy_joules is not None
    assert summary.others_joules > JOULES_PER_CPU_SECOND
    assert summary.energy_joules <= 0.05 * (summary.energy_joules + summary.others_joules)
    assert summary.idle_joules > 0


def test_child_processes_are_charged_to_the_run_also_when_they_live_shortly(home: Path) -> None:
    program = """
with ergonaut.track():
    for _ in range(3):
        subprocess.run([sys.executable, "-c", "import time\\nwhile time.process_time() < 0.3: pass"])
"""
    assert run(program, home).returncode == 0
    assert summary_in(home).energy_joules == pytest.approx(0.9 * JOULES_PER_CPU_SECOND, rel=0.3)


def test_a_program_that_a_tracked_program_starts_joins_its_run(home: Path) -> None:
    program = """
inner = "import ergonaut\\nwith ergonaut.track(name='inner') as run: run.metric('inner', 1)"
with ergonaut.track(name="outer") as run:
    subprocess.run([sys.executable, "-c", inner], check=True)
assert not [name for name in os.environ if name.startswith("ERGONAUT_TRACKED")]
"""
    done = run(program, home)
    assert done.returncode == 0, done.stderr
    entries = only_journal(home)
    assert [entry.name for entry in entries if entry.kind is EntryKind.METRIC] == ["inner"]
    assert sum(entry.kind is EntryKind.FINISHED for entry in entries) == 1


def test_a_forked_child_that_leaves_the_block_does_not_end_the_run(home: Path) -> None:
    program = """
with ergonaut.track(name="parent") as run:
    child = os.fork()
    if child == 0:
        run.metric("child", 1)
        run.footprint()
        sys.exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    time.sleep(0.5)
    run.metric("parent", 2)
"""
    done = run(program, home)
    assert done.returncode == 0, done.stderr
    entries = only_journal(home)
    assert [entry.name for entry in entries if entry.kind is EntryKind.METRIC] == ["child", "parent"]
    assert [entry.state for entry in entries if entry.kind is EntryKind.FINISHED] == [RunState.SUCCEEDED]
    sequences = [entry.sampled.sequence for entry in entries if entry.sampled]
    assert sequences == list(range(1, len(sequences) + 1))


def test_the_ranks_of_a_host_are_one_run_that_counts_them_all_once(home: Path) -> None:
    rank = """
rank = os.environ["LOCAL_RANK"]
with ergonaut.track() as run:
    burn(0.5)
    run.metric("rank", int(rank))
    Path(os.environ["ERGONAUT_HOME"], f"done-{rank}").touch()
    deadline = time.monotonic() + 60
    while rank == "0" and len(list(Path(os.environ["ERGONAUT_HOME"]).glob("done-*"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    assert rank == "0" or run.footprint().energy_joules is None
"""
    processes = []
    for number in ("0", "1", "2"):
        processes.append(start(rank, home, {"LOCAL_RANK": number, "RANK": number, "WORLD_SIZE": "3"}))
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    summary = summary_in(home)
    # What a rank used before rank 0 began to meter is not charged, nor is rank 0's own waiting.
    assert summary.energy_joules is not None
    assert 0.9 * JOULES_PER_CPU_SECOND < summary.energy_joules < 3.0 * JOULES_PER_CPU_SECOND
    assert summary.metrics == {"rank": 0}


@pytest.mark.chaos
def test_a_killed_run_loses_at_most_a_second_and_is_closed_by_recovery(home: Path) -> None:
    with start("with ergonaut.track(name='doomed'):\n    print('on', flush=True)\n    burn(60)", home) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        time.sleep(2)
        assert ergonaut.recover_runs(home) == [], "a living run must be left alone"
        process.send_signal(signal.SIGKILL)
        killed_at = datetime.now(UTC)
        process.wait()

    (summary,) = ergonaut.recover_runs(home)

    assert (summary.name, summary.state, summary.because) == ("doomed", RunState.FAILED, "process died")
    assert (killed_at - summary.ended_at).total_seconds() <= 1.0
    assert summary.energy_joules is not None
    assert summary.energy_joules > 0.1 * JOULES_PER_CPU_SECOND
    assert ergonaut.recover_runs(home) == []
    assert only_journal(home)[-1].kind is EntryKind.FINISHED


def test_the_next_run_closes_what_a_crash_left_behind_and_says_so_once(home: Path) -> None:
    with start("with ergonaut.track():\n    print('on', flush=True)\n    time.sleep(60)", home) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    (dead,) = journals(home)
    first, second = (run("with ergonaut.track(): pass", home) for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0)
    assert f"1 earlier runs had died without an end and were closed, the last one in {dead.parent}" in first.stderr
    assert len(first.stderr.splitlines()) == 1
    assert second.stderr == ""
    assert len(journals(home)) == 3
    assert [summary.because for summary in recovered_runs(home)] == ["process died"]
    assert ergonaut.recover_runs(home) == []


def test_a_program_that_replaces_itself_leaves_a_run_that_the_new_program_closes(home: Path) -> None:
    again = "import ergonaut\nwith ergonaut.track(name='after') as run: run.metric('after', 1)"
    program = f"""
with ergonaut.track(name="before") as run:
    burn(0.4)
    run.footprint()
    os.execv(sys.executable, [sys.executable, "-c", {again!r}])
"""
    done = run(program, home)
    assert done.returncode == 0, done.stderr
    before, after = ([*all_entries(journal)] for journal in journals(home))
    assert (before[-1].state, before[-1].because) == (RunState.FAILED, "process died")
    assert sum(entry.sampled is not None for entry in before) >= 1
    assert [entry.name for entry in after if entry.kind is EntryKind.METRIC] == ["after"]
    assert after[-1].state is RunState.SUCCEEDED


def test_a_program_that_exits_at_once_loses_at_most_an_interval(home: Path) -> None:
    done = run("with ergonaut.track(name='gone'):\n    burn(1)\n    os._exit(3)", home)
    assert done.returncode == 3
    (summary,) = ergonaut.recover_runs(home)
    assert (summary.name, summary.because) == ("gone", "process died")
    assert summary.energy_joules is not None
    # A fifth of a second is the interval of these tests.
    assert summary.energy_joules >= 0.7 * JOULES_PER_CPU_SECOND


def test_eight_ranks_that_a_launcher_starts_are_one_record(home: Path) -> None:
    rank = """
import ergonaut, os, time
from pathlib import Path
import ergonaut.tracking.meterthread as meterthread
from ergonaut.metering.cpu_model import CpuModel
meterthread.discover = lambda: [CpuModel()]
rank, folder = os.environ["LOCAL_RANK"], Path(os.environ["ERGONAUT_HOME"])
with ergonaut.track(name="ranks") as run:
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
    run.count("samples", 10)
    (folder / f"done-{rank}").touch()
    deadline = time.monotonic() + 60
    while rank == "0" and len(list(folder.glob("done-*"))) < 8 and time.monotonic() < deadline:
        time.sleep(0.05)
"""
    launcher = f"""
ranks = [
    subprocess.Popen([sys.executable, "-c", {rank!r}], env=os.environ | {{"LOCAL_RANK": str(number), "RANK": str(number),
    "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "8", "MASTER_ADDR": "127.0.0.1"}}) for number in range(8)
]
sys.exit(max(each.wait() for each in ranks))
"""
    done = run(launcher, home)
    assert done.returncode == 0, done.stderr
    (journal,) = journals(home)
    entries = list(all_entries(journal))
    assert sum(entry.kind is EntryKind.FINISHED for entry in entries) == 1
    intervals = [
        (sample.component, sample.started_at) for one in entries if one.sampled for sample in one.sampled.samples
    ]
    assert len(intervals) == len(set(intervals)), "each component of the host is counted once an interval"
    summary = summary_in(home)
    # Eight ranks burn 0.3 CPU-seconds each; what they used before rank 0 looked is not seen, importing comes on top.
    assert summary.energy_joules is not None
    assert summary.energy_joules > 4 * 0.3 * JOULES_PER_CPU_SECOND


def test_a_pid_that_was_used_again_is_not_taken_for_the_runs_process(home: Path) -> None:
    with start("with ergonaut.track():\n    print('on', flush=True)\n    time.sleep(60)", home) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    (journal,) = journals(home)
    text = journal.read_text().replace(f'"pid":{process.pid}', f'"pid":{os.getpid()}')
    journal.write_text(text)
    assert [summary.state for summary in ergonaut.recover_runs(home)] == [RunState.FAILED]
