"""Phases are paired right however they nest or overlap, and however the run ended."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ergonaut.events.runs import PHASES_MAX, PhaseSpan, RunState
from ergonaut.journal import EntryKind, JournalEntry, JournalWriter, all_entries
from ergonaut.journal_phases import PhasePairing, batches_of, phases_of

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def at(second: float) -> datetime:
    return BEGAN + timedelta(seconds=second)


def entered(second: float, phase: str, step: int | None = None) -> JournalEntry:
    return JournalEntry(kind=EntryKind.PHASE, at=at(second), phase=phase, step=step)


def left(second: float, phase: str, since: float, step: int | None = None) -> JournalEntry:
    around = phase.rpartition("/")[0]
    return JournalEntry(
        kind=EntryKind.PHASE, at=at(second), phase=around, left=phase, left_step=step, left_since=at(since)
    )


def told(second: float, phase: str, name: str, value: float) -> JournalEntry:
    return JournalEntry(kind=EntryKind.METRIC, at=at(second), phase=phase, name=name, value=value)


def counted(second: float, phase: str, more: float, total: float) -> JournalEntry:
    return JournalEntry(kind=EntryKind.METRIC, at=at(second), phase=phase, name="tokens", value=total, counted=more)


def finished(second: float) -> JournalEntry:
    return JournalEntry(kind=EntryKind.FINISHED, at=at(second), state=RunState.FAILED)


def span(phase: str, step: int | None, since: float, until: float, **metrics: float) -> PhaseSpan:
    return PhaseSpan(phase=phase, step=step, started_at=at(since), ended_at=at(until), metrics=metrics)


def test_nested_phases_end_inner_first_with_the_newest_figures_told_within_them() -> None:
    entries = [
        entered(0, "train"),
        entered(1, "train/epoch", 1),
        told(2, "train/epoch", "loss", 0.9),
        told(3, "train/epoch", "loss", 0.5),
        left(4, "train/epoch", 1, 1),
        entered(4, "train/epoch", 2),
        left(6, "train/epoch", 4, 2),
        told(7, "train", "accuracy", 0.8),
        left(8, "train", 0),
    ]
    assert list(phases_of(entries)) == [
        span("train/epoch", 1, 1, 4, loss=0.5),
        span("train/epoch", 2, 4, 6),
        span("train", None, 0, 8, loss=0.5, accuracy=0.8),
    ]


def test_counted_work_is_what_was_done_in_the_phase_not_the_runs_total() -> None:
    entries = [
        counted(0, "", 100, 100),
        entered(1, "epoch", 1),
        counted(2, "epoch", 20, 120),
        counted(3, "epoch", 30, 150),
        left(4, "epoch", 1, 1),
        entered(5, "epoch", 2),
        counted(6, "epoch", 7, 157),
        left(7, "epoch", 5, 2),
    ]
    assert [each.metrics for each in phases_of(entries)] == [{"tokens": 50}, {"tokens": 7}]


def test_phases_of_threads_that_overlap_are_told_apart() -> None:
    entries = [entered(0, "load"), entered(1, "train"), entered(2, "load"), left(3, "load", 0), left(5, "load", 2)]
    spans = list(phases_of([*entries, left(6, "train", 1)]))
    assert spans == [span("load", None, 0, 3), span("load", None, 2, 5), span("train", None, 1, 6)]


def test_phases_that_are_open_when_the_run_ends_end_with_it() -> None:
    entries = [entered(0, "train"), entered(1, "train/epoch", 1), finished(3)]
    assert list(phases_of(entries)) == [span("train/epoch", 1, 1, 3), span("train", None, 0, 3)]


def test_a_phase_whose_beginning_was_lost_is_told_without_figures() -> None:
    assert list(phases_of([left(3, "epoch", 1, 7)])) == [span("epoch", 7, 1, 3)]


def test_a_program_that_never_leaves_its_phases_does_not_fill_the_memory() -> None:
    pairing = PhasePairing()
    for second in range(1500):
        assert pairing.after(entered(second, "leak", second)) == ()
    assert len(pairing.after(finished(2000))) == 1000


def test_a_batch_is_never_larger_than_an_event_may_be() -> None:
    spans = [span("epoch", number, number, number + 1) for number in range(2 * PHASES_MAX + 1)]
    batches = list(batches_of(spans))
    assert [len(batch) for batch in batches] == [PHASES_MAX, PHASES_MAX, 1]
    assert [each for batch in batches for each in batch] == spans
    assert list(batches_of([])) == []


@given(st.lists(st.sampled_from("abc("), max_size=40))
def test_every_phase_that_was_entered_is_told_once_and_lies_within_those_around_it(moves: list[str]) -> None:
    entries, stack, second = [], list[tuple[str, int]](), 0
    for move in moves:
        second += 1
        if move != "(":
            path = "/".join([*(name for name, _ in stack[-1:]), move])
            stack.append((path, second))
            entries.append(entered(second, path))
        elif stack:
            path, since = stack.pop()
            entries.append(left(second, path, since))
    spans = list(phases_of([*entries, finished(second + 1)]))
    assert sorted(each.started_at for each in spans) == [each.at for each in entries if each.left_since is None]
    assert all(before.ended_at <= after.ended_at for before, after in pairwise(spans))
    for inner in spans:
        outer = inner.phase.rpartition("/")[0]
        around = [each for each in spans if each.phase == outer and each.started_at < inner.started_at <= each.ended_at]
        assert not outer or any(each.ended_at >= inner.ended_at for each in around)


def test_what_was_written_to_disk_is_paired_the_same(tmp_path: Path) -> None:
    entries = [entered(0, "epoch", 1), told(1, "epoch", "loss", float("nan")), left(2, "epoch", 0, 1)]
    with JournalWriter(tmp_path / "journal.jsonl") as writer:
        for entry in entries:
            writer.write(entry)
    assert list(phases_of(all_entries(tmp_path / "journal.jsonl"))) == [span("epoch", 1, 0, 2)]
