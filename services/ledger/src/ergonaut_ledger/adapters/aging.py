"""Old measurements on ClickHouse: parts of a month or a day are dropped as a whole. Fills `ports.aging`."""

from datetime import UTC, date, datetime
from typing import Any

from clickhouse_connect.driver.client import Client

from ergonaut_ledger.adapters.engine import Engine

_PARTITIONS = """
SELECT DISTINCT partition_id FROM system.parts
WHERE database = currentDatabase() AND table = {table:String} AND active
ORDER BY partition_id
"""

_TOUCHED = """
SELECT count() AS waiting
FROM (SELECT touch FROM touched_minutes WHERE minute < {before:DateTime('UTC')} GROUP BY touch HAVING sum(sign) > 0)
"""


class ClickHouseAges:
    """Drops by partition; nothing is rewritten but the records of a month's messages."""

    def __init__(self, engine: Engine, *, seconds: float) -> None:
        self._engine = engine
        self._seconds = seconds

    async def sealed_before(self) -> datetime | None:
        [row] = await self._ask("SELECT max(before) AS before, count() AS times FROM sealed WHERE what = 'samples'")
        return row["before"] if row["times"] else None

    async def seal(self, before: datetime) -> None:
        await self._do("INSERT INTO sealed (what, before) SELECT 'samples', {before:DateTime('UTC')}", before=before)

    async def months_of_samples(self) -> list[date]:
        return [
            datetime.strptime(each, "%Y%m").replace(tzinfo=UTC).date() for each in await self._parts("power_samples")
        ]

    async def touched_before(self, before: datetime) -> bool:
        [row] = await self._ask(_TOUCHED, before=before)
        return bool(row["waiting"])

    async def drop_samples(self, month: date) -> None:
        # The records first: a month whose samples are gone is not looked at again.
        partition = f"{month:%Y%m}"
        await self._do(
            f"ALTER TABLE events DELETE IN PARTITION ID '{partition}' "
            "WHERE type = 'telemetry.power.sampled' SETTINGS mutations_sync = 1"
        )
        await self._do(f"ALTER TABLE power_samples DROP PARTITION ID '{partition}'")

    async def days_of_minutes(self) -> list[date]:
        return [
            datetime.strptime(each, "%Y%m%d").replace(tzinfo=UTC).date() for each in await self._parts("power_minutes")
        ]

    async def drop_minutes(self, day: date) -> None:
        await self._do(f"ALTER TABLE power_minutes DROP PARTITION ID '{day:%Y%m%d}'")

    async def _parts(self, table: str) -> list[str]:
        return [row["partition_id"] for row in await self._ask(_PARTITIONS, table=table)]

    async def _ask(self, sql: str, **parameters: Any) -> Any:
        return await self._engine.ask(sql, parameters, what="looking for old measurements", seconds=self._seconds)

    async def _do(self, sql: str, **parameters: Any) -> None:
        def work(client: Client) -> None:
            client.query(sql, parameters=parameters) if parameters else client.command(sql)

        await self._engine.do(work, what="letting old measurements go", seconds=self._seconds)
