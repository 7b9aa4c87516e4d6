"""What a scope has used in a window, kept so that a new sum need only be asked from where it can have changed.

Sums are exact: they come out of the books, by hour for what is long past and by minute for the last hours, and each is put in
place of the one before. Samples that come late name their time, so exactly the hours from there on are asked again.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta

from ergonaut.budgets import BudgetMetric, BudgetScope

PACE_SECONDS = 10.0
"""How far back the present pace looks: long enough for the samples of all hosts to be in it, short enough to follow a change."""

AHEAD_SECONDS_MAX = 10.0
"""How far a host's clock may go ahead for its samples to be part of the pace: others' would be spread over that time too."""

FORECAST_SECONDS = 3600.0
"""How far back a forecast looks: the mean over an hour is not thrown by an epoch's end or a pause for breath."""

BEGUN_SECONDS = 120.0
"""Use that began later than this is too young for a mean by the minute; the present pace stands in."""

MINUTES_KEPT = timedelta(hours=2)
"""How long sums are kept by minute before they become a part of their hour's; above what a forecast looks back."""

HOURS_KEPT = timedelta(days=2)
"""How long sums are kept by hour before they become a part of their day's, so that a year is some hundred sums."""

HOURS_MAX = 1_000
"""Sums by hour or day that are kept before old ones are made part of their days once more: after late samples of many days."""

_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Use:
    """Dollars, grams, joules, and the error range of each, all sums of what is known."""

    cost_usd: float = 0.0
    carbon_grams_co2e: float = 0.0
    energy_joules: float = 0.0
    cost_usd_range: float = 0.0
    carbon_grams_co2e_range: float = 0.0
    energy_joules_range: float = 0.0

    def of(self, metric: BudgetMetric) -> float:
        """The sum of one metric, in its unit."""
        return float(getattr(self, metric.value))

    def range_of(self, metric: BudgetMetric) -> float:
        """How far that sum may be off to either side, in its unit."""
        return float(getattr(self, f"{metric.value}_range"))


def total(uses: Iterable[Use]) -> Use:
    """The sum of several.

    >>> total([Use(cost_usd=0.1)] * 10).cost_usd
    1.0
    """
    parts = list(uses)
    return Use(**{each.name: math.fsum(getattr(part, each.name) for part in parts) for each in fields(Use)})


@dataclass(frozen=True, slots=True)
class Question:
    """Whose use is asked for, and over which time; a sample counts where it began. Only what is charged to runs counts."""

    tenant: str
    scope: BudgetScope
    scope_key: str
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Asked:
    """The part of a question that is asked now: hours up to the minutes, minutes up to the window's end, and the last seconds."""

    hours_from: datetime | None
    """None where no sum by hour can have changed."""
    minutes_from: datetime
    recent_after: datetime
    """Samples that ended after this make the pace, up to `recent_until`."""
    recent_until: datetime
    """What ended later is of a clock that goes ahead: it counts, but tells nothing of now."""
    hours_replaced_from: datetime | None = None
    """Sums by hour or day that begin here or later are replaced; the first of a window may begin before the window does."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The use of one hour or minute, named by its beginning."""

    starts_at: datetime
    use: Use


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast use grows just now."""

    recent: Use = Use()
    oldest_started_at: datetime | None = None
    newest_ended_at: datetime | None = None
    interval_seconds: float = 0.0
    """The longest of the recent samples' intervals: news comes this often."""

    def per_second(self, metric: BudgetMetric) -> float:
        """The metric's unit a second; 0 where nothing was used lately."""
        if self.oldest_started_at is None or self.newest_ended_at is None:
            return 0.0
        seconds = (self.newest_ended_at - self.oldest_started_at).total_seconds()
        return self.recent.of(metric) / seconds if seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the books say to the part that was asked."""

    hours: Sequence[Chunk] = ()
    minutes: Sequence[Chunk] = ()
    pace: Pace = Pace()


@dataclass(frozen=True, slots=True)
class Tally:
    """All that was answered to one question so far."""

    minutes_from: datetime
    hours: Mapping[datetime, Use] = field(default_factory=dict)
    """By hour, and by day what is older than `HOURS_KEPT`."""
    hours_total: Use = Use()
    minutes: Mapping[datetime, Use] = field(default_factory=dict)
    pace: Pace = Pace()

    @property
    def used(self) -> Use:
        """The use over the window so far."""
        return total([self.hours_total, *self.minutes.values()])

    def mean_per_second(self, metric: BudgetMetric, at: datetime) -> float:
        """The mean over the last hour, or since the first use of the window where that is nearer; 0 where nothing was used."""
        lately = {start: use for start, use in self.minutes.items() if start > at - timedelta(seconds=FORECAST_SECONDS)}
        if not lately:
            return 0.0
        used_before = bool(self.hours) or min(self.minutes) not in lately
        seconds = FORECAST_SECONDS if used_before else (at - min(lately)).total_seconds()
        if seconds < BEGUN_SECONDS:
            return self.pace.per_second(metric)
        return math.fsum(use.of(metric) for use in lately.values()) / seconds


def to_ask(tally: Tally | None, question: Question, oldest: datetime, newest: datetime, at: datetime) -> Asked:
    """What must be asked for the tally to be exact, when the newest samples began at `oldest` or later and ended at `newest`."""
    recent_after = min(newest, at) - timedelta(seconds=PACE_SECONDS)
    if tally is None:
        minutes_from = max(question.since, _hour_of(at) - _HOUR)
        hours_from = _day_of(question.since) if question.since < minutes_from else None
    else:
        minutes_from = max(question.since, tally.minutes_from, _minute_of(oldest))
        begin = _hour_of(oldest) if oldest >= _day_of(at) - HOURS_KEPT else _day_of(oldest)
        hours_from = max(begin, _day_of(question.since)) if oldest < tally.minutes_from else None
    # The pace is read from the same rows, so they must reach back as far as it does.
    reach = max(question.since, tally.minutes_from if tally else minutes_from, _minute_of(recent_after))
    return Asked(
        hours_from=max(question.since, hours_from) if hours_from else None,
        minutes_from=min(minutes_from, reach),
        recent_after=recent_after,
        recent_until=at + timedelta(seconds=AHEAD_SECONDS_MAX),
        hours_replaced_from=_day_of(question.since) if hours_from and hours_from <= question.since else hours_from,
    )


def with_answer(tally: Tally | None, asked: Asked, answer: Answer, at: datetime) -> Tally:
    """The tally with the new sums in place of the old."""
    before = tally or Tally(minutes_from=asked.minutes_from)
    minutes = {start: use for start, use in before.minutes.items() if start < _minute_of(asked.minutes_from)}
    minutes |= {chunk.starts_at: chunk.use for chunk in answer.minutes}
    hours = dict(before.hours)
    if asked.hours_replaced_from is not None:
        hours = {start: use for start, use in hours.items() if start < asked.hours_replaced_from}
        hours |= {chunk.starts_at: chunk.use for chunk in answer.hours}
    hours_total = total(hours.values()) if asked.hours_replaced_from is not None else before.hours_total
    renewed = replace(before, hours=hours, hours_total=hours_total, minutes=minutes, pace=answer.pace)
    return _folded(renewed, at)


def _folded(tally: Tally, at: datetime) -> Tally:
    """The tally with old minutes made part of their hours, and old hours of their days."""
    minutes_from = _hour_of(at) - MINUTES_KEPT
    if tally.minutes_from >= minutes_from and len(tally.hours) <= HOURS_MAX:
        return tally
    old = {start: use for start, use in tally.minutes.items() if start < minutes_from}
    hours = _merged([*tally.hours.items(), *_merged(old.items(), _hour_of).items()], lambda start: start)
    hours_from = _day_of(at) - HOURS_KEPT
    hours = _merged(hours.items(), lambda start: _day_of(start) if start < hours_from else start)
    return replace(
        tally,
        minutes_from=max(tally.minutes_from, minutes_from),
        hours=hours,
        hours_total=total(hours.values()),
        minutes={start: use for start, use in tally.minutes.items() if start not in old},
    )


def _merged(uses: Iterable[tuple[datetime, Use]], key: Callable[[datetime], datetime]) -> dict[datetime, Use]:
    """The sums of those that begin in the same span."""
    groups: dict[datetime, list[Use]] = {}
    for start, use in uses:
        groups.setdefault(key(start), []).append(use)
    return {start: total(group) for start, group in groups.items()}


def _day_of(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


def _hour_of(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _minute_of(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)
