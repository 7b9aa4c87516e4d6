"""Packed files of jobs in a JetStream object store a tenant, named by their digest."""

from nats.js.errors import ObjectNotFoundError

from ergonaut_common.bus import Bus
from ergonaut_common.bus.connection import until_answered


class ObjectSourceStore:
    """Fills `SourceStore`."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def has(self, tenant: str, source: str) -> bool:
        store = await self._bus.object_store(f"sources-{tenant}")

        async def look() -> bool:
            try:
                await store.get_info(source)
            except ObjectNotFoundError:
                return False
            return True

        return await until_answered(look, what=f"looking for the files {source}")

    async def keep(self, tenant: str, source: str, packed: bytes) -> None:
        if await self.has(tenant, source):
            return
        store = await self._bus.object_store(f"sources-{tenant}")
        # The name is stored after the last piece, so that files which are half there are not there.
        await until_answered(lambda: store.put(source, packed), what=f"keeping the files {source}")
