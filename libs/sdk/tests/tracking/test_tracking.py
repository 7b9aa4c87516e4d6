"""`track()` tells what a block used, in which phases, and how it ended; with no server at all."""

import asyncio
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import ergonaut
from ergonaut.errors import Refused
from ergonaut.events.runs import RunState
from ergonaut.events.telemetry import Method
from ergonaut.journal import EntryKind, all_entries
from ergonaut.journal_phases import phases_of
from ergonaut.metering.cpu_model import CpuModel
from ergonaut.runcontext import RunContext
from ergonaut.tracking import meterthread
from ergonaut.tracking.summary import summary_of

from .programs import JOULES_PER_CPU_SECOND, journals, only_journal


def burn(cpu_seconds: float) -> None:
    until = time.thread_time() + cpu_seconds
    while time.thread_time() < until:
        pass


def test_a_block_is_charged_the_cpu_time_that_it_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meterthread, "discover", lambda: [CpuModel()])
    with ergonaut.track(name="work") as run:
        burn(0.6)
    summary = run.summary
    assert summary is not None
    assert summary.energy_joules == pytest.approx(0.6 * JOULES_PER_CPU_SECOND, rel=0.25)
    assert (summary.state, summary.components[0].method, summary.range_fraction) == (
        RunState.SUCCEEDED,
        Method.MODEL,
        pytest.approx(0.4),
    )


def test_the_summary_and_the_journal_tell_the_same(home: Path) -> None:
    with ergonaut.track(name="work", electricity_usd_per_kwh=0.25) as run:
        burn(0.3)
        run.metric("accuracy", 0.97)
    told = run.summary
    assert told is not None
    read = summary_of(only_journal(home), journals(home)[0])
    assert read is not None
    assert read.components == told.components
    assert (read.energy_joules, read.metrics, read.state) == (told.energy_joules, {"accuracy": 0.97}, told.state)
    assert told.energy_joules is not None
    assert told.cost_usd == pytest.approx(told.energy_joules / 3.6e6 * 0.25)
    assert told.carbon_grams_co2e == pytest.approx(told.energy_joules / 3.6e6 * 475)


def test_what_is_not_known_is_not_zero(home: Path) -> None:
    with ergonaut.track() as run:
        burn(0.05)
    assert run.summary is not None
    assert run.summary.cost_usd is None
    assert run.summary.intensity_kind == "world-average"
    unmeasured = [item for item in run.summary.components if item.method is Method.NOT_MEASURED]
    assert all(item.energy_joules is None and item.source for item in unmeasured)


def test_phases_nest_and_metrics_stand_in_them(home: Path) -> None:
    with ergonaut.track() as run, run.phase("train"):
        with run.phase("epoch", 3):
            run.metric("loss", 0.5)
        run.metric("loss", 0.25)
    entries = [entry for entry in only_journal(home) if entry.kind in (EntryKind.PHASE, EntryKind.METRIC)]
    assert [(entry.kind.value, entry.phase, entry.step, entry.value) for entry in entries] == [
        ("phase", "train", None, None),
        ("phase", "train/epoch", 3, None),
        ("metric", "train/epoch", None, 0.5),
        ("phase", "train", None, None),
        ("metric", "train", None, 0.25),
        ("phase", "", None, None),
    ]


def test_the_footprint_grows_while_the_run_goes_on(home: Path) -> None:
    with ergonaut.track() as run:
        burn(0.1)
        first = run.footprint()
        burn(0.1)
        second = run.footprint()
    assert first.state is None
    assert first.energy_joules is not None
    assert second.energy_joules is not None
    assert 0 < first.energy_joules < second.energy_joules


def test_a_function_is_measured_under_its_own_name_and_keeps_its_value(home: Path) -> None:
    @ergonaut.track
    def square(number: int) -> int:
        return number * number

    assert square(3) == 9
    assert only_journal(home)[0].started is not None
    assert only_journal(home)[0].started.name.endswith("square")  # type: ignore[union-attr]


async def test_a_coroutine_is_measured_and_keeps_its_value(home: Path) -> None:
    @ergonaut.track(name="soon")
    async def double(number: int) -> int:
        await asyncio.sleep(0.01)
        return number * 2

    assert await asyncio.gather(double(3), double(4)) == [6, 8]
    entries = only_journal(home)
    assert entries[0].started is not None
    assert entries[0].started.name == "soon"


async def test_a_coroutine_that_fails_fails_its_run(home: Path) -> None:
    @ergonaut.track(name="soon")
    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await fail()
    assert only_journal(home)[-1].state is RunState.FAILED


@pytest.mark.parametrize(
    ("error", "state", "because", "exit_code"),
    [
        (ValueError("too hot"), RunState.FAILED, "ValueError: too hot", None),
        (KeyboardInterrupt(), RunState.FAILED, "interrupted", None),
        (SystemExit(3), RunState.FAILED, "exit 3", 3),
        (SystemExit(0), RunState.SUCCEEDED, "", 0),
        (SystemExit(), RunState.SUCCEEDED, "", 0),
        (SystemExit("out of memory"), RunState.FAILED, "exit 1", 1),
    ],
)
def test_how_a_block_is_left_is_how_the_run_ended(
    home: Path, error: BaseException, state: RunState, because: str, exit_code: int | None
) -> None:
    with pytest.raises(type(error)), ergonaut.track() as run:
        raise error
    last = only_journal(home)[-1]
    assert (last.kind, last.state, last.because, last.exit_code) == (EntryKind.FINISHED, state, because, exit_code)
    assert run.summary is not None
    assert run.summary.state is state


def test_an_inner_track_joins_the_outer_run_as_a_phase(home: Path) -> None:
    with ergonaut.track(name="outer") as outer, ergonaut.track(name="inner") as inner:
        inner.metric("loss", 1.0)
    assert inner is outer
    phases = [entry.phase for entry in only_journal(home) if entry.kind is EntryKind.PHASE]
    assert phases == ["inner", ""]


def test_two_threads_that_track_at_once_are_one_run(home: Path) -> None:
    together = threading.Barrier(2)

    def work() -> None:
        together.wait()
        with ergonaut.track():
            time.sleep(0.3)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(journals(home)) == 1


def test_a_second_run_follows_the_first(home: Path) -> None:
    for _ in range(2):
        with ergonaut.track():
            pass
    assert len(journals(home)) == 2


def test_the_programs_own_signal_handlers_are_left_alone(home: Path) -> None:
    own = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        before = {number: signal.getsignal(number) for number in (*own, signal.SIGINT, signal.SIGCHLD)}
        with ergonaut.track():
            during = {number: signal.getsignal(number) for number in before}
        assert during == before
    finally:
        for number, handler in own.items():
            signal.signal(number, handler)


def test_what_was_put_in_place_for_signals_is_gone_after_the_run(home: Path) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    woken = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(woken)
    with ergonaut.track():
        assert signal.getsignal(signal.SIGTERM) != before[signal.SIGTERM]
    assert {number: signal.getsignal(number) for number in before} == before
    after = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(after)
    assert after == woken


def test_counted_work_adds_up_and_stands_among_the_metrics(home: Path) -> None:
    with ergonaut.track() as run:
        for epoch in range(2):
            with run.phase("epoch", epoch):
                for _ in range(1000):
                    run.count("tokens", 8)
        run.count("predictions")
    told = run.summary
    assert told is not None
    assert told.metrics == {"tokens": 16_000, "predictions": 1}
    entries = only_journal(home)
    read = summary_of(entries, journals(home)[0])
    assert read is not None
    assert read.metrics == told.metrics
    assert [span.metrics["tokens"] for span in phases_of(entries)] == [8000, 8000]
    lines = sum(entry.kind is EntryKind.METRIC for entry in entries)
    assert lines < 50, "counting in a loop must not write a line each time"


@pytest.mark.parametrize("amount", [-1, float("nan"), float("inf")])
def test_work_that_cannot_be_is_refused(home: Path, amount: float) -> None:
    with pytest.raises(ValueError, match="amount"), ergonaut.track() as run:
        run.count("tokens", amount)


def test_a_name_is_either_counted_or_told(home: Path) -> None:
    with ergonaut.track() as run:
        run.metric("loss", 1.0)
        with pytest.raises(ValueError, match="use two names"):
            run.count("loss")


def test_a_run_says_of_which_project_it_is(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERGONAUT_PROJECT", "vision")
    with ergonaut.track(name="by-environment") as first:
        pass
    with ergonaut.track(name="by-argument", project="speech") as second:
        burn(0.05)
    assert first.summary is not None
    assert first.summary.project == "vision"
    assert second.summary is not None
    assert second.summary.project == "speech"
    entries = list(all_entries(journals(home)[1]))
    assert entries[0].started is not None
    assert entries[0].started.project == "speech"
    assert {sample.project for entry in entries if entry.sampled for sample in entry.sampled.samples} == {"speech"}


def test_an_argument_that_there_is_not_is_a_type_error(home: Path) -> None:
    with pytest.raises(TypeError, match=r"such as track\(name='digits'\)"):
        ergonaut.track("digits")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="name is text, not 3"):
        ergonaut.track(name=3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="nmae"):
        ergonaut.track(nmae="digits")  # type: ignore[call-overload]


def test_a_run_without_an_orchestrator_has_no_checkpoint_folder(home: Path) -> None:
    with ergonaut.track() as run:
        assert run.checkpoint_folder is None
        assert not run.should_stop


def test_the_checkpoint_folder_of_a_job_is_found(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = RunContext(run_id="run-of-a-job", metered=True, checkpoint_folder=str(home / "kept"))
    for name, value in context.to_environment().items():
        monkeypatch.setenv(name, value)
    with ergonaut.track() as run:
        assert run.checkpoint_folder == home / "kept"


def test_inside_an_orchestrated_run_only_phases_and_metrics_are_told(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = home / "of-the-job.jsonl"
    context = RunContext(run_id="run-of-a-job", job_id="job-1", journal=str(journal), metered=True)
    for name, value in context.to_environment().items():
        monkeypatch.setenv(name, value)
    with ergonaut.track(name="digits") as run:
        with run.phase("epoch", 1):
            run.metric("loss", 0.5)
        time.sleep(0.5)
    assert [entry.kind.value for entry in all_entries(journal)] == ["phase", "metric", "phase"]
    assert run.run_id == "run-of-a-job"
    assert run.summary is not None
    assert run.summary.energy_joules is None
    assert journals(home) == []


def test_a_run_that_no_agent_meters_is_metered_under_its_own_id_and_price(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = RunContext(run_id="run-elsewhere", tenant="lab", zone="DE", pue=1.5, price_microusd_per_hour=3_600_000)
    for name, value in context.to_environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ERGONAUT_INTENSITY_GRAMS_PER_KWH", "100")
    with ergonaut.track() as run:
        burn(0.2)
    summary = run.summary
    assert summary is not None
    assert (summary.run_id, summary.zone, summary.intensity_kind) == ("run-elsewhere", "DE", "yearly")
    assert summary.energy_joules is not None
    assert summary.carbon_grams_co2e == pytest.approx(summary.energy_joules * 1.5 / 3.6e6 * 100)
    rent = next(item for item in summary.components if item.component == "machine")
    assert rent.energy_joules is None
    assert rent.cost_usd == pytest.approx(summary.duration_seconds * 0.001, rel=0.5)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ERGONAUT_ELECTRICITY_USD_PER_KWH", "cheap"),
        ("ERGONAUT_ELECTRICITY_USD_PER_KWH", "-1"),
        ("ERGONAUT_TRACK_INTERVAL_SECONDS", "0"),
        ("ERGONAUT_PUE", "0.5"),
        ("ERGONAUT_ZONE", "no such / place"),
        ("ERGONAUT_TENANT", "Not A Name"),
        ("ERGONAUT_INTENSITY_GRAMS_PER_KWH", "none"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_its_name(
    home: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(Refused, match=variable), ergonaut.track():
        pass
    assert journals(home) == []


def test_a_home_that_cannot_be_written_is_refused_by_name(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "file").write_text("")
    monkeypatch.setenv("ERGONAUT_HOME", str(home / "file"))
    with pytest.raises(Refused, match="ERGONAUT_HOME"), ergonaut.track():
        pass


def test_a_journal_that_fails_later_does_not_stop_the_program(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with ergonaut.track() as run:

        def full(_entry: object) -> None:
            raise OSError(28, "No space left on device")

        assert run._parts.journal is not None
        monkeypatch.setattr(run._parts.journal._writer, "write", full)
        run.metric("loss", 1.0)
        run.metric("loss", 0.5)
        burn(0.1)
    assert run.summary is not None
    assert run.summary.metrics == {"loss": 0.5}
    assert (run.summary.energy_joules or 0) > 0
    # Two figures, the samples and the end.
    assert run.summary.journal_entries_missing >= 4
    assert f"{run.summary.journal_entries_missing} entries are not in the journal" in run.summary.sentence()
    assert capsys.readouterr().err.count("No space left on device") == 1


def test_a_name_that_is_no_text_does_not_cost_the_journal(home: Path) -> None:
    with ergonaut.track(name="bytes\udc80") as run:
        for told in (
            lambda: run.metric("\ud800", 1),
            lambda: run.count("\ud800"),
            lambda: run.phase("\ud800").__enter__(),
        ):
            with pytest.raises(ValueError, match="UTF-8"):
                told()
        run.metric("after", 1)
    assert run.summary is not None
    assert run.summary.journal is not None
    read_back = summary_of(all_entries(run.summary.journal), run.summary.journal)
    assert read_back is not None
    assert (read_back.name, read_back.metrics) == ("bytes?", {"after": 1})


@pytest.mark.parametrize("step", [1.5, "x", 2**63, float("nan"), float("inf")])
def test_a_phase_whose_number_is_none_is_refused_and_leaves_no_phase_open(home: Path, step: Any) -> None:
    with ergonaut.track() as run:
        with pytest.raises(ValueError, match="step: a phase's number"), run.phase("epoch", step):
            pass
        with run.phase("epoch", 2):
            run.metric("loss", 0.5)
    assert run.summary is not None
    assert run.summary.journal is not None
    told = [entry for entry in all_entries(run.summary.journal) if entry.kind is EntryKind.METRIC]
    assert [entry.phase for entry in told] == ["epoch"]


@pytest.mark.parametrize("figure", ["high", None, 10**400])
def test_a_figure_that_is_no_number_is_refused_by_its_name(home: Path, figure: Any) -> None:
    with ergonaut.track() as run:
        with pytest.raises(ValueError, match="'loss' takes a number"):
            run.metric("loss", figure)
        with pytest.raises(ValueError, match="'tokens' takes a number"):
            run.count("tokens", figure)
        with pytest.raises(TypeError, match="a metric's name is text, not 5"):
            run.metric(5, 1.0)  # type: ignore[arg-type]


def test_metrics_without_bound_are_cut_off_with_one_warning(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ergonaut.track() as run:
        for number in range(1005):
            run.metric(f"metric-{number}", number)
    assert run.summary is not None
    assert len(run.summary.metrics) == 1000
    assert capsys.readouterr().err.count("at most 1000") == 1


def test_a_program_that_asks_for_it_hears_one_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ergonaut.track(name="loud", verbose=True):
        burn(0.05)
    with ergonaut.track(name="quiet"):
        burn(0.05)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "loud" in lines[0]
    assert "not measured" in lines[0] or "gpu0" in lines[0]
    assert "± 40%" in lines[0] or "counter" in lines[0]
