"""A sampler bridges what it missed and never calls what it could not read zero."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from ergonaut.events.telemetry import Method, Share
from ergonaut.metering import HostLoad, HostSampler, ProcessScan, Reading
from ergonaut.metering.meters import NOBODYS_PID
from ergonaut.metering.processtable import ProcessStat
from ergonaut.metering.sampled import SampledPower
from ergonaut.runcontext import RunContext

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


class World:
    """One host whose clock, load, processes and meter the test sets."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.busy = 0.0
        self.cpu_of_run = 0.0
        self.reading = Reading("cpu", Method.COUNTER, "test", 0.05, 1000.0)
        self.holders: Mapping[str, Mapping[int, float]] = {}
        self.living = {10}
        self.ended = False

    def load(self) -> HostLoad:
        return HostLoad(self.seconds, self.busy, 2, 1000, 500)

    def now(self) -> datetime:
        return BEGINNING + timedelta(seconds=self.seconds)

    def pids(self) -> set[int]:
        return self.living

    def environment(self, pid: int, beginning: str = "") -> Mapping[str, str]:
        return RunContext(run_id="run-1").to_environment()

    def newest(self) -> int:
        return 0

    def begun(self, after: int, until: int) -> set[int] | None:
        return None

    def read(self, pid: int) -> ProcessStat | None:
        return ProcessStat(pid, 1, 1.0, self.cpu_of_run, 0.0, 100, ended=self.ended) if pid in self.living else None


class WorldMeter:
    def __init__(self, world: World) -> None:
        self.world = world

    def read(self) -> Sequence[Reading]:
        return [self.world.reading]

    def users(self) -> Mapping[str, Mapping[int, float]]:
        return self.world.holders

    def close(self) -> None: ...


def sampler_of(world: World) -> HostSampler:
    return HostSampler([WorldMeter(world)], ProcessScan(table=world), load=world.load, now=world.now)


def counted(joules: float) -> Reading:
    return Reading("cpu", Method.COUNTER, "test", 0.05, joules)


def test_energy_is_the_difference_of_the_counter_and_adds_up() -> None:
    world = World()
    sampler = sampler_of(world)
    world.seconds, world.busy, world.cpu_of_run, world.reading = 1.0, 1.0, 0.5, counted(1040.0)
    interval = sampler.sample()
    assert sum(charge.energy_joules or 0 for charge in interval.charges) == 40.0
    by_share = {charge.share: charge.energy_joules for charge in interval.charges}
    assert by_share[Share.RUN] == by_share[Share.OTHERS]


def test_an_interval_in_which_the_counter_could_not_be_read_is_bridged_by_the_next() -> None:
    world = World()
    sampler = sampler_of(world)
    world.seconds, world.reading = 1.0, Reading("cpu", Method.NOT_MEASURED, "gone")
    missed = sampler.sample()
    world.seconds, world.reading = 2.0, counted(1100.0)
    bridged = sampler.sample()
    assert [(charge.run_id, charge.energy_joules) for charge in missed.charges] == [("run-1", None)]
    assert sum(charge.energy_joules or 0 for charge in bridged.charges) == 100.0
    assert {charge.started_at for charge in bridged.charges} == {BEGINNING}


def test_a_counter_that_was_set_back_is_not_measured_rather_than_zero_and_counts_on_from_there() -> None:
    world = World()
    sampler = sampler_of(world)
    world.seconds, world.reading = 1.0, counted(3.0)
    set_back = sampler.sample()
    assert {(charge.energy_joules, charge.reading.method) for charge in set_back.charges} == {
        (None, Method.NOT_MEASURED)
    }
    assert "began anew" in set_back.charges[0].reading.source
    world.seconds, world.reading = 2.0, counted(10.0)
    assert sum(charge.energy_joules or 0 for charge in sampler.sample().charges) == 7.0


@pytest.mark.parametrize(("fails", "gap_seconds"), [(True, 1.0), (False, 600.0)], ids=["unreadable", "not read"])
def test_what_a_power_reading_missed_is_not_measured_and_not_spread_over_the_next(
    *, fails: bool, gap_seconds: float
) -> None:
    world = World()

    def watts() -> float:
        if fails and world.seconds == 1.0 + gap_seconds:
            raise OSError("no such device")
        return 10.0

    meter = SampledPower("cpu", "rail", 0.1, watts, seconds=lambda: world.seconds)
    sampler = HostSampler([meter], ProcessScan(table=world), load=world.load, now=world.now)
    told: list[tuple[float, float, float | None]] = []
    for seconds in (1.0, gap_seconds, 1.0, 1.0):
        world.seconds += seconds
        charges = sampler.sample().charges
        energies = [charge.energy_joules for charge in charges]
        joules = None if None in energies else round(sum(one or 0.0 for one in energies), 6)
        [(begun, ended)] = {(charge.started_at, charge.ended_at) for charge in charges}
        told.append(((begun - BEGINNING).total_seconds(), (ended - BEGINNING).total_seconds(), joules))
    gap_ends = 1.0 + gap_seconds
    missed = [(1.0, gap_ends, None), (gap_ends, gap_ends + 1, None)]
    assert told == [(0.0, 1.0, 10.0), *missed, (gap_ends + 1, gap_ends + 2, 10.0)]


def test_a_gpu_goes_to_the_run_whose_process_holds_it() -> None:
    world = World()
    world.reading = Reading("gpu0", Method.COUNTER, "test", 0.05, 0.0)
    world.holders = {"gpu0": {10: 3.0, 99: 1.0, NOBODYS_PID: 4.0}}
    sampler = sampler_of(world)
    world.seconds, world.reading = 1.0, Reading("gpu0", Method.COUNTER, "test", 0.05, 800.0)
    charges = {charge.share: charge.energy_joules for charge in sampler.sample().charges}
    assert charges == {Share.RUN: 300.0, Share.OTHERS: 100.0, Share.IDLE: 400.0}


@pytest.mark.parametrize("reaped", [True, False])
def test_what_a_process_did_on_a_gpu_before_it_ended_is_its_runs(*, reaped: bool) -> None:
    world = World()
    world.reading = Reading("gpu0", Method.COUNTER, "test", 0.05, 0.0)
    sampler = sampler_of(world)
    # The driver tells the work of an interval, also that of processes which are no more at its end.
    world.holders = {"gpu0": {10: 3.0, 99: 1.0}}
    world.ended, world.living = True, set() if reaped else {10}
    world.seconds, world.reading = 1.0, Reading("gpu0", Method.COUNTER, "test", 0.05, 400.0)
    charges = {charge.share: charge.energy_joules for charge in sampler.sample().charges}
    assert charges == {Share.RUN: 300.0, Share.OTHERS: 100.0, Share.IDLE: 0.0}
    world.seconds, world.reading = 2.0, Reading("gpu0", Method.COUNTER, "test", 0.05, 500.0)
    world.holders = {"gpu0": {99: 1.0}}
    assert sum(one.energy_joules or 0.0 for one in sampler.sample().charges if one.share is Share.RUN) == 0.0
