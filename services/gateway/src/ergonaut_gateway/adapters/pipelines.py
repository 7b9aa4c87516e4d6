"""Pipelines in a JetStream key-value bucket: a key `<tenant>.<name>` a pipeline."""

from collections.abc import AsyncIterator, Sequence

import msgspec
from nats.js.kv import KeyValue

from ergonaut.errors import Broken, Refused
from ergonaut_common.bus import listed
from ergonaut_gateway.adapters.records import asked, changes_of, key_of, readable, written
from ergonaut_gateway.domain.pipelines.records import PipelineEntry, PipelineRecord

BUCKET = "pipelines"

RECORD_BYTES_MAX = 1_000_000
"""As large as NATS takes a message, unless it is told otherwise; only models with thousands of tensors come near."""

_decoder = msgspec.json.Decoder(PipelineRecord)


class KvPipelineBook:
    """Fills `PipelineBook`."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    async def get(self, tenant: str, name: str) -> PipelineEntry | None:
        given = await asked(self._bucket, key_of(tenant, name), what=f"reading the record of pipeline {name}")
        return _entry(given) if given else None

    async def put(self, record: PipelineRecord, /, *, revision: int) -> PipelineEntry:
        key, value = key_of(record.tenant, record.name), msgspec.json.encode(record)
        if len(value) > RECORD_BYTES_MAX:
            raise Refused(
                f"its record would have {len(value)} bytes, at most {RECORD_BYTES_MAX} are kept", field="nodes"
            )
        return PipelineEntry(record, await written(self._bucket, key, value, revision, what=f"pipeline {record.name}"))

    async def entries(self) -> Sequence[PipelineEntry]:
        return [entry for given in await listed(self._bucket) if (entry := readable(given, _entry))]

    def changes(self, *, seconds: float) -> AsyncIterator[PipelineEntry]:
        return changes_of(self._bucket, _entry, seconds=seconds, what="pipelines")


def _entry(given: KeyValue.Entry) -> PipelineEntry | None:
    """The entry, or None for a key that somebody deleted by hand. Raises Broken for one that is damaged."""
    if given.operation is not None or given.value is None or given.revision is None:
        return None
    try:
        return PipelineEntry(_decoder.decode(given.value), given.revision)
    except msgspec.DecodeError as error:
        raise Broken(f"the record {given.key} in the bucket {BUCKET} cannot be read: {error}") from error
