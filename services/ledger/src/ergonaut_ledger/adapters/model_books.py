"""Served models on ClickHouse: footprints from the gateway's reports, requests from its log. Fills `ports.served`."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from clickhouse_connect.driver.client import Client

from ergonaut_ledger.adapters.engine import Engine
from ergonaut_ledger.domain.served import LoggedRequest, ModelFootprint, RequestsQuestion
from ergonaut_ledger.domain.usage import Span

# Each report once. A sum leaves out what was not told; one of grams or dollars is null where some of the energy has none.
_FOOTPRINTS = """
WITH reports AS
(
    SELECT
        key AS model,
        JSONExtractUInt(body, 'version') AS version,
        JSONExtractUInt(body, 'requests') AS requests,
        JSONExtractUInt(body, 'rows') AS predictions,
        JSONExtractUInt(body, 'failed') AS failed,
        JSONExtract(body, 'cpu_seconds', 'Nullable(Float64)') AS cpu_seconds,
        JSONExtract(body, 'energy_joules', 'Nullable(Float64)') AS energy_joules,
        JSONExtract(body, 'energy_joules_low', 'Nullable(Float64)') AS energy_joules_low,
        JSONExtract(body, 'energy_joules_high', 'Nullable(Float64)') AS energy_joules_high,
        JSONExtractString(body, 'energy_method') AS method,
        JSONExtract(body, 'carbon_grams_co2e', 'Nullable(Float64)') AS carbon_grams_co2e,
        JSONExtract(body, 'cost_usd', 'Nullable(Float64)') AS cost_usd
    FROM events FINAL
    WHERE tenant = {tenant:String} AND area = 'inference' AND type = 'inference.request.served'
        AND ({model:String} = '' OR key = {model:String})
        AND occurred_at >= {starts_at:DateTime64(6, 'UTC')} AND occurred_at < {ends_at:DateTime64(6, 'UTC')}
)
SELECT
    model,
    version,
    sum(requests) AS requests_sum,
    sum(predictions) AS predictions_sum,
    sum(failed) AS failed_sum,
    sumKahan(coalesce(cpu_seconds, 0)) AS cpu_seconds_sum,
    sumIf(predictions, energy_joules IS NOT NULL) AS predictions_measured,
    countIf(energy_joules IS NOT NULL) AS measured,
    if(measured = 0, NULL, sumKahan(energy_joules)) AS joules,
    if(measured = 0 OR countIf(energy_joules_low IS NOT NULL) < measured, NULL, sumKahan(energy_joules_low)) AS joules_low,
    if(measured = 0 OR countIf(energy_joules_high IS NOT NULL) < measured, NULL, sumKahan(energy_joules_high)) AS joules_high,
    arraySort(groupUniqArrayIf(method, method != '')) AS methods,
    if(measured = 0 OR countIf(carbon_grams_co2e IS NOT NULL) < measured, NULL, sumKahan(carbon_grams_co2e)) AS grams,
    if(measured = 0 OR countIf(cost_usd IS NOT NULL) < measured, NULL, sumKahan(cost_usd)) AS usd
FROM reports
GROUP BY model, version
ORDER BY model, version
LIMIT {limit:UInt32}
"""

# Within one model rows lie in order of time, so a page is read from where the one before it ended.
_REQUESTS = """
SELECT answered_at, event_id, position, version, request_id, latency_ms, rate, inputs, outputs
FROM model_requests FINAL
WHERE tenant = {tenant:String} AND model = {model:String}
    AND answered_at >= {since:DateTime64(6, 'UTC')} AND answered_at < {until:DateTime64(6, 'UTC')}
    AND ({version:UInt64} = 0 OR version = {version:UInt64})
    AND (
        {is_first:Bool}
        OR (answered_at, event_id, position)
            < ({after_at:DateTime64(6, 'UTC')}, {after_event_id:String}, {after_position:UInt32})
    )
ORDER BY answered_at DESC, event_id DESC, position DESC
LIMIT {limit:UInt32}
SETTINGS do_not_merge_across_partitions_select_final = 1
"""

_FORGET = """
ALTER TABLE model_requests DELETE
WHERE tenant = {tenant:String} AND model = {model:String} AND answered_at < {before:DateTime64(6, 'UTC')}
SETTINGS mutations_sync = 1
"""

# A partition's name is a tuple of its day and its tenant; only its id can be named without quoting.
_PARTITIONS = """
SELECT DISTINCT partition_id, toUInt32OrZero(extract(partition, '[0-9]{8}')) AS day
FROM system.parts
WHERE database = currentDatabase() AND table = 'model_requests' AND active
ORDER BY day
"""


class ClickHouseModelBooks:
    """Answers from the events, and from the table of logged requests."""

    def __init__(self, engine: Engine, *, query_seconds: float) -> None:
        self._engine = engine
        self._query_seconds = query_seconds

    async def footprints(self, tenant: str, model: str, during: Span, limit: int) -> list[ModelFootprint]:
        asked = {"tenant": tenant, "model": model, "starts_at": during.starts_at, "ends_at": during.ends_at}
        rows = await self._ask("summing what models used", _FOOTPRINTS, **asked, limit=limit)
        return [_footprint(row) for row in rows]

    async def requests(self, question: RequestsQuestion) -> list[LoggedRequest]:
        after = question.after
        rows = await self._ask(
            "reading logged requests",
            _REQUESTS,
            tenant=question.tenant,
            model=question.model,
            version=question.version,
            since=question.since,
            until=question.until,
            is_first=after is None,
            after_at=after.answered_at if after else question.until,
            after_event_id=after.event_id if after else "",
            after_position=after.position if after else 0,
            limit=question.limit + 1,
        )
        return [LoggedRequest(**row) for row in rows]

    async def forget(self, tenant: str, model: str, before: datetime) -> None:
        await self._do(_FORGET, tenant=tenant, model=model, before=before)

    async def days_of_requests(self) -> list[date]:
        return sorted({_day(row) for row in await self._ask("looking for old requests", _PARTITIONS)})

    async def drop_requests(self, day: date) -> None:
        for row in await self._ask("looking for old requests", _PARTITIONS):
            if _day(row) == day:
                await self._do(f"ALTER TABLE model_requests DROP PARTITION ID '{row['partition_id']}'")

    async def _ask(self, what: str, sql: str, **parameters: Any) -> list[Mapping[str, Any]]:
        return await self._engine.ask(sql, parameters, what=what, seconds=self._query_seconds)

    async def _do(self, sql: str, **parameters: Any) -> None:
        def work(client: Client) -> None:
            client.query(sql, parameters=parameters) if parameters else client.command(sql)

        await self._engine.do(work, what="letting logged requests go", seconds=self._query_seconds)


def _footprint(row: Mapping[str, Any]) -> ModelFootprint:
    return ModelFootprint(
        model=row["model"],
        version=row["version"],
        requests=row["requests_sum"],
        predictions=row["predictions_sum"],
        failed=row["failed_sum"],
        cpu_seconds=row["cpu_seconds_sum"],
        predictions_measured=row["predictions_measured"],
        energy_joules=row["joules"],
        energy_joules_low=row["joules_low"],
        energy_joules_high=row["joules_high"],
        methods=tuple(row["methods"]),
        carbon_grams_co2e=row["grams"],
        cost_usd=row["usd"],
    )


def _day(row: Mapping[str, Any]) -> date:
    return datetime.strptime(str(row["day"]), "%Y%m%d").replace(tzinfo=UTC).date()
