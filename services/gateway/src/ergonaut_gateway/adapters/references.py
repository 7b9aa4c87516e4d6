"""First sketches of versions in a JetStream key-value bucket: one key `<tenant>.<model>.<version>.<side>`, written once."""

from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from ergonaut_common.bus.connection import until_answered
from ergonaut_gateway.domain.models import ModelRecord

BUCKET = "references"


class KvReferences:
    """Fills `References`."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    async def get(self, record: ModelRecord, side: str) -> bytes | None:
        async def ask() -> bytes | None:
            try:
                return (await self._bucket.get(_key(record, side))).value
            except KeyNotFoundError:
                return None

        return await until_answered(ask, what=f"reading the reference of model {record.name}")

    async def keep(self, record: ModelRecord, side: str, sketch: bytes) -> bytes:
        async def ask() -> None:
            try:
                await self._bucket.create(_key(record, side), sketch)
            except KeyWrongLastSequenceError:
                # Another worker came first, or this is a repetition whose first answer was lost.
                return

        await until_answered(ask, what=f"keeping the reference of model {record.name}")
        return await self.get(record, side) or sketch


def _key(record: ModelRecord, side: str) -> str:
    return f"{record.tenant}.{record.name}.{record.version}.{side}"
