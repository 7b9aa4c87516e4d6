"""The port `Announcer` on the bus."""

from ergonaut.events import CollectionCreated, CollectionDropped
from ergonaut.ids import derived_id
from ergonaut_common.bus import Bus
from ergonaut_vectors.domain.records import Record


class BusAnnouncer:
    """Publishes events whose ids follow from the collection, so that telling twice is telling once."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def created(self, record: Record) -> None:
        event = CollectionCreated(
            event_id=derived_id("event", CollectionCreated.TYPE, record.uid),
            tenant=record.key.tenant,
            collection=record.key.name,
            dimension=record.schema.dimension,
            metric=record.schema.metric.value,
        )
        await self._bus.publish(event)

    async def dropped(self, record: Record) -> None:
        event = CollectionDropped(
            event_id=derived_id("event", CollectionDropped.TYPE, record.uid),
            tenant=record.key.tenant,
            collection=record.key.name,
        )
        await self._bus.publish(event)
