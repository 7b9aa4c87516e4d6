"""What every store promises, over the fake and over embedded ClickHouse."""

import random
from datetime import datetime, timedelta

import pytest

from ergonaut.events import JobSubmitted, RunPaused, RunPreempted, RunProgressed
from ergonaut.events.pricing import Boundary, Signal
from ergonaut.events.telemetry import Share
from ergonaut.jobs import JobSpec
from ergonaut_ledger.domain.elsewhere import HourOfDay
from ergonaut_ledger.domain.rows import Batch
from ergonaut_ledger.ports import Store

from .told import (
    RUN,
    T0,
    batch,
    batch_of,
    cpu_sample,
    day,
    finished,
    gpu_sample,
    message,
    offer,
    reading,
    rent_sample,
    started,
)


async def test_a_runs_components_are_the_sums_of_its_samples(store: Store, tenant: str) -> None:
    joules = [20.5, 21.25, 19.125]
    readings = [
        reading(tenant, number, cpu_sample(number - 1, used), gpu_sample(number - 1), rent_sample(number - 1))
        for number, used in enumerate(joules, 1)
    ]
    await store.keep(batch_of(*readings))
    cpu, _, machine = await store.components(tenant, RUN)
    assert (cpu.component, cpu.method, cpu.samples) == ("cpu", "model", 3)
    assert cpu.energy_joules == pytest.approx(sum(joules), rel=1e-12)
    assert cpu.range_fraction == pytest.approx(0.3)
    assert machine.cost_usd == pytest.approx(0.0003)
    assert machine.energy_joules is None


async def test_what_was_not_measured_stays_unknown(store: Store, tenant: str) -> None:
    await store.keep(batch_of(reading(tenant, 1, gpu_sample(0))))
    [gpu] = await store.components(tenant, RUN)
    assert (gpu.energy_joules, gpu.carbon_grams_co2e, gpu.cost_usd, gpu.range_fraction) == (None, None, None, None)
    assert gpu.samples == 1


async def test_deliveries_repeated_reordered_and_cut_differently_change_no_sum(store: Store, tenant: str) -> None:
    messages = [message(reading(tenant, n, cpu_sample(n - 1, n / 7), gpu_sample(n - 1)), n) for n in range(1, 41)]
    await store.keep(batch(*messages))
    before = (await store.components(tenant, RUN), await store.power(tenant, RUN, 100))
    chaos = random.Random(7)
    for _ in range(5):
        chaos.shuffle(messages)
        cut = chaos.randrange(1, len(messages))
        await store.keep(batch(*messages[:cut]))
        await store.keep(batch(*messages[cut:], *messages[:3]))
    after = (await store.components(tenant, RUN), await store.power(tenant, RUN, 100))
    assert [part.samples for part in after[0]] == [40, 40]
    assert after[0][0].energy_joules == pytest.approx(sum(n / 7 for n in range(1, 41)), rel=1e-12)
    assert after[0][0].energy_joules == pytest.approx(before[0][0].energy_joules, rel=1e-12)
    assert [point.power_watts for point in after[1]] == pytest.approx([point.power_watts for point in before[1]])


async def test_a_fact_told_again_under_another_sequence_counts_once(store: Store, tenant: str) -> None:
    fact = reading(tenant, 1)
    await store.keep(batch(message(fact, 10)))
    await store.keep(batch(message(fact, 9_000)))
    [cpu] = await store.components(tenant, RUN)
    assert (cpu.samples, cpu.energy_joules) == (1, 20.0)


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
async def test_the_first_telling_of_a_fact_stands(store: Store, tenant: str, order: tuple[int, int]) -> None:
    told = {
        1: message(reading(tenant, 1, cpu_sample(0, 5.0)), 100),
        2: message(reading(tenant, 1, cpu_sample(0, 7.0)), 200),
    }
    for which in order:
        await store.keep(batch(told[which]))
    [cpu] = await store.components(tenant, RUN)
    assert cpu.energy_joules == 5.0


async def test_a_gap_in_a_producers_numbers_is_missing_samples(store: Store, tenant: str) -> None:
    await store.keep(batch_of(*(reading(tenant, number) for number in (5, 6, 9))))
    covered = await store.coverage(tenant, RUN)
    assert covered is not None
    assert covered.samples_missing == 2


async def test_a_number_that_holds_no_sample_of_the_run_is_no_gap(store: Store, tenant: str) -> None:
    others = cpu_sample(1, share=Share.OTHERS, run_id="")
    await store.keep(batch_of(reading(tenant, 1), reading(tenant, 2, others), reading(tenant, 3)))
    covered = await store.coverage(tenant, RUN)
    assert covered is not None
    assert covered.samples_missing == 0
    assert (covered.first_at, covered.last_at) == (T0, T0 + timedelta(seconds=3))
    assert covered.intensity_sources == ("typical: table 2025",)


async def test_numbers_that_are_missing_where_a_run_begins_or_ends_may_have_been_its_own(
    store: Store, tenant: str
) -> None:
    others = cpu_sample(0, share=Share.OTHERS, run_id="")
    await store.keep(
        batch_of(reading(tenant, 1, others), reading(tenant, 5), reading(tenant, 6), reading(tenant, 9, others))
    )
    covered = await store.coverage(tenant, RUN)
    assert covered is not None
    assert covered.samples_missing == 5, "2 to 4, and 7 and 8"


async def test_gaps_are_counted_for_each_producer(store: Store, tenant: str) -> None:
    first = [reading(tenant, number, producer="agent-a") for number in (1, 2, 3)]
    second = [reading(tenant, number, producer="agent-b") for number in (7, 9)]
    await store.keep(batch_of(*first, *second))
    covered = await store.coverage(tenant, RUN)
    assert covered is not None
    assert covered.samples_missing == 1


async def test_intensity_and_pue_are_means_over_the_energy(store: Store, tenant: str) -> None:
    dirty = reading(tenant, 1, cpu_sample(0, 30.0), intensity_grams_per_kwh=600.0, pue=1.0)
    clean = reading(tenant, 2, cpu_sample(1, 10.0), intensity_grams_per_kwh=200.0, pue=2.0)
    await store.keep(batch_of(dirty, clean))
    covered = await store.coverage(tenant, RUN)
    assert covered is not None
    assert covered.pue == pytest.approx(1.25)
    assert covered.intensity_grams_per_kwh == pytest.approx((30 * 1.0 * 600 + 10 * 2.0 * 200) / (40 * 1.25))


async def test_nothing_is_known_of_a_run_that_nobody_told_of(store: Store, tenant: str) -> None:
    assert await store.run(tenant, "run-none") is None
    assert await store.coverage(tenant, "run-none") is None
    assert await store.components(tenant, "run-none") == []
    assert await store.power(tenant, "run-none", 10) == []


async def test_another_tenants_facts_are_never_in_an_answer(store: Store, tenant: str) -> None:
    other = f"{tenant}-other"
    await store.keep(batch_of(started(other), reading(other, 1), offer(other, "aws/eu/m1/spot"), day(other, "FR", 50)))
    assert await store.runs(tenant, 10) == []
    assert await store.run(tenant, RUN) is None
    assert await store.coverage(tenant, RUN) is None
    assert await store.components(tenant, RUN) == []
    assert await store.power(tenant, RUN, 10) == []
    assert await store.offers((tenant,), T0) == []
    assert await store.days((tenant,), T0) == {}
    assert await store.events((tenant,), "", "", 10) == []
    assert await store.newest_body(tenant, "runs.run.started", RUN) is None


async def test_power_is_energy_over_sampled_time(store: Store, tenant: str) -> None:
    readings = [reading(tenant, n, cpu_sample(n - 1, 10.0 if n <= 50 else 40.0)) for n in range(1, 101)]
    await store.keep(batch_of(*readings))
    points = await store.power(tenant, RUN, 30)
    assert len(points) <= 30
    assert points[0].starts_at == T0
    # Bins that hold three samples and bins that hold four all show the same watts: no ripple.
    assert {round(point.power_watts, 6) for point in points if point.starts_at < T0 + timedelta(seconds=46)} == {10.0}
    assert {round(point.power_watts, 6) for point in points if point.starts_at > T0 + timedelta(seconds=50)} == {40.0}


async def test_power_of_two_hosts_adds_up(store: Store, tenant: str) -> None:
    one = reading(tenant, 1, cpu_sample(0, 10.0), producer="agent-a", host="host-a")
    two = reading(tenant, 1, cpu_sample(0, 15.0), producer="agent-b", host="host-b")
    await store.keep(batch_of(one, two))
    [point] = await store.power(tenant, RUN, 10)
    assert point.power_watts == pytest.approx(25.0)


async def test_a_run_is_told_from_its_events(store: Store, tenant: str) -> None:
    await store.keep(batch_of(started(tenant, job_id="job-1"), finished(tenant)))
    run = await store.run(tenant, RUN)
    assert run is not None
    assert (run.name, run.job_id, run.state, run.metrics) == ("digits", "job-1", "succeeded", {"accuracy": 0.97})
    assert (run.started_at, run.ended_at) == (T0, T0 + timedelta(seconds=30))
    assert (run.provider, run.zone, run.electricity_microusd_per_kwh) == ("local", "DE", 150_000)


async def test_events_of_a_run_may_come_in_any_order(store: Store, tenant: str) -> None:
    progressed = RunProgressed(
        tenant=tenant, event_id="p", run_id=RUN, occurred_at=T0 + timedelta(seconds=5), metrics={"loss": 2.0}
    )
    await store.keep(batch_of(finished(tenant)))
    await store.keep(batch_of(progressed, first=2))
    await store.keep(batch_of(started(tenant), finished(tenant), first=3))
    [run] = await store.runs(tenant, 10)
    assert (run.state, run.metrics, run.name) == ("succeeded", {"accuracy": 0.97}, "digits")


async def test_a_running_run_tells_its_newest_figures(store: Store, tenant: str) -> None:
    told = [
        RunProgressed(
            tenant=tenant, event_id=f"p{n}", run_id=RUN, occurred_at=T0 + timedelta(seconds=n), metrics={"loss": 1 / n}
        )
        for n in (1, 2, 4)
    ]
    await store.keep(batch_of(started(tenant), *reversed(told)))
    run = await store.run(tenant, RUN)
    assert run is not None
    assert (run.state, run.ended_at, run.metrics) == ("running", None, {"loss": 0.25})


async def test_a_preempted_run_has_ended(store: Store, tenant: str) -> None:
    ended_at = T0 + timedelta(seconds=9)
    lost = RunPreempted(tenant=tenant, event_id="lost", run_id=RUN, because="spot", ended_at=ended_at)
    await store.keep(batch_of(started(tenant), lost))
    run = await store.run(tenant, RUN)
    assert run is not None
    assert (run.state, run.ended_at) == ("preempted", ended_at)


async def test_runs_are_listed_newest_first(store: Store, tenant: str) -> None:
    for number in range(1, 5):
        begun = T0 + timedelta(minutes=number)
        await store.keep(batch_of(started(tenant, f"run-{number}", started_at=begun, occurred_at=begun), first=number))
    assert [run.run_id for run in await store.runs(tenant, 3)] == ["run-4", "run-3", "run-2"]


async def test_runs_of_which_only_some_events_are_known_are_listed_in_their_place(store: Store, tenant: str) -> None:
    def after(minutes: float) -> dict[str, datetime]:
        return {"occurred_at": T0 + timedelta(minutes=minutes)}

    told_late = started(tenant, "run-late", started_at=T0 + timedelta(minutes=1), **after(90))
    ended = finished(tenant, "run-ended", started_at=T0 + timedelta(minutes=2), **after(60))
    progressed = RunProgressed(tenant=tenant, event_id="p", run_id="run-told", metrics={"loss": 1.0}, **after(3))
    await store.keep(batch_of(told_late, ended, progressed, started(tenant, started_at=T0, **after(0))))
    assert [run.run_id for run in await store.runs(tenant, 10)] == ["run-told", "run-ended", "run-late", RUN]
    assert [run.run_id for run in await store.runs(tenant, 2)] == ["run-told", "run-ended"]


async def test_offers_are_those_of_the_time(store: Store, tenant: str) -> None:
    name = "hetzner/fsn1/cx22/on-demand"
    await store.keep(
        batch_of(
            offer(tenant, name, price_microusd_per_hour=1, occurred_at=T0 - timedelta(days=2)),
            offer(tenant, name, price_microusd_per_hour=2, occurred_at=T0 - timedelta(days=1)),
            offer(tenant, name, price_microusd_per_hour=3, occurred_at=T0 + timedelta(days=1)),
            offer(tenant, "aws/eu/late/spot", price_microusd_per_hour=4, occurred_at=T0 + timedelta(days=1)),
            offer(tenant, "aws/eu/gone/spot", price_microusd_per_hour=5, occurred_at=T0 - timedelta(days=2)),
            offer(tenant, "aws/eu/gone/spot", available=False, occurred_at=T0 - timedelta(days=1)),
        )
    )
    prices = {found.offer_id: found.price_microusd_per_hour for found in await store.offers((tenant,), T0)}
    assert prices == {name: 2, "aws/eu/late/spot": 4}


async def test_an_hour_is_as_told_last_on_the_nearest_day(store: Store, tenant: str) -> None:
    first = day(tenant, "DE", 300)
    later = day(tenant, "DE", 320, occurred_at=T0)
    far = day(tenant, "DE", 900, hours=[hour.model_copy(update={"starts_at": hour.starts_at + timedelta(days=3)}) for hour in first.hours])  # fmt: skip  # noqa: E501
    await store.keep(batch_of(first, later, far))
    days = await store.days((tenant,), T0)
    assert days["DE"][12] == HourOfDay(332.0, "typical", 0.2)
    assert len(days["DE"]) == 24
    assert len(await store.days((tenant,), T0 + timedelta(days=30))) == 0


async def test_events_are_listed_newest_first_and_once(store: Store, tenant: str) -> None:
    events = [message(started(tenant), 1), message(reading(tenant, 1), 2), message(finished(tenant), 3)]
    await store.keep(batch(*events))
    await store.keep(batch(*(message(finished(tenant), 77), *events)))
    listed = await store.events((tenant,), "", "", 10)
    assert [event.event_id for event in listed] == [
        "event-run-1-finished",
        "event-agent-1-1",
        "event-run-1-started",
    ]
    assert listed[0].body == finished(tenant).model_dump_json()
    assert listed[0].occurred_at == finished(tenant).occurred_at
    assert len(await store.events((tenant,), "runs", "", 10)) == 2
    assert len(await store.events((tenant,), "", "host-1", 10)) == 1
    assert len(await store.events((tenant,), "", "", 2)) == 2


async def test_the_newest_body_of_a_type_is_found(store: Store, tenant: str) -> None:
    spec = JobSpec(name="digits", command=("true",), duration_seconds_expected=1)
    told = [JobSubmitted(tenant=tenant, job_id="job-1", job=spec, occurred_at=T0 + timedelta(n)) for n in (1, 0)]
    await store.keep(batch_of(*told))
    assert await store.newest_body(tenant, JobSubmitted.TYPE, "job-1") == told[0].model_dump_json()


async def test_text_of_any_kind_comes_back_unchanged(store: Store, tenant: str) -> None:
    name = "Ü <script> '; DROP TABLE events; -- \\ \t\n \u0000 {tenant:String} 漢字"
    await store.keep(batch_of(started(tenant, name=name)))
    run = await store.run(tenant, RUN)
    assert run is not None
    assert run.name == name


async def test_a_batch_of_many_months_is_kept(store: Store, tenant: str) -> None:
    moments = [T0 + timedelta(days=31 * n) for n in range(150)]
    whole = Batch()
    for number, moment in enumerate(moments, 1):
        sample = cpu_sample(0, 1.0, started_at=moment, ended_at=moment + timedelta(seconds=1))
        whole.add(batch_of(reading(tenant, number, sample, occurred_at=moment), first=number))
    await store.keep(whole)
    [cpu] = await store.components(tenant, RUN)
    assert cpu.samples == 150


def paused(tenant: str, second: float) -> RunPaused:
    at = T0 + timedelta(seconds=second)
    return RunPaused(
        tenant=tenant, event_id=f"event-paused-{second}", occurred_at=at, run_id=RUN, because="budget", ended_at=at
    )


async def test_an_attempt_that_was_paused_before_it_began_is_no_run(store: Store, tenant: str) -> None:
    never = paused(tenant, 10).model_copy(update={"run_id": "run-never", "event_id": "event-never"})
    await store.keep(batch_of(never, paused(tenant, 20), started(tenant)))
    assert [run.run_id for run in await store.runs(tenant, 10)] == [RUN]


async def test_a_paused_run_is_paused_until_it_starts_again(store: Store, tenant: str) -> None:
    await store.keep(batch_of(paused(tenant, 10), started(tenant, project="apollo")))
    resting = await store.run(tenant, RUN)
    assert resting is not None
    assert (resting.state, resting.project, resting.ended_at) == ("paused", "apollo", T0 + timedelta(seconds=10))
    again = started(tenant, event_id="event-again", occurred_at=T0 + timedelta(seconds=20), project="apollo")
    await store.keep(batch_of(again, first=10))
    running = await store.run(tenant, RUN)
    assert running is not None
    assert (running.state, running.started_at, running.ended_at) == ("running", T0, None)
    await store.keep(batch_of(finished(tenant), first=20))
    done = await store.run(tenant, RUN)
    assert done is not None
    assert (done.state, done.ended_at) == ("succeeded", T0 + timedelta(seconds=30))
    assert (done.starts, done.pauses) == ((T0, T0 + timedelta(seconds=20)), (T0 + timedelta(seconds=10),))


async def test_embodied_carbon_and_the_bases_of_intensities_are_kept(store: Store, tenant: str) -> None:
    machine = rent_sample(0).model_copy(update={"embodied_grams_co2e": 0.25, "project": "apollo"})
    marginal = {"intensity_signal": Signal.MARGINAL, "intensity_boundary": Boundary.DIRECT}
    await store.keep(batch_of(reading(tenant, 1, cpu_sample(0), machine), reading(tenant, 2, **marginal)))
    cpu, rented = await store.components(tenant, RUN)
    assert (cpu.embodied_grams_co2e, rented.embodied_grams_co2e) == (None, 0.25)
    covered = await store.coverage(tenant, RUN)
    assert covered is not None
    assert covered.intensity_bases == ("average, location-based, unknown", "marginal, location-based, direct")
