"""Real processes side by side: who sleeps pays next to nothing for who works, and many ranks are one run."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from ergonaut.events.telemetry import Share
from ergonaut.ids import new_id
from ergonaut.metering import Charge, HostInterval, HostSampler, ProcessScan
from ergonaut.metering.cpu_model import CpuModel
from ergonaut.runcontext import RunContext

# Both tell that they are there; the sleeper has a child that sleeps as well and wakes ten times a second, as a program does
# that waits for something. The worker works for so much CPU time, however long the host takes to give it that.
SLEEPER = """
import subprocess, sys, time
nap = "import time\\nwhile True: time.sleep(0.1)"
with subprocess.Popen([sys.executable, "-c", nap]) as child:
    print("asleep", flush=True)
    sys.stdin.read()
    child.kill()
"""
WORKER = """
import sys, time
print("ready", flush=True)
for line in sys.stdin:
    until = time.process_time() + float(line)
    while time.process_time() < until: pass
    print("worked", flush=True)
"""
WORK_CPU_SECONDS = 1.0


class Program:
    """A real process of a run, or of none."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()


@contextmanager
def program(text: str, run_id: str = "") -> Iterator[Program]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ERGONAUT_")}
    if run_id:
        environment |= RunContext(run_id=run_id).to_environment()
    with subprocess.Popen(
        [sys.executable, "-c", text], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        started = Program(process)
        started.answer()
        try:
            yield started
        finally:
            # At the end of its input a program ends by itself, with what it has started.
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()


def joules(charges: Sequence[Charge], wanted: Callable[[Charge], bool]) -> float:
    return sum(charge.energy_joules or 0.0 for charge in charges if wanted(charge))


@pytest.fixture
def run_id() -> str:
    return new_id("run")


@pytest.fixture
def sampler() -> Iterator[HostSampler]:
    sampler = HostSampler([CpuModel()], ProcessScan())
    yield sampler
    sampler.close()


def sampled_during(work: Callable[[], None], sampler: HostSampler) -> HostInterval:
    sampler.sample()
    work()
    # The host's load is shared for some milliseconds; the interval must hold all of the work.
    time.sleep(0.03)
    return sampler.sample()


def test_a_sleeping_run_beside_a_busy_neighbour_pays_at_most_a_twentieth_of_the_work(
    run_id: str, sampler: HostSampler
) -> None:
    with program(SLEEPER, run_id), program(WORKER) as neighbour:

        def work() -> None:
            neighbour.tell(str(WORK_CPU_SECONDS))
            neighbour.answer()

        charges = sampled_during(work, sampler).charges

    slept = joules(charges, lambda charge: charge.run_id == run_id)
    dynamic = joules(charges, lambda charge: charge.share != Share.IDLE)
    assert [charge for charge in charges if charge.run_id == run_id]
    assert dynamic > 0
    assert slept <= 0.05 * dynamic


def test_two_runs_pay_for_the_work_that_each_has_done(sampler: HostSampler) -> None:
    first, second = new_id("run"), new_id("run")
    with program(WORKER, first) as one, program(WORKER, second) as other:

        def work() -> None:
            one.tell(str(WORK_CPU_SECONDS * 0.75))
            other.tell(str(WORK_CPU_SECONDS * 0.25))
            one.answer()
            other.answer()

        charges = sampled_during(work, sampler).charges

    paid = [joules(charges, lambda charge, run=run: charge.run_id == run) for run in (first, second)]
    # The kernel counts in hundredths of a second.
    assert paid[0] / sum(paid) == pytest.approx(0.75, abs=0.05)


def test_the_ranks_of_a_run_are_one_run_and_the_hosts_energy_is_counted_once(run_id: str, sampler: HostSampler) -> None:
    with program(WORKER, run_id) as one, program(WORKER, run_id) as other:

        def work() -> None:
            for rank in (one, other):
                rank.tell(str(WORK_CPU_SECONDS / 2))
            for rank in (one, other):
                rank.answer()

        interval = sampled_during(work, sampler)

    of_run = [charge for charge in interval.charges if charge.run_id == run_id]
    before, after = interval.started_at, interval.ended_at
    assert len(of_run) == 1
    assert len(interval.runs[("default", run_id)].pids) == 2
    assert {(charge.started_at, charge.ended_at) for charge in interval.charges} == {(before, after)}
    counted = sampler.readings[0].energy_joules or 0.0
    assert 0 < joules(interval.charges, lambda _: True) <= counted
    # Both ranks' work is in it, but for the hundredths of a second in which the kernel counts.
    assert interval.runs[("default", run_id)].used_cpu_seconds >= 0.9 * WORK_CPU_SECONDS
