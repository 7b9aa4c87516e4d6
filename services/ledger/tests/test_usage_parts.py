"""Which roll-up answers for which part of a time."""

import itertools
import random
from datetime import UTC, datetime, timedelta

import pytest

from ergonaut.errors import Refused
from ergonaut_ledger.domain.usage import LABELS, SECONDS, Level, Span, Step, checked_labels, checked_step, parts

T0 = datetime(2026, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def day(number: float) -> datetime:
    return T0 + timedelta(days=number)


def test_a_whole_month_is_answered_by_days_alone() -> None:
    found = parts(Span(day(0), day(31)), Level.DAY, [])
    assert found[Level.DAY] == [Span(day(0), day(31))]
    assert not any(found[level] for level in (Level.SAMPLE, Level.MINUTE, Level.HOUR))


def test_a_touched_minute_is_answered_by_samples_and_its_day_by_hours_and_minutes() -> None:
    touched = day(1) + 5 * timedelta(hours=1) + 7 * MINUTE
    hour = touched - 7 * MINUTE
    found = parts(Span(day(0), day(3)), Level.DAY, [touched])
    assert found[Level.SAMPLE] == [Span(touched, touched + MINUTE)]
    assert found[Level.MINUTE] == [Span(hour, touched), Span(touched + MINUTE, hour + timedelta(hours=1))]
    assert found[Level.HOUR] == [Span(day(1), hour), Span(hour + timedelta(hours=1), day(2))]
    assert found[Level.DAY] == [Span(day(0), day(1)), Span(day(2), day(3))]


@pytest.mark.parametrize("seed", range(200))
def test_the_parts_are_the_time_without_overlap_whole_and_clean(seed: int) -> None:
    chance = random.Random(seed)
    start = T0 + timedelta(microseconds=chance.randrange(10**12)) if chance.random() < 0.5 else day(chance.randrange(3))
    span = Span(
        start, start + timedelta(seconds=chance.choice((1, 59, 60, 3_601, 90_000, 400_000)) * chance.random() + 1)
    )
    touched = [T0 + chance.randrange(10_000) * MINUTE for _ in range(chance.choice((0, 1, 5, 40)))]
    coarsest = chance.choice([Level.MINUTE, Level.HOUR, Level.DAY])
    found = parts(span, coarsest, touched)
    pieces = sorted((piece.starts_at, piece.ends_at, level) for level, spans in found.items() for piece in spans)
    assert pieces[0][0] == span.starts_at
    assert pieces[-1][1] == span.ends_at
    assert all(before[1] == after[0] for before, after in itertools.pairwise(pieces))
    for starts_at, ends_at, level in pieces:
        if level is not Level.SAMPLE:
            width = timedelta(seconds=SECONDS[level])
            assert SECONDS[level] <= SECONDS[coarsest]
            assert not (starts_at - T0) % width
            assert not (ends_at - T0) % width
            assert not any(starts_at <= minute < ends_at for minute in touched)


def test_an_open_step_is_the_finest_of_at_most_a_thousand_points() -> None:
    steps = [checked_step("", Span(day(0), day(days))) for days in (0.5, 1, 41, 42, 999, 1_001)]
    assert steps == [Step.MINUTE, Step.HOUR, Step.HOUR, Step.DAY, Step.DAY, Step.TOTAL]


@pytest.mark.parametrize(("step", "days", "word"), [("week", 1, "step"), ("minute", 40, "step"), ("day", 0, "ends_at")])
def test_a_step_that_cannot_be_is_refused(step: str, days: float, word: str) -> None:
    with pytest.raises(Refused) as caught:
        checked_step(step, Span(day(0), day(days)))
    assert caught.value.field == word


def test_labels_are_known_and_count_once() -> None:
    assert checked_labels(["host", "run", "host"]) == ("host", "run")
    with pytest.raises(Refused, match="colour"):
        checked_labels([*LABELS, "colour"])
