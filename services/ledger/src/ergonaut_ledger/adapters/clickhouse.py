"""The store on ClickHouse: rows in by Arrow, answers out as the domain's words. Built by `main`."""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from clickhouse_connect.driver.client import Client

from ergonaut_common.observe import get_logger
from ergonaut_ledger.adapters import questions
from ergonaut_ledger.adapters.columns import INSERT_SETTINGS, arrow_tables
from ergonaut_ledger.adapters.engine import Engine, open_engine
from ergonaut_ledger.adapters.migrating import migrate, packaged_migrations
from ergonaut_ledger.adapters.run_use import RunUse, RunUses
from ergonaut_ledger.domain.elsewhere import Days, HourOfDay, Offer
from ergonaut_ledger.domain.footprints import ComponentSum, Coverage, PowerPoint, RunRecord
from ergonaut_ledger.domain.rows import Batch
from ergonaut_ledger.ports import KeptEvent

MIGRATING_SECONDS_MAX = 3_600.0
"""A new form of what is kept is made from every row of it: the numbers of four months of a thousand hosts take some ten minutes
on paper. What was cut off goes on where it was."""

log = get_logger(__name__)


class ClickHouseStore:
    """Keeps and answers by SQL; the same on the embedded engine and on a server."""

    def __init__(self, engine: Engine, *, insert_seconds: float, query_seconds: float) -> None:
        self._engine = engine
        self._insert_seconds = insert_seconds
        self._query_seconds = query_seconds
        self._uses = RunUses(engine, query_seconds=query_seconds)

    @property
    def engine(self) -> Engine:
        """The way to ClickHouse, for others who ask of the same books."""
        return self._engine

    async def keep(self, batch: Batch) -> None:
        """Events go last: one that is here proves that all that was made of it is here too."""

        def insert(client: Client) -> None:
            for table, rows in arrow_tables(batch):
                client.insert_arrow(table, rows, settings=INSERT_SETTINGS)

        await self._engine.do(insert, what="keeping a batch", seconds=self._insert_seconds)

    async def runs(self, tenant: str, limit: int) -> list[RunRecord]:
        rows = await self._ask("listing runs", questions.RUNS, tenant=tenant, limit=limit)
        return [_run(row) for row in rows]

    async def run(self, tenant: str, run_id: str) -> RunRecord | None:
        rows = await self._ask("finding a run", questions.RUN, tenant=tenant, run_id=run_id)
        return _run(rows[0]) if rows else None

    async def components(self, tenant: str, run_id: str) -> list[ComponentSum]:
        use = await self._uses.of(tenant, run_id)
        rows = await self._ask_use("summing a run", questions.COMPONENTS, use)
        return [
            ComponentSum(
                component=row["component"],
                method=row["method"],
                source=row["source"],
                range_fraction=row["range"],
                energy_joules=row["energy"],
                carbon_grams_co2e=row["carbon"],
                cost_usd=row["cost"],
                embodied_grams_co2e=row["embodied"],
                samples=row["samples_told"],
            )
            for row in rows
        ]

    async def coverage(self, tenant: str, run_id: str) -> Coverage | None:
        use = await self._uses.of(tenant, run_id)
        [row] = await self._ask_use("covering a run", questions.COVERAGE, use)
        if not row["samples_told"]:
            return None
        [gap] = await self._ask("counting missing samples", questions.MISSING, tenant=tenant, run_id=run_id)
        return Coverage(
            job_id=row["run_job_id"],
            zone=row["run_zone"],
            first_at=row["first_at"],
            last_at=row["last_at"],
            pue=row["pue"],
            intensity_grams_per_kwh=row["intensity_grams_per_kwh"],
            intensity_sources=tuple(row["intensity_sources"]),
            intensity_bases=tuple(row["intensity_bases"]),
            samples_missing=int(gap["missing"] or 0),
            gaps_provable_from=use.sums_before,
        )

    async def power(self, tenant: str, run_id: str, points_max: int) -> list[PowerPoint]:
        use = await self._uses.of(tenant, run_id)
        rows = await self._ask_use("reading power", questions.POWER, use, points_max=points_max)
        return [PowerPoint(row["starts_at"], row["component"], row["power_watts"]) for row in rows]

    async def offers(self, tenants: Sequence[str], at: datetime) -> list[Offer]:
        rows = await self._ask("listing offers", questions.OFFERS, tenants=list(tenants), at=at)
        return [Offer(**row) for row in rows]

    async def days(self, tenants: Sequence[str], at: datetime) -> Days:
        rows = await self._ask("reading intensities", questions.DAYS, tenants=list(tenants), at=at)
        days: dict[str, dict[int, HourOfDay]] = {}
        for row in rows:
            hour = HourOfDay(row["intensity_grams_per_kwh"], row["kind"], row["range_fraction"])
            days.setdefault(row["zone"], {})[row["hour"]] = hour
        return days

    async def newest_body(self, tenant: str, event_type: str, key: str) -> str | None:
        area = event_type.partition(".")[0]
        rows = await self._ask(
            "finding an event", questions.NEWEST_BODY, tenant=tenant, area=area, key=key, type=event_type
        )
        return str(rows[0]["body"]) if rows else None

    async def events(self, tenants: Sequence[str], area: str, key: str, limit: int) -> list[KeptEvent]:
        rows = await self._ask(
            "listing events", questions.EVENTS, tenants=list(tenants), area=area, key=key, limit=limit
        )
        return [KeptEvent(**row) for row in rows]

    async def _ask_use(self, what: str, sql: str, use: RunUse, **parameters: Any) -> list[Mapping[str, Any]]:
        return await self._ask(what, use.asked(sql), **use.parameters, **parameters)

    async def _ask(self, what: str, sql: str, **parameters: Any) -> list[Mapping[str, Any]]:
        return await self._engine.ask(sql, parameters, what=what, seconds=self._query_seconds)


def _run(row: Mapping[str, Any]) -> RunRecord:
    lists = {name: tuple(row[name]) for name in ("starts", "pauses")}
    return RunRecord(**{**row, **lists, "name": row["name"] or row["run_id"], "metrics": dict(row["metrics"])})


@contextlib.asynccontextmanager
async def open_store(
    connect: Callable[[], Client], *, what: str, insert_seconds: float, query_seconds: float
) -> AsyncIterator[ClickHouseStore]:
    """The store, its books in their newest form, while the block runs. Raises Unavailable or Broken."""
    async with open_engine(connect, what=what) as engine:
        applied = await engine.do(
            lambda client: migrate(client, packaged_migrations()), what="migrating", seconds=MIGRATING_SECONDS_MAX
        )
        log.info("ledger is open", where=what, migrations_applied=applied)
        yield ClickHouseStore(engine, insert_seconds=insert_seconds, query_seconds=query_seconds)
