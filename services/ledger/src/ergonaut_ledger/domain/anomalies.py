"""Figures that are far from what they used to be: power spikes, accelerators held idle, drift of joules per step.

Each finder is a pure function over one series and is robust: it holds a figure against medians, so that what is wrong does not
shift what is right. Limits are set so that noise alone gives fewer than one false finding in a thousand series (tested).
Asked for by `AnomalyWatching`.
"""

import math
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations
from statistics import median

from ergonaut.events import AnomalyFound
from ergonaut.ids import derived_id

POWER_SPIKE, IDLE_ACCELERATOR, DRIFT = "power-spike", "idle-accelerator", "drift"

MAD_OF_A_SIGMA = 1.4826
"""Standard deviations of normal noise in one median absolute deviation (Rousseeuw and Croux, JASA 88, 1993)."""

WINDOW_POINTS = 61
"""Points that a point is held against, half before and half after: long enough for a median, short enough to follow a run."""

SPIKE_SIGMAS = 10.0
"""Meters' noise has heavier tails than a normal one; at ten robust deviations neither gives a finding in a run of a day."""

SPIKE_FRACTION_MIN, SPIKE_WATTS_MIN = 0.5, 5.0
"""A spike is half as much again as all but a few points around it, and at least 5 W more: where a series is flat, a fraction of a
watt is many deviations."""

SPIKE_POINTS_MAX = 3
"""More high points within a window are a level at which the run works, such as an evaluation after each epoch."""

IDLE_FRACTION = 0.1
"""An accelerator that draws for its run a tenth of what the run drew when it was busy, or less, is taken to be idle."""

IDLE_SECONDS_MIN = 600.0
"""Shorter pauses are loading data or saving a checkpoint."""

GAP_SECONDS = 180.0
"""Without a sample for longer than this nobody knows whether it was idle."""

DRIFT_STEPS_MIN, DRIFT_STEPS_MAX = 20, 300
"""Fewer steps cannot show a trend beyond chance; of more the newest are taken, since each is held against each."""

DRIFT_FRACTION_MIN = 0.2
"""A trend that is real but smaller than this is not worth a word."""

DRIFT_Z_MIN = 5.0
"""Mann-Kendall's statistic in standard deviations: for steps that err independently less than once in a million series. Steps
that follow each other may err alike, which this test does not know; what is told must also have grown by a fifth."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a series is of."""

    run_id: str
    host: str
    component: str


@dataclass(frozen=True, slots=True)
class Watts:
    """Mean power over one interval."""

    at: datetime
    seconds: float
    power_watts: float


@dataclass(frozen=True, slots=True)
class AcceleratorUse:
    """Which accelerators a run ever used, of those of its hosts that were charged to it, be it with nothing."""

    used: frozenset[Subject]
    seen: frozenset[Subject]
    granted: int = 0
    """How many its job asked for; 0 where it has no job, or none was asked for."""

    def holds(self, subject: Subject) -> bool:
        """Whether an accelerator is the run's to leave idle: it used it at some time, or was granted all that its host has.

        A run that neither uses nor asked for an accelerator is charged nothing of it and does not hold it. Of one that was
        granted fewer than there are, nobody knows which of the unused ones are its own.
        """
        of_host = [other for other in self.seen if other.host == subject.host]
        return subject in self.used or 0 < len(of_host) <= self.granted


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of a run used, a phase such as an epoch."""

    started_at: datetime
    ended_at: datetime
    energy_joules: float


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A figure that is far from what was to be expected."""

    kind: str
    subject: Subject
    started_at: datetime
    ended_at: datetime
    value: float
    expected: float
    unit: str
    because: str

    @property
    def anomaly_id(self) -> str:
        """The same for the same finding, whoever finds it."""
        of = self.subject
        return derived_id("anomaly", self.kind, of.run_id, of.host, of.component, self.started_at.isoformat())


def power_spikes(subject: Subject, series: Sequence[Watts]) -> list[Anomaly]:
    """Short times at which a run drew far more than before and after, by Hampel's rule: median and MAD of a moving window."""
    if len(series) < WINDOW_POINTS:
        return []
    watts = [point.power_watts for point in series]
    limits = _limits(watts)
    # What stands out within half a window of an end may as well be the beginning of a new level.
    half = WINDOW_POINTS // 2
    high = [index for index in range(half, len(watts) - half) if watts[index] > limits[index][1]]
    return [_spike(subject, series[first : last + 1], limits[first][0]) for first, last in _together(high)]


def idle_accelerators(subject: Subject, series: Sequence[Watts]) -> list[Anomaly]:
    """Long times at which a run held an accelerator and hardly used it.

    Needs what the run was charged for an accelerator that it holds (`AcceleratorUse`). One that was not busy in all this time is
    idle only where its power is known to be next to nothing: the run's share of an accelerator that does nothing is none.
    """
    if not series:
        return []
    busy_watts = sorted(point.power_watts for point in series)[int(len(series) * 0.95)]
    limit = max(busy_watts * IDLE_FRACTION, 1.0)
    stretches: list[list[Watts]] = []
    fresh = True
    for point in series:
        if point.power_watts > limit:
            fresh = True
        elif fresh or (point.at - stretches[-1][-1].at).total_seconds() > GAP_SECONDS:
            stretches.append([point])
            fresh = False
        else:
            stretches[-1].append(point)
    return [_idle(subject, stretch, busy_watts) for stretch in stretches if _length(stretch) >= IDLE_SECONDS_MIN]


def drift(subject: Subject, steps: Sequence[Step]) -> list[Anomaly]:
    """Whether steps of one kind use more and more: Mann and Kendall's test, and the slope of Theil and Sen.

    Both hold each step against each other one and so are not moved by single odd steps (Sen, JASA 63, 1968).
    """
    told = sorted(steps, key=lambda step: step.started_at)[-DRIFT_STEPS_MAX:]
    if len(told) < DRIFT_STEPS_MIN:
        return []
    joules = [step.energy_joules for step in told]
    slope = median((joules[j] - joules[i]) / (j - i) for i, j in combinations(range(len(joules)), 2))
    # The line through the median step, from the first step to the last one.
    growth = slope * (len(joules) - 1)
    first, now = median(joules) - growth / 2, median(joules) + growth / 2
    if _kendall_z(joules) < DRIFT_Z_MIN or first <= 0 or growth / first < DRIFT_FRACTION_MIN:
        return []
    because = (
        f"A step now uses {plain(now)} J, {growth / first:.0%} more than {len(told)} steps ago with {plain(first)} J; "
        "look for data that grows, memory that leaks, or a machine that has become hot."
    )
    return [Anomaly(DRIFT, subject, told[0].started_at, told[-1].ended_at, now, first, "joules_per_step", because)]


def anomaly_of(event: AnomalyFound) -> Anomaly:
    """The anomaly that an event tells of."""
    return Anomaly(
        kind=event.kind,
        subject=Subject(event.run_id, event.host, event.component),
        started_at=event.started_at,
        ended_at=event.ended_at,
        value=event.value,
        expected=event.expected,
        unit=event.unit,
        because=event.because,
    )


def event_of(anomaly: Anomaly, tenant: str, occurred_at: datetime) -> AnomalyFound:
    """The event that tells of an anomaly; the same one for the same anomaly, but for the time of telling."""
    of = anomaly.subject
    return AnomalyFound(
        event_id=derived_id("event", tenant, anomaly.anomaly_id),
        tenant=tenant,
        occurred_at=occurred_at,
        anomaly_id=anomaly.anomaly_id,
        kind=anomaly.kind,
        run_id=of.run_id,
        host=of.host,
        component=of.component,
        started_at=anomaly.started_at,
        ended_at=anomaly.ended_at,
        value=anomaly.value,
        expected=anomaly.expected,
        unit=anomaly.unit,
        because=anomaly.because,
    )


def not_yet_told(found: Iterable[Anomaly], known: Iterable[Anomaly]) -> list[Anomaly]:
    """Those that nobody was told of: an anomaly that goes on is the same one however late one looks."""
    told = list(known)
    new: list[Anomaly] = []
    for anomaly in sorted(found, key=lambda each: (each.started_at, each.kind, each.anomaly_id)):
        if not any(_is_same(anomaly, other) for other in (*told, *new)):
            new.append(anomaly)
    return new


def _is_same(one: Anomaly, other: Anomaly) -> bool:
    if (one.kind, one.subject) != (other.kind, other.subject):
        return False
    if one.kind == DRIFT:
        return True
    slack = timedelta(seconds=GAP_SECONDS)
    return one.started_at <= other.ended_at + slack and other.started_at <= one.ended_at + slack


def plain(value: float) -> str:
    """Three digits that count, never in powers of ten.

    >>> plain(26_012.4), plain(348.7), plain(1.5)
    ('26,012', '349', '1.5')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _limits(watts: Sequence[float]) -> list[tuple[float, float]]:
    """For each point the median around it and the watts above which it is a spike."""
    half = WINDOW_POINTS // 2
    window = sorted(watts[:WINDOW_POINTS])
    limits = []
    for index in range(len(watts)):
        entering, leaving = index + half, index - half - 1
        if leaving >= 0 and entering < len(watts):
            del window[bisect_left(window, watts[leaving])]
            insort(window, watts[entering])
        middle = window[half]
        deviation = MAD_OF_A_SIGMA * sorted(abs(value - middle) for value in window)[half]
        usual_most = window[-1 - SPIKE_POINTS_MAX]
        above_others = usual_most + max(SPIKE_FRACTION_MIN * usual_most, SPIKE_WATTS_MIN)
        limits.append((middle, max(middle + SPIKE_SIGMAS * deviation, above_others)))
    return limits


def _together(indices: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of each stretch of neighbours."""
    stretches: list[tuple[int, int]] = []
    for index in indices:
        if stretches and index - stretches[-1][1] <= 2:
            stretches[-1] = (stretches[-1][0], index)
        else:
            stretches.append((index, index))
    return stretches


def _spike(subject: Subject, points: Sequence[Watts], usual: float) -> Anomaly:
    highest = max(point.power_watts for point in points)
    drew = f"{subject.component} drew {plain(highest)} W for {plain(_length(points))} s"
    against = f"{highest / usual:.1f} times the usual {plain(usual)} W" if usual else "and nothing before and after"
    because = f"{drew}, {against}; see what ran then."
    return Anomaly(POWER_SPIKE, subject, points[0].at, _end(points), highest, usual, "watts", because)


def _idle(subject: Subject, points: Sequence[Watts], busy_watts: float) -> Anomaly:
    mean = math.fsum(point.power_watts * point.seconds for point in points) / math.fsum(
        point.seconds for point in points
    )
    against = f"against {plain(busy_watts)} W when busy" if busy_watts > 1.0 else "and was not busy before"
    because = (
        f"The run held {subject.component} for {_length(points) / 60:.0f} min at {plain(mean)} W of its own, {against}; "
        "give it back, or find out what the run waits for."
    )
    return Anomaly(IDLE_ACCELERATOR, subject, points[0].at, _end(points), mean, busy_watts, "watts", because)


def _length(points: Sequence[Watts]) -> float:
    return (_end(points) - points[0].at).total_seconds()


def _end(points: Sequence[Watts]) -> datetime:
    return points[-1].at + timedelta(seconds=points[-1].seconds)


def _kendall_z(values: Sequence[float]) -> float:
    """Mann and Kendall's statistic, normal where there is no trend (Kendall, Rank Correlation Methods, 1975)."""
    count = len(values)
    score = sum((later > earlier) - (later < earlier) for earlier, later in combinations(values, 2))
    variance = count * (count - 1) * (2 * count + 5) / 18
    return (score - (score > 0) + (score < 0)) / math.sqrt(variance)
