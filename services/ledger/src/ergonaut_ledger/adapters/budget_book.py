"""The book of budgets in a JetStream key-value bucket: key `<tenant>.<budget_id>`, value the record as JSON."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace

from nats.js.errors import BadRequestError, KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue
from pydantic import TypeAdapter, ValidationError

from ergonaut.errors import Broken
from ergonaut_common.bus import listed
from ergonaut_common.bus.connection import until_answered
from ergonaut_common.observe import get_logger
from ergonaut_ledger.domain.budgets import BudgetRecord
from ergonaut_ledger.ports import StoredBudget

BUCKET = "budgets"

log = get_logger(__name__)
_JSON = TypeAdapter(BudgetRecord)


class KeyValueBudgetBook:
    """Fills `BudgetBook`."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    async def everything(self) -> Sequence[StoredBudget]:
        return [stored for entry in await listed(self._bucket) if (stored := _readable(entry))]

    async def find(self, tenant: str, budget_id: str) -> StoredBudget | None:
        async def get() -> StoredBudget | None:
            try:
                return _stored(await self._bucket.get(f"{tenant}.{budget_id}"))
            except KeyNotFoundError:
                return None

        return await until_answered(get, what=f"reading the budget {budget_id}")

    async def keep(self, stored: StoredBudget) -> StoredBudget | None:
        key, value = _key(stored), _JSON.dump_json(stored.record)

        async def write() -> StoredBudget | None:
            try:
                if stored.revision:
                    revision = await self._bucket.update(key, value, last=stored.revision)
                else:
                    revision = await self._bucket.create(key, value)
            except KeyWrongLastSequenceError:
                return None
            return replace(stored, revision=revision)

        return await until_answered(write, what=f"remembering the budget {stored.record.budget_id}")

    async def forget(self, stored: StoredBudget) -> None:
        async def delete() -> None:
            # Where the record has changed since, NATS says so, and it stays.
            with contextlib.suppress(KeyWrongLastSequenceError, BadRequestError):
                await self._bucket.delete(_key(stored), last=stored.revision)

        await until_answered(delete, what=f"forgetting the budget {stored.record.budget_id}")


def _key(stored: StoredBudget) -> str:
    return f"{stored.record.tenant}.{stored.record.budget_id}"


def _readable(entry: KeyValue.Entry) -> StoredBudget | None:
    """None for a damaged record: it must not hide all others."""
    try:
        return _stored(entry)
    except Broken as error:
        log.error("budget left out", because=str(error))
        return None


def _stored(entry: KeyValue.Entry) -> StoredBudget:
    try:
        return StoredBudget(_JSON.validate_json(entry.value or b""), entry.revision or 0)
    except ValidationError as error:
        raise Broken(f"the record {entry.key} in the bucket {BUCKET} cannot be read: {error}") from error
