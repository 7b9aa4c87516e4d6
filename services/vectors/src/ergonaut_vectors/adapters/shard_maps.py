"""The port `ShardMaps` in the JetStream key-value bucket `vector-shards`, one key a collection: its uid."""

from collections.abc import AsyncIterator, Sequence

from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue
from pydantic import TypeAdapter, ValidationError

from ergonaut.errors import Broken, Conflict
from ergonaut_common.bus import listed
from ergonaut_common.bus.connection import until_answered
from ergonaut_common.observe import get_logger
from ergonaut_vectors.adapters.watched import entries_of
from ergonaut_vectors.cluster.ports import KeptMap
from ergonaut_vectors.domain.placing.shard_map import ShardMap

BUCKET = "vector-shards"

log = get_logger(__name__)
_MAPS = TypeAdapter(ShardMap)


class KeyValueShardMaps:
    """Maps as JSON values; the key's revision is what is compared."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    async def find(self, collection: str) -> KeptMap | None:
        async def get() -> KeyValue.Entry | None:
            try:
                return await self._bucket.get(collection)
            except KeyNotFoundError:
                return None

        entry = await until_answered(get, what=f"reading the map of {collection}")
        return None if entry is None else _kept(entry)

    async def all(self) -> Sequence[KeptMap]:
        return [kept for entry in await listed(self._bucket) if (kept := _readable(entry))]

    async def add(self, first: ShardMap) -> KeptMap:
        return await self._put(first, None)

    async def change(self, after: ShardMap, revision: int) -> KeptMap:
        return await self._put(after, revision)

    async def remove(self, collection: str) -> None:
        await until_answered(lambda: self._bucket.delete(collection), what=f"removing the map of {collection}")

    async def changes(self) -> AsyncIterator[KeptMap]:
        async for entry in entries_of(self._bucket):
            if entry.operation is None and (kept := _readable(entry)):
                yield kept

    async def _put(self, now: ShardMap, revision: int | None) -> KeptMap:
        """Write where the record is at this revision, or is not there; the same twice is written once."""
        value = _MAPS.dump_json(now.checked())

        async def put() -> int | None:
            try:
                if revision is None:
                    return await self._bucket.create(now.collection, value)
                return await self._bucket.update(now.collection, value, revision)
            except KeyWrongLastSequenceError:
                return None

        written = await until_answered(put, what=f"writing the map of {now.collection}")
        if written is not None:
            return KeptMap(now, written)
        # One that was repeated because its answer got lost finds what it wrote itself.
        found = await self.find(now.collection)
        if found is None or found.map != now:
            raise Conflict(f"the map of {now.collection} was changed meanwhile")
        return found


def _kept(entry: KeyValue.Entry) -> KeptMap:
    try:
        return KeptMap(_MAPS.validate_json(entry.value or b""), entry.revision or 0)
    except ValidationError as error:
        raise Broken(f"the map {entry.key} in the bucket {BUCKET} cannot be read: {error}") from error


def _readable(entry: KeyValue.Entry) -> KeptMap | None:
    """The map, or None for one that is damaged: it must not keep the others away."""
    try:
        return _kept(entry)
    except Broken as error:
        log.error("map not known", key=entry.key, error=str(error))
        return None
