"""What the processes and threads of a run tell is the run's, however they were begun and whichever of them ends first."""

from pathlib import Path

import pytest

from ergonaut.journal_phases import add_metric

from .programs import only_journal, run


def told_in(home: Path) -> dict[str, float]:
    figures: dict[str, float] = {}
    for entry in only_journal(home):
        add_metric(figures, entry)
    return figures


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
    done = run(program, home)
    assert done.returncode == 0, done.stderr
    assert told_in(home) == {"samples": 2001}


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
    done = run(program, home)
    assert done.returncode == 0, done.stderr
    assert told_in(home) == {"samples": 1051}


def test_what_a_pool_counts_is_kept_though_leaving_the_pool_kills_its_processes(home: Path) -> None:
    program = """
import multiprocessing
with ergonaut.track() as run:
    run.count("samples", 1)
    def work(_): run.count("samples", 10)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(work, range(40), chunksize=1)
"""
    done = run(program, home)
    assert done.returncode == 0, done.stderr
    assert told_in(home) == {"samples": 401}


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
