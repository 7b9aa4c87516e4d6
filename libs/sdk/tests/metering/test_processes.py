"""CPU time follows its run through forks, deaths and pids that are used again."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from ergonaut.metering import ProcessScan
from ergonaut.metering.processes import ToldProcess, claimed_by_environment
from ergonaut.metering.processtable import LinuxProcessTable, ProcessStat, open_process_table
from ergonaut.runcontext import RunContext

RUN_1 = ("default", "run-1")


class Table:
    """A host's processes, set by the test."""

    def __init__(self) -> None:
        self.stats: dict[int, ProcessStat] = {}
        self.environments: dict[int, Mapping[str, str]] = {}

    def put(
        self, pid: int, *, parent: int = 1, started: float | None = None, cpu: float = 0.0, reaped: float = 0.0,
        run: str = "", ended: bool = False,
    ) -> None:  # fmt: skip
        began = pid if started is None else started
        self.stats[pid] = ProcessStat(pid, parent, began, cpu, reaped, 1000, ended)
        self.environments[pid] = RunContext(run_id=run).to_environment() if run else {}

    def pids(self) -> set[int]:
        return set(self.stats)

    def read(self, pid: int) -> ProcessStat | None:
        return self.stats.get(pid)

    def environment(self, pid: int, beginning: str = "") -> Mapping[str, str]:
        variables = self.environments.get(pid, {})
        return {name: value for name, value in variables.items() if name.startswith(beginning)}

    def newest(self) -> int:
        return 0

    def begun(self, after: int, until: int) -> set[int] | None:
        return None


def scan_of(table: Table) -> ProcessScan:
    return ProcessScan(table=table)


def test_a_process_belongs_to_the_run_that_its_environment_tells_of() -> None:
    table = Table()
    scan = scan_of(table)
    scan.scan()
    table.put(10, cpu=2.0, run="run-1")
    table.put(11, cpu=5.0)
    uses = scan.scan()
    assert {key: use.cpu_seconds for key, use in uses.items()} == {RUN_1: 2.0}
    assert uses[RUN_1].pids == {10}
    assert uses[RUN_1].resident_bytes == 1000


def test_a_child_belongs_to_its_parents_run_whatever_it_says_itself() -> None:
    table = Table()
    table.put(10, run="run-1")
    scan = scan_of(table)
    scan.scan()
    table.put(11, parent=10, cpu=1.0, run="run-2")
    assert {key: use.pids for key, use in scan.scan().items()} == {RUN_1: {10, 11}}


def test_a_child_whose_pid_wrapped_below_its_new_parents_is_placed_all_the_same() -> None:
    table = Table()
    scan = scan_of(table)
    scan.scan()
    table.put(300, run="run-1")
    table.put(5, parent=300, run="run-2")
    scan.scan()
    assert scan.scan()[RUN_1].pids == {5, 300}


def test_an_orphan_stays_in_its_run() -> None:
    table = Table()
    table.put(10, run="run-1")
    table.put(11, parent=10)
    scan = scan_of(table)
    scan.scan()
    del table.stats[10]
    table.put(11, parent=1, started=11, cpu=3.0)
    assert scan.scan()[RUN_1].cpu_seconds == 3.0


def test_a_reaped_child_counts_once() -> None:
    table = Table()
    table.put(10, cpu=1.0, run="run-1")
    scan = scan_of(table)
    scan.scan()
    table.put(11, parent=10, cpu=4.0)
    assert scan.scan()[RUN_1].cpu_seconds == 4.0
    del table.stats[11]
    table.put(10, cpu=1.5, reaped=6.0, run="run-1")
    assert scan.scan()[RUN_1].cpu_seconds == pytest.approx(4.0 + 0.5 + 2.0)


def test_a_child_that_lived_only_between_two_scans_counts() -> None:
    table = Table()
    table.put(10, run="run-1")
    scan = scan_of(table)
    scan.scan()
    table.put(10, reaped=0.8, run="run-1")
    assert scan.scan()[RUN_1].cpu_seconds == pytest.approx(0.8)


def test_a_grandchild_and_its_parent_that_end_together_count_once() -> None:
    table = Table()
    table.put(10, run="run-1")
    table.put(11, parent=10, cpu=1.0)
    table.put(12, parent=11, cpu=2.0)
    scan = scan_of(table)
    scan.scan()
    del table.stats[11], table.stats[12]
    table.put(10, reaped=3.5, run="run-1")
    assert scan.scan()[RUN_1].cpu_seconds == pytest.approx(0.5)


def test_what_was_used_before_the_first_scan_is_not_charged() -> None:
    table = Table()
    table.put(10, cpu=100.0, reaped=50.0, run="run-1")
    scan = scan_of(table)
    assert scan.scan()[RUN_1].cpu_seconds == 0.0


def test_a_pid_that_is_used_again_does_not_carry_its_run_along() -> None:
    table = Table()
    table.put(10, started=1.0, cpu=5.0, run="run-1")
    scan = scan_of(table)
    scan.scan()
    table.put(10, started=2.0, cpu=7.0)
    uses = scan.scan()
    assert uses[RUN_1].pids == frozenset()
    assert scan.scan() == {}


def test_a_program_that_was_seen_between_fork_and_exec_is_found_by_the_next_scan() -> None:
    table = Table()
    scan = scan_of(table)
    scan.scan()
    table.put(10)
    scan.scan()
    table.put(10, cpu=1.0, run="run-1")
    assert scan.scan()[RUN_1].cpu_seconds == 1.0


def test_a_long_known_stranger_that_turns_into_a_run_is_found_in_the_end() -> None:
    table = Table()
    for pid in range(10, 60):
        table.put(pid)
    scan = scan_of(table)
    for _ in range(3):
        scan.scan()
    table.put(30, run="run-1")
    found = [scan.scan() for _ in range(20)]
    assert any(RUN_1 in uses for uses in found)


def test_a_run_that_ended_is_told_once_more_and_then_forgotten() -> None:
    table = Table()
    table.put(10, run="run-1")
    scan = scan_of(table)
    scan.scan()
    del table.stats[10]
    assert scan.scan()[RUN_1].pids == frozenset()
    assert scan.scan() == {}


def test_a_zombie_is_not_alive_but_its_time_is_kept() -> None:
    table = Table()
    table.put(10, run="run-1")
    scan = scan_of(table)
    scan.scan()
    table.put(10, cpu=2.0, run="run-1", ended=True)
    use = scan.scan()[RUN_1]
    assert (use.pids, use.resident_bytes, use.cpu_seconds) == (frozenset(), 0, 2.0)


def test_a_programs_name_may_hold_spaces_and_parentheses(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    fields = "S 3 7 7 0 -1 0 0 0 0 0 150 50 20 10 20 0 1 0 4321 100 25 0 0"
    (tmp_path / "7" / "stat").write_text(f"7 (odd) R 9 (name)) {fields}")
    table = LinuxProcessTable(str(tmp_path))
    stat = table.read(7)
    assert table.pids() == {7}
    assert stat is not None
    assert (stat.parent_pid, stat.started, stat.cpu_seconds, stat.reaped_cpu_seconds) == (3, 4321.0, 2.0, 0.3)


def test_this_hosts_table_shows_a_real_child() -> None:
    table = open_process_table()
    context = RunContext(run_id="run-1", job_id="job-1")
    program = (
        "import time\nwhile time.process_time() < 0.3: pass\nprint('ready', flush=True)\nimport sys; sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, **context.to_environment()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        stat = table.read(child.pid)
        assert stat is not None
        assert stat.parent_pid == os.getpid()
        assert 0.25 < stat.cpu_seconds < 5
        assert stat.resident_bytes > 1_000_000
        assert RunContext.from_environment(table.environment(child.pid)) == context
        child.communicate()
    assert table.read(child.pid) is None


@pytest.mark.skipif(sys.platform != "linux", reason="the bound is promised for /proc")
def test_a_scan_costs_about_a_millisecond() -> None:
    scan = ProcessScan()
    for _ in range(3):
        scan.scan()
    costs = []
    for _ in range(50):
        began = time.thread_time()
        scan.scan()
        costs.append(time.thread_time() - began)
    assert sorted(costs)[len(costs) // 2] < 0.004


class Rank:
    """A process, 20, that belongs to the run of process 10 since it says so."""

    def __init__(self, table: Table) -> None:
        self._words: list[ToldProcess] = []
        self._belong, run = {10}, RunContext(run_id="run-1")
        table.put(10, cpu=1.0)
        self.scan = ProcessScan(lambda pid: run if pid in self._belong else None, table, told=self._said)
        self.scan.scan()

    def says(self, *, begun: float, ended: float | None = None, parent: int = 1) -> None:
        stat = ProcessStat(20, parent, 20, begun, 0.0, 0, ended=False)
        self._words.append(ToldProcess(stat, None if ended is None else replace(stat, cpu_seconds=ended)))
        self._belong.add(20)

    def used_cpu_seconds(self) -> float:
        return self.scan.scan()[RUN_1].cpu_seconds

    def _said(self) -> list[ToldProcess]:
        words, self._words = self._words, []
        return words


def test_what_a_told_process_used_since_its_part_began_is_the_runs_and_what_it_used_to_its_end() -> None:
    table = Table()
    table.put(20, cpu=4.0)
    rank = Rank(table)
    rank.says(begun=5.0)
    table.put(20, cpu=5.5)
    assert rank.used_cpu_seconds() == 0.5
    table.put(20, cpu=6.0)
    assert rank.used_cpu_seconds() == 1.0
    rank.says(begun=5.0, ended=6.25)
    del table.stats[20]
    assert rank.used_cpu_seconds() == 1.25
    assert rank.used_cpu_seconds() == 1.25


def test_a_process_that_lives_on_after_its_last_words_is_followed_as_before() -> None:
    table = Table()
    table.put(20, cpu=5.0)
    rank = Rank(table)
    rank.says(begun=5.0)
    assert rank.used_cpu_seconds() == 0.0
    rank.says(begun=5.0, ended=6.0)
    table.put(20, cpu=6.5)
    assert rank.used_cpu_seconds() == 1.5
    table.put(20, cpu=7.0)
    assert rank.used_cpu_seconds() == 2.0
    del table.stats[20]
    assert rank.used_cpu_seconds() == 2.0


def test_a_told_process_that_came_and_went_between_two_scans_is_charged_once() -> None:
    table = Table()
    rank = Rank(table)
    rank.says(begun=1.0, ended=3.0)
    assert rank.used_cpu_seconds() == 2.0
    # Its parent is in the run and has inherited what it used.
    rank.says(begun=1.0, ended=3.0, parent=10)
    table.put(10, cpu=1.0, reaped=3.0)
    assert rank.used_cpu_seconds() == 5.0


def test_the_children_that_a_told_process_had_before_are_taken_along() -> None:
    table = Table()
    table.put(20, cpu=5.0)
    table.put(21, parent=20, cpu=3.0)
    rank = Rank(table)
    rank.says(begun=5.0)
    table.put(21, parent=20, cpu=4.0)
    assert rank.scan.scan()[RUN_1].pids == {10, 20, 21}
    table.put(21, parent=20, cpu=4.5)
    assert rank.used_cpu_seconds() == 0.5


def test_a_told_run_that_has_ended_leaves_its_living_processes_to_nobody_until_another_is_told_of() -> None:
    table = Table()
    table.put(20, cpu=5.0)
    table.put(21, parent=20)
    rank = Rank(table)
    rank.says(begun=5.0)
    assert rank.scan.scan()[RUN_1].pids == {10, 20, 21}
    rank.scan.release(RUN_1)
    assert rank.scan.scan() == {}
    rank.says(begun=5.0)
    assert rank.scan.scan()[RUN_1].pids == {20, 21}


def test_a_run_that_the_environment_says_is_metered_is_no_told_one_whoever_takes_its_name() -> None:
    table, told = Table(), {20: RunContext(run_id="run-1")}
    scan = ProcessScan(lambda pid: claimed_by_environment(pid, table) or told.get(pid), table)
    table.put(20)
    assert not scan.scan()[RUN_1].context.metered
    table.put(30)
    table.environments[30] = RunContext(run_id="run-1", metered=True).to_environment()
    assert scan.scan()[RUN_1].context.metered
    scan.release(RUN_1)
    assert scan.scan()[RUN_1].pids == {20, 30}


def test_a_metered_run_that_a_program_of_a_told_one_starts_is_a_run_of_its_own() -> None:
    table, told = Table(), {20: RunContext(run_id="run-1")}
    scan = ProcessScan(lambda pid: claimed_by_environment(pid, table) or told.get(pid), table)
    table.put(20)
    table.put(21, parent=20)
    scan.scan()
    table.put(30, parent=20)
    table.environments[30] = RunContext(run_id="run-2", metered=True).to_environment()
    table.put(31, parent=30)
    assert {key: use.pids for key, use in scan.scan().items()} == {RUN_1: {20, 21}, ("default", "run-2"): {30, 31}}
