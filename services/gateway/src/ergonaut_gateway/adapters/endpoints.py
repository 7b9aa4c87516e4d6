"""Endpoints in a JetStream key-value bucket, a key `<tenant>.<name>` an endpoint; and in another what each process counted of
them, a key `<tenant>.<name>.<process>`."""

from collections.abc import AsyncIterator, Sequence

import msgspec
from nats.js.kv import KeyValue

from ergonaut.errors import Broken
from ergonaut_common.bus import listed
from ergonaut_common.bus.connection import until_answered
from ergonaut_common.observe import get_logger
from ergonaut_gateway.adapters.records import asked, changes_of, key_of, readable, written
from ergonaut_gateway.domain.endpoints.figures import EndpointFigures, FiguresEntry
from ergonaut_gateway.domain.endpoints.records import EndpointEntry, EndpointRecord

BUCKET = "endpoints"
FIGURES_BUCKET = "endpoint-figures"

log = get_logger(__name__)
_records = msgspec.json.Decoder(EndpointRecord)
_figures = msgspec.json.Decoder(EndpointFigures)


class KvEndpointBook:
    """Fills `EndpointBook`."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    async def get(self, tenant: str, name: str) -> EndpointEntry | None:
        given = await asked(self._bucket, key_of(tenant, name), what=f"reading the record of endpoint {name}")
        return _entry(given) if given else None

    async def put(self, record: EndpointRecord, /, *, revision: int) -> EndpointEntry:
        key, value = key_of(record.tenant, record.name), msgspec.json.encode(record)
        return EndpointEntry(record, await written(self._bucket, key, value, revision, what=f"endpoint {record.name}"))

    async def entries(self) -> Sequence[EndpointEntry]:
        return [entry for given in await listed(self._bucket) if (entry := readable(given, _entry))]

    def changes(self, *, seconds: float) -> AsyncIterator[EndpointEntry]:
        return changes_of(self._bucket, _entry, seconds=seconds, what="endpoints")


class KvFiguresBook:
    """Fills `FiguresBook`."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    async def tell(self, tenant: str, name: str, figures: EndpointFigures) -> None:
        async def ask() -> None:
            await self._bucket.put(f"{key_of(tenant, name)}.{figures.process}", msgspec.json.encode(figures))

        await until_answered(ask, what=f"telling the figures of endpoint {name}")

    async def told(self, tenant: str, name: str) -> Sequence[EndpointFigures]:
        given = await listed(self._bucket, f"{key_of(tenant, name)}.*")
        return [found.figures for each in given if (found := _told(each))]

    async def forget(self, tenant: str, name: str, process: str) -> None:
        async def ask() -> None:
            await self._bucket.purge(f"{key_of(tenant, name)}.{process}")

        await until_answered(ask, what=f"forgetting figures of endpoint {name}")

    async def entries(self) -> Sequence[FiguresEntry]:
        return [found for given in await listed(self._bucket) if (found := _told(given))]

    async def put(self, tenant: str, name: str, figures: EndpointFigures, /, *, revision: int) -> None:
        key = f"{key_of(tenant, name)}.{figures.process}"
        await written(self._bucket, key, msgspec.json.encode(figures), revision, what=f"figures of endpoint {name}")


def _told(given: KeyValue.Entry) -> FiguresEntry | None:
    """Figures as they are kept; None for what is damaged, which among many must not keep the others away."""
    try:
        tenant, name, _ = given.key.split(".", 2)
        return FiguresEntry(tenant, name, _figures.decode(given.value or b""), given.revision or 0)
    except (msgspec.DecodeError, ValueError) as error:
        log.error("figures not known", key=given.key, error=str(error))
        return None


def _entry(given: KeyValue.Entry) -> EndpointEntry | None:
    """The entry, or None for a key that somebody deleted by hand. Raises Broken for one that is damaged."""
    if given.operation is not None or given.value is None or given.revision is None:
        return None
    try:
        return EndpointEntry(_records.decode(given.value), given.revision)
    except msgspec.DecodeError as error:
        raise Broken(f"the record {given.key} in the bucket {BUCKET} cannot be read: {error}") from error
