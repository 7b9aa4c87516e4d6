"""The use cases over fakes: sampling, sending, reporting, and watching in good and bad times."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest

from ergonaut.errors import NotFound, Refused, Unavailable
from ergonaut.events import Event, HostReported, IntensityChanged, PowerSampled
from ergonaut.events.telemetry import Method
from ergonaut.runcontext import RunContext
from ergonaut_common.clock import FakeClock
from ergonaut_telemetry.domain import HostReading, RunTotals, Terms, Turn
from ergonaut_telemetry.fakes import FakeAnnouncer, FakeMeters, FakeSpool
from ergonaut_telemetry.ports import Spool
from ergonaut_telemetry.service import Reporting, Sampling, Sending, Watching

HOUR = timedelta(hours=1)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def bus() -> FakeAnnouncer:
    return FakeAnnouncer()


@pytest.fixture
def watching(spool: FakeSpool, clock: FakeClock) -> Watching:
    return Watching(spool, clock)


def sampled(meters: FakeMeters, sampling: Sampling, *, times: int = 1, **runs: float) -> Turn:
    """Let so many seconds pass, with a sample in each; gives the last."""
    for _ in range(times):
        meters.pass_time(1.0, **runs)
        turn = sampling.sample()
    return turn


def sequences(bus: FakeAnnouncer) -> list[int]:
    return [event.sequence for event in bus.told if isinstance(event, PowerSampled)]


async def next_of(stream: AsyncIterator[RunTotals]) -> RunTotals:
    async with asyncio.timeout(30):
        return await anext(stream)


async def test_samples_are_sent_in_order_and_only_once(
    meters: FakeMeters, sampling: Sampling, spool: FakeSpool, bus: FakeAnnouncer
) -> None:
    sampled(meters, sampling, times=6)

    assert await Sending(spool, bus).send_waiting() == 5
    assert await Sending(spool, bus).send_waiting() == 0
    assert sequences(bus) == [1, 2, 3, 4, 5]


async def test_an_event_that_the_bus_never_takes_holds_up_none_behind_it(
    meters: FakeMeters, sampling: Sampling, spool: FakeSpool
) -> None:
    class TooLarge(FakeAnnouncer):
        """Never takes the second."""

        async def tell(self, event: Event, body: bytes = b"") -> None:
            if isinstance(event, PowerSampled) and event.sequence == 2:
                raise Refused("the message is larger than NATS takes")
            await super().tell(event, body)

    bus = TooLarge()
    sampled(meters, sampling, times=5)
    await Sending(spool, bus).send_waiting()

    assert sequences(bus) == [1, 3, 4]
    assert spool.waiting() == 0


async def test_what_the_bus_took_before_it_went_away_is_not_sent_again(
    meters: FakeMeters, sampling: Sampling, spool: FakeSpool
) -> None:
    class GoesAway(FakeAnnouncer):
        """Takes two events, then none."""

        async def tell(self, event: Event, body: bytes = b"") -> None:
            self.away = len(self.told) == 2
            await super().tell(event, body)

    sampled(meters, sampling, times=5)
    with pytest.raises(Unavailable):
        await Sending(spool, GoesAway()).send_waiting()

    assert [spooled.event.sequence for spooled in spool.oldest(10)] == [3, 4]


async def test_meters_that_may_block_are_read_beside_the_loop(
    meters: FakeMeters, sampling: Sampling, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    meters.may_block = True
    read, answered = meters.read, threading.Event()

    def hang() -> HostReading:
        assert answered.wait(20), "the loop stood still while the meters were read"
        return read()

    monkeypatch.setattr(meters, "read", hang)
    shown: asyncio.Queue[Turn] = asyncio.Queue()
    loop = asyncio.create_task(sampling.run(clock, 1.0, shown.put_nowait))
    try:
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(answered.set)
        async with asyncio.timeout(20):
            assert (await shown.get()).memory.reading is not None
    finally:
        loop.cancel()


async def test_samples_wait_while_the_bus_is_away_and_none_is_missing_afterwards(
    meters: FakeMeters, sampling: Sampling, spool: FakeSpool, bus: FakeAnnouncer
) -> None:
    sending = Sending(spool, bus)
    bus.away = True
    sampled(meters, sampling, times=4)
    with pytest.raises(Unavailable):
        await sending.send_waiting()
    bus.away = False
    sampled(meters, sampling, times=2)

    await sending.send_waiting()

    assert sequences(bus) == [1, 2, 3, 4, 5]
    assert spool.waiting() == 0


async def test_an_event_that_was_sent_but_not_forgotten_is_the_same_event_when_sent_again(
    meters: FakeMeters, sampling: Sampling, spool: FakeSpool, bus: FakeAnnouncer
) -> None:
    sampled(meters, sampling, times=3)
    await bus.tell(spool.oldest(1)[0].event)

    await Sending(spool, bus).send_waiting()

    assert sequences(bus) == [1, 2]


def test_a_sample_that_the_spool_did_not_take_is_covered_by_the_next(
    meters: FakeMeters, sampling: Sampling, spool: FakeSpool, run_1: RunContext
) -> None:
    sampled(meters, sampling)
    meters.begin(run_1)
    spool.broken = True
    with pytest.raises(Unavailable):
        sampled(meters, sampling, run_1=1.0)
    spool.broken = False

    turn = sampled(meters, sampling, run_1=1.0)

    (event,) = turn.events
    assert event.sequence == 1
    assert {(sample.ended_at - sample.started_at).total_seconds() for sample in event.samples} == {2.0}
    (totals,) = turn.runs
    assert totals.energy_joules == pytest.approx(2 * 20.0, rel=0.5)


def test_a_restarted_agent_goes_on_with_numbers_totals_and_intensities(
    meters: FakeMeters,
    spool: FakeSpool,
    run_1: RunContext,
    make_intensity: Callable[..., IntensityChanged],
) -> None:
    terms = Terms(host="host-1", producer="agent-fake", zone="DE")
    before = Sampling(meters, spool, terms)
    before.learn_intensity(make_intensity(grams=300))
    sampled(meters, before)
    meters.begin(run_1)
    (totals,) = sampled(meters, before, run_1=1.0).runs
    meters.restart_agent()

    turn = sampled(meters, Sampling(meters, spool, terms), run_1=1.0)

    (event,) = turn.events
    assert event.sequence == 2
    assert event.intensity_kind == "typical"
    assert turn.runs[0].energy_joules == pytest.approx(2 * totals.energy_joules)


def test_a_run_that_had_ended_and_comes_back_goes_on_with_its_totals(
    meters: FakeMeters, sampling: Sampling, run_1: RunContext
) -> None:
    sampled(meters, sampling)
    meters.begin(run_1)
    (before,) = sampled(meters, sampling, run_1=1.0).runs
    meters.end("run-1")
    sampled(meters, sampling, times=5)
    meters.begin(run_1)

    (after,) = sampled(meters, sampling, run_1=1.0).runs

    assert after.energy_joules == pytest.approx(2 * before.energy_joules)


def test_intensities_are_found_however_their_zone_is_written(
    meters: FakeMeters, spool: FakeSpool, make_intensity: Callable[..., IntensityChanged]
) -> None:
    terms = Terms(host="host-1", producer="agent-fake", zone="US-CAL-CISO")
    sampling = Sampling(meters, spool, terms)
    sampling.learn_intensity(make_intensity(zone="us_cal_ciso"))

    for agent in (sampling, Sampling(meters, spool, terms)):
        (event,) = sampled(meters, agent, times=2).events
        assert (event.intensity_kind, event.zone) == ("typical", "US-CAL-CISO")


@pytest.mark.parametrize("restarted", [False, True])
def test_what_was_used_before_a_full_hour_gets_that_hours_intensity_also_when_the_new_hour_is_told(
    meters: FakeMeters, reopen: Callable[[], Spool], make_intensity: Callable[..., IntensityChanged], *, restarted: bool
) -> None:
    terms = Terms(host="host-1", producer="agent-fake", zone="DE")
    spool = reopen()
    sampling = Sampling(meters, spool, terms)
    told = make_intensity(grams=300)
    # The fake's clock stands at 00:16:40; pricing tells the hour that has begun and those after it.
    meters.pass_time(2_595.0)
    sampling.learn_intensity(told)
    sampling.sample()
    coming = told.model_copy(
        update={"event_id": "evt-2", "hours": told.hours[1:], "occurred_at": told.occurred_at + HOUR}
    )
    sampling.learn_intensity(coming)
    if restarted:
        sampling = Sampling(meters, reopen(), terms)
    meters.pass_time(10.0)

    events = sampling.sample().events

    assert [(event.intensity_grams_per_kwh, event.intensity_kind) for event in events] == [
        (300.0, "typical"),
        (301.0, "typical"),
    ]


def test_intensities_of_other_tenants_are_not_believed(
    meters: FakeMeters, spool: FakeSpool, make_intensity: Callable[..., IntensityChanged]
) -> None:
    sampling = Sampling(meters, spool, Terms(host="host-1", producer="agent-fake", zone="DE"))
    sampling.learn_intensity(make_intensity(grams=1).model_copy(update={"tenant": "mallory"}))

    (event,) = sampled(meters, sampling, times=2).events

    assert event.intensity_kind == "yearly"


async def test_the_loop_samples_at_every_interval(meters: FakeMeters, sampling: Sampling, clock: FakeClock) -> None:
    shown: asyncio.Queue[Turn] = asyncio.Queue()
    loop = asyncio.create_task(sampling.run(clock, 1.0, shown.put_nowait))
    try:
        async with asyncio.timeout(30):
            await shown.get()
            for sequence in (1, 2, 3):
                meters.pass_time(1.0)
                await clock.advance(1.0)
                turn = await shown.get()
                assert [event.sequence for event in turn.events] == [sequence]
    finally:
        loop.cancel()


async def test_a_host_is_reported_once_there_is_a_sample_then_at_intervals_and_when_its_meters_change(
    meters: FakeMeters, sampling: Sampling, clock: FakeClock, bus: FakeAnnouncer, terms: Terms
) -> None:
    reporting = Reporting(meters, terms)
    assert not await reporting.report_if_due(bus, clock, 600.0)

    reporting.notice(sampled(meters, sampling))
    assert await reporting.report_if_due(bus, clock, 600.0)
    await clock.advance(599)
    assert not await reporting.report_if_due(bus, clock, 600.0)
    await clock.advance(1)
    assert await reporting.report_if_due(bus, clock, 600.0)
    meters.cpu = type(meters.cpu)("cpu", Method.COUNTER, "RAPL package-0", 0.05)
    reporting.notice(sampled(meters, sampling))
    assert await reporting.report_if_due(bus, clock, 600.0)

    last = bus.told[-1]
    assert isinstance(last, HostReported)
    assert (last.host, last.accelerator, last.accelerator_count) == ("host-1", "H100-80GB", 2)
    assert [(part.component, part.method) for part in last.components] == [
        ("cpu", Method.COUNTER),
        ("gpu", Method.NOT_MEASURED),
    ]


async def test_a_report_that_the_bus_did_not_take_stays_due(
    meters: FakeMeters, sampling: Sampling, clock: FakeClock, bus: FakeAnnouncer, terms: Terms
) -> None:
    reporting = Reporting(meters, terms)
    reporting.notice(sampled(meters, sampling))
    bus.away = True
    with pytest.raises(Unavailable):
        await reporting.report_if_due(bus, clock, 600.0)
    bus.away = False

    assert await reporting.report_if_due(bus, clock, 600.0)


async def test_a_watch_shows_every_sample_of_its_run_and_ends_with_it(
    meters: FakeMeters, sampling: Sampling, watching: Watching, run_1: RunContext
) -> None:
    sampled(meters, sampling)
    meters.begin(run_1)
    watching.show(sampled(meters, sampling, run_1=1.0))
    stream = watching.run("default", "run-1")
    energies = [(await next_of(stream)).energy_joules]
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    watching.show(sampled(meters, sampling, run_1=1.0))
    energies.append((await waiting).energy_joules)
    meters.end("run-1")
    for _ in range(3):
        watching.show(sampled(meters, sampling))
        last = await next_of(stream)

    assert energies[1] == pytest.approx(2 * energies[0])
    assert last.ended
    with pytest.raises(StopAsyncIteration):
        await next_of(stream)


async def test_a_slow_watcher_gets_the_newest_totals_and_still_sees_the_end(
    meters: FakeMeters, sampling: Sampling, watching: Watching, run_1: RunContext
) -> None:
    sampled(meters, sampling)
    meters.begin(run_1)
    watching.show(sampled(meters, sampling, run_1=1.0))
    stream = watching.run("default", "run-1")
    first = await next_of(stream)
    for _ in range(50):
        watching.show(sampled(meters, sampling, run_1=1.0))

    newest = await next_of(stream)
    meters.end("run-1")
    for _ in range(10):
        watching.show(sampled(meters, sampling))
    last = await next_of(stream)

    assert newest.energy_joules == pytest.approx(51 * first.energy_joules)
    assert last.ended


async def test_a_watcher_may_come_before_its_run(
    meters: FakeMeters, sampling: Sampling, watching: Watching, clock: FakeClock, run_1: RunContext
) -> None:
    sampled(meters, sampling)
    early = asyncio.ensure_future(anext(watching.run("default", "run-1")))
    await clock.advance(25)
    meters.begin(run_1)

    watching.show(sampled(meters, sampling, run_1=1.0))

    async with asyncio.timeout(30):
        assert (await early).run_id == "run-1"


@pytest.mark.parametrize("key", [("default", "run-9"), ("other", "run-1")])
async def test_an_unknown_run_and_one_of_another_tenant_are_not_found_alike(
    meters: FakeMeters,
    sampling: Sampling,
    watching: Watching,
    clock: FakeClock,
    run_1: RunContext,
    key: tuple[str, str],
) -> None:
    sampled(meters, sampling)
    meters.begin(run_1)
    watching.show(sampled(meters, sampling, run_1=1.0))
    watch = asyncio.ensure_future(anext(watching.run(*key)))
    await clock.advance(29)
    assert not watch.done()
    await clock.advance(2)

    async with asyncio.timeout(30):
        with pytest.raises(NotFound, match=key[1]):
            await watch


async def test_a_watch_on_a_run_that_ended_long_ago_shows_its_totals_and_ends(
    meters: FakeMeters, sampling: Sampling, watching: Watching, run_1: RunContext
) -> None:
    sampled(meters, sampling)
    meters.begin(run_1)
    (totals,) = sampled(meters, sampling, run_1=1.0).runs
    meters.end("run-1")
    sampled(meters, sampling, times=9)

    shown = [shown async for shown in watching.run("default", "run-1")]

    assert [one.energy_joules for one in shown] == [totals.energy_joules]


async def test_a_host_watch_counts_energy_from_its_own_beginning(
    meters: FakeMeters, sampling: Sampling, watching: Watching
) -> None:
    for _ in range(3):
        watching.show(sampled(meters, sampling))
    stream = watching.host()
    shown = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)

    watching.show(sampled(meters, sampling))

    cpu, gpu = (await shown).components
    assert cpu.energy_joules == pytest.approx(10.0)
    assert cpu.power_watts == pytest.approx(10.0)
    assert (gpu.energy_joules, gpu.power_watts) == (None, None)


async def test_watches_end_when_the_agent_stops_without_saying_that_the_run_has_ended(
    meters: FakeMeters, sampling: Sampling, watching: Watching, run_1: RunContext
) -> None:
    sampled(meters, sampling)
    meters.begin(run_1)
    watching.show(sampled(meters, sampling, run_1=1.0))
    stream = watching.run("default", "run-1")
    await next_of(stream)

    watching.stop()

    with pytest.raises(Unavailable, match="stopping"):
        await next_of(stream)
