"""A run is held to its own budget with no server: warned once, then told or stopped, and hardly ever too late."""

import json
import signal
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ergonaut
from ergonaut.errors import Refused
from ergonaut.events.runs import RunState
from ergonaut.events.telemetry import Method, PowerSample, PowerSampled, Share
from ergonaut.journal import EntryKind, JournalEntry
from ergonaut.tracking.budgeting import BudgetWatch
from ergonaut.tracking.interrupting import Interruption
from ergonaut.tracking.stopping import BudgetExceeded, StopWish
from ergonaut.tracking.summary import Totals

from .programs import JOULES_PER_CPU_SECOND, only_journal, run
from .test_command import python, track


def at(second: float) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second)


def used(joules: float | None, grams: float | None = None, usd: float | None = None) -> JournalEntry:
    sample = PowerSample(
        share=Share.RUN, run_id="run-1", component="cpu", method=Method.MODEL, source="table", started_at=at(0),
        ended_at=at(1), energy_joules=joules, carbon_grams_co2e=grams, cost_usd=usd,
    )  # fmt: skip
    event = PowerSampled(
        tenant="default", host="here", producer="run-1", sequence=1, intensity_grams_per_kwh=475,
        intensity_kind="world-average", intensity_source="nobody said", samples=(sample,),
    )  # fmt: skip
    return JournalEntry(kind=EntryKind.SAMPLE, at=at(1), sampled=event)


class Watched:
    """A budget watch and what it said and did; each step is joules after so many seconds."""

    def __init__(self, **limits: object) -> None:
        self.said: list[str] = []
        self.stopped: list[BudgetExceeded] = []
        self.totals = Totals()
        self._watch = BudgetWatch(
            ergonaut.Budget(**limits), began_seconds=0.0, tell=self.said.append, exceeded=self.stopped.append
        )  # type: ignore[arg-type]

    def step(self, at_seconds: float, entry: JournalEntry) -> float:
        self.totals.add(entry)
        return self._watch.after_sample(self.totals, at_seconds)


def test_a_budget_warns_once_at_four_fifths_and_stops_once_at_its_end() -> None:
    watched = Watched(energy_joules=100)
    for second in range(1, 14):
        watched.step(second, used(10))
    assert [sentence.split(":")[0] for sentence in watched.said] == ["80% of the budget is used"]
    assert [str(error) for error in watched.stopped] == [
        "budget: the run has used up its budget: 100 of 100 J (energy_joules)"
    ]


def test_a_budget_that_only_tells_stops_nothing() -> None:
    watched = Watched(energy_joules=100, action="tell")
    for second in range(1, 14):
        watched.step(second, used(10))
    assert watched.stopped == []
    assert [sentence.split(":")[0] for sentence in watched.said] == [
        "80% of the budget is used",
        "the budget is used up",
    ]


@pytest.mark.parametrize(
    ("limits", "entry"),
    [({"carbon_grams_co2e": 2.0}, used(1, grams=1)), ({"cost_usd": 0.5}, used(1, usd=0.25))],
    ids=["grams", "dollars"],
)
def test_grams_and_dollars_are_limits_as_well(limits: dict[str, float], entry: JournalEntry) -> None:
    watched = Watched(**limits)
    watched.step(1, entry)
    assert watched.stopped == []
    watched.step(2, entry)
    assert len(watched.stopped) == 1


def test_a_budget_that_cannot_be_watched_is_told_of_and_never_stops() -> None:
    watched = Watched(cost_usd=0.01)
    watched.step(1, used(10))
    watched.step(2, used(10))
    assert watched.stopped == []
    assert len(watched.said) == 1
    assert "ERGONAUT_ELECTRICITY_USD_PER_KWH" in watched.said[0]


@settings(deadline=None)
@given(watts=st.floats(1, 1000), seconds=st.floats(15, 300), interval=st.sampled_from([0.2, 1.0, 10.0]))
def test_a_steady_run_is_stopped_at_most_a_hundredth_early_and_never_late(
    watts: float, seconds: float, interval: float
) -> None:
    limit = watts * seconds
    watched, now, wait = Watched(energy_joules=limit), 0.0, interval
    while not watched.stopped:
        now += wait
        wait = min(interval, watched.step(now, used(watts * wait)))
    assert 0.99 * limit - 1e-6 * limit <= watts * now <= 1.0 * limit + 1e-6 * limit


@settings(deadline=None)
@given(st.lists(st.floats(0, 500), min_size=60, max_size=60))
def test_a_run_whose_power_changes_every_second_is_stopped_within_two_intervals(watts: list[float]) -> None:
    limit = max(sum(watts) * 0.5, 1.0)
    watched, now, wait, total, passed_at = Watched(energy_joules=limit), 0.0, 1.0, 0.0, None
    while not watched.stopped and now < len(watts) - 1:
        power = watts[int(now)]
        if passed_at is None and total + power * wait > limit:
            passed_at = now
        now, total = now + wait, total + power * wait
        wait = min(1.0, watched.step(now, used(power * wait)))
    assert passed_at is None or now - passed_at <= 2


def test_a_budget_cannot_ask_for_a_pause_where_nobody_resumes(home: Path) -> None:
    with pytest.raises(Refused, match=r"budget\.action"), ergonaut.track(budget=ergonaut.Budget(action="pause")):  # type: ignore[arg-type]
        pass


OVERSPENDING = f"""
with ergonaut.track(budget=ergonaut.Budget(energy_joules={1.5 * JOULES_PER_CPU_SECOND})) as run:
    for step in range(100_000):
"""


def test_a_loop_is_stopped_at_its_next_word_by_an_error_that_says_why(home: Path) -> None:
    done = run(OVERSPENDING + "        burn(0.02)\n        run.count('steps')", home)
    assert done.returncode == 1
    assert "BudgetExceeded: budget: the run has used up its budget" in done.stderr
    assert done.stderr.count("% of the budget is used") == 1
    last = only_journal(home)[-1]
    assert last.state is RunState.CANCELLED
    assert "used up its budget" in last.because


def test_a_block_that_never_says_a_word_is_interrupted(home: Path) -> None:
    program = f"""
budget = ergonaut.Budget(energy_joules={0.5 * JOULES_PER_CPU_SECOND})
try:
    with ergonaut.track(budget=budget):
        burn(60)
except ergonaut.BudgetExceeded as error:
    print(type(error).__name__, error.field, error)
burn(0.1)
"""
    done = run(program, home)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("BudgetExceeded budget budget: the run has used up its budget: ")
    last = only_journal(home)[-1]
    assert (last.state, "used up its budget" in last.because) == (RunState.CANCELLED, True)


def test_a_program_that_asks_slowly_is_not_interrupted(home: Path) -> None:
    program = f"""
with ergonaut.track(budget=ergonaut.Budget(energy_joules={0.5 * JOULES_PER_CPU_SECOND})) as run:
    while not run.should_stop:
        burn(2.5)
print("saved")
"""
    done = run(program, home)
    assert (done.returncode, done.stdout) == (0, "saved\n"), done.stderr


def test_an_event_loop_is_not_interrupted(home: Path) -> None:
    program = f"""
import asyncio
@ergonaut.track(budget=ergonaut.Budget(energy_joules={0.3 * JOULES_PER_CPU_SECOND}))
async def work():
    for _ in range(100):
        burn(0.02)
        await asyncio.sleep(0)
asyncio.run(work())
print("whole")
"""
    done = run(program, home)
    assert (done.returncode, done.stdout) == (0, "whole\n"), done.stderr


def test_a_block_that_is_left_in_time_is_interrupted_no_more(home: Path) -> None:
    wish = StopWish()
    interruption = Interruption(wish, patience_seconds=0.05)
    wish.ask("the budget is used up", BudgetExceeded("is used up", field="budget"))
    interruption.end()
    left_at = time.monotonic()
    while time.monotonic() - left_at < 0.2:
        pass


def test_a_signals_wish_begins_no_thread_in_its_handler() -> None:
    wish = StopWish(program_stops_itself=True)
    Interruption(wish)
    before = threading.enumerate()
    wish.ask("SIGTERM")
    assert threading.enumerate() == before


def test_a_loop_that_asks_leaves_by_itself_and_may_still_tell_what_it_saved(home: Path) -> None:
    program = (
        OVERSPENDING
        + "        burn(0.02)\n        if run.should_stop:\n            break\n    run.metric('saved', step)"
    )
    done = run(program, home)
    assert done.returncode == 0, done.stderr
    entries = only_journal(home)
    assert entries[-1].state is RunState.CANCELLED
    assert [entry.name for entry in entries if entry.kind is EntryKind.METRIC] == ["saved"]


def test_a_command_is_stopped_at_its_budget_with_all_that_it_started(home: Path) -> None:
    limit = 5 * JOULES_PER_CPU_SECOND
    # By the clock of the kernel's CPU accounting, a hundredth of a second, plus the hundredth that is promised. A machine that is
    # busy may keep us from looking in time, and does not do so again and again.
    attempts = (spent_by_a_command(home, limit) for _ in range(3))
    assert any(limit * 0.985 <= joules <= limit * 1.015 for joules in attempts)


def spent_by_a_command(home: Path, limit: float) -> float:
    inner = "import time\nwhile time.process_time() < 60: pass"
    arguments = ("--budget-joules", str(limit), "--json", "--", "sh", "-c", f"{sys.executable} -c '{inner}'; true")
    done = track(home, *arguments)
    assert done.returncode == 79
    summary = json.loads(done.stderr[done.stderr.index("{") :])
    assert summary["state"] == "cancelled"
    return float(summary["energy_joules"])


def test_a_command_that_does_not_listen_is_killed_after_the_grace(home: Path) -> None:
    deaf = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile time.process_time() < 60: pass"
    program = f"""
from ergonaut.tracking.command import track_command
summary = track_command([sys.executable, "-c", {deaf!r}], dict(budget=ergonaut.Budget(energy_joules=1)), grace_seconds=0.5)
print(summary.exit_code)
"""
    done = run(program, home)
    assert (done.returncode, done.stdout) == (0, "79\n"), done.stderr


def test_a_command_whose_budget_only_tells_runs_to_its_end(home: Path) -> None:
    burn = "import time\nwhile time.process_time() < 0.8: pass"
    done = track(home, "--budget-joules", "0.5", "--on-budget", "tell", "--", *python(burn))
    assert done.returncode == 0
    assert "the budget is used up" in done.stderr


def test_a_command_that_ends_by_itself_within_its_budget_keeps_its_exit_code(home: Path) -> None:
    assert track(home, "--budget-joules", "1000", "--", "sh", "-c", "exit 4").returncode == 4
    assert track(home, "--budget-joules", "1000", "--", "sh", "-c", "kill -TERM $$").returncode == 128 + signal.SIGTERM
