"""The agent's whole life, in reading order. Sampling needs no bus: what cannot be sent waits in the spool."""

import asyncio
import os
from collections import Counter
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial

from ergonaut.carbon import PueSource, embodied_from
from ergonaut.errors import Broken, Unavailable
from ergonaut.metering import HostFacts, Place, discover, place_of_host
from ergonaut.metering.tracked import bus_address
from ergonaut_common.auth import KeyRing
from ergonaut_common.bus import following, open_bus
from ergonaut_common.clock import Clock, SystemClock
from ergonaut_common.lifetimes import background, stop_requested
from ergonaut_common.observe import get_logger, serving_metrics
from ergonaut_common.rpc import RpcServer, serving
from ergonaut_common.settings import PlatformSettings
from ergonaut_telemetry.adapters.bus_announcer import BusAnnouncer
from ergonaut_telemetry.adapters.host_meters import HostMeters, boot_id
from ergonaut_telemetry.adapters.sqlite_spool import open_spool
from ergonaut_telemetry.adapters.tracked_programs import TrackedPrograms
from ergonaut_telemetry.domain import Terms, Turn, accelerator_name
from ergonaut_telemetry.listeners import listeners
from ergonaut_telemetry.ports import Announcer, Meters, Spool
from ergonaut_telemetry.rpc import SERVICE_NAME, door
from ergonaut_telemetry.service import Placing, Reporting, Sampling, Sending, Watching
from ergonaut_telemetry.settings import Settings

BUS_RETRY_SECONDS = 1.0
"""Pause before the bus is looked for again; looking itself waits patiently."""

PING_INTERVAL_SECONDS = 60
"""A sample is told every second and its acknowledgement awaited for two, which notices a dead link sooner than any ping."""

log = get_logger(__name__)


async def main(platform: PlatformSettings) -> None:
    """Meter this host until told to stop."""
    settings, clock = Settings(), SystemClock()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(serving_metrics(settings.metrics_address))
        path = platform.data_dir / "telemetry" / "spool.db"
        spool = stack.enter_context(open_spool(path, bytes_max=settings.spool_bytes_max, boot_id=boot_id()))
        meters = HostMeters(discover(), tracked=TrackedPrograms(bus_address(platform.nats_url)))
        stack.callback(meters.close)
        agent = _Agent(settings, platform, meters, spool, clock)
        await agent.placing.look()
        opened = await stack.enter_async_context(agent.serving())
        # Watches end before the door closes, which would wait for them.
        stack.callback(agent.watching.stop)
        await stack.enter_async_context(background(agent.sample()))
        await stack.enter_async_context(background(agent.talk(opened)))
        await stack.enter_async_context(background(agent.placing.run(clock)))
        await stop_requested()


class _Agent:
    """The use cases of one host, and what they share."""

    def __init__(
        self, settings: Settings, platform: PlatformSettings, meters: Meters, spool: Spool, clock: Clock
    ) -> None:
        self._settings = settings
        self._platform = platform
        self._spool = spool
        self._clock = clock
        terms = terms_of(settings, spool.producer, meters.facts())
        self._sampling = Sampling(meters, spool, terms)
        self._reporting = Reporting(meters, terms)
        self.placing = Placing(terms, partial(place_of, platform))
        self.placing.tell(self._sampling.reckon_by)
        self.placing.tell(self._reporting.reckon_by)
        self._sampled = asyncio.Event()
        self.watching = Watching(spool, clock)

    def serving(self) -> AbstractAsyncContextManager[RpcServer]:
        """Open the door; it is healthy once the host has been reported, since before that nobody can count on it."""
        return serving(
            self._settings.grpc_address,
            service="telemetry",
            add=door(self.watching, lambda: self.placing.terms),
            keys=KeyRing.load(self._platform.keys_file),
            names=[SERVICE_NAME],
            healthy=False,
        )

    async def sample(self) -> None:
        """Sample for ever."""

        def show(turn: Turn) -> None:
            self.watching.show(turn)
            self._reporting.notice(turn)
            self._sampled.set()

        await self._sampling.run(self._clock, self._settings.sample_interval_seconds, show)

    async def talk(self, opened: RpcServer) -> None:
        """Send, report and listen for ever; a bus that is away when the agent starts is waited for."""
        while True:
            try:
                async with open_bus(self._platform, "telemetry", ping_interval_seconds=PING_INTERVAL_SECONDS) as bus:
                    await bus.ensure_streams("telemetry", "pricing")
                    async with following(listeners(self._sampling), bus):
                        with BusAnnouncer(bus, self._platform) as announcer:
                            await self._tell(announcer, opened)
            except (Unavailable, Broken) as error:
                log.warning("the bus is away; samples wait in the spool", error=str(error))
                await self._clock.sleep(BUS_RETRY_SECONDS)

    async def _tell(self, announcer: Announcer, opened: RpcServer) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(Sending(self._spool, announcer).run(self._clock, self._sampled))
            group.create_task(self._report(announcer, opened))

    async def _report(self, announcer: Announcer, opened: RpcServer) -> None:
        reported = self._reporting.run(announcer, self._clock, self._settings.report_interval_seconds)
        async for _ in reported:
            await opened.set_serving(True)


async def place_of(platform: PlatformSettings, anew: bool) -> Place:
    """Where the host's cloud says that it stands; takes a second at most, and beside the loop."""
    return await asyncio.to_thread(place_of_host, os.environ, platform.data_dir / "telemetry", anew=anew)


def terms_of(settings: Settings, producer: str, facts: HostFacts) -> Terms:
    """What the domain must know of the settings and of what the host is made of."""
    accelerators = Counter(accelerator_name(name) for name in facts.accelerators)
    made = embodied_from(settings.embodied(), memory_gib=facts.memory_gib, accelerators=accelerators)
    return Terms(
        host=settings.host,
        producer=producer,
        tenant=settings.tenant,
        zone=settings.zone,
        pue=settings.pue,
        electricity_microusd_per_kwh=settings.electricity_microusd_per_kwh,
        bridge_seconds_max=settings.bridge_seconds_max,
        pue_source=PueSource.SETTINGS if "pue" in settings.model_fields_set else PueSource.NOT_TOLD,
        embodied_grams_co2e_per_hour=made.grams_co2e_per_hour if made else 0.0,
        embodied_basis=made.basis if made else "",
        intensity=settings.intensity(),
    )
