"""The door over real gRPC: who may see what, and what the answers hold."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc import aio

from ergonaut.api.telemetry.v1 import telemetry_pb2 as pb
from ergonaut.api.telemetry.v1.telemetry_pb2_grpc import TelemetryServiceStub
from ergonaut.runcontext import RunContext
from ergonaut_common.auth import KeyRing
from ergonaut_common.clock import SystemClock
from ergonaut_common.rpc import serving
from ergonaut_common.testing import key_ring_file
from ergonaut_telemetry.domain import Terms
from ergonaut_telemetry.fakes import FakeMeters, FakeSpool
from ergonaut_telemetry.rpc import SERVICE_NAME, door
from ergonaut_telemetry.service import Sampling, Watching


class Host:
    """A host behind its door, and a key for each tenant."""

    def __init__(self, meters: FakeMeters, spool: FakeSpool, terms: Terms) -> None:
        self.meters = meters
        self.watching = Watching(spool, SystemClock())
        self._sampling = Sampling(meters, spool, terms)
        self.stub: TelemetryServiceStub
        self.keys: dict[str, str] = {}

    def pass_second(self, **runs: float) -> None:
        self.meters.pass_time(1.0, **runs)
        self.watching.show(self._sampling.sample())

    def key(self, tenant: str) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.keys[tenant]}"),)


@pytest.fixture
async def host(meters: FakeMeters, spool: FakeSpool, terms: Terms, tmp_path: Path) -> AsyncIterator[Host]:
    async with opened(Host(meters, spool, terms), terms, tmp_path) as ready:
        yield ready


@asynccontextmanager
async def opened(host: Host, terms: Terms, folder: Path) -> AsyncIterator[Host]:
    path, host.keys = key_ring_file(folder, ("default", "other"))
    add = door(host.watching, lambda: terms)
    async with (
        serving("127.0.0.1:0", service="telemetry", add=add, keys=KeyRing.load(path), names=[SERVICE_NAME]) as server,
        aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        host.stub = TelemetryServiceStub(channel)
        yield host
        host.watching.stop()


async def test_a_host_describes_its_components_measured_or_not(host: Host) -> None:
    host.pass_second()
    host.pass_second()

    answer = await host.stub.DescribeHost(pb.DescribeHostRequest(), metadata=host.key("default"), timeout=30)

    assert answer.host == "host-1"
    components = {part.component: part for part in answer.components}
    assert components["cpu"].method == pb.METHOD_MODEL
    assert components["cpu"].power_watts == pytest.approx(10.0)
    assert components["cpu"].range_fraction == pytest.approx(0.4)
    assert components["gpu"].method == pb.METHOD_NOT_MEASURED
    assert not components["gpu"].HasField("power_watts")
    assert not components["gpu"].HasField("energy_joules")


async def test_a_run_is_watched_until_it_ends(host: Host) -> None:
    host.pass_second()
    host.meters.begin(RunContext(run_id="run-1", metered=True, price_microusd_per_hour=3_600_000))
    host.pass_second(run_1=1.0)
    answers: list[pb.WatchRunResponse] = []
    async with asyncio.timeout(30):
        async for answer in host.stub.WatchRun(pb.WatchRunRequest(run_id="run-1"), metadata=host.key("default")):
            if not answers:
                host.meters.end("run-1")
            answers.append(answer)
            host.pass_second()

    (first, *_, last) = answers
    assert first.run_id == "run-1"
    assert first.energy_joules > 0
    assert first.cost_usd == pytest.approx(0.001)
    assert (first.intensity_grams_per_kwh, first.intensity_source) == (475, "world-average")
    assert [part.component for part in first.components] == ["cpu", "gpu"]
    assert last.energy_joules == first.energy_joules
    assert last.sampled_at.ToDatetime() > first.sampled_at.ToDatetime()


async def test_the_whole_host_is_watched(host: Host) -> None:
    host.pass_second()
    async with asyncio.timeout(30):
        call = host.stub.WatchHost(pb.WatchHostRequest(), metadata=host.key("default"))
        reading = asyncio.ensure_future(call.read())
        while not reading.done():
            host.pass_second()
            await asyncio.sleep(0.01)
        answer = await reading

    assert {part.component for part in answer.components} == {"cpu", "gpu"}


async def test_nobody_watches_without_a_key(host: Host) -> None:
    with pytest.raises(aio.AioRpcError) as refused:
        await host.stub.WatchRun(pb.WatchRunRequest(run_id="run-1"), timeout=5).read()

    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED


async def test_a_run_of_another_tenant_is_not_there(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ergonaut_telemetry.service.watching.PATIENCE_SECONDS", 0.1)
    host.pass_second()
    host.meters.begin(RunContext(run_id="run-1", metered=True))
    host.pass_second(run_1=1.0)

    with pytest.raises(aio.AioRpcError) as refused:
        await host.stub.WatchRun(pb.WatchRunRequest(run_id="run-1"), metadata=host.key("other"), timeout=30).read()

    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("run_id", ["", "../etc", "Run 1"])
async def test_what_names_no_run_is_refused_by_its_field(host: Host, run_id: str) -> None:
    with pytest.raises(aio.AioRpcError) as refused:
        await host.stub.WatchRun(pb.WatchRunRequest(run_id=run_id), metadata=host.key("default"), timeout=30).read()

    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "run_id" in (refused.value.details() or "")
