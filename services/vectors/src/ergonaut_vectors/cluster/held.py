"""The port `Replicas` over the service of this process and the folders in which its shards are saved."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from ergonaut.errors import NotFound, Unavailable
from ergonaut_vectors.adapters.saved_shards import SavedShards
from ergonaut_vectors.adapters.segment_files import MANIFEST, SegmentFiles
from ergonaut_vectors.adapters.shard_folders import ShardFolders
from ergonaut_vectors.domain.placing.shard_map import ShardMap
from ergonaut_vectors.domain.records import Key, Record
from ergonaut_vectors.service import Vectors


class LiveReplicas:
    """Opens and closes shards of the service."""

    def __init__(self, vectors: Vectors, root: Path) -> None:
        self._vectors = vectors
        self._root = root
        self._stores = ShardFolders(root)

    async def record(self, now: ShardMap) -> Record:
        for look in (False, True):
            if look:
                # The map may have come before the word of a collection that was made anew, or split.
                await self._vectors.look(Key(now.tenant, now.name))
            record = (await self._vectors.open(now.tenant, now.name)).record
            if record.uid == now.collection and len(record.shards) >= len(now.shards):
                return record
        raise NotFound(
            f"collection: {now.name} is another one now than {now.collection}, or has shards that its record lacks"
        )

    async def standing(self, record: Record, shard: int) -> tuple[int, Mapping[int, str]]:
        live = self._vectors.opening.shard(record, shard)
        if live.failure is not None:
            raise Unavailable(f"shard {shard} of {record.key} cannot be asked: {live.failure}")
        return live.view.position, live.digests

    async def has_saved(self, record: Record, shard: int) -> bool:
        return await asyncio.to_thread((self._root / record.store_of(shard) / MANIFEST).exists)

    async def adopt(self, record: Record, shard: int, folder: Path) -> None:
        key = record.key.of_shard(shard)
        if not await asyncio.to_thread((folder / MANIFEST).exists):
            return
        await asyncio.to_thread(SegmentFiles(folder).verify)
        if self._vectors.opening.found(key) is not None:
            # Somebody asked for it meanwhile, as for one that was split off, and is not to be sent away: it reads its log.
            return
        async with self._vectors.opening.closed(key):
            await asyncio.to_thread(SavedShards(self._root).put, folder, record.store_of(shard))

    async def copy_saved(self, record: Record, shard: int, folder: Path) -> None:
        await asyncio.to_thread(SavedShards(self._root).copy, record.store_of(shard), folder)

    async def rebuild(self, record: Record, shard: int) -> None:
        async with self._vectors.opening.closed(record.key.of_shard(shard)):
            if await self.has_saved(record, shard):
                await asyncio.to_thread(self._stores.of(record.store_of(shard)).set_aside)
        self._vectors.opening.shard(record, shard)

    async def remove(self, record: Record, shard: int) -> None:
        key = record.key.of_shard(shard)
        # Whoever is at work with it at this moment asks again, and by then by a newer map; a caller knows of no maps.
        why = Unavailable(f"shard {shard} of {record.key} is not on this node any more; try again")
        async with self._vectors.opening.closed(key, why):
            await asyncio.to_thread(self._stores.remove, record.store_of(shard))
