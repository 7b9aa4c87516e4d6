"""What predictions use, by what a CPU-second of this host is charged."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import REGISTRY

from ergonaut_common.bus import Bus
from ergonaut_common.clock import SystemClock
from ergonaut_common.lifetimes import background
from ergonaut_gateway.adapters.rates import following_rate
from ergonaut_gateway.service.energy import Energy
from ergonaut_gateway.settings import Settings


@asynccontextmanager
async def counting_energy(energy: Energy, settings: Settings, bus: Bus) -> AsyncIterator[None]:
    """Share out what the process uses while the block runs."""
    async with following_rate(bus, settings.telemetry_host, SystemClock()) as rate:
        energy.rate = rate.rate
        REGISTRY.register(energy)
        try:
            async with background(energy.keep_looking()):
                yield
        finally:
            REGISTRY.unregister(energy)
