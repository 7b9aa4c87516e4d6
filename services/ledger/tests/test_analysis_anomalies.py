"""Anomalies: what is planted is found, noise is not."""

import random
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ergonaut_ledger.domain.anomalies import (
    AcceleratorUse,
    Step,
    Subject,
    Watts,
    drift,
    idle_accelerators,
    not_yet_told,
    power_spikes,
)

from .told import T0

GPU = Subject("run-1", "host-1", "gpu0")
SERIES = 1_000
"""Series of noise in which at most one may be called an anomaly."""


def series(watts: list[float], seconds: float = 5.0) -> list[Watts]:
    return [Watts(T0 + timedelta(seconds=index * seconds), seconds, value) for index, value in enumerate(watts)]


def steps(joules: list[float]) -> list[Step]:
    begun = [T0 + timedelta(minutes=index) for index in range(len(joules))]
    return [Step(at, at + timedelta(minutes=1), value) for at, value in zip(begun, joules, strict=True)]


NOISES: dict[str, Callable[[random.Random], float]] = {
    "normal": lambda chance: max(chance.gauss(100, 15), 0),
    "heavy-tailed": lambda chance: 100 * chance.lognormvariate(0, 0.15),
    "flat with small steps": lambda chance: 60 + chance.randrange(3),
    "two levels": lambda chance: chance.choice((70.0, 180.0)) + chance.gauss(0, 5),
}


@pytest.mark.parametrize("noise", NOISES)
def test_noise_alone_is_no_spike_but_once_in_a_thousand_series(noise: str) -> None:
    chance = random.Random(17)
    found = sum(bool(power_spikes(GPU, series([NOISES[noise](chance) for _ in range(180)]))) for _ in range(SERIES))
    assert found <= 1


@pytest.mark.parametrize("noise", NOISES)
def test_noise_alone_is_no_drift_but_once_in_a_thousand_series(noise: str) -> None:
    chance = random.Random(19)
    found = sum(bool(drift(GPU, steps([NOISES[noise](chance) for _ in range(40)]))) for _ in range(SERIES))
    assert found <= 1


@given(where=st.integers(30, 268), height=st.floats(3.0, 20.0), seed=st.integers(0, 10_000))
def test_a_planted_spike_is_found_where_it_is(where: int, height: float, seed: int) -> None:
    chance = random.Random(seed)
    watts = [chance.gauss(100, 8) for _ in range(300)]
    watts[where] = watts[where + 1] = 100 * height
    [spike] = power_spikes(GPU, series(watts))
    assert spike.started_at == T0 + timedelta(seconds=5 * where)
    assert (spike.ended_at - spike.started_at).total_seconds() == 10
    assert spike.value == pytest.approx(100 * height)
    assert spike.expected == pytest.approx(100, rel=0.1)


def test_a_new_level_is_no_spike() -> None:
    assert power_spikes(GPU, series([100.0] * 150 + [300.0] * 150)) == []


def test_what_happens_again_and_again_is_how_the_run_works() -> None:
    assert power_spikes(GPU, series(([100.0] * 27 + [300.0] * 3) * 10)) == []


def test_what_has_only_just_begun_may_be_a_new_level() -> None:
    assert power_spikes(GPU, series([100.0] * 150 + [300.0] * 2)) == []


def test_too_few_points_say_nothing() -> None:
    assert power_spikes(GPU, series([100.0] * 30 + [900.0])) == []
    assert drift(GPU, steps([float(value) for value in range(1, 10)])) == []


@settings(max_examples=50)
@given(slope=st.floats(0.01, 1.0), seed=st.integers(0, 10_000))
def test_a_planted_drift_is_found_and_its_size_told(slope: float, seed: int) -> None:
    chance = random.Random(seed)
    joules = [1000 * (1 + slope * index) * chance.gauss(1, 0.02) for index in range(60)]
    [found] = drift(GPU, steps(joules))
    assert found.value == pytest.approx(1000 * (1 + slope * 59), rel=0.1)
    assert found.value - found.expected == pytest.approx(1000 * slope * 59, rel=0.25)
    assert found.unit == "joules_per_step"


def test_steps_that_use_less_and_less_are_no_anomaly() -> None:
    assert drift(GPU, steps([1000.0 - index * 10 for index in range(60)])) == []


def test_single_odd_steps_are_no_drift() -> None:
    joules = [1000.0 + index % 3 for index in range(60)]
    joules[55] = joules[57] = 9_000.0
    assert drift(GPU, steps(joules)) == []


def test_an_accelerator_held_idle_for_ten_minutes_is_found() -> None:
    [found] = idle_accelerators(GPU, series([300.0] * 10 + [2.0] * 12 + [300.0] * 10, seconds=60))
    assert found.started_at == T0 + timedelta(minutes=10)
    assert (found.ended_at - found.started_at) == timedelta(minutes=12)
    assert (found.value, found.expected) == (pytest.approx(2.0), 300.0)
    assert "12 min" in found.because


def test_a_short_pause_and_a_busy_accelerator_are_none() -> None:
    assert idle_accelerators(GPU, series([300.0] * 10 + [2.0] * 8 + [300.0] * 10, seconds=60)) == []
    assert idle_accelerators(GPU, series([250.0 + index % 7 for index in range(60)], seconds=60)) == []
    assert idle_accelerators(GPU, []) == []


def test_an_accelerator_that_was_never_busy_is_found() -> None:
    [found] = idle_accelerators(GPU, series([0.0] * 30, seconds=60))
    assert "was not busy before" in found.because


def test_a_run_holds_what_it_used_at_some_time_or_was_granted_whole() -> None:
    other, elsewhere = Subject("run-1", "host-1", "gpu1"), Subject("run-1", "host-2", "gpu0")
    seen = frozenset({GPU, other, elsewhere})
    used = AcceleratorUse(frozenset({GPU}), seen)
    assert [used.holds(each) for each in (GPU, other, elsewhere)] == [True, False, False]
    assert not AcceleratorUse(frozenset(), seen, granted=0).holds(GPU)
    assert not AcceleratorUse(frozenset(), seen, granted=1).holds(GPU), "it may be the other one"
    assert AcceleratorUse(frozenset(), seen, granted=2).holds(GPU)
    assert AcceleratorUse(frozenset(), seen, granted=1).holds(elsewhere)


def test_a_gap_in_the_samples_is_no_idling() -> None:
    first, second = series([0.0] * 6, seconds=60), series([0.0] * 6, seconds=60)
    later = [Watts(point.at + timedelta(hours=1), point.seconds, point.power_watts) for point in second]
    assert idle_accelerators(GPU, [*first, *later]) == []


def test_an_anomaly_that_goes_on_is_told_once() -> None:
    watts = [300.0] * 10 + [2.0] * 12
    [early] = idle_accelerators(GPU, series(watts, seconds=60))
    [late] = idle_accelerators(GPU, series([*watts, *[2.0] * 5], seconds=60)[5:])
    assert late.ended_at > early.ended_at
    assert not_yet_told([early], []) == [early]
    assert not_yet_told([late], [early]) == []
    assert not_yet_told([early, early], []) == [early]


def test_another_runs_anomaly_is_another_one() -> None:
    watts = series([300.0] * 10 + [2.0] * 12, seconds=60)
    [mine] = idle_accelerators(GPU, watts)
    [other] = idle_accelerators(Subject("run-2", "host-1", "gpu0"), watts)
    assert not_yet_told([other], [mine]) == [other]
    assert mine.anomaly_id != other.anomaly_id


def test_the_same_finding_has_the_same_id() -> None:
    watts = series([300.0] * 10 + [2.0] * 12, seconds=60)
    assert idle_accelerators(GPU, watts)[0].anomaly_id == idle_accelerators(GPU, watts)[0].anomaly_id
