"""What the processes and threads of a run tell is the run's, however they were begun and whichever of them ends first."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ergonaut.events.runs import RunState
from ergonaut.journal import EntryKind, all_entries
from ergonaut.journal_phases import add_metric, phases_of
from ergonaut.tracking.summary import summary_of

from .programs import JOULES_PER_CPU_SECOND, environment_of, journals, only_journal, run
from .test_command import CLI


def told_in(home: Path) -> dict[str, float]:
    figures: dict[str, float] = {}
    for entry in only_journal(home):
        add_metric(figures, entry)
    return figures


def told_by(program: str, home: Path) -> dict[str, float]:
    """What is in the journal of a program that was run to its good end."""
    done = run(program, home)
    assert done.returncode == 0, done.stderr
    return told_in(home)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_work_that_processes_of_multiprocessing_count_is_all_kept(home: Path, method: str) -> None:
    (home / "counting.py").write_text("""
import multiprocessing
import sys
import ergonaut

def work():
    with ergonaut.track(name="work") as run:
        for _ in range(100):
            run.count("samples", 10)

def main(method):
    with ergonaut.track() as run:
        run.count("samples", 1)
        processes = [multiprocessing.get_context(method).Process(target=work) for _ in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
""")
    program = f"sys.path.insert(0, {str(home)!r})\nimport counting\ncounting.main({method!r})"
    assert told_by(program, home) == {"samples": 2001}


def test_a_forked_process_that_never_enters_a_block_loses_no_count_at_its_end(home: Path) -> None:
    program = """
import multiprocessing
with ergonaut.track() as run:
    run.count("samples", 1)
    def work():
        for _ in range(100): run.count("samples", 10)
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    child = os.fork()
    if child == 0:
        for _ in range(50): run.count("samples", 1)
        sys.exit()
    os.waitpid(child, 0)
"""
    assert told_by(program, home) == {"samples": 1051}


def test_what_a_pool_counts_is_kept_though_leaving_the_pool_kills_its_processes(home: Path) -> None:
    program = """
import multiprocessing
with ergonaut.track() as run:
    run.count("samples", 1)
    def work(_): run.count("samples", 10)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(work, range(40), chunksize=1)
"""
    assert told_by(program, home) == {"samples": 401}


def test_a_forked_process_that_counts_much_writes_few_lines(home: Path) -> None:
    program = """
with ergonaut.track() as run:
    child = os.fork()
    if child == 0:
        for _ in range(100_000): run.count("samples")
        run.flush()
        os._exit(0)
    os.waitpid(child, 0)
"""
    assert run(program, home).returncode == 0
    assert told_in(home) == {"samples": 100_000}
    assert sum(entry.name == "samples" for entry in only_journal(home)) < 150


def test_what_a_forked_process_counted_before_it_was_killed_is_kept_but_for_a_moment(home: Path) -> None:
    program = """
with ergonaut.track() as run:
    child = os.fork()
    if child == 0:
        for _ in range(1000): run.count("samples")
        signal.pause()
    journal = next(Path(os.environ["ERGONAUT_HOME"]).glob("runs/*/journal.jsonl"))
    deadline = time.monotonic() + 30
    while b'"value":1000' not in journal.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""
    assert run(program, home).returncode == 0
    assert told_in(home) == {"samples": 1000}


def test_what_other_processes_of_a_run_tell_is_in_its_summary_and_exports(home: Path) -> None:
    program = """
inner = '''
import ergonaut
with ergonaut.track(name="inner") as run:
    run.metric("accuracy", 0.97)
    run.metric("loss", 0.5)
    run.count("samples", 30)
'''
with ergonaut.track(exporters=["json"]) as run:
    run.metric("loss", 2)
    run.count("samples", 3)
    subprocess.run([sys.executable, "-c", inner], check=True)
    print(run.footprint().metrics)
    if os.fork() == 0:
        run.count("samples", 7)
        run.metric("child", 1)
        os._exit(0)
    os.wait()
    run.metric("loss", 0.1)
print(run.summary.metrics)
"""
    done = run(program, home, {"ERGONAUT_EXPORT_FOLDER": str(home)})
    assert done.returncode == 0, done.stderr
    before, at_end = map(ast.literal_eval, done.stdout.splitlines())
    assert before == {"accuracy": 0.97, "loss": 0.5, "samples": 33}
    assert at_end == {"accuracy": 0.97, "loss": 0.1, "samples": 40, "child": 1}
    assert told_in(home) == at_end
    (exported,) = home.glob("run-*.json")
    assert json.loads(exported.read_text())["metrics"] == at_end


def test_a_tracked_command_tells_what_its_program_told(home: Path) -> None:
    program = "import ergonaut\nwith ergonaut.track() as run: run.metric('accuracy', 0.97); run.count('samples', 5)"
    done = subprocess.run(
        [sys.executable, "-c", CLI, "track", "--json", "--", sys.executable, "-c", program],
        env=environment_of(home),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stderr)["metrics"] == {"accuracy": 0.97, "samples": 5}


def test_a_run_ends_with_the_last_of_the_threads_that_are_in_it(home: Path) -> None:
    program = """
import threading
joined, left = threading.Event(), threading.Event()

@ergonaut.track(name="second")
def second():
    joined.set()
    left.wait()
    burn(0.3)

with ergonaut.track(name="first") as run:
    thread = threading.Thread(target=second)
    thread.start()
    joined.wait()
so_far = run.summary
left.set()
thread.join()
print(so_far.state, run.summary.state, run.summary.energy_joules - so_far.energy_joules > 0.3)
print([name for name in os.environ if name.startswith("ERGONAUT_TRACKED")])
with ergonaut.track(name="third"): pass
"""
    done = run(program, home)
    assert (done.returncode, done.stdout) == (0, "None succeeded True\n[]\n"), done.stderr
    first, third = ([*all_entries(journal)] for journal in journals(home))
    assert [entry.kind for entry in first if entry.kind is EntryKind.FINISHED] == [first[-1].kind]
    assert [entry.left for entry in first if entry.left] == ["second"]
    assert third[0].started is not None
    assert third[0].started.name == "third"


def test_tasks_that_overlap_are_one_run_whichever_begins_and_whichever_ends_it(home: Path) -> None:
    program = """
import asyncio
@ergonaut.track
async def work(number):
    await asyncio.sleep(number / 20)
    burn(0.1)
    return number

async def main():
    return await asyncio.gather(*map(work, (1, 3, 2)))
print(asyncio.run(main()))
"""
    done = run(program, home)
    assert (done.returncode, done.stdout) == (0, "[1, 3, 2]\n"), done.stderr
    summary = summary_of(only_journal(home), journals(home)[0])
    assert summary is not None
    assert (summary.energy_joules or 0) > 0.2 * JOULES_PER_CPU_SECOND
    assert [span.phase for span in phases_of(only_journal(home))] == ["work", "work"]
    assert sum(entry.kind is EntryKind.FINISHED for entry in only_journal(home)) == 1


def test_a_block_that_outlasts_the_one_that_began_the_run_can_fail_it(home: Path) -> None:
    program = """
import threading
joined, left = threading.Event(), threading.Event()
@ergonaut.track
def second():
    joined.set()
    left.wait()
    raise ValueError("too hot")
with ergonaut.track():
    thread = threading.Thread(target=second)
    thread.start()
    joined.wait()
left.set()
thread.join()
"""
    run(program, home)
    last = only_journal(home)[-1]
    assert (last.state, last.because) == (RunState.FAILED, "ValueError: too hot")


def test_a_program_that_ends_while_daemon_threads_are_in_its_run_ends_the_run(home: Path) -> None:
    program = """
import threading
joined = threading.Event()
@ergonaut.track
def for_ever():
    joined.set()
    threading.Event().wait()
with ergonaut.track():
    threading.Thread(target=for_ever, daemon=True).start()
    joined.wait()
"""
    done = run(program, home)
    assert (done.returncode, done.stderr) == (0, "")
    assert only_journal(home)[-1].state is RunState.SUCCEEDED


@pytest.mark.parametrize("is_forked", [True, False], ids=["forked", "a program of its own"])
def test_a_child_that_outlives_its_run_begins_one_of_its_own(home: Path, is_forked: bool) -> None:
    after = """
import os, time, ergonaut
from pathlib import Path
deadline = time.monotonic() + 30
while not Path(os.environ["ERGONAUT_HOME"], "first-has-ended").exists() and time.monotonic() < deadline:
    time.sleep(0.02)
with ergonaut.track(name="second") as own:
    own.metric("loss", 1)
"""
    begin = "os.fork()" if is_forked else f"subprocess.Popen([sys.executable, '-c', {after!r}])"
    program = f"""
with ergonaut.track(name="first") as run:
    child = {begin}
    if child == 0:
        exec({after!r})
        os._exit(0)
Path(os.environ["ERGONAUT_HOME"], "first-has-ended").touch()
os.wait()
"""
    done = run(program, home)
    assert done.returncode == 0, done.stderr
    first, second = ([*all_entries(journal)] for journal in journals(home))
    assert (first[-1].kind, second[-1].kind) == (EntryKind.FINISHED, EntryKind.FINISHED)
    assert [entry.name for entry in second if entry.kind is EntryKind.METRIC] == ["loss"]
    assert any(entry.sampled for entry in second)


def test_a_child_that_is_in_its_run_when_that_ends_says_so_and_writes_no_more(home: Path) -> None:
    program = """
with ergonaut.track(name="first") as run:
    child = os.fork()
    if child == 0:
        with ergonaut.track(name="long"):
            deadline = time.monotonic() + 30
            while not Path(os.environ["ERGONAUT_HOME"], "first-has-ended").exists() and time.monotonic() < deadline:
                run.metric("meanwhile", 1)
                time.sleep(0.02)
            for number in range(3):
                run.metric("after", number)
        os._exit(0)
    (journal,) = Path(os.environ["ERGONAUT_HOME"]).glob("runs/*/journal.jsonl")
    deadline = time.monotonic() + 30
    while b'"meanwhile"' not in journal.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.02)
Path(os.environ["ERGONAUT_HOME"], "first-has-ended").touch()
os.wait()
"""
    done = run(program, home)
    assert done.returncode == 0, done.stderr
    entries = only_journal(home)
    assert entries[-1].kind is EntryKind.FINISHED
    assert {entry.name for entry in entries if entry.kind is EntryKind.METRIC} <= {"meanwhile"}
    assert done.stderr.count("has its end already") == 1
