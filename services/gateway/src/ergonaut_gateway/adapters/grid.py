"""The hour's carbon intensity of each grid zone, as `pricing` tells it; followed only where some route weighs its energy."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from ergonaut.carbon import Intensity, hourly_intensity, with_newly_told, zone_code
from ergonaut.errors import Unavailable
from ergonaut.events import PUBLIC_TENANT, IntensityChanged
from ergonaut_common.bus import Bus, following
from ergonaut_common.clock import Clock
from ergonaut_common.lifetimes import background
from ergonaut_common.observe import get_logger

if TYPE_CHECKING:
    from ergonaut_common.bus import Listeners

ZONES_MAX = 1_000
"""Zones that are remembered, 24 hours each: several times as many as there are; more would be a mistake of whoever tells."""

ASK_AGAIN_SECONDS = 30.0
"""Pause after NATS did not answer at the beginning; until then zones weigh what they do by the year."""

log = get_logger(__name__)


class GridHours:
    """What was told of the zones."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: dict[str, tuple[IntensityChanged, ...]] = {}

    def now(self, zone: str) -> Intensity | None:
        """What the present hour is told to be in a zone, in any spelling; None where nobody told."""
        return hourly_intensity(self._told.get(zone_code(zone), ()), self._clock.now())

    async def hear(self, event: IntensityChanged) -> None:
        """Take in what is told, also twice or late; only what is told to all counts."""
        zone = zone_code(event.zone)
        known = self._told.get(zone, ())
        is_old = bool(known) and known[0].occurred_at >= event.occurred_at
        if event.tenant != PUBLIC_TENANT or is_old or (not known and len(self._told) >= ZONES_MAX):
            return
        self._told[zone] = with_newly_told(known, event)


@contextlib.asynccontextmanager
async def following_hours(bus: Bus, clock: Clock) -> AsyncIterator[GridHours]:
    """The hours, kept current while the block runs; nobody waits for the first."""
    hours = GridHours(clock)
    async with background(_follow(hours, bus, clock)):
        yield hours


async def _follow(hours: GridHours, bus: Bus, clock: Clock) -> None:
    listeners = await asyncio.to_thread(_listeners, hours)
    while True:
        try:
            async with following(listeners, bus):
                await asyncio.Event().wait()
        except Unavailable as error:
            log.warning("the grid's hours are not known yet", error=str(error))
        await clock.sleep(ASK_AGAIN_SECONDS)


def _listeners(hours: GridHours) -> "Listeners":
    # What this loads takes a tenth of a second, for which neither the start nor the loop need wait.
    from ergonaut_common.bus import Listeners

    listeners = Listeners("gateway")
    listeners.on(IntensityChanged)(hours.hear)
    return listeners
