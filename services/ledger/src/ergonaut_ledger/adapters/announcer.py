"""Tells facts on the bus."""

from ergonaut.events import Event
from ergonaut_common.bus import Bus


class BusAnnouncer:
    """Fills `Announcer`."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def tell(self, event: Event) -> None:
        await self._bus.publish(event)
