"""What a run's parts add up to, and what is in no sum."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from ergonaut_ledger.domain.footprints import (
    ComponentSum,
    Footprint,
    RunRecord,
    active_seconds,
    active_stretches,
    paused_seconds,
)

from .told import RUN, T0


def at(second: float) -> datetime:
    return T0 + timedelta(seconds=second)


def run(ended: float | None, starts: Sequence[float] = (0,), pauses: Sequence[float] = ()) -> RunRecord:
    ended_at = None if ended is None else at(ended)
    record = RunRecord(RUN, "", "digits", "succeeded", T0, ended_at)
    return replace(record, starts=tuple(map(at, starts)), pauses=tuple(map(at, pauses)))


@pytest.mark.parametrize(
    ("of", "stretches"),
    [
        (run(30), [(0, 30)]),
        (run(None), [(0, 50)]),
        (run(30, (0, 20), (10,)), [(0, 10), (20, 30)]),
        (run(60, (0, 20, 40), (10, 25)), [(0, 10), (20, 25), (40, 60)]),
        (run(10, (0,), (10,)), [(0, 10)]),
        (run(30, (0,), (10,)), [(0, 10)]),
        (run(None, (0, 20), (10,)), [(0, 10), (20, 50)]),
        (run(30, (0, 20), (10, 12)), [(0, 10), (20, 30)]),
        (run(30, (), ()), [(0, 30)]),
        (run(-5), [(0, 0)]),
    ],
    ids=[
        "never paused", "still runs", "paused and resumed", "paused twice", "is paused", "cancelled while paused",
        "runs again", "paused twice over", "its start was not told", "ended before it began",
    ],
)  # fmt: skip
def test_a_run_ran_but_for_its_pauses(of: RunRecord, stretches: list[tuple[float, float]]) -> None:
    assert active_stretches(of, at(50)) == [(at(start), at(end)) for start, end in stretches]
    assert active_seconds(of, at(50)) == sum(end - start for start, end in stretches)


@pytest.mark.parametrize(
    ("of", "seconds"),
    [
        (run(30), 0),
        (run(60, (0, 20, 40), (10, 25)), 25),
        (run(30, (0,), (10,)), 20),
        (run(10, (0,), (10,)), 0),
        (run(None, (0, 20), (10,)), 10),
        (run(None), 0),
    ],
)
def test_the_time_of_pauses_is_what_lies_between_start_and_end_and_is_not_active(of: RunRecord, seconds: float) -> None:
    assert paused_seconds(of) == seconds


def part(component: str, joules: float | None, **changes: Any) -> ComponentSum:
    values: dict[str, Any] = {
        "method": "not-measured" if joules is None else "counter",
        "source": "",
        "range_fraction": None if joules is None else 0.1,
        "carbon_grams_co2e": None,
        "cost_usd": None,
        "samples": 1,
    }
    return ComponentSum(component, energy_joules=joules, **(values | changes))


def footprint(*parts: ComponentSum) -> Footprint:
    return Footprint(RunRecord(RUN, "", "digits", "succeeded", T0, None), parts, None)


def test_a_component_that_was_measured_in_part_counts_with_its_range_and_is_named_as_such() -> None:
    whole = footprint(part("gpu0", 100.0), part("gpu0", None, source="no driver on host-2"), part("dram", None))
    assert whole.not_measured == ["dram", "part of gpu0"]
    assert (whole.energy_joules, whole.energy_joules_range) == (100.0, pytest.approx(10.0))


def test_a_machine_is_nothing_that_was_not_measured_whether_its_rent_is_known_or_only_its_making() -> None:
    assert footprint(part("cpu", 1.0), part("machine", None, cost_usd=0.1)).not_measured == []
    assert footprint(part("cpu", 1.0), part("machine", None, embodied_grams_co2e=0.2)).not_measured == []
