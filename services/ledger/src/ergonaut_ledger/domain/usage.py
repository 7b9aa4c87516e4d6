"""What was used over time: which part of a time is answered by days, hours, minutes and samples. Asked by `Using`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from ergonaut.errors import Refused

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
POINTS_MAX = 1_000
"""Steps that an answer has where the step is left open."""

STEPS_MAX = 50_000
"""Steps that may be asked for by name: 34 days by minute."""

ROWS_MAX = 10_000
"""Rows of one answer, about 2 MB; a plain gRPC client takes messages of 4 MiB."""


class Level(StrEnum):
    """Where sums come from, finest first."""

    SAMPLE = "sample"
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"


class Step(StrEnum):
    """How far apart the answer's points are."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    TOTAL = "total"


SECONDS = {Level.MINUTE: 60, Level.HOUR: 3_600, Level.DAY: 86_400}
STEP_SECONDS = {Step.MINUTE: 60, Step.HOUR: 3_600, Step.DAY: 86_400}
COARSEST = {Step.MINUTE: Level.MINUTE, Step.HOUR: Level.HOUR, Step.DAY: Level.DAY, Step.TOTAL: Level.DAY}

LABELS = ("run", "job", "project", "host", "component", "share", "zone")
"""What sums may be kept apart by."""


@dataclass(frozen=True, slots=True)
class Span:
    """From one moment to before another."""

    starts_at: datetime
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class UsageQuestion:
    """Whose use, when, in which steps, kept apart by what, and of what only; empty for all."""

    tenant: str
    span: Span
    step: Step
    group_by: tuple[str, ...] = ()
    project: str = ""
    run_id: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used in one step by one group; None where no sample told it."""

    starts_at: datetime
    labels: dict[str, str] = field(default_factory=dict)
    energy_joules: float | None = None
    energy_joules_range: float | None = None
    carbon_grams_co2e: float | None = None
    embodied_grams_co2e: float | None = None
    cost_usd: float | None = None
    samples: int = 0


def checked_step(step: str, span: Span) -> Step:
    """The step asked for; where none is, the finest that gives at most 1,000 points. Raises Refused.

    >>> checked_step("", Span(EPOCH, EPOCH + timedelta(days=31)))
    <Step.HOUR: 'hour'>
    """
    seconds = (span.ends_at - span.starts_at).total_seconds()
    if seconds <= 0:
        raise Refused("must be after starts_at", field="ends_at")
    if not step:
        fitting = (each for each, width in STEP_SECONDS.items() if seconds / width <= POINTS_MAX)
        return next(fitting, Step.TOTAL)
    if step not in frozenset(Step):
        raise Refused(f"unknown step {step!r}; known are {', '.join(Step)}", field="step")
    width = STEP_SECONDS.get(Step(step), 0)
    if width and seconds / width > STEPS_MAX:
        raise Refused(f"{seconds / width:,.0f} steps are more than {STEPS_MAX:,}; take a coarser one", field="step")
    return Step(step)


def checked_labels(group_by: Iterable[str]) -> tuple[str, ...]:
    """What to keep apart, each once. Raises Refused."""
    labels = tuple(dict.fromkeys(group_by))
    for label in labels:
        if label not in LABELS:
            raise Refused(f"unknown label {label!r}; known are {', '.join(LABELS)}", field="group_by")
    return labels


def parts(span: Span, coarsest: Level, touched: Sequence[datetime]) -> dict[Level, list[Span]]:
    """Which spans of a time each level answers: together they are the time, and none overlaps another.

    A level answers for its whole buckets in which no minute was touched since it was rolled up; samples answer for touched
    minutes and for what is no whole minute.
    """
    dirty = sorted({_floor(minute, 60) for minute in touched if _overlaps(minute, span)})
    found: dict[Level, list[Span]] = {level: [] for level in Level}
    left = [span]
    for level in (Level.DAY, Level.HOUR, Level.MINUTE):
        if SECONDS[level] <= SECONDS.get(coarsest, 60):
            left = [rest for each in left for rest in _take(each, SECONDS[level], dirty, found[level])]
    found[Level.SAMPLE] = left
    return {level: _joined(spans) for level, spans in found.items()}


def _take(span: Span, width: int, dirty: Sequence[datetime], taken: list[Span]) -> list[Span]:
    """Put whole clean buckets of a span into `taken`; gives what is left."""
    first, last = _ceiling(span.starts_at, width), _floor(span.ends_at, width)
    if first >= last:
        return [span]
    holes = sorted({_floor(minute, width) for minute in dirty if first <= minute < last})
    left, at = [Span(span.starts_at, first)], first
    for hole in holes:
        taken.append(Span(at, hole))
        at = hole + timedelta(seconds=width)
        left.append(Span(hole, at))
    taken.append(Span(at, last))
    left.append(Span(last, span.ends_at))
    return [each for each in left if each.starts_at < each.ends_at]


def _joined(spans: Iterable[Span]) -> list[Span]:
    joined: list[Span] = []
    for span in sorted(spans, key=lambda each: each.starts_at):
        if span.starts_at >= span.ends_at:
            continue
        if joined and joined[-1].ends_at == span.starts_at:
            joined[-1] = Span(joined[-1].starts_at, span.ends_at)
        else:
            joined.append(span)
    return joined


def _overlaps(minute: datetime, span: Span) -> bool:
    return minute < span.ends_at and minute + timedelta(minutes=1) > span.starts_at


def _floor(at: datetime, width: int) -> datetime:
    return at - (at - EPOCH) % timedelta(seconds=width)


def _ceiling(at: datetime, width: int) -> datetime:
    return _floor(at + timedelta(seconds=width) - timedelta(microseconds=1), width)
