"""Composition of pricing: build, enter, wait, leave."""

from contextlib import AsyncExitStack

from ergonaut.units import MicroUsd
from ergonaut_common.auth import KeyRing
from ergonaut_common.bus import listening, open_bus
from ergonaut_common.clock import SystemClock
from ergonaut_common.lifetimes import background, stop_requested
from ergonaut_common.observe import serving_metrics
from ergonaut_common.rpc import serving
from ergonaut_common.settings import PlatformSettings
from ergonaut_pricing.adapters.announcer import BusAnnouncer
from ergonaut_pricing.adapters.buckets import (
    ANNOUNCED_BUCKET,
    HOSTS_BUCKET,
    KeyValueAnnouncedBook,
    KeyValueHostBook,
)
from ergonaut_pricing.adapters.tables import load_tables
from ergonaut_pricing.domain import LocalTerms
from ergonaut_pricing.listeners import listeners
from ergonaut_pricing.rpc import SERVICE_NAME, door
from ergonaut_pricing.service import Pricing
from ergonaut_pricing.settings import Settings


async def main(platform: PlatformSettings) -> None:
    """The whole life of the process."""
    settings = Settings()
    tables = load_tables(settings.tables_dir, settings.own_figures)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(serving_metrics(settings.metrics_address))
        bus = await stack.enter_async_context(open_bus(platform, "pricing"))
        await bus.ensure_streams("pricing", "telemetry")
        pricing = Pricing(
            tables,
            LocalTerms(MicroUsd(settings.electricity_microusd_per_kwh), settings.local_pue),
            hosts=KeyValueHostBook(await bus.key_value(HOSTS_BUCKET)),
            announced=KeyValueAnnouncedBook(await bus.key_value(ANNOUNCED_BUCKET)),
            announcer=BusAnnouncer(bus),
            clock=SystemClock(),
        )
        await stack.enter_async_context(background(pricing.announce_each_hour()))
        await stack.enter_async_context(listening(listeners(pricing), platform, bus))
        await stack.enter_async_context(
            serving(
                settings.grpc_address,
                service="pricing",
                add=door(pricing),
                keys=KeyRing.load(platform.keys_file),
                names=[SERVICE_NAME],
            )
        )
        await stop_requested()
