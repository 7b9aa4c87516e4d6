"""The analysis from events to answers, in process, over fakes: the gRPC door and the look for anomalies."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from ergonaut.api.ledger.v1 import analysis_pb2 as pb
from ergonaut.api.ledger.v1.analysis_pb2_grpc import AnalysisServiceStub
from ergonaut.errors import Unavailable
from ergonaut.events import AnomalyFound, JobSubmitted, PhasesFinished
from ergonaut.events.runs import PhaseSpan
from ergonaut.jobs import JobSpec, Resources
from ergonaut_common.auth import KeyRing
from ergonaut_common.clock import FakeClock
from ergonaut_common.rpc import serving
from ergonaut_common.testing import key_ring_file
from ergonaut_ledger.domain.bounds import Message
from ergonaut_ledger.domain.elsewhere import Offer
from ergonaut_ledger.fakes.analysis import FakeAnalysisBooks
from ergonaut_ledger.fakes.budgets import FakeAnnouncer
from ergonaut_ledger.fakes.store import FakeStore
from ergonaut_ledger.rpc import SERVICE_NAMES, analysis_door
from ergonaut_ledger.service.analysing import Analysing
from ergonaut_ledger.service.watching_anomalies import LOOK_SECONDS, AnomalyWatching

from .test_rpc import Visitor
from .told import RUN, T0, batch, batch_of, cpu_sample, day, finished, gpu_sample, offer, reading, rent_sample, started


def phase(start: float, end: float, step: int | None, name: str = "epoch") -> PhaseSpan:
    begun, ended = T0 + timedelta(seconds=start), T0 + timedelta(seconds=end)
    return PhaseSpan(phase=name, step=step, started_at=begun, ended_at=ended, metrics={"loss": 0.5})


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
async def visitors(store: FakeStore, tmp_path: Path) -> AsyncIterator[dict[str, Visitor]]:
    path, keys = key_ring_file(tmp_path, ("alpha", "beta"))
    clock = FakeClock(T0 + timedelta(hours=1))
    add = analysis_door(Analysing(store, FakeAnalysisBooks(store), clock))
    async with (
        serving("127.0.0.1:0", service="ledger", add=add, keys=KeyRing.load(path), names=SERVICE_NAMES) as server,
        aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        stub = AnalysisServiceStub(channel)
        yield {tenant: Visitor(stub, keys[tenant]) for tenant in ("alpha", "beta")}


async def keep_a_run(store: FakeStore) -> None:
    samples = (
        (
            cpu_sample(n - 1, 20.0),
            gpu_sample(n - 1),
            rent_sample(n - 1).model_copy(update={"embodied_grams_co2e": 0.01}),
        )
        for n in range(1, 31)
    )
    phases = (phase(0, 10.5, 1), phase(10.5, 20, 2), phase(20, 30, None, "evaluation"))
    await store.keep(
        batch_of(
            started("alpha"),
            *(reading("alpha", n, *each) for n, each in enumerate(samples, 1)),
            PhasesFinished(tenant="alpha", event_id="phases", run_id=RUN, occurred_at=T0, phases=phases),
            finished("alpha", metrics={"tokens": 600.0, "steps": 0.9}, counted=("tokens",)),
            offer("alpha", "local/host-1/machine/free", zone="DE", electricity_microusd_per_kwh=150_000, pue=1.0),
            day("public", "DE", 380),
        )
    )


async def test_a_number_that_no_answer_can_hold_does_not_cost_the_other_phases(
    visitors: dict[str, Visitor], store: FakeStore
) -> None:
    phases = (phase(0, 10, 2**63), phase(10, 20, 2**63 - 1))
    await store.keep(
        batch_of(
            started("alpha"),
            PhasesFinished(tenant="alpha", event_id="phases", run_id=RUN, occurred_at=T0, phases=phases),
        )
    )
    told = await visitors["alpha"].ask("GetEfficiency", pb.GetEfficiencyRequest(run_id=RUN))
    assert [each.step if each.HasField("step") else None for each in told.phases] == [None, 2**63 - 1]


async def test_efficiency_is_told_by_phase_and_by_unit(visitors: dict[str, Visitor], store: FakeStore) -> None:
    await keep_a_run(store)
    told = await visitors["alpha"].ask("GetEfficiency", pb.GetEfficiencyRequest(run_id=RUN))
    assert [(each.phase, each.energy_joules) for each in told.phases] == [
        ("epoch", pytest.approx(210.0)), ("epoch", pytest.approx(190.0)), ("evaluation", pytest.approx(200.0)),
    ]  # fmt: skip
    assert [each.step for each in told.phases if each.HasField("step")] == [1, 2]
    assert told.phases[0].energy_joules_range == pytest.approx(63.0)
    units = {each.unit: each for each in told.units}
    assert set(units) == {"tokens", "epoch"}
    assert units["tokens"].energy_joules == pytest.approx(1.0)
    assert units["epoch"].energy_joules == pytest.approx(300.0)
    grams = 600 / 3.6e6 * 400
    assert units["tokens"].sci_grams_co2e == pytest.approx((grams + 0.3) / 600)
    assert told.phases_omitted == 0


async def test_of_an_end_that_does_not_say_what_was_counted_names_are_believed(
    visitors: dict[str, Visitor], store: FakeStore
) -> None:
    end = finished("alpha", metrics={"tokens": 600.0, "accuracy": 0.9})
    body = end.model_dump_json(exclude={"counted"}).encode()
    await store.keep(batch_of(started("alpha"), reading("alpha", 1)))
    await store.keep(batch(Message("ERGONAUT_TEST", 99, end.subject, body)))
    told = await visitors["alpha"].ask("GetEfficiency", pb.GetEfficiencyRequest(run_id=RUN))
    assert [each.unit for each in told.units] == ["tokens"]


async def test_weighing_ends_in_time_and_tells_what_was_found_by_then(store: FakeStore) -> None:
    class SlowStore(FakeStore):
        async def offers(self, tenants: Sequence[str], at: datetime) -> list[Offer]:
            await clock.advance(2)
            return await super().offers(tenants, at)

    clock, slow = FakeClock(T0 + timedelta(hours=1)), SlowStore()
    runs = [f"run-{n}" for n in range(9)]
    facts = [started("alpha", run_id, name=run_id, offer_id="local/host-1/machine/free") for run_id in runs]
    samples = [cpu_sample(0, 20.0 - n, run_id=run_id) for n, run_id in enumerate(runs)]
    cleaner = day("public", "DE", 200)
    own = offer("alpha", "local/host-1/machine/free", zone="DE", electricity_microusd_per_kwh=150_000, pue=1.0)
    await slow.keep(batch_of(*facts, reading("alpha", 1, *samples), own, cleaner))
    found = await Analysing(slow, FakeAnalysisBooks(slow), clock).recommendations("alpha", "", 30, 50)
    assert {each.subject for each in found} == {"run-0", "run-1"}


async def test_a_tenant_sees_its_own_only(visitors: dict[str, Visitor], store: FakeStore) -> None:
    await keep_a_run(store)
    code, _ = await visitors["beta"].refused("GetEfficiency", pb.GetEfficiencyRequest(run_id=RUN))
    assert code == grpc.StatusCode.NOT_FOUND
    assert not (await visitors["beta"].ask("ListRecommendations", pb.ListRecommendationsRequest())).recommendations
    assert not (await visitors["beta"].ask("ListAnomalies", pb.ListAnomaliesRequest())).anomalies


@pytest.mark.parametrize("request_", [pb.ListAnomaliesRequest(days=400), pb.ListAnomaliesRequest(limit=1_001)])
async def test_what_is_out_of_bounds_is_refused(visitors: dict[str, Visitor], request_: Any) -> None:
    code, details = await visitors["alpha"].refused("ListAnomalies", request_)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "between 1 and" in details


async def test_recommendations_are_told_for_one_run_and_for_the_tenant(
    visitors: dict[str, Visitor], store: FakeStore
) -> None:
    await keep_a_run(store)
    cleaner = day("public", "DE", 200, occurred_at=T0, hours=day("public", "DE", 200).hours[:6])
    await store.keep(batch_of(cleaner, first=90))
    for request in (pb.ListRecommendationsRequest(run_id=RUN), pb.ListRecommendationsRequest()):
        [found] = (await visitors["alpha"].ask("ListRecommendations", request)).recommendations
        assert (found.kind, found.subject) == ("move-hour", RUN)
        assert "00:30 UTC instead of 12:30" in found.sentence
        assert found.saving_grams_co2e == pytest.approx(600 / 3.6e6 * 200, rel=0.01)
        assert (found.basis != "", found.HasField("saving_joules")) == (True, False)


class Watch:
    """The look for anomalies, whose announcements come back into the books as in a running ledger."""

    def __init__(self, store: FakeStore, minutes: float = 45) -> None:
        self.store, self.announcer = store, FakeAnnouncer()
        self.clock = FakeClock(T0 + timedelta(minutes=minutes))
        self.watching = AnomalyWatching(FakeAnalysisBooks(store), self.announcer, self.clock)

    async def look(self) -> list[AnomalyFound]:
        before = set(self.announcer.told)
        await self.watching.look()
        new = [event for event_id, event in self.announcer.told.items() if event_id not in before]
        await self.store.keep(batch_of(*new, first=10_000 + len(before)))
        return [event for event in new if isinstance(event, AnomalyFound)]


async def keep_power(
    store: FakeStore, watts: list[float], component: str = "gpu0", seconds: int = 10, job_id: str = ""
) -> None:
    samples = [
        cpu_sample(
            n * seconds,
            power * seconds,
            component=component,
            ended_at=T0 + timedelta(seconds=(n + 1) * seconds),
            job_id=job_id,
        )
        for n, power in enumerate(watts)
    ]
    await store.keep(batch_of(*(reading("alpha", n, sample) for n, sample in enumerate(samples, 1))))


async def test_an_anomaly_is_told_once_and_listed(visitors: dict[str, Visitor], store: FakeStore) -> None:
    await keep_power(store, [200.0 + n % 5 for n in range(100)] + [900.0] + [200.0 + n % 5 for n in range(100)])
    watch = Watch(store)
    [found] = await watch.look()
    assert (found.kind, found.run_id, found.component, found.value) == ("power-spike", RUN, "gpu0", 900.0)
    assert await watch.look() == []
    await watch.clock.advance(300)
    assert await watch.look() == []
    [listed] = (await visitors["alpha"].ask("ListAnomalies", pb.ListAnomaliesRequest(run_id=RUN))).anomalies
    assert (listed.anomaly_id, listed.unit, listed.because) == (found.anomaly_id, "watts", found.because)
    code, details = await visitors["alpha"].refused("ListAnomalies", pb.ListAnomaliesRequest(run_id="run-2"))
    assert (code, "no run 'run-2'" in details) == (grpc.StatusCode.NOT_FOUND, True)


async def test_a_ledger_that_starts_again_tells_nothing_twice(store: FakeStore) -> None:
    await keep_power(store, [200.0 + n % 5 for n in range(100)] + [900.0] + [200.0 + n % 5 for n in range(100)])
    assert len(await Watch(store).look()) == 1
    assert await Watch(store, minutes=46).look() == []


async def test_idle_accelerators_and_drift_are_found(store: FakeStore) -> None:
    await keep_power(store, [300.0] * 60 + [1.0] * 90 + [300.0] * 60)
    spans = tuple(phase(10 * n, 10 * n + min(10, 3 + n / 8), n) for n in range(59))
    phases = PhasesFinished(
        tenant="alpha", event_id="phases", run_id=RUN, occurred_at=T0 + timedelta(minutes=20), phases=spans
    )
    await store.keep(batch_of(phases, first=500))
    found = await Watch(store, minutes=40).look()
    assert {event.kind for event in found} == {"idle-accelerator", "drift"}
    assert next(event for event in found if event.kind == "drift").component == "epoch"


async def test_a_run_that_never_used_its_hosts_accelerator_leaves_none_idle(store: FakeStore) -> None:
    await keep_power(store, [0.0] * 200)
    assert await Watch(store).look() == []


async def test_an_accelerator_that_the_job_asked_for_and_never_used_is_idle(store: FakeStore) -> None:
    asked = Resources(accelerator="H100-80GB", accelerator_count=1)
    spec = JobSpec(name="d", command=("true",), duration_seconds_expected=60, resources=asked)
    await store.keep(batch_of(JobSubmitted(tenant="alpha", job_id="job-1", job=spec), first=900))
    await keep_power(store, [0.0] * 200, job_id="job-1")
    [found] = await Watch(store).look()
    assert (found.kind, found.component) == ("idle-accelerator", "gpu0")


async def test_an_accelerator_that_was_used_long_ago_is_still_the_runs_to_leave_idle(store: FakeStore) -> None:
    await keep_power(store, [300.0] + [0.0] * 400)
    watch = Watch(store, minutes=60)
    [found] = await watch.look()
    assert (found.kind, found.value, found.started_at >= T0 + timedelta(minutes=15)) == ("idle-accelerator", 0.0, True)


async def test_a_cpu_that_waits_is_no_idle_accelerator(store: FakeStore) -> None:
    await keep_power(store, [300.0] * 60 + [1.0] * 90 + [300.0] * 60, component="cpu")
    assert await Watch(store, minutes=40).look() == []


async def test_trouble_with_the_bus_passes_and_nothing_is_forgotten(store: FakeStore) -> None:
    await keep_power(store, [300.0] * 60 + [1.0] * 90 + [300.0] * 60)
    watch = Watch(store, minutes=40)
    watch.announcer.away = True
    with pytest.raises(Unavailable):
        await watch.look()
    looking = asyncio.create_task(watch.watching.watch())
    try:
        await watch.clock.advance(LOOK_SECONDS + 1)
        await asyncio.to_thread(lambda: None)
        assert not looking.done()
        watch.announcer.away = False
    finally:
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking
    assert len(await watch.look()) == 1
