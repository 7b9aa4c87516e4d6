"""The registry of models in JetStream key-value buckets, written by compare-and-set only: a key `<tenant>.<name>` a model, and in
another bucket a key `<tenant>.<digest>` a file that versions share."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
from nats.js.errors import APIError
from nats.js.kv import KeyValue

from ergonaut.errors import Broken, Conflict
from ergonaut_common.bus import listed
from ergonaut_common.bus.connection import until_answered
from ergonaut_gateway.adapters.records import asked, changes_of, key_of, readable, written
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


class KvModelRegistry:
    """Fills `ModelRegistry`."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    async def get(self, tenant: str, name: str) -> Entry | None:
        given = await asked(self._bucket, key_of(tenant, name), what=f"reading the record of model {name}")
        return _entry(given) if given else None

    async def put(self, model: Model, /, *, revision: int) -> Entry:
        key, value = key_of(model.tenant, model.name), msgspec.json.encode(model)
        return Entry(model, await written(self._bucket, key, value, revision, what=f"model {model.name}"))

    async def entries(self) -> Sequence[Entry]:
        return [entry for given in await listed(self._bucket) if (entry := readable(given, _entry))]

    def changes(self, *, seconds: float) -> AsyncIterator[Entry]:
        return changes_of(self._bucket, _entry, seconds=seconds, what="models")


class KvFileNotes:
    """Fills `FileNotes`."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    async def get(self, tenant: str, digest: str) -> FileEntry | None:
        given = await asked(self._bucket, key_of(tenant, digest), what=f"reading who holds the file {digest}")
        return _file_entry(given) if given else None

    async def put(self, kept: KeptFile, *, revision: int) -> FileEntry:
        key, value = key_of(kept.tenant, kept.digest), msgspec.json.encode(kept)
        return FileEntry(kept, await written(self._bucket, key, value, revision, what=f"the file {kept.digest}"))

    async def drop(self, entry: FileEntry) -> None:
        async def ask() -> None:
            try:
                await self._bucket.delete(key_of(entry.kept.tenant, entry.kept.digest), last=entry.revision)
            except APIError as error:
                # nats-py names this error when a key is written, not when one is deleted.
                if error.err_code == WRONG_LAST_SEQUENCE:
                    raise Conflict(f"the file {entry.kept.digest} was held by another") from error
                raise

        await until_answered(ask, what=f"forgetting the file {entry.kept.digest}")

    async def entries(self) -> Sequence[FileEntry]:
        return [entry for given in await listed(self._bucket) if (entry := readable(given, _file_entry))]


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
