"""Tells facts over the bus. Fills the port `Announcer`."""

from ergonaut.events import Event
from ergonaut_common.bus import Bus


class BusAnnouncer:
    """The bus, as the orchestrator uses it."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def tell(self, event: Event) -> None:
        await self._bus.publish(event)
