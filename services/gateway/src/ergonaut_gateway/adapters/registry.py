"""The registry of models in a JetStream key-value bucket: one key `<tenant>.<name>` a model, written by compare-and-set only."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

import msgspec
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from ergonaut.errors import Broken, Conflict
from ergonaut_common.bus import listed, next_entry, watching
from ergonaut_common.bus.connection import until_answered
from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.models import Entry, ModelRecord

BUCKET = "models"

log = get_logger(__name__)
T = TypeVar("T")
_decoder = msgspec.json.Decoder(ModelRecord)


class KvModelRegistry:
    """Fills `ModelRegistry`."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    async def get(self, tenant: str, name: str) -> Entry | None:
        async def ask() -> Entry | None:
            try:
                return _entry(await self._bucket.get(_key(tenant, name)))
            except KeyNotFoundError:
                return None

        return await until_answered(ask, what=f"reading the record of model {name}")

    async def put(self, record: ModelRecord, *, revision: int) -> Entry:
        key, value = _key(record.tenant, record.name), msgspec.json.encode(record)

        async def ask() -> Entry:
            try:
                if revision:
                    return Entry(record, await self._bucket.update(key, value, last=revision))
                return Entry(record, await self._bucket.create(key, value))
            except KeyWrongLastSequenceError as error:
                raise Conflict(f"model {record.name} was changed by another") from error

        return await until_answered(ask, what=f"writing the record of model {record.name}")

    async def entries(self) -> Sequence[Entry]:
        return [entry for given in await listed(self._bucket) if (entry := _readable(given))]

    async def changes(self, *, seconds: float) -> AsyncIterator[Entry]:
        end_at = asyncio.get_running_loop().time() + seconds
        watch = watching(self._bucket)
        watcher = await until_answered(watch.__aenter__, what="watching the records of models")
        try:
            while (left_seconds := end_at - asyncio.get_running_loop().time()) > 0:
                try:
                    given = await next_entry(watcher, left_seconds)
                except NatsTimeoutError:
                    return
                if given is not None and (entry := _readable(given)):
                    yield entry
        finally:
            await watch.__aexit__(None, None, None)


def _key(tenant: str, name: str) -> str:
    return f"{tenant}.{name}"


def _readable(given: KeyValue.Entry) -> Entry | None:
    """The entry, or None for one that is damaged: among many it must not keep the others away. Who asks for it is told."""
    try:
        return _entry(given)
    except Broken as error:
        log.error("model not known", key=given.key, error=str(error))
        return None


def _entry(given: KeyValue.Entry) -> Entry | None:
    """The entry as we know it, or None for a key that somebody deleted by hand."""
    if given.operation is not None or given.value is None or given.revision is None:
        return None
    try:
        return Entry(_decoder.decode(given.value), given.revision)
    except msgspec.DecodeError as error:
        raise Broken(f"the record {given.key} in the bucket {BUCKET} cannot be read: {error}") from error
