"""The registry of models in JetStream key-value buckets, written by compare-and-set only: a key `<tenant>.<name>` a model, and in
another bucket a key `<tenant>.<digest>` a file that versions share."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import msgspec
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.errors import APIError, KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from ergonaut.errors import Broken, Conflict
from ergonaut_common.bus import listed, next_entry, watching
from ergonaut_common.bus.connection import until_answered
from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.files import FileEntry, KeptFile
from ergonaut_gateway.domain.models import (
    Entry,
    Fact,
    FactKind,
    Lineage,
    Model,
    ModelRecord,
    Signature,
    VersionState,
)

BUCKET = "models"
FILES_BUCKET = "model-files"

WRONG_LAST_SEQUENCE = 10071
"""JetStream's number for a write to a key that was changed since."""

log = get_logger(__name__)
T = TypeVar("T")


class KvModelRegistry:
    """Fills `ModelRegistry`."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    async def get(self, tenant: str, name: str) -> Entry | None:
        given = await _asked(self._bucket, _key(tenant, name), what=f"reading the record of model {name}")
        return _entry(given) if given else None

    async def put(self, model: Model, *, revision: int) -> Entry:
        key, value = _key(model.tenant, model.name), msgspec.json.encode(model)
        return Entry(model, await _written(self._bucket, key, value, revision, what=f"model {model.name}"))

    async def entries(self) -> Sequence[Entry]:
        return [entry for given in await listed(self._bucket) if (entry := _readable(given, _entry))]

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
                if given is not None and (entry := _readable(given, _entry)):
                    yield entry
        finally:
            await watch.__aexit__(None, None, None)


class KvFileNotes:
    """Fills `FileNotes`."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    async def get(self, tenant: str, digest: str) -> FileEntry | None:
        given = await _asked(self._bucket, _key(tenant, digest), what=f"reading who holds the file {digest}")
        return _file_entry(given) if given else None

    async def put(self, kept: KeptFile, *, revision: int) -> FileEntry:
        key, value = _key(kept.tenant, kept.digest), msgspec.json.encode(kept)
        return FileEntry(kept, await _written(self._bucket, key, value, revision, what=f"the file {kept.digest}"))

    async def drop(self, entry: FileEntry) -> None:
        async def ask() -> None:
            try:
                await self._bucket.delete(_key(entry.kept.tenant, entry.kept.digest), last=entry.revision)
            except APIError as error:
                # nats-py names this error when a key is written, not when one is deleted.
                if error.err_code == WRONG_LAST_SEQUENCE:
                    raise Conflict(f"the file {entry.kept.digest} was held by another") from error
                raise

        await until_answered(ask, what=f"forgetting the file {entry.kept.digest}")

    async def entries(self) -> Sequence[FileEntry]:
        return [entry for given in await listed(self._bucket) if (entry := _readable(given, _file_entry))]


@dataclass(frozen=True, slots=True)
class _RecordOfOne:
    """A record as it was while a model had one version only; it is read, and never written again."""

    tenant: str
    name: str
    version: int
    digest: str
    size_bytes: int
    file: str
    signature: Signature
    deployed_at: datetime
    run_id: str = ""
    removed_at: datetime | None = None
    announced: bool = False

    def as_model(self) -> Model:
        """The same as a model with one version."""
        gone = self.removed_at is not None
        record = ModelRecord(
            tenant=self.tenant,
            name=self.name,
            version=self.version,
            digest=self.digest,
            size_bytes=self.size_bytes,
            file=self.file,
            signature=self.signature,
            deployed_at=self.deployed_at,
            run_id=self.run_id,
            state=VersionState.REMOVED if gone else VersionState.READY,
            lineage=Lineage(run_id=self.run_id),
            removed_at=self.removed_at,
            # It was deleted by whoever removed it; if that one died before, room is lost as it was then.
            is_file_released=gone,
        )
        kind = FactKind.REMOVED if gone else FactKind.DEPLOYED
        fact = Fact(kind, self.removed_at or self.deployed_at, self.version)
        untold = () if self.announced else (fact,)
        return Model(self.tenant, self.name, (record,), version_last=self.version, untold=untold)


_decoder = msgspec.json.Decoder(Model)
_decoder_of_one = msgspec.json.Decoder(_RecordOfOne)
_file_decoder = msgspec.json.Decoder(KeptFile)


def _key(tenant: str, name: str) -> str:
    return f"{tenant}.{name}"


async def _asked(bucket: KeyValue, key: str, *, what: str) -> KeyValue.Entry | None:
    async def ask() -> KeyValue.Entry | None:
        try:
            return await bucket.get(key)
        except KeyNotFoundError:
            return None

    return await until_answered(ask, what=what)


async def _written(bucket: KeyValue, key: str, value: bytes, revision: int, *, what: str) -> int:
    """The new revision. Raises Conflict where the given one is not the newest."""

    async def ask() -> int:
        try:
            if revision:
                return await bucket.update(key, value, last=revision)
            return await bucket.create(key, value)
        except KeyWrongLastSequenceError as error:
            raise Conflict(f"{what} was changed by another") from error

    return await until_answered(ask, what=f"writing the record of {what}")


def _readable(given: KeyValue.Entry, read: Callable[[KeyValue.Entry], T | None]) -> T | None:
    """The entry, or None for one that is damaged: among many it must not keep the others away. Who asks for it is told."""
    try:
        return read(given)
    except Broken as error:
        log.error("model not known", key=given.key, error=str(error))
        return None


def _entry(given: KeyValue.Entry) -> Entry | None:
    """The entry as we know it, or None for a key that somebody deleted by hand."""
    if given.operation is not None or given.value is None or given.revision is None:
        return None
    try:
        return Entry(_model(given.value), given.revision)
    except msgspec.DecodeError as error:
        raise Broken(f"the record {given.key} in the bucket {BUCKET} cannot be read: {error}") from error


def _model(value: bytes) -> Model:
    """A record in the form of today or of the time when a model had one version."""
    keys = msgspec.json.decode(value, type=dict[str, msgspec.Raw])
    return _decoder_of_one.decode(value).as_model() if "digest" in keys else _decoder.decode(value)


def _file_entry(given: KeyValue.Entry) -> FileEntry | None:
    """The note, or None for one that was deleted. Raises Broken for one that is damaged: its file must not be deleted."""
    if given.operation is not None or given.value is None or given.revision is None:
        return None
    try:
        return FileEntry(_file_decoder.decode(given.value), given.revision)
    except msgspec.DecodeError as error:
        raise Broken(f"the note {given.key} in the bucket {FILES_BUCKET} cannot be read: {error}") from error
