"""The whole process on a real NATS, started from environment settings only: it answers, listens, tells, remembers, stops."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ergonaut.api.pricing.v1 import pricing_pb2 as pb
from ergonaut.api.pricing.v1 import pricing_pb2_grpc as pb_grpc
from ergonaut.events import HostReported, IntensityChanged, OfferChanged, subject_of
from ergonaut_common.bus import Bus, open_bus
from ergonaut_common.settings import PlatformSettings
from ergonaut_common.testing import free_port, key_ring_file

pytestmark = pytest.mark.integration

PATIENCE_SECONDS = 30.0


@dataclass
class Site:
    """Where the process is and how it is called."""

    environment: dict[str, str]
    address: str
    key: str
    log: Path


@pytest.fixture
def site(nats_url: str, tmp_path: Path) -> Site:
    keys_file, keys = key_ring_file(tmp_path)
    address = f"127.0.0.1:{free_port()}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ERGONAUT_")} | {
        "ERGONAUT_NATS_URL": nats_url,
        "ERGONAUT_KEYS_FILE": str(keys_file),
        "ERGONAUT_PRICING_GRPC_ADDRESS": address,
        "ERGONAUT_PRICING_METRICS_ADDRESS": "127.0.0.1:0",
        "ERGONAUT_PRICING_ELECTRICITY_MICROUSD_PER_KWH": "320000",
    }
    return Site(environment, address, keys["default"], tmp_path / "pricing.log")


@contextlib.contextmanager
def started(site: Site) -> "Iterator[subprocess.Popen[bytes]]":
    with site.log.open("ab") as log:
        process = subprocess.Popen([sys.executable, "-m", "ergonaut_pricing"], env=site.environment, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.asynccontextmanager
async def healthy(site: Site) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(site.address) as channel:
        request = health_pb2.HealthCheckRequest(service="ergonaut.api.pricing.v1.PricingService")
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(request, wait_for_ready=True, timeout=PATIENCE_SECONDS)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, site.log.read_text()
        yield channel


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    async with open_bus(PlatformSettings(nats_url=nats_url), "test") as opened:
        await opened.ensure_streams("pricing", "telemetry")
        yield opened


async def test_a_host_that_reports_is_told_and_listed_and_still_there_after_a_kill(site: Site, bus: Bus) -> None:
    report = HostReported(
        tenant="default", host="desk", zone="FR", cpu_name="a CPU", logical_cpus=4, memory_gib=16, components=()
    )
    changes = await bus.jetstream.subscribe(subject_of(OfferChanged.TYPE, tenant="default"))
    with started(site) as process:
        async with healthy(site):
            await bus.publish(report)
            message = await changes.next_msg(timeout=PATIENCE_SECONDS)
        process.send_signal(signal.SIGKILL)
        process.wait()
    told = OfferChanged.model_validate_json(message.data)
    assert told.offer_id == "local/desk/machine/free"
    assert (told.price_microusd_per_hour, told.electricity_microusd_per_kwh) == (0, 320_000)
    with started(site):
        async with healthy(site) as channel:
            stub = pb_grpc.PricingServiceStub(channel)
            offers = await stub.ListOffers(
                pb.ListOffersRequest(providers=["local"]), metadata=[("authorization", f"Bearer {site.key}")]
            )
    assert [offer.offer_id for offer in offers.offers] == ["local/desk/machine/free"]


async def test_the_start_tells_offers_and_grids_once_and_a_second_start_tells_none_again(site: Site, bus: Bus) -> None:
    counts = []
    for _ in range(2):
        with started(site):
            async with healthy(site):
                counts.append((await _settled(bus, OfferChanged.TYPE), await _settled(bus, IntensityChanged.TYPE)))
    offers = sum(1 for _ in (site_tables() / "offers.csv").open()) - 1
    # The full hour may strike between the two starts; then every zone has one more telling, never an offer.
    assert [told for told, _ in counts] == [offers, offers]
    assert counts[1][1] in (counts[0][1], 2 * counts[0][1])


async def test_a_stop_is_clean_and_quick(site: Site) -> None:
    with started(site) as process:
        async with healthy(site):
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 15) == 0
    assert "Traceback" not in site.log.read_text()


def test_a_bad_setting_is_named_and_the_process_ends_at_once(site: Site) -> None:
    site.environment["ERGONAUT_PRICING_ELECTRICITY_MICROUSD_PER_KWH"] = "-1"
    with started(site) as process:
        assert process.wait(PATIENCE_SECONDS) == 78
    assert "electricity_microusd_per_kwh" in site.log.read_text()


def test_a_bad_table_is_named_and_the_process_ends(site: Site, tmp_path: Path) -> None:
    site.environment["ERGONAUT_PRICING_TABLES_DIR"] = str(tmp_path)
    with started(site) as process:
        assert process.wait(PATIENCE_SECONDS) == 1
    assert "power.csv: cannot be read" in site.log.read_text()


def site_tables() -> Path:
    """The folder of the shipped tables."""
    import ergonaut_pricing

    return Path(ergonaut_pricing.__file__).parent / "tables"


async def _settled(bus: Bus, event_type: str) -> int:
    """How many events of a type there are once their number has stood still."""
    before = -1
    for _ in range(int(PATIENCE_SECONDS * 2)):
        info = await bus.jetstream.stream_info("ERGONAUT_PRICING", subjects_filter=subject_of(event_type))
        count = sum((info.state.subjects or {}).values())
        if count == before and count > 0:
            return count
        before = count
        await asyncio.sleep(0.5)
    raise AssertionError(f"{event_type} never settled")
