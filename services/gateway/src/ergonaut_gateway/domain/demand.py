"""How many cores gateways take at each time of the week, learned from past weeks, and how many replicas that will need.

Work hours, nights and weekends repeat; so the forecast for the next minutes is what these minutes of the week took before,
weighted towards the newest weeks, and scaled up where today is busier than such days were.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

SLOT = timedelta(minutes=15)
SLOTS = timedelta(days=7) // SLOT
"""Quarters of an hour in a week."""

NEWEST_SHARE = 0.3
"""How much the newest week counts; four weeks back count a tenth."""

DEVIATIONS = 1.64
"""Above the mean by so many standard deviations lies what is planned for: 95 of 100 quarters of an hour stay below."""

BUSIER_MAX = 3.0
"""Today may be taken for so many times as busy as it was before; more is a burst that says nothing of later."""

CORES_SEEN_MIN = 0.01
"""Less than this is nothing to compare with."""


@dataclass(frozen=True, slots=True)
class Habit:
    """Cores used in one quarter of an hour of the week: exponentially weighted mean and variance over the weeks."""

    cores: float
    variance: float = 0.0

    def learned(self, cores: float) -> "Habit":
        """With one more week (West 1979's update of weighted moments)."""
        difference = cores - self.cores
        grown = NEWEST_SHARE * difference
        return Habit(self.cores + grown, (1.0 - NEWEST_SHARE) * (self.variance + difference * grown))

    @property
    def planned_cores(self) -> float:
        """What to be ready for."""
        return self.cores + DEVIATIONS * math.sqrt(self.variance)


@dataclass(frozen=True, slots=True)
class History:
    """What is known of past weeks."""

    habits: Mapping[int, Habit]
    learned_through: datetime
    """The end of the newest quarter of an hour in it, UTC."""

    def learned(self, begins_at: datetime, cores: float) -> "History":
        """With a quarter of an hour more; one that is in it already changes nothing."""
        ends_at = begins_at + SLOT
        if ends_at <= self.learned_through:
            return self
        slot = slot_of(begins_at)
        known = self.habits.get(slot)
        habit = Habit(cores) if known is None else known.learned(cores)
        return History({**self.habits, slot: habit}, ends_at)


@dataclass(frozen=True, slots=True)
class Report:
    """What one gateway's process tells the others: the cores that it uses, and used in the quarter of an hour before."""

    gateway: str
    at: datetime
    cores: float
    before_begins_at: datetime | None
    """None where it had not begun then."""
    before_cores: float


NOTHING_YET = History({}, datetime(1970, 1, 1, tzinfo=UTC))


def cores_now(reports: Iterable[Report], since: datetime) -> float:
    """What all use together who have told since."""
    return sum(report.cores for report in reports if report.at >= since)


def cores_of(reports: Iterable[Report], begins_at: datetime) -> float | None:
    """What all used together in a quarter of an hour; None where none was there."""
    parts = [report.before_cores for report in reports if report.before_begins_at == begins_at]
    return sum(parts) if parts else None


def slot_of(at: datetime) -> int:
    """Which quarter of an hour of the week a time is in, from Monday, UTC.

    >>> slot_of(datetime(2026, 11, 23, 0, 14, tzinfo=UTC)), slot_of(datetime(2026, 11, 29, 23, 59, tzinfo=UTC))
    (0, 671)
    """
    at = at.astimezone(UTC)
    return (at.weekday() * 24 + at.hour) * 4 + at.minute // 15


def begin_of(at: datetime) -> datetime:
    """When the quarter of an hour began that a time is in."""
    at = at.astimezone(UTC)
    return at.replace(minute=at.minute - at.minute % 15, second=0, microsecond=0)


def cores_expected(history: History, now: datetime, cores_now: float, lead: timedelta) -> float:
    """The most that will be used from now until `lead` later, never less than now."""
    known = history.habits.get(slot_of(now))
    busier = 1.0
    if known is not None and known.cores >= CORES_SEEN_MIN:
        busier = min(max(cores_now / known.cores, 1.0), BUSIER_MAX)
    expected = cores_now
    at = begin_of(now)
    while at <= now + lead:
        habit = history.habits.get(slot_of(at))
        if habit is not None:
            # The quarter that is now is seen, not guessed.
            planned = habit.planned_cores if at <= now else max(habit.planned_cores, busier * habit.cores)
            expected = max(expected, planned)
        at += SLOT
    return expected


def replicas_wanted(cores: float, cores_per_replica: float) -> int:
    """How many replicas so many cores take, at least one.

    >>> replicas_wanted(0.0, 1.2), replicas_wanted(1.3, 1.2)
    (1, 2)
    """
    return max(1, math.ceil(cores / cores_per_replica - 1e-9))
