"""The job book in a JetStream key-value bucket: key `<tenant>.<job_id>`, value the record as JSON."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.errors import BadRequestError, KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue
from pydantic import TypeAdapter, ValidationError

from ergonaut.errors import Broken, Unavailable
from ergonaut_common.bus import listed, next_entry, watching
from ergonaut_common.bus.connection import until_answered
from ergonaut_common.observe import get_logger
from ergonaut_scheduler.domain import JobRecord
from ergonaut_scheduler.ports import Stored

BUCKET = "jobs"

WATCH_LOOK_SECONDS = 5.0
"""How often a watch looks for itself: a watch that NATS forgot in a restart stays silent for ever otherwise."""

log = get_logger(__name__)
_JSON = TypeAdapter(JobRecord)


class KeyValueJobBook:
    """Fills `JobBook`."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    async def add(self, record: JobRecord) -> bool:
        async def create() -> bool:
            try:
                await self._bucket.create(_key(record.tenant, record.job_id), _JSON.dump_json(record))
            except KeyWrongLastSequenceError:
                return False
            return True

        return await until_answered(create, what=f"recording job {record.job_id}")

    async def find(self, tenant: str, job_id: str) -> Stored | None:
        async def get() -> Stored | None:
            try:
                return _stored(await self._bucket.get(_key(tenant, job_id)))
            except KeyNotFoundError:
                return None

        return await until_answered(get, what=f"reading job {job_id}")

    async def replace(self, stored: Stored) -> bool:
        record = stored.record

        async def update() -> bool:
            key, value = _key(record.tenant, record.job_id), _JSON.dump_json(record)
            try:
                await self._bucket.update(key, value, last=stored.revision)
            except KeyWrongLastSequenceError:
                return False
            return True

        return await until_answered(update, what=f"changing job {record.job_id}")

    async def remove(self, stored: Stored) -> None:
        record = stored.record

        async def delete() -> None:
            # Where the record has changed since, NATS says so, and it stays.
            with contextlib.suppress(KeyWrongLastSequenceError, BadRequestError):
                await self._bucket.delete(_key(record.tenant, record.job_id), last=stored.revision)

        await until_answered(delete, what=f"forgetting job {record.job_id}")

    async def of_tenant(self, tenant: str) -> Sequence[JobRecord]:
        return [stored.record for stored in await self._all_of(f"{tenant}.*")]

    async def everything(self) -> Sequence[Stored]:
        return await self._all_of(">")

    async def watch(self, tenant: str, job_id: str) -> AsyncGenerator[JobRecord, None]:
        seen = 0
        while True:
            async with self._watching(_key(tenant, job_id)) as watcher:
                stored = await self.find(tenant, job_id)
                if stored is not None and stored.revision > seen:
                    seen = stored.revision
                    yield stored.record
                while (changed := await self._next_change(watcher, seen)) is not None:
                    seen = changed.revision
                    yield changed.record

    async def _next_change(self, watcher: KeyValue.KeyWatcher, seen: int) -> Stored | None:
        """The next newer record; None when it is time to look for oneself."""
        with contextlib.suppress(TimeoutError, NatsTimeoutError):
            async with asyncio.timeout(WATCH_LOOK_SECONDS):
                while True:
                    entry = await next_entry(watcher, WATCH_LOOK_SECONDS)
                    if entry is not None and entry.operation is None and (entry.revision or 0) > seen:
                        return _stored(entry)
        return None

    async def _all_of(self, pattern: str) -> list[Stored]:
        return [stored for entry in await listed(self._bucket, pattern) if (stored := _readable(entry))]

    @contextlib.asynccontextmanager
    async def _watching(self, pattern: str) -> AsyncIterator[KeyValue.KeyWatcher]:
        try:
            async with watching(self._bucket, pattern) as watcher:
                yield watcher
        except (NatsError, TimeoutError) as error:
            raise Unavailable(f"reading the job book: NATS does not answer: {error}") from error


def _key(tenant: str, job_id: str) -> str:
    return f"{tenant}.{job_id}"


def _readable(entry: KeyValue.Entry) -> Stored | None:
    """None for a damaged record: it must not hide all others."""
    try:
        return _stored(entry)
    except Broken as error:
        log.error("record left out", because=str(error))
        return None


def _stored(entry: KeyValue.Entry) -> Stored:
    try:
        return Stored(_JSON.validate_json(entry.value or b""), entry.revision or 0)
    except ValidationError as error:
        raise Broken(f"the record {entry.key} in the bucket {BUCKET} cannot be read: {error}") from error
