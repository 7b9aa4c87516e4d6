"""The ports `Announcer` and `Telling` on the bus."""

from ergonaut.events import CollectionChanged, CollectionCreated, CollectionDropped, CollectionKept
from ergonaut.ids import derived_id
from ergonaut_common.bus import Bus
from ergonaut_vectors.catalogue import Kept
from ergonaut_vectors.changes import Change
from ergonaut_vectors.domain.records import Key, Record


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

    async def changed(self, key: Key, change: Change) -> None:
        event = CollectionChanged(
            tenant=key.tenant,
            collection=key.name,
            sequences=change.sequences,
            written=change.written,
            removed=change.removed,
            payloads_changed=change.payloads_changed,
        )
        await self._bus.publish(event)

    async def kept(self, tenant: str, kept: Kept) -> None:
        event = CollectionKept(
            event_id=derived_id("event", CollectionKept.TYPE, kept.id),
            tenant=tenant,
            collection=kept.collection,
            snapshot_id=kept.id,
            sequences=dict(kept.positions),
            count=kept.count,
            size_bytes=kept.size_bytes,
        )
        await self._bus.publish(event)
