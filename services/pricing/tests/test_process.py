"""The whole process on a real NATS, started from environment settings only: it answers, listens, tells, remembers, stops."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ergonaut.api.pricing.v1 import pricing_pb2 as pb
from ergonaut.api.pricing.v1 import pricing_pb2_grpc as pb_grpc
from ergonaut.events import HostReported, IntensityChanged, OfferChanged, subject_of
from ergonaut_common.bus import Bus, open_bus
from ergonaut_common.settings import PlatformSettings
from ergonaut_common.testing import ServiceProcess
from ergonaut_pricing.adapters.tables import load_tables
from ergonaut_pricing.domain import tellable_zone, zones_in_use

pytestmark = pytest.mark.integration

PATIENCE_SECONDS = 30.0
SERVICE_NAME = "ergonaut.api.pricing.v1.PricingService"


@pytest.fixture
def process(nats_url: str, tmp_path: Path) -> ServiceProcess:
    settings = {"ERGONAUT_NATS_URL": nats_url, "ERGONAUT_PRICING_ELECTRICITY_MICROUSD_PER_KWH": "320000"}
    return ServiceProcess("pricing", tmp_path, settings, patience_seconds=PATIENCE_SECONDS)


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    async with open_bus(PlatformSettings(nats_url=nats_url), "test") as opened:
        await opened.ensure_streams("pricing", "telemetry")
        yield opened


async def test_a_host_that_reports_is_told_and_listed_and_still_there_after_a_kill(
    process: ServiceProcess, bus: Bus
) -> None:
    report = HostReported(
        tenant="default", host="desk", zone="FR", cpu_name="a CPU", logical_cpus=4, memory_gib=16, components=()
    )
    changes = await bus.jetstream.subscribe(subject_of(OfferChanged.TYPE, tenant="default"))
    with process.running():
        async with process.healthy(SERVICE_NAME):
            await bus.publish(report)
            message = await changes.next_msg(timeout=PATIENCE_SECONDS)
        process.kill()
    told = OfferChanged.model_validate_json(message.data)
    assert told.offer_id == "local/desk/machine/free"
    assert (told.price_microusd_per_hour, told.electricity_microusd_per_kwh) == (0, 320_000)
    with process.running():
        async with process.healthy(SERVICE_NAME) as channel:
            stub = pb_grpc.PricingServiceStub(channel)
            offers = await stub.ListOffers(pb.ListOffersRequest(providers=["local"]), metadata=process.metadata())
    assert [offer.offer_id for offer in offers.offers] == ["local/desk/machine/free"]


async def test_the_start_tells_offers_and_grids_once_and_a_second_start_tells_none_again(
    process: ServiceProcess, bus: Bus
) -> None:
    shipped = load_tables().offers
    zones = {zone for zone in map(tellable_zone, zones_in_use(shipped)) if zone}
    wanted = {OfferChanged.TYPE: len(shipped), IntensityChanged.TYPE: len(zones)}
    with process.running():
        async with process.healthy(SERVICE_NAME):
            for event_type, count in wanted.items():
                while await _told(bus, event_type) < count:
                    await asyncio.sleep(0.05)
        process.kill()
    with process.running():
        async with process.healthy(SERVICE_NAME):
            assert await _settled(bus, OfferChanged.TYPE) == len(shipped)
            # The full hour may strike between the two starts; then every zone has one more telling, never an offer.
            assert await _settled(bus, IntensityChanged.TYPE) in (len(zones), 2 * len(zones))


async def test_a_stop_is_clean_and_quick(process: ServiceProcess) -> None:
    with process.running():
        async with process.healthy(SERVICE_NAME):
            assert await process.stopped(within_seconds=15) == 0
    assert "Traceback" not in process.log.read_text()


def test_a_bad_setting_is_named_and_the_process_ends_at_once(process: ServiceProcess) -> None:
    process.environment["ERGONAUT_PRICING_ELECTRICITY_MICROUSD_PER_KWH"] = "-1"
    with process.running():
        assert process.exit_code() == 78
    assert "electricity_microusd_per_kwh" in process.log.read_text()


def test_a_bad_table_is_named_and_the_process_ends(process: ServiceProcess, tmp_path: Path) -> None:
    process.environment["ERGONAUT_PRICING_TABLES_DIR"] = str(tmp_path)
    with process.running():
        assert process.exit_code() == 1
    assert "power.csv: cannot be read" in process.log.read_text()


async def _settled(bus: Bus, event_type: str) -> int:
    """How many events of a type there are once their number has stood still."""
    before = -1
    for _ in range(int(PATIENCE_SECONDS * 2)):
        count = await _told(bus, event_type)
        if count == before and count > 0:
            return count
        before = count
        await asyncio.sleep(0.5)
    raise AssertionError(f"{event_type} never settled")


async def _told(bus: Bus, event_type: str) -> int:
    """How many events of a type there are."""
    info = await bus.jetstream.stream_info("ERGONAUT_PRICING", subjects_filter=subject_of(event_type))
    return sum((info.state.subjects or {}).values())
