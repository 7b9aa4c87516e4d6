"""Tells events over NATS."""

from ergonaut.events import Event
from ergonaut.events.envelope import headers_of
from ergonaut_common.bus import Bus


class BusAnnouncer:
    """The Announcer port over JetStream; the events' ids make a repeat harmless."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def tell(self, event: Event, body: bytes = b"") -> None:
        # Without a span: one a second, of nothing that anybody asked for, would cost more than it tells.
        await self._bus.publish_ready(event.subject, body or event.model_dump_json().encode(), headers_of(event))
