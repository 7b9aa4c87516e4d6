"""The whole life of the scheduler's process, in reading order."""

from contextlib import AsyncExitStack

from ergonaut_common.auth import KeyRing
from ergonaut_common.bus import following, listening, open_bus
from ergonaut_common.clock import SystemClock
from ergonaut_common.lifetimes import background, stop_requested
from ergonaut_common.observe import serving_metrics
from ergonaut_common.rpc import channel, serving
from ergonaut_common.settings import PlatformSettings
from ergonaut_common.temporal import connect_temporal
from ergonaut_scheduler.adapters.announcer import BusAnnouncer
from ergonaut_scheduler.adapters.artifacts import ObjectArtifactStore
from ergonaut_scheduler.adapters.job_book import BUCKET, KeyValueJobBook
from ergonaut_scheduler.adapters.pricing import PricingIntensityForecast, PricingOfferBook
from ergonaut_scheduler.adapters.sources import ObjectSourceStore
from ergonaut_scheduler.adapters.workflows import TemporalWorkflows
from ergonaut_scheduler.listeners import followed, listeners
from ergonaut_scheduler.rpc import SERVICE_NAME, door
from ergonaut_scheduler.service import Rules, Scheduling, World
from ergonaut_scheduler.settings import Settings


async def run(platform: PlatformSettings) -> None:
    """Build, enter, wait, leave."""
    settings = Settings()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(serving_metrics(settings.metrics_address))
        bus = await stack.enter_async_context(open_bus(platform, "scheduler"))
        await bus.ensure_streams("jobs", "runs")
        pricing = await stack.enter_async_context(channel(platform.pricing_address, platform, service="scheduler"))
        world = World(
            offers=PricingOfferBook(pricing),
            intensity=PricingIntensityForecast(pricing),
            jobs=KeyValueJobBook(await bus.key_value(BUCKET)),
            sources=ObjectSourceStore(bus),
            artifacts=ObjectArtifactStore(bus),
            workflows=TemporalWorkflows(await connect_temporal(platform)),
            announcer=BusAnnouncer(bus),
            clock=SystemClock(),
        )
        scheduling = Scheduling(world, Rules(frozenset(settings.providers), settings.alternatives_max))
        # Before the first workflow can ask for a place.
        await stack.enter_async_context(following(followed(scheduling.spending), bus))
        await stack.enter_async_context(listening(listeners(scheduling.following), platform, bus))
        await stack.enter_async_context(background(scheduling.following.look_after_all(settings.reconcile_seconds)))
        await stack.enter_async_context(
            serving(
                settings.grpc_address,
                service="scheduler",
                add=door(scheduling),
                keys=KeyRing.load(platform.keys_file),
                names=[SERVICE_NAME],
            )
        )
        await stop_requested()
