"""Models that let go of their memory while nobody asks for them, where a setting says after how long."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import REGISTRY

from ergonaut_common.clock import SystemClock
from ergonaut_common.lifetimes import background
from ergonaut_gateway.service.dozing import Dozers
from ergonaut_gateway.settings import Settings


@asynccontextmanager
async def dozing(settings: Settings) -> AsyncIterator[Dozers | None]:
    """What lets models doze off while the block runs; nothing where they never do."""
    if not settings.idle_seconds:
        yield None
        return
    dozers = Dozers(SystemClock(), settings.idle_seconds)
    REGISTRY.register(dozers)
    try:
        async with background(dozers.keep_looking()):
            yield dozers
    finally:
        REGISTRY.unregister(dozers)
