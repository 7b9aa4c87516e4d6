"""What the analysis is promised by its books: the fake and ClickHouse answer alike."""

import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from ergonaut.events import InferenceServed, JobSubmitted, PhasesFinished
from ergonaut.events.runs import PhaseSpan
from ergonaut.events.telemetry import Method, PowerSample, Share
from ergonaut.jobs import JobSpec, Resources
from ergonaut_common.clock import FakeClock
from ergonaut_ledger.adapters.analysis_books import ClickHouseAnalysisBooks
from ergonaut_ledger.adapters.rollups import ClickHouseRollUps
from ergonaut_ledger.domain.anomalies import AcceleratorUse, Anomaly, Subject, event_of
from ergonaut_ledger.fakes.analysis import FakeAnalysisBooks
from ergonaut_ledger.fakes.store import FakeStore
from ergonaut_ledger.ports import Store
from ergonaut_ledger.ports.analysis import AnalysisBooks, Stretch
from ergonaut_ledger.service.rolling import Rolling

from .told import RUN, T0, batch_of, cpu_sample, gpu_sample, reading, rent_sample

Summed = Callable[[], Awaitable[None]]
HOUR = Stretch(T0 - timedelta(minutes=30), T0 + timedelta(hours=1))


@pytest.fixture
def books(store: Store, request: pytest.FixtureRequest) -> AnalysisBooks:
    if isinstance(store, FakeStore):
        return FakeAnalysisBooks(store)
    return ClickHouseAnalysisBooks(request.getfixturevalue("engine"), query_seconds=60)


@pytest.fixture
def summed(store: Store, request: pytest.FixtureRequest) -> Summed:
    """Rolls up what was kept, as the ledger does all the time; a fake has nothing to roll up."""

    async def roll() -> None:
        if not isinstance(store, FakeStore):
            rollups = ClickHouseRollUps(request.getfixturevalue("engine"), seconds=60)
            await Rolling(rollups, FakeClock(T0 + timedelta(days=2))).catch_up()

    return roll


def busy_gpu(second: float, joules: float, **changes: Any) -> PowerSample:
    values = {"component": "gpu0", "method": Method.COUNTER, "source": "NVML", "range_fraction": 0.05}
    return cpu_sample(second, joules, **(values | changes))


def phases(tenant: str, first: int, last: int, **changes: Any) -> PhasesFinished:
    spans = tuple(
        PhaseSpan(
            phase="epoch",
            step=number,
            started_at=T0 + timedelta(seconds=number),
            ended_at=T0 + timedelta(seconds=number + 1),
            metrics={"loss": 1 / number},
        )
        for number in range(first, last + 1)
    )
    values: dict[str, Any] = {
        "event_id": f"phases-{first}",
        "occurred_at": T0 + timedelta(seconds=last),
        "run_id": RUN,
        "phases": spans,
    }
    return PhasesFinished(tenant=tenant, **(values | changes))


async def test_phases_come_in_order_of_their_beginnings_and_are_counted(
    store: Store, books: AnalysisBooks, tenant: str
) -> None:
    await store.keep(batch_of(phases(tenant, 6, 9), phases(tenant, 1, 5), phases(tenant, 6, 9)))
    spans, count = await books.phases(tenant, RUN, 7)
    assert ([span.step for span in spans], count) == ([1, 2, 3, 4, 5, 6, 7], 9)
    assert spans[0].metrics == {"loss": 1.0}
    assert await books.phases(f"{tenant}-other", RUN, 7) == ([], 0)
    assert await books.runs_with_phases(tenant, T0, 10) == [RUN]
    assert await books.runs_with_phases(tenant, T0 + timedelta(minutes=1), 10) == []


async def test_slices_add_up_to_the_run_however_coarse(store: Store, books: AnalysisBooks, tenant: str) -> None:
    chance = random.Random(3)
    told = [
        reading(tenant, n, cpu_sample(n - 1, chance.uniform(1, 50)), gpu_sample(n - 1), rent_sample(n - 1))
        for n in range(1, 101)
    ]
    await store.keep(batch_of(*told))
    total = sum(sample.energy_joules or 0 for event in told for sample in event.samples)
    fine, coarse = await books.slices(tenant, RUN, 10_000), await books.slices(tenant, RUN, 30)
    assert (len(fine), len(coarse) <= 40) == (300, True)
    for slices in (fine, coarse):
        assert sum(each.energy_joules or 0 for each in slices) == pytest.approx(total, rel=1e-12)
        assert sum(each.energy_joules_range or 0 for each in slices) == pytest.approx(total * 0.3, rel=1e-12)
        assert min(each.started_at for each in slices) == T0
        assert max(each.ended_at for each in slices) == T0 + timedelta(seconds=100)
        assert any(each.energy_joules is None and each.cost_usd for each in slices)
    assert await books.slices(tenant, "run-none", 10) == []


async def test_predictions_within_a_time_are_counted(store: Store, books: AnalysisBooks, tenant: str) -> None:
    def served(minute: int, rows: int) -> InferenceServed:
        begun = T0 + timedelta(minutes=minute)
        return InferenceServed(
            tenant=tenant, event_id=f"served-{minute}", occurred_at=begun, model="digits", version=1, started_at=begun,
            ended_at=begun + timedelta(seconds=10), requests=rows, rows=rows, latency_ms_p50=1, latency_ms_p99=2,
        )  # fmt: skip

    await store.keep(batch_of(served(0, 5), served(1, 7), served(90, 100)))
    assert await books.predictions(tenant, HOUR) == 12
    assert await books.predictions(f"{tenant}-other", HOUR) == 0


async def test_the_heaviest_runs_come_first(store: Store, books: AnalysisBooks, tenant: str) -> None:
    samples = [cpu_sample(0, joules, run_id=f"run-{joules:.0f}") for joules in (5.0, 50.0, 20.0)]
    others = cpu_sample(0, 900.0, run_id="", share=Share.OTHERS)
    await store.keep(batch_of(reading(tenant, 1, *samples, others, cpu_sample(0, None, run_id="run-0"))))
    assert await books.heaviest_runs(tenant, HOUR, 2) == ["run-50", "run-20"]
    assert await books.heaviest_runs(tenant, Stretch(HOUR.ends_at, HOUR.ends_at), 2) == []


async def test_a_hosts_energy_is_told_by_whom_it_was_charged_to(
    store: Store, books: AnalysisBooks, tenant: str
) -> None:
    mine, other_run = cpu_sample(0, 10.0), cpu_sample(0, 5.0, run_id="run-2")
    others = cpu_sample(0, 7.0, run_id="", share=Share.OTHERS)
    idle = cpu_sample(0, 30.0, run_id="", share=Share.IDLE)
    elsewhere = reading(tenant, 1, cpu_sample(0, 99.0), host="host-2", producer="agent-2")
    await store.keep(batch_of(reading(tenant, 1, mine, other_run, others, idle, busy_gpu(0, 400.0)), elsewhere))
    shares = await books.host_shares(tenant, "host-1", RUN, HOUR)
    assert shares is not None
    assert (shares.run_joules, shares.others_joules, shares.idle_joules) == (10.0, 12.0, 30.0)
    assert await books.host_shares(tenant, "host-2", RUN, HOUR) is None


async def test_accelerators_that_no_run_held_are_told_with_what_they_used(
    store: Store, books: AnalysisBooks, tenant: str, summed: Summed
) -> None:
    free = {"run_id": "", "share": Share.IDLE}
    samples = [
        [busy_gpu(0, 300.0), busy_gpu(0, 50.0, **free)],
        [busy_gpu(3600, 50.0, **free), busy_gpu(3600, 1.0, component="gpu1", **free)],
        [busy_gpu(7200, 60.0, **free)],
    ]
    await store.keep(batch_of(*(reading(tenant, n, *each) for n, each in enumerate(samples, 1))))
    await summed()
    day = Stretch(T0 - timedelta(hours=1), T0 + timedelta(hours=12))
    first, second = await books.idle_accelerators(tenant, day, 10)
    assert (first.host, first.component, first.energy_joules) == ("host-1", "gpu0", 110.0)
    assert (first.idle_seconds, first.seen_seconds) == (2.0, 3.0)
    assert first.range_fraction == pytest.approx(0.05)
    assert first.carbon_grams_co2e == pytest.approx(110 / 3.6e6 * 400)
    assert second.component == "gpu1"


async def test_power_of_runs_comes_in_steps(store: Store, books: AnalysisBooks, tenant: str, summed: Summed) -> None:
    readings = [reading(tenant, n, cpu_sample(n - 1, 20.0), busy_gpu(n - 1, 100.0 + n)) for n in range(1, 31)]
    await store.keep(batch_of(*readings, reading(tenant, 31, cpu_sample(30, 5.0, run_id="", share=Share.IDLE))))
    await summed()
    series = await books.power_of_runs(tenant, HOUR, 10, 5)
    assert set(series) == {Subject(RUN, "host-1", "cpu"), Subject(RUN, "host-1", "gpu0")}
    cpu = series[Subject(RUN, "host-1", "cpu")]
    assert [(point.at, point.seconds, point.power_watts) for point in cpu] == [
        (T0 + timedelta(seconds=at), 10.0, pytest.approx(20.0)) for at in (0, 10, 20)
    ]
    assert list(await books.power_of_runs(tenant, HOUR, 10, 1)) == [Subject(RUN, "host-1", "gpu0")]
    assert tenant in await books.tenants(T0, 1_000)
    assert tenant not in await books.tenants(T0 + timedelta(hours=1), 1_000)


async def test_the_accelerators_of_runs_are_those_they_used_and_those_they_were_charged_nothing_of(
    store: Store, books: AnalysisBooks, tenant: str, summed: Summed
) -> None:
    asked = Resources(accelerator="H100-80GB", accelerator_count=2)
    spec = JobSpec(name="d", command=("true",), duration_seconds_expected=60, resources=asked)
    samples = [
        cpu_sample(0, 5.0),
        busy_gpu(0, 0.0, job_id="job-1"),
        busy_gpu(0, 0.0, component="gpu1", job_id="job-1"),
        busy_gpu(0, 0.0, run_id="run-2"),
        gpu_sample(0).model_copy(update={"run_id": "run-3"}),
    ]
    later = reading(tenant, 2, busy_gpu(3, 7.0, component="gpu1", job_id="job-1"))
    await store.keep(
        batch_of(reading(tenant, 1, *samples), later, JobSubmitted(tenant=tenant, job_id="job-1", job=spec))
    )
    await summed()
    uses = await books.accelerator_use(tenant, [RUN, "run-2", "run-3", "run-none"], T0)
    first, second = Subject(RUN, "host-1", "gpu0"), Subject(RUN, "host-1", "gpu1")
    assert uses[RUN] == AcceleratorUse(used=frozenset({second}), seen=frozenset({first, second}), granted=2)
    assert (uses["run-2"].used, uses["run-2"].granted) == (frozenset(), 0)
    assert uses["run-3"].used == frozenset()
    assert "run-none" not in uses
    assert await books.accelerator_use(tenant, [], T0) == {}
    assert await books.accelerator_use(f"{tenant}-other", [RUN], T0) == {}


async def test_what_is_not_summed_yet_counts_all_the_same_for_runs_and_hosts(
    store: Store, books: AnalysisBooks, tenant: str, summed: Summed
) -> None:
    idle = {"run_id": "", "share": Share.IDLE}
    await store.keep(batch_of(reading(tenant, 1, cpu_sample(0, 10.0), cpu_sample(0, 30.0, **idle))))
    await summed()
    late = reading(tenant, 2, cpu_sample(70, 5.0), cpu_sample(70, 40.0, run_id="run-2"), cpu_sample(70, 9.0, **idle))
    await store.keep(batch_of(late, first=2))
    assert await books.heaviest_runs(tenant, HOUR, 5) == ["run-2", RUN]
    shares = await books.host_shares(tenant, "host-1", RUN, HOUR)
    assert shares is not None
    assert (shares.run_joules, shares.others_joules, shares.idle_joules) == (15.0, 40.0, 39.0)


async def test_the_last_steps_and_the_samples_since_are_read_for_themselves(
    store: Store, books: AnalysisBooks, tenant: str
) -> None:
    unnumbered = PhaseSpan(phase="load", started_at=T0 + timedelta(seconds=95), ended_at=T0 + timedelta(seconds=96))
    loading = phases(tenant, 1, 1, event_id="loading", phases=(unnumbered,))
    samples = [reading(tenant, n, cpu_sample(n - 1, 1.0)) for n in range(1, 101)]
    await store.keep(batch_of(phases(tenant, 1, 60), phases(tenant, 61, 90), loading, *samples))
    assert [span.step for span in await books.newest_steps(tenant, RUN, 3)] == [88, 89, 90]
    since = await books.slices(tenant, RUN, 10_000, T0 + timedelta(seconds=88))
    assert [each.started_at for each in since] == [T0 + timedelta(seconds=n) for n in range(88, 100)]


async def test_anomalies_come_back_as_they_were_told_and_once(store: Store, books: AnalysisBooks, tenant: str) -> None:
    def anomaly(run_id: str, minute: int) -> Anomaly:
        at = T0 + timedelta(minutes=minute)
        ended_at = at + timedelta(minutes=1)
        return Anomaly("power-spike", Subject(run_id, "host-1", "cpu"), at, ended_at, 90.0, 30.0, "watts", "look")

    first, second = anomaly(RUN, 0), anomaly("run-2", 5)
    told = [event_of(first, tenant, T0), event_of(second, tenant, T0 + timedelta(minutes=9))]
    again = event_of(first, tenant, T0 + timedelta(seconds=70))
    await store.keep(batch_of(*told, again))
    assert await books.anomalies(tenant, "", T0, 10) == [second, first]
    assert await books.anomalies(tenant, RUN, T0, 10) == [first]
    assert await books.anomalies(tenant, "", T0 + timedelta(minutes=5), 10) == [second]
    assert await books.anomalies(f"{tenant}-other", "", T0, 10) == []
