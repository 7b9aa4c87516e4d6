"""The port `CollectionBook` in the JetStream key-value bucket `collections`, one key a collection: `<tenant>.<name>`."""

from collections.abc import AsyncIterator, Sequence
from functools import partial

from nats.js.errors import BadRequestError, KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue
from pydantic import TypeAdapter, ValidationError

from ergonaut.errors import Broken, Conflict
from ergonaut_common.bus import listed
from ergonaut_common.bus.connection import until_answered
from ergonaut_common.observe import get_logger
from ergonaut_vectors.adapters.log import NOT_LAST
from ergonaut_vectors.adapters.watched import entries_of
from ergonaut_vectors.domain.records import Key, Record

BUCKET = "collections"

log = get_logger(__name__)
_RECORDS = TypeAdapter(Record)


class KeyValueBook:
    """Records as JSON values."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    async def all(self) -> Sequence[Record]:
        return [record for entry in await listed(self._bucket) if (record := _readable(entry))]

    async def find(self, key: Key) -> Record | None:
        return await self._read(str(key))

    async def add(self, record: Record) -> None:
        async def create() -> bool:
            try:
                await self._bucket.create(str(record.key), _RECORDS.dump_json(record))
            except KeyWrongLastSequenceError:
                return False
            return True

        added = await until_answered(create, what=f"adding collection {record.key}")
        # A create that was repeated because its answer got lost finds the record that it wrote itself.
        if not added and await self.find(record.key) != record:
            raise Conflict(f"collection {record.key} is in the book already")

    async def change(self, record: Record, before: Record | None = None) -> None:
        key, value = str(record.key), _RECORDS.dump_json(record)
        if before is None:
            await until_answered(lambda: self._bucket.put(key, value), what=f"changing collection {key}")
        elif not await until_answered(partial(self._changed, record, before), what=f"changing collection {key}"):
            raise Conflict(f"collection {key} was changed meanwhile; look at it and try again")

    async def changes(self) -> AsyncIterator[tuple[Key, Record | None]]:
        async for entry in entries_of(self._bucket):
            tenant, _, name = entry.key.partition(".")
            if entry.operation is not None:
                yield Key(tenant, name), None
            elif (record := _readable(entry)) is not None:
                yield Key(tenant, name), record

    async def remove(self, record: Record) -> None:
        await until_answered(partial(self._removed, record), what=f"removing collection {record.key}")

    async def _changed(self, record: Record, before: Record) -> bool:
        """Write over this record alone; one that was written because its answer got lost is fine."""
        key = str(record.key)
        try:
            entry = await self._bucket.get(key)
        except KeyNotFoundError:
            return False
        found = _record(key, entry.value or b"")
        if found != before:
            return found == record
        try:
            await self._bucket.update(key, _RECORDS.dump_json(record), entry.revision)
        except KeyWrongLastSequenceError:
            return await self._read(key) == record
        return True

    async def _removed(self, record: Record) -> None:
        """Only while it is this collection's: one of the same name may have been made behind a dropping that took long."""
        key = str(record.key)
        try:
            entry = await self._bucket.get(key)
            if _record(key, entry.value or b"").uid == record.uid:
                await self._bucket.delete(key, last=entry.revision)
        except KeyNotFoundError:
            return
        except BadRequestError as error:
            if error.err_code not in NOT_LAST:
                raise
            raise TimeoutError(f"{key} was changed at this moment") from error

    async def _read(self, key: str) -> Record | None:
        async def get() -> bytes | None:
            try:
                return (await self._bucket.get(key)).value
            except KeyNotFoundError:
                return None

        value = await until_answered(get, what=f"reading collection {key}")
        if value is None:
            return None
        return _record(key, value)


def _record(key: str, value: bytes) -> Record:
    try:
        return _RECORDS.validate_json(value)
    except ValidationError as error:
        raise Broken(f"the record {key} in the bucket {BUCKET} cannot be read: {error}") from error


def _readable(entry: KeyValue.Entry) -> Record | None:
    """The record, or None for one that is damaged: it must not keep the others away. Who asks for it is told."""
    try:
        return _record(entry.key, entry.value or b"")
    except Broken as error:
        log.error("collection not known", key=entry.key, error=str(error))
        return None
