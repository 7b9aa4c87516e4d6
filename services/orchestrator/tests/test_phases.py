"""Phases are told once they have ended, in the same batches however often the journal is read again."""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import FakeWorld, attempt, job, lease

from ergonaut.errors import Unavailable
from ergonaut.events.runs import PHASES_MAX, PhasesFinished
from ergonaut.journal import EntryKind, JournalEntry
from ergonaut_common.clock import FakeClock
from ergonaut_orchestrator.service import Bounds, Leasing, Running, StopRequest, Told
from ergonaut_orchestrator.service.phases import BATCHES_WAITING_MAX, Phases

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OURS = lease(run_id="run-1")


def epoch(number: int, begun: float, left: float) -> list[JournalEntry]:
    """An epoch as a tracker writes it, its times in seconds from now."""
    since, at = NOW + timedelta(seconds=begun), NOW + timedelta(seconds=left)
    return [
        JournalEntry(kind=EntryKind.PHASE, at=since, phase="epoch", step=number),
        JournalEntry(kind=EntryKind.METRIC, at=at, phase="epoch", name="loss", value=1 / number),
        JournalEntry(kind=EntryKind.PHASE, at=at, left="epoch", left_step=number, left_since=since),
    ]


@pytest.fixture
def fakes() -> FakeWorld:
    return FakeWorld.on(FakeClock(NOW))


def told(fakes: FakeWorld) -> list[PhasesFinished]:
    return [event for event in fakes.announcer.told if isinstance(event, PhasesFinished)]


async def test_a_watched_run_s_phases_are_told_soon_and_the_last_ones_at_its_end(fakes: FakeWorld) -> None:
    clock = fakes.clock
    assert isinstance(clock, FakeClock)
    ours = attempt(job("sleep", "60"), NOW)
    await Leasing(fakes.world).provision(ours)
    await Running(fakes.world, Bounds()).start(ours)
    memory = Told()
    watching = asyncio.create_task(Running(fakes.world, Bounds()).watch(ours, lambda: None, StopRequest(), memory))
    for entry in epoch(1, 0, 1):
        fakes.provider.tell(entry)
    for _ in range(12):
        await clock.advance(1)
    [first] = told(fakes)
    assert [(span.phase, span.step, span.metrics) for span in first.phases] == [("epoch", 1, {"loss": 1.0})]
    assert memory.phases == 1
    for entry in epoch(2, 50, 59.5):
        fakes.provider.tell(entry)
    for _ in range(60):
        await clock.advance(1)
    await watching
    assert [span.step for event in told(fakes) for span in event.phases] == [1, 2]


async def test_a_watch_that_takes_over_tells_only_what_was_not_told(fakes: FakeWorld) -> None:
    entries = [entry for number in range(1, 9) for entry in epoch(number, number * 10, number * 10 + 9)]
    memory = Told()
    before = Phases(fakes.world, OURS, memory)
    before.hear(entries[:12])
    await before.tell_due(NOW + timedelta(hours=1))
    told_before = len(told(fakes))
    fakes.announcer.told.clear()
    after = Phases(fakes.world, OURS, memory)
    after.hear(entries)
    await after.tell_all()
    assert told_before == 4
    assert [span.step for event in told(fakes) for span in event.phases] == [5, 6, 7, 8]


@given(st.lists(st.floats(0, 30), max_size=40), st.lists(st.integers(1, 120), max_size=8))
@settings(deadline=None)
def test_the_batches_are_the_same_in_whatever_pieces_the_journal_is_read(lengths: list[float], cuts: list[int]) -> None:
    entries, at = [], 0.0
    for number, length in enumerate(lengths, start=1):
        entries += epoch(number, at, at + length)
        at += length

    async def batches(pieces: list[list[JournalEntry]]) -> list[tuple[str, int]]:
        fakes = FakeWorld.on(FakeClock(NOW))
        phases = Phases(fakes.world, OURS, Told())
        for piece in pieces:
            phases.hear(piece)
            if piece:
                await phases.tell_due(piece[-1].at)
        await phases.tell_all()
        return [(event.event_id, len(event.phases)) for event in told(fakes)]

    edges = [0, *sorted(min(cut, len(entries)) for cut in cuts), len(entries)]
    pieces = [entries[begin:end] for begin, end in itertools.pairwise(edges)]
    assert asyncio.run(batches([entries])) == asyncio.run(batches(pieces))


async def test_many_short_phases_are_told_in_few_events_that_fit(fakes: FakeWorld) -> None:
    phases = Phases(fakes.world, OURS, Told())
    phases.hear([entry for number in range(1, 2001) for entry in epoch(number, 0.001 * number, 0.001 * number + 0.001)])
    await phases.tell_all()
    assert [len(event.phases) for event in told(fakes)] == [PHASES_MAX] * 4


async def test_while_the_bus_is_away_phases_wait_and_at_the_end_the_watch_is_tried_again(fakes: FakeWorld) -> None:
    phases = Phases(fakes.world, OURS, Told())
    phases.hear(epoch(1, 0, 1))
    fakes.announcer.away_for = 2
    await phases.tell_due(NOW + timedelta(hours=1))
    with pytest.raises(Unavailable):
        await phases.tell_all()
    await phases.tell_all()
    assert len(told(fakes)) == 1


async def test_a_bus_that_is_away_for_long_costs_the_oldest_phases_and_no_memory(fakes: FakeWorld) -> None:
    phases = Phases(fakes.world, OURS, Told())
    phases.hear(
        [
            entry
            for number in range(1, BATCHES_WAITING_MAX + 11)
            for entry in epoch(number, number * 10, number * 10 + 9)
        ]
    )
    await phases.tell_all()
    assert next(span.step for event in told(fakes) for span in event.phases) == 11
