"""How busy gateways are, in a JetStream key-value bucket: a key `now.<gateway>` a process, and one key for what was learned."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from nats.js.kv import KeyValue

from ergonaut.errors import Broken
from ergonaut_common.bus import listed
from ergonaut_common.bus.connection import until_answered
from ergonaut_common.observe import get_logger
from ergonaut_gateway.adapters.records import asked, written
from ergonaut_gateway.domain.demand import NOTHING_YET, History, Report

BUCKET = "gateway-demand"
_NOW = "now"
_HISTORY = "history"

log = get_logger(__name__)


class KvDemandBook:
    """Fills `DemandBook`."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    async def tell(self, report: Report) -> None:
        async def ask() -> None:
            await self._bucket.put(f"{_NOW}.{report.gateway}", msgspec.json.encode(report))

        await until_answered(ask, what="telling the cores in use")

    async def reports(self, *, since: datetime) -> Sequence[Report]:
        found: list[Report] = []
        for entry in await listed(self._bucket, f"{_NOW}.*"):
            try:
                report = msgspec.json.decode(entry.value or b"", type=Report)
            except msgspec.DecodeError as error:
                log.error("report not known", key=entry.key, error=str(error))
                continue
            if report.at >= since:
                found.append(report)
            else:
                await self._forget(entry.key)
        return found

    async def history(self) -> tuple[History, int]:
        entry = await asked(self._bucket, _HISTORY, what="reading what was learned of demand")
        if entry is None:
            return NOTHING_YET, 0
        try:
            history = msgspec.json.decode(entry.value or b"", type=History)
        except msgspec.DecodeError as error:
            raise Broken(f"what was learned of demand is damaged: {error}; delete the key {_HISTORY}") from error
        return history, entry.revision or 0

    async def keep_history(self, history: History, *, revision: int) -> None:
        await written(self._bucket, _HISTORY, msgspec.json.encode(history), revision, what="what was learned of demand")

    async def _forget(self, key: str) -> None:
        async def ask() -> None:
            await self._bucket.purge(key)

        await until_answered(ask, what="forgetting a gateway that is gone")
