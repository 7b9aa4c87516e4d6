"""The rules: who owes which joule, what it weighs and costs, what is told when, and when a gap is bridged."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from pydantic import TypeAdapter

from ergonaut.events import IntensityChanged, PowerSample
from ergonaut.events.telemetry import Method, Share
from ergonaut.metering import CounterMark, Reading
from ergonaut.metering.processtable import ProcessStat
from ergonaut.runcontext import RunContext
from ergonaut_telemetry.domain import ComponentReading, HostReading, Memory, RunTotals, Terms, Turn, account, grid_of
from ergonaut_telemetry.domain.accounting import SAMPLES_PER_EVENT_MAX
from ergonaut_telemetry.domain.charging import joules_between
from ergonaut_telemetry.fakes import IDLE_WATTS, WATTS_PER_BUSY_CPU, FakeMeters


class Bookkeeper:
    """Accounts turn after turn, as the service does."""

    def __init__(self, meters: FakeMeters, terms: Terms, grid: dict[str, IntensityChanged] | None = None) -> None:
        self._meters = meters
        self._terms = terms
        self._grid = grid_of((grid or {}).values())
        self.memory = Memory()

    def turn(self, seconds: float = 1.0, *, others: float = 0.0, **runs: float) -> Turn:
        self._meters.pass_time(seconds, others=others, **runs)
        turn = account(self.memory, self._meters.read(), self._terms, self._grid)
        self.memory = turn.memory
        return turn


@pytest.fixture
def books(meters: FakeMeters, terms: Terms) -> Bookkeeper:
    return Bookkeeper(meters, terms)


def samples_of(turn: Turn, *, component: str = "cpu") -> list[PowerSample]:
    return [sample for event in turn.events for sample in event.samples if sample.component == component]


def joules(turn: Turn, share: Share, run_id: str = "") -> float:
    """What was charged to a share of the CPU."""
    return sum(
        sample.energy_joules or 0.0 for sample in samples_of(turn) if sample.share == share and sample.run_id == run_id
    )


def totals_of(turn: Turn, run_id: str) -> RunTotals:
    return next(run for run in turn.runs if run.run_id == run_id)


def test_the_first_sample_only_remembers_where_the_meters_are(books: Bookkeeper) -> None:
    turn = books.turn()

    assert turn.events == ()
    assert turn.memory.reading is not None


def test_all_shares_together_are_what_the_meter_counted(
    books: Bookkeeper, meters: FakeMeters, run_1: RunContext
) -> None:
    books.turn()
    meters.begin(run_1)

    turn = books.turn(2.0, others=0.7, run_1=1.1)

    counted = IDLE_WATTS * 2.0 + WATTS_PER_BUSY_CPU * 1.8
    assert sum(sample.energy_joules or 0.0 for sample in samples_of(turn)) == pytest.approx(counted)


def test_two_busy_runs_share_the_work_by_their_cpu_time_and_a_sleeping_one_has_next_to_nothing(
    books: Bookkeeper, meters: FakeMeters, run_1: RunContext, run_of_other: RunContext
) -> None:
    books.turn()
    for context in (run_1, run_of_other, RunContext(run_id="run-3", metered=True)):
        meters.begin(context)

    turn = books.turn(10.0, run_1=9.0, run_2=3.0, run_3=0.01)

    shares = {run_id: joules(turn, Share.RUN, run_id) for run_id in ("run-1", "run-2", "run-3")}
    dynamic = sum(shares.values()) + joules(turn, Share.OTHERS)
    assert shares["run-1"] == pytest.approx(3 * shares["run-2"])
    assert shares["run-3"] <= 0.05 * dynamic
    assert joules(turn, Share.IDLE) > 0


def test_each_event_tells_what_a_cpu_second_was_charged_so_that_a_program_can_reckon_its_own(
    books: Bookkeeper, meters: FakeMeters, run_1: RunContext, run_of_other: RunContext
) -> None:
    books.turn()
    meters.begin(run_1)
    meters.begin(run_of_other)

    turn = books.turn(1.0, others=0.1, run_1=0.5, run_2=0.25)

    rates = [event.joules_per_cpu_second for event in turn.events]
    assert rates == [pytest.approx(joules(turn, Share.RUN, "run-1") / 0.5)] * 2
    assert rates[0] == pytest.approx(joules(turn, Share.OTHERS) / 0.1)


def test_where_nothing_worked_no_cpu_second_has_a_price(books: Bookkeeper) -> None:
    books.turn()

    assert [event.joules_per_cpu_second for event in books.turn(1.0).events] == [None]


def test_each_tenant_gets_an_event_of_its_own_with_only_its_own_samples(
    books: Bookkeeper, meters: FakeMeters, run_1: RunContext, run_of_other: RunContext
) -> None:
    books.turn()
    meters.begin(run_1)
    meters.begin(run_of_other)

    turn = books.turn(1.0, others=0.1, run_1=0.5, run_2=0.5)

    events = {event.tenant: event for event in turn.events}
    assert {sample.run_id for sample in events["other"].samples} == {"run-2"}
    assert {sample.run_id for sample in events["default"].samples} == {"run-1", ""}
    assert {sample.share for sample in events["other"].samples} == {Share.RUN}


def test_each_tenants_events_are_numbered_without_a_gap_and_named_by_their_numbers(
    books: Bookkeeper, meters: FakeMeters, run_of_other: RunContext
) -> None:
    books.turn()
    first = books.turn()
    meters.begin(run_of_other)
    second, third = books.turn(), books.turn()

    numbers = [(event.tenant, event.sequence) for turn in (first, second, third) for event in turn.events]
    assert sorted(numbers) == [("default", 1), ("default", 2), ("default", 3), ("other", 1), ("other", 2)]
    ids = [event.event_id for turn in (first, second, third) for event in turn.events]
    assert len(set(ids)) == len(ids)


def test_the_same_memory_and_reading_make_the_same_events(meters: FakeMeters, terms: Terms) -> None:
    meters.pass_time(1.0)
    memory = account(Memory(), meters.read(), terms, {}).memory
    meters.pass_time(1.0)
    reading = meters.read()

    assert account(memory, reading, terms, {}).events == account(memory, reading, terms, {}).events


def test_what_is_not_measured_is_told_for_each_run_and_for_the_host_and_is_not_zero(
    books: Bookkeeper, meters: FakeMeters, run_1: RunContext
) -> None:
    books.turn()
    meters.begin(run_1)

    gpu = samples_of(books.turn(), component="gpu")

    assert [(sample.share, sample.run_id) for sample in gpu] == [(Share.RUN, "run-1"), (Share.IDLE, "")]
    for sample in gpu:
        assert sample.method == Method.NOT_MEASURED
        assert (sample.energy_joules, sample.carbon_grams_co2e, sample.cost_usd) == (None, None, None)


def test_carbon_is_the_zones_for_the_hour_times_the_buildings_overhead(
    meters: FakeMeters, terms: Terms, make_intensity: Callable[..., IntensityChanged]
) -> None:
    books = Bookkeeper(meters, replace(terms, zone="DE", pue=1.5), {"DE": make_intensity(grams=300)})
    books.turn(3 * 3600)

    (event,) = books.turn(100.0).events

    (idle,) = (sample for sample in event.samples if sample.share == Share.IDLE and sample.component == "cpu")
    assert (event.intensity_grams_per_kwh, event.intensity_kind, event.intensity_source) == (303, "typical", "a table")
    assert event.pue == 1.5
    assert idle.carbon_grams_co2e == pytest.approx(IDLE_WATTS * 100 / 3.6e6 * 1.5 * 303)


@pytest.mark.parametrize(
    ("zone", "grams", "kind"),
    [("", 475, "world-average"), ("XX", 475, "world-average"), ("FR", 56, "yearly"), ("DE", 381, "yearly")],
)
def test_an_hour_that_pricing_did_not_tell_of_takes_the_zones_year_and_an_unknown_zone_the_world_both_flagged(
    meters: FakeMeters,
    terms: Terms,
    make_intensity: Callable[..., IntensityChanged],
    zone: str,
    grams: float,
    kind: str,
) -> None:
    books = Bookkeeper(meters, replace(terms, zone=zone), {"DE": make_intensity()})
    books.turn(3 * 24 * 3600)

    (event,) = books.turn().events

    assert (event.intensity_grams_per_kwh, event.intensity_kind) == (grams, kind)


def test_a_run_elsewhere_by_its_own_word_is_told_apart_with_its_zone_and_overhead(
    meters: FakeMeters, terms: Terms, make_intensity: Callable[..., IntensityChanged]
) -> None:
    books = Bookkeeper(meters, terms, {"DE": make_intensity()})
    books.turn()
    meters.begin(RunContext(run_id="run-1", metered=True, zone="DE", pue=1.2))

    events = books.turn(1.0, run_1=1.0).events

    assert {(event.zone, event.pue, event.sequence) for event in events} == {("DE", 1.2, 1), ("", 1.0, 2)}


def test_electricity_costs_a_run_its_own_price_and_the_host_the_owners(meters: FakeMeters, terms: Terms) -> None:
    books = Bookkeeper(meters, replace(terms, electricity_microusd_per_kwh=100_000))
    books.turn()
    meters.begin(RunContext(run_id="run-1", metered=True, electricity_microusd_per_kwh=300_000))

    turn = books.turn(1.0, run_1=1.0)

    for sample in samples_of(turn):
        price_usd = 0.3 if sample.run_id else 0.1
        assert sample.cost_usd == pytest.approx((sample.energy_joules or 0.0) / 3.6e6 * price_usd)


def test_the_cost_of_the_hosts_energy_is_unknown_where_nobody_told_a_price(books: Bookkeeper) -> None:
    books.turn()

    assert {sample.cost_usd for sample in samples_of(books.turn())} == {None}


def test_rent_is_money_without_energy_and_counts_from_the_runs_first_moment(
    books: Bookkeeper, meters: FakeMeters
) -> None:
    books.turn()
    meters.pass_time(0.75)
    meters.begin(RunContext(run_id="run-1", metered=True, price_microusd_per_hour=3_600_000))
    first, second = books.turn(0.25, run_1=0.1), books.turn(1.0, run_1=0.1)

    (begun,), (whole,) = samples_of(first, component="machine"), samples_of(second, component="machine")

    assert begun.energy_joules is None
    assert begun.cost_usd == pytest.approx(0.00025)
    assert whole.cost_usd == pytest.approx(0.001)
    assert totals_of(second, "run-1").cost_usd == pytest.approx(0.00125)
    assert [total.component for total in totals_of(second, "run-1").components] == ["cpu", "gpu"]


def test_a_runs_totals_are_the_sum_of_its_samples(books: Bookkeeper, meters: FakeMeters, run_1: RunContext) -> None:
    books.turn()
    meters.begin(run_1)
    turns = [books.turn(1.0, run_1=0.3, others=0.2) for _ in range(5)]

    mine = [sample for turn in turns for sample in samples_of(turn) if sample.run_id == "run-1"]

    totals = totals_of(turns[-1], "run-1")
    assert totals.energy_joules == pytest.approx(sum(sample.energy_joules or 0.0 for sample in mine))
    assert totals.carbon_grams_co2e == pytest.approx(sum(sample.carbon_grams_co2e or 0.0 for sample in mine))
    (cpu,) = (total for total in totals.components if total.component == "cpu")
    assert cpu.power_watts == pytest.approx((mine[-1].energy_joules or 0.0) / 1.0)


def test_a_run_has_ended_when_its_processes_are_gone_for_three_samples(
    books: Bookkeeper, meters: FakeMeters, run_1: RunContext
) -> None:
    books.turn()
    meters.begin(run_1)
    books.turn()
    meters.end("run-1")

    ended = [totals_of(books.turn(), "run-1").ended for _ in range(3)]

    assert ended == [False, False, True]
    assert books.turn().runs == ()


def test_a_run_that_pauses_between_two_programs_goes_on_with_its_totals(
    books: Bookkeeper, meters: FakeMeters, run_1: RunContext
) -> None:
    books.turn()
    meters.begin(run_1)
    before = totals_of(books.turn(1.0, run_1=1.0), "run-1")
    meters.end("run-1")
    books.turn()
    meters.begin(run_1)

    after = totals_of(books.turn(1.0, run_1=1.0), "run-1")

    assert after.energy_joules == pytest.approx(2 * before.energy_joules)
    assert after.samples_gone == 0


def test_a_killed_agent_charges_a_living_run_for_the_time_that_it_was_away(
    books: Bookkeeper, meters: FakeMeters, run_1: RunContext
) -> None:
    books.turn()
    meters.begin(run_1)
    books.turn(1.0, run_1=0.5)
    meters.pass_time(59.0, run_1=29.5)
    meters.restart_agent()

    turn = books.turn(1.0)

    (mine,) = (sample for sample in samples_of(turn) if sample.share == Share.RUN)
    assert mine.method == Method.MODEL
    assert mine.ended_at - mine.started_at == timedelta(seconds=60)
    whole = IDLE_WATTS * 60 + WATTS_PER_BUSY_CPU * 29.5
    assert sum(sample.energy_joules or 0.0 for sample in samples_of(turn)) == pytest.approx(whole)
    assert (mine.energy_joules or 0.0) > 0.9 * (whole - joules(turn, Share.IDLE))


def test_a_run_that_began_while_the_agent_was_away_and_still_lives_is_charged_in_full(
    books: Bookkeeper, meters: FakeMeters, run_1: RunContext
) -> None:
    books.turn()
    books.turn()
    meters.begin(run_1)
    meters.pass_time(30.0, run_1=20.0)
    meters.restart_agent()

    turn = books.turn(1.0)

    assert joules(turn, Share.RUN, "run-1") > 0
    assert joules(turn, Share.OTHERS) == pytest.approx(0.0)


def test_a_run_that_began_and_ended_while_the_agent_was_away_is_lost_to_others(
    books: Bookkeeper, meters: FakeMeters, run_1: RunContext
) -> None:
    books.turn()
    meters.begin(run_1)
    meters.pass_time(30.0, run_1=20.0)
    meters.end("run-1")
    meters.restart_agent()

    turn = books.turn(1.0)

    assert joules(turn, Share.RUN, "run-1") == 0
    assert joules(turn, Share.OTHERS) > 0
    assert turn.runs == ()


def test_a_child_that_was_reaped_while_the_agent_was_away_is_charged_once(
    books: Bookkeeper, meters: FakeMeters, run_1: RunContext
) -> None:
    meters.pass_time(1.0)
    meters.begin(run_1)
    before = meters.read()
    parent = before.runs[0].members[0]
    child = ProcessStat(500, parent.pid, parent.started, 4.0, 0.0, 0, ended=False)
    before = _with_members(before, parent, child)
    meters.pass_time(10.0, others=6.0)
    now = replace(meters.read(), agent="agent-2")
    now = _with_members(now, replace(parent, reaped_cpu_seconds=10.0))

    turn = account(Memory(before), now, Terms(host="host-1", producer="agent-fake"), {})

    # Of the child's ten seconds four were charged before; the other six are all that was used in this interval.
    assert joules(turn, Share.OTHERS) == pytest.approx(0.0)
    assert joules(turn, Share.RUN, "run-1") > 0


def _with_members(reading: HostReading, *members: ProcessStat) -> HostReading:
    return replace(reading, runs=(replace(reading.runs[0], members=members),))


@pytest.mark.parametrize("how", ["away too long", "rebooted"])
def test_after_a_boot_or_too_long_an_absence_counting_begins_anew(
    books: Bookkeeper, meters: FakeMeters, run_1: RunContext, how: str
) -> None:
    books.turn()
    meters.begin(run_1)
    books.turn(1.0, run_1=1.0)
    if how == "rebooted":
        meters.reboot()
    else:
        meters.pass_time(301.0, run_1=300.0)
        meters.restart_agent()

    anew, next_one = books.turn(0.5), books.turn(1.0)

    assert anew.events == ()
    assert {sample.ended_at - sample.started_at for sample in samples_of(next_one)} == {timedelta(seconds=1)}
    assert next_one.events[0].sequence == 2


def test_a_figure_that_ended_with_the_agent_is_not_measured_over_the_gap(
    books: Bookkeeper, meters: FakeMeters, run_1: RunContext
) -> None:
    meters.lasting = False
    books.turn()
    meters.begin(run_1)
    books.turn(1.0, run_1=1.0)
    meters.restart_agent()

    gap, after = books.turn(1.0, run_1=1.0), books.turn(1.0, run_1=1.0)

    assert {sample.method for sample in samples_of(gap)} == {Method.NOT_MEASURED}
    assert {sample.method for sample in samples_of(after)} == {Method.MODEL}


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ((10_000_000,), (12_500_000,), 2.5),
        ((90_000_000,), (5_000_000,), 15.0),
        ((10_000_000, 1_000_000), (11_000_000, 3_000_000), 3.0),
        ((10_000_000,), (11_000_000, 3_000_000), None),
    ],
    ids=["counted on", "wrapped", "two sockets", "another set of counters"],
)
def test_a_hardware_counter_is_bridged_by_where_it_stands(
    before: tuple[int, ...], now: tuple[int, ...], expected: float | None
) -> None:
    readings = [
        ComponentReading(
            Reading(
                "cpu",
                Method.COUNTER,
                "RAPL package-0",
                0.05,
                0.0,
                marks=tuple(CounterMark(f"package-{n}", value, 100_000_000) for n, value in enumerate(values)),
            )
        )
        for values in (before, now)
    ]

    assert joules_between(*readings, seconds=10.0, same_agent=False) == expected


def test_a_hardware_counter_that_began_anew_in_an_absence_is_taken_for_no_wrap() -> None:
    before, now = (
        ComponentReading(Reading("cpu", Method.COUNTER, "RAPL package-0", 0.05, 0.0, (mark,)))
        for mark in (CounterMark("intel-rapl:0", value, 262_143_328_850) for value in (90_000_000_000, 5_000_000))
    )

    assert joules_between(before, now, seconds=10.0, same_agent=False) is None
    assert joules_between(before, now, seconds=300.0, same_agent=False) == pytest.approx(172_148.32885)


def test_a_counter_that_was_set_back_is_not_measured_rather_than_zero() -> None:
    before, now = (
        ComponentReading(Reading("gpu0", Method.COUNTER, "NVML", 0.05, value), lasting=True) for value in (9.0, 1.0)
    )

    assert joules_between(before, now, seconds=1.0, same_agent=True) is None


def test_very_many_runs_are_told_in_several_events_that_the_bus_can_carry(meters: FakeMeters, terms: Terms) -> None:
    books = Bookkeeper(meters, terms)
    books.turn()
    for number in range(600):
        meters.begin(RunContext(run_id=f"run-{number}", metered=True))

    events = books.turn().events

    assert [event.sequence for event in events] == [1, 2]
    assert sum(len(event.samples) for event in events) == 600 * 2 + 3
    assert max(len(event.samples) for event in events) == SAMPLES_PER_EVENT_MAX
    assert max(len(event.model_dump_json()) for event in events) < 1024 * 1024


def test_a_run_that_its_tracker_tells_of_is_charged_here_and_told_there_so_that_the_host_is_counted_once(
    books: Bookkeeper, meters: FakeMeters
) -> None:
    books.turn()
    meters.begin(RunContext(run_id="run-9", tenant="other"), told_by_tracker=True)

    turn = books.turn(2.0, others=0.7, run_9=1.1)

    counted = IDLE_WATTS * 2.0 + WATTS_PER_BUSY_CPU * 1.8
    by_tracker = totals_of(turn, "run-9").energy_joules
    by_agent = sum(sample.energy_joules or 0.0 for sample in samples_of(turn))
    assert by_tracker > 0
    assert by_agent + by_tracker == pytest.approx(counted)
    assert sum(total.energy_joules or 0.0 for total in turn.host.components) == pytest.approx(counted)
    assert [event.tenant for event in turn.events] == ["default"]


def test_rent_and_what_is_embodied_of_a_tracked_run_are_its_trackers_to_tell(meters: FakeMeters, terms: Terms) -> None:
    books = Bookkeeper(meters, replace(terms, embodied_grams_co2e_per_hour=36.0))
    books.turn()
    meters.begin(RunContext(run_id="run-9", price_microusd_per_hour=3_600_000), told_by_tracker=True)

    turn = books.turn(10.0, run_9=1.0)

    assert totals_of(turn, "run-9").cost_usd == 0
    assert [sample.run_id for sample in samples_of(turn, component="machine")] == [""]


def test_a_reading_of_before_there_were_tracked_runs_is_remembered(meters: FakeMeters, run_1: RunContext) -> None:
    meters.begin(run_1)
    readings = TypeAdapter(HostReading)
    written = json.loads(readings.dump_json(meters.read()))
    del written["runs"][0]["told_by_tracker"]

    assert readings.validate_python(written) == meters.read()
