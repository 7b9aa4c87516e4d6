"""Tells events over NATS."""

from ergonaut.events import Event
from ergonaut_common.bus import Bus


class BusAnnouncer:
    """The Announcer port over JetStream; the events' ids make a repeat harmless."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def tell(self, event: Event) -> None:
        await self._bus.publish(event)
