"""The gRPC door, in process, on a free port, over the fake store."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from ergonaut.api.ledger.v1 import ledger_pb2 as pb
from ergonaut.api.ledger.v1.ledger_pb2_grpc import LedgerServiceStub
from ergonaut.events import JobSubmitted
from ergonaut.jobs import JobSpec, Resources
from ergonaut_common.auth import KeyRing
from ergonaut_common.rpc import serving
from ergonaut_common.testing import key_ring_file
from ergonaut_ledger.fakes.store import FakeStore, FakeUsageBooks
from ergonaut_ledger.rpc import SERVICE_NAMES, door
from ergonaut_ledger.service import Reporting, Using

from .told import RUN, T0, batch_of, cpu_sample, day, finished, gpu_sample, offer, reading, rent_sample, started


class Visitor:
    """Somebody with a key at the ledger's door."""

    def __init__(self, stub: Any, key: str) -> None:
        self._stub = stub
        self._key = key

    async def ask(self, method: str, request: Any) -> Any:
        metadata = (("authorization", f"Bearer {self._key}"),)
        return await getattr(self._stub, method)(request, metadata=metadata, timeout=30)

    async def refused(self, method: str, request: Any) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(aio.AioRpcError) as caught:
            await self.ask(method, request)
        return caught.value.code(), caught.value.details() or ""


@pytest.fixture
def books() -> FakeStore:
    return FakeStore()


@pytest.fixture
async def visitors(books: FakeStore, tmp_path: Path) -> AsyncIterator[dict[str, Visitor]]:
    path, keys = key_ring_file(tmp_path, ("alpha", "beta"))
    add, ring = door(Reporting(books), Using(FakeUsageBooks(books))), KeyRing.load(path)
    async with (
        serving("127.0.0.1:0", service="ledger", add=add, keys=ring, names=SERVICE_NAMES) as server,
        aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        stub = LedgerServiceStub(channel)
        yield {tenant: Visitor(stub, keys[tenant]) for tenant in ("alpha", "beta")}


async def keep_a_run(books: FakeStore) -> None:
    readings = [
        reading("alpha", n, cpu_sample(n - 1), gpu_sample(n - 1), rent_sample(n - 1, 0.0)) for n in range(1, 31)
    ]
    spec = JobSpec(
        name="digits", command=("true",), duration_seconds_expected=30, resources=Resources(vcpus=2, memory_gib=4)
    )
    await books.keep(
        batch_of(
            JobSubmitted(tenant="alpha", job_id="job-1", job=spec),
            started("alpha", job_id="job-1"),
            *readings,
            finished("alpha"),
            offer("alpha", "local/host-1/machine/free", zone="DE", electricity_microusd_per_kwh=150_000, pue=1.0),
            offer("public", "hetzner/fsn1/cx22/on-demand", zone="FR", billing_increment_seconds=3600),
            offer("public", "aws/us/tiny/spot", zone="FR", vcpus=1),
            offer("public", "aws/us/nowhere/spot", zone="XX"),
            day("public", "FR", 50),
            day("public", "DE", 380),
        )
    )


async def test_a_footprint_is_the_sum_of_the_samples(books: FakeStore, visitors: dict[str, Visitor]) -> None:
    await keep_a_run(books)
    told = await visitors["alpha"].ask("GetRunFootprint", pb.GetRunFootprintRequest(run_id=RUN))
    cpu, gpu, machine = told.components
    assert told.energy_joules == pytest.approx(600.0)
    assert told.energy_joules_range == pytest.approx(180.0)
    assert told.carbon_grams_co2e == pytest.approx(600 / 3.6e6 * 400)
    assert told.cost_usd == pytest.approx(600 / 3.6e6 * 0.15)
    assert (told.samples, told.samples_missing) == (90, 0)
    assert told.intensity_grams_per_kwh == pytest.approx(400.0)
    assert list(told.intensity_sources) == ["typical: table 2025"]
    assert not gpu.HasField("energy_joules")
    assert (gpu.method, gpu.component) == ("not-measured", "gpu0")
    assert cpu.energy_joules == pytest.approx(told.energy_joules)
    assert machine.HasField("cost_usd")
    assert (told.run.name, told.run.state, dict(told.run.metrics)) == ("digits", "succeeded", {"accuracy": 0.97})


async def test_a_run_that_only_its_samples_tell_of_has_a_footprint(
    books: FakeStore, visitors: dict[str, Visitor]
) -> None:
    await books.keep(batch_of(reading("alpha", 1)))
    told = await visitors["alpha"].ask("GetRunFootprint", pb.GetRunFootprintRequest(run_id=RUN))
    assert (told.run.state, told.run.zone, told.energy_joules) == ("running", "DE", 20.0)


async def test_power_is_told_in_order(books: FakeStore, visitors: dict[str, Visitor]) -> None:
    await keep_a_run(books)
    told = await visitors["alpha"].ask("GetPowerSeries", pb.GetPowerSeriesRequest(run_id=RUN, points_max=10))
    assert [point.power_watts for point in told.points] == pytest.approx([20.0] * len(told.points))
    assert told.points[0].starts_at.ToDatetime(T0.tzinfo) == T0
    assert len(told.points) == 10


async def test_elsewhere_holds_the_offers_that_could_carry_it(books: FakeStore, visitors: dict[str, Visitor]) -> None:
    await keep_a_run(books)
    told = await visitors["alpha"].ask("EstimateElsewhere", pb.EstimateElsewhereRequest(run_id=RUN))
    own, there = told.places
    assert own.offer_id == "local/host-1/machine/free"
    assert own.cost_usd == pytest.approx(600 / 3.6e6 * 0.15)
    assert there.offer_id == "hetzner/fsn1/cx22/on-demand"
    assert there.cost_usd == pytest.approx(0.1)
    assert there.carbon_grams_co2e == pytest.approx(600 / 3.6e6 * 62 * 1.2)
    assert len(told.hours) == 24
    assert "gpu0 was not measured" in told.method


async def test_a_run_that_used_an_accelerator_is_told_only_machines_that_have_it(
    books: FakeStore, visitors: dict[str, Visitor]
) -> None:
    gpu = cpu_sample(0, 300.0, component="gpu0")
    with_gpu = {"zone": "FR", "accelerator": "H100-80GB", "accelerator_count": 1}
    offers = [
        offer("public", "aws/fr/plain/spot", zone="FR", vcpus=64, memory_gib=256),
        offer("public", "aws/fr/fast/spot", **with_gpu),
    ]
    own = offer("alpha", "local/host-1/machine/free", **(with_gpu | {"zone": "DE"}))
    await books.keep(
        batch_of(started("alpha"), reading("alpha", 1, gpu), finished("alpha"), *offers, day("public", "FR", 50))
    )
    ask = pb.EstimateElsewhereRequest(run_id=RUN)
    unnamed = (await visitors["alpha"].ask("EstimateElsewhere", ask)).places
    assert [place.offer_id for place in unnamed] == ["local/host-1/machine/free"]
    await books.keep(batch_of(own, first=50))
    named = (await visitors["alpha"].ask("EstimateElsewhere", ask)).places
    assert {place.offer_id for place in named} == {"local/host-1/machine/free", "aws/fr/fast/spot"}


@pytest.mark.parametrize(
    ("source", "own_grams_per_kwh", "other_grams_per_kwh"),
    [("Ember 2024", 392.0, 383.0), ("settings", 20.0, 20.0)],
    ids=["a year's figure", "set by hand"],
)
async def test_hours_are_told_on_one_basis(
    books: FakeStore, visitors: dict[str, Visitor], source: str, own_grams_per_kwh: float, other_grams_per_kwh: float
) -> None:
    yearly = {"intensity_kind": "yearly", "intensity_source": source, "intensity_grams_per_kwh": 20.0}
    await books.keep(
        batch_of(started("alpha"), reading("alpha", 1, **yearly), finished("alpha"), day("public", "DE", 380))
    )
    told = await visitors["alpha"].ask("EstimateElsewhere", pb.EstimateElsewhereRequest(run_id=RUN))
    grams = [told.hours[hour].carbon_grams_co2e * 3.6e6 / 20 for hour in (12, 3)]
    assert grams == pytest.approx([own_grams_per_kwh, other_grams_per_kwh])


async def test_the_runs_own_place_has_its_own_grams_also_where_its_hosts_differ(
    books: FakeStore, visitors: dict[str, Visitor]
) -> None:
    dirty = {"intensity_grams_per_kwh": 600.0, "pue": 1.0}
    clean = {"intensity_grams_per_kwh": 200.0, "pue": 2.0, "host": "host-2", "producer": "agent-2"}
    events = [
        reading("alpha", 1, cpu_sample(0, 30.0, carbon_grams_co2e=30 * 600 / 3.6e6), **dirty),
        reading("alpha", 1, cpu_sample(0, 10.0, carbon_grams_co2e=10 * 2 * 200 / 3.6e6), **clean),
    ]
    await books.keep(batch_of(started("alpha"), *events, finished("alpha")))
    footprint = await visitors["alpha"].ask("GetRunFootprint", pb.GetRunFootprintRequest(run_id=RUN))
    [own] = (await visitors["alpha"].ask("EstimateElsewhere", pb.EstimateElsewhereRequest(run_id=RUN))).places
    assert own.carbon_grams_co2e == pytest.approx(footprint.carbon_grams_co2e)


async def test_without_any_measured_energy_nothing_is_carried_over(
    books: FakeStore, visitors: dict[str, Visitor]
) -> None:
    await books.keep(batch_of(started("alpha"), reading("alpha", 1, gpu_sample(0))))
    told = await visitors["alpha"].ask("EstimateElsewhere", pb.EstimateElsewhereRequest(run_id=RUN))
    assert (len(told.places), len(told.hours)) == (0, 0)
    assert "No energy of this run was measured" in told.method


async def test_another_tenant_sees_nothing_of_it(books: FakeStore, visitors: dict[str, Visitor]) -> None:
    await keep_a_run(books)
    beta = visitors["beta"]
    assert len((await beta.ask("ListRuns", pb.ListRunsRequest())).runs) == 0
    assert len((await beta.ask("ListEvents", pb.ListEventsRequest())).events) == 0
    for method, kind in [
        ("GetRunFootprint", pb.GetRunFootprintRequest),
        ("GetPowerSeries", pb.GetPowerSeriesRequest),
        ("EstimateElsewhere", pb.EstimateElsewhereRequest),
    ]:
        code, words = await beta.refused(method, kind(run_id=RUN))
        assert (code, RUN in words) == (grpc.StatusCode.NOT_FOUND, True)


async def test_prices_are_for_everybody_who_asks_for_them(books: FakeStore, visitors: dict[str, Visitor]) -> None:
    await keep_a_run(books)
    told = await visitors["beta"].ask("ListEvents", pb.ListEventsRequest(area="pricing"))
    assert {event.subject.split(".")[2] for event in told.events} == {"public"}


async def test_events_that_do_not_fit_one_answer_are_left_out(books: FakeStore, visitors: dict[str, Visitor]) -> None:
    long = [
        started("alpha", f"run-{n}", name="n" * 900_000, occurred_at=T0 + timedelta(seconds=n)) for n in range(1, 6)
    ]
    await books.keep(batch_of(*long))
    told = await visitors["alpha"].ask("ListEvents", pb.ListEventsRequest())
    assert [event.event_id for event in told.events] == [f"event-run-{n}-started" for n in (5, 4, 3)]


def usage_of(hours: float, **changes: Any) -> pb.GetUsageRequest:
    return pb.GetUsageRequest(starts_at=T0, ends_at=T0 + timedelta(hours=hours), **changes)


async def test_usage_is_told_by_step_and_label(books: FakeStore, visitors: dict[str, Visitor]) -> None:
    await keep_a_run(books)
    told = await visitors["alpha"].ask("GetUsage", usage_of(1, step="minute", group_by=["run", "component"]))
    cpu, gpu, machine = told.usage
    assert (told.step, cpu.run_id, cpu.component, cpu.samples) == ("minute", RUN, "cpu", 30)
    assert (cpu.energy_joules, cpu.energy_joules_range) == (pytest.approx(600), pytest.approx(180))
    assert not gpu.HasField("energy_joules")
    assert machine.HasField("cost_usd")
    assert cpu.starts_at.ToDatetime(T0.tzinfo) == T0
    other = await visitors["beta"].ask("GetUsage", usage_of(1))
    assert (len(other.usage), other.step) == (0, "minute")


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("GetUsage", usage_of(0), "ends_at"),
        ("GetUsage", pb.GetUsageRequest(ends_at=T0), "starts_at"),
        ("GetUsage", usage_of(1, step="week"), "step"),
        ("GetUsage", usage_of(1, group_by=["colour"]), "group_by"),
        ("GetUsage", usage_of(1, host="../etc"), "host"),
        ("ListRuns", pb.ListRunsRequest(limit=1001), "limit"),
        ("ListEvents", pb.ListEventsRequest(limit=1001), "limit"),
        ("ListEvents", pb.ListEventsRequest(area="weather"), "area"),
        ("ListEvents", pb.ListEventsRequest(key="a b"), "key"),
        ("GetRunFootprint", pb.GetRunFootprintRequest(run_id=""), "run_id"),
        ("GetRunFootprint", pb.GetRunFootprintRequest(run_id="../etc"), "run_id"),
        ("GetPowerSeries", pb.GetPowerSeriesRequest(run_id=RUN, points_max=9), "points_max"),
        ("GetPowerSeries", pb.GetPowerSeriesRequest(run_id=RUN, points_max=10_001), "points_max"),
        ("EstimateElsewhere", pb.EstimateElsewhereRequest(run_id="A"), "run_id"),
    ],
)
async def test_a_bad_request_gets_one_error_that_names_the_field(
    visitors: dict[str, Visitor], method: str, request_: Any, field: str
) -> None:
    code, words = await visitors["alpha"].refused(method, request_)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert words.startswith(f"{field}: ")


async def test_nobody_gets_in_without_a_key(visitors: dict[str, Visitor]) -> None:
    stranger = Visitor(visitors["alpha"]._stub, "ergo_none_none")
    code, _ = await stranger.refused("ListRuns", pb.ListRunsRequest())
    assert code == grpc.StatusCode.PERMISSION_DENIED
