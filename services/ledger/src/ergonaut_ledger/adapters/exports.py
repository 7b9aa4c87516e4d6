"""Rows for exports from ClickHouse, an hour or a part of one at a time. Fills `ports.exports`."""

import secrets
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

from clickhouse_connect.driver.client import Client

from ergonaut_ledger.adapters.engine import Engine
from ergonaut_ledger.domain.exporting import Export, columns_of

SLICE_ROWS = 200_000
"""Rows of one slice, about 60 MB; one that is larger is cut by a digest of its rows."""

_MEASURED = {
    # Each with its time, and what its rows are cut by.
    "samples": ("power_samples", "started_at", "event_id"),
    "minutes": ("power_minutes", "at", "concat(run_id, host)"),
    "hours": ("power_hours", "at", "concat(run_id, host)"),
    "days": ("power_days", "at", "concat(run_id, host)"),
}

_COUNTS = """
SELECT {bucket}({at}, 'UTC') AS bucket, count() AS rows
FROM {table}
WHERE tenant = {{tenant:String}} AND {at} >= {{starts_at:DateTime64(6, 'UTC')}} AND {at} < {{ends_at:DateTime64(6, 'UTC')}}
    AND ({{run_id:String}} = '' OR run_id = {{run_id:String}})
GROUP BY bucket
ORDER BY bucket
"""

_SLICE = """
SELECT {columns}
FROM {table} FINAL
WHERE tenant = {{tenant:String}} AND {at} >= {{starts_at:DateTime64(6, 'UTC')}} AND {at} < {{ends_at:DateTime64(6, 'UTC')}}
    AND ({{run_id:String}} = '' OR run_id = {{run_id:String}})
    AND cityHash64({cut}) % {{parts:UInt64}} = {{part:UInt64}}
ORDER BY {at}
SETTINGS do_not_merge_across_partitions_select_final = 1
"""

_RUNS = """
SELECT
    run_id, job_id, project, name, host, state, started_at, ended_at, provider, region, machine_type, zone,
    toJSONString(CAST(metrics, 'Map(String, Float64)')) AS metrics
FROM runs
WHERE tenant = {tenant:String}
    AND started_at >= {starts_at:DateTime64(6, 'UTC')} AND started_at < {ends_at:DateTime64(6, 'UTC')}
    AND ({run_id:String} = '' OR run_id = {run_id:String})
ORDER BY started_at, run_id
"""

_PHASES = """
SELECT
    key AS run_id,
    JSONExtractString(phase_body, 'phase') AS phase,
    JSONExtract(phase_body, 'step', 'Nullable(Int64)') AS step,
    parseDateTime64BestEffort(JSONExtractString(phase_body, 'started_at'), 6, 'UTC') AS started_at,
    parseDateTime64BestEffort(JSONExtractString(phase_body, 'ended_at'), 6, 'UTC') AS ended_at,
    JSONExtractRaw(phase_body, 'metrics') AS metrics
FROM
(
    SELECT key, arrayJoin(JSONExtractArrayRaw(body, 'phases')) AS phase_body
    FROM events FINAL
    WHERE tenant = {tenant:String} AND area = 'runs' AND type = 'runs.phase.finished'
        AND ({run_id:String} = '' OR key = {run_id:String})
)
WHERE started_at >= {starts_at:DateTime64(6, 'UTC')} AND started_at < {ends_at:DateTime64(6, 'UTC')}
ORDER BY started_at, run_id
"""

_WHOLE = {"runs": _RUNS, "phases": _PHASES}
"""Tables of which all is one slice: a run is a row, and told phases are bounded by the bus."""

_KEY = "SELECT key FROM export_keys WHERE tenant = {tenant:String} ORDER BY made_at, key LIMIT 1"


class ClickHouseExportBooks:
    """Reads exports in the thread for long work."""

    def __init__(self, engine: Engine, *, seconds: float) -> None:
        self._engine = engine
        self._seconds = seconds

    async def slices(self, export: Export) -> AsyncIterator[Any]:
        asked = {
            "tenant": export.tenant,
            "run_id": export.run_id,
            "starts_at": export.span.starts_at,
            "ends_at": export.span.ends_at,
        }
        if export.table in _WHOLE:
            yield await self._read(_WHOLE[export.table], asked)
            return
        table, at, cut = _MEASURED[export.table]
        bucket, width = (
            ("toStartOfDay", timedelta(days=1)) if export.table == "days" else ("toStartOfHour", timedelta(hours=1))
        )
        counts = await self._engine.ask(
            _COUNTS.format(bucket=bucket, at=at, table=table), asked, what="counting an export", seconds=self._seconds
        )
        columns = ", ".join(column.name for column in columns_of(export.table))
        sql = _SLICE.format(columns=columns, table=table, at=at, cut=cut)
        for row in counts:
            parts = -(-row["rows"] // SLICE_ROWS)
            bounds = {
                "starts_at": max(row["bucket"], export.span.starts_at),
                "ends_at": min(row["bucket"] + width, export.span.ends_at),
            }
            for part in range(parts):
                yield await self._read(sql, asked | bounds | {"parts": parts, "part": part})

    async def key(self, tenant: str) -> bytes:
        def work(client: Client) -> bytes:
            found = client.query(_KEY, parameters={"tenant": tenant}).result_rows
            if not found:
                made = {"tenant": tenant, "key": secrets.token_hex(32)}
                client.query(
                    "INSERT INTO export_keys (tenant, key) SELECT {tenant:String}, {key:String}", parameters=made
                )
                # Read again: should another have made one at the same time, the first stands for both.
                found = client.query(_KEY, parameters={"tenant": tenant}).result_rows
            return bytes.fromhex(str(found[0][0]))

        return await self._engine.do(work, what="finding the key of exports", seconds=self._seconds)

    async def _read(self, sql: str, parameters: Mapping[str, Any]) -> Any:
        def work(client: Client) -> Any:
            settings = {"output_format_arrow_low_cardinality_as_dictionary": 0, "max_execution_time": self._seconds}
            return client.query_arrow(sql, parameters=dict(parameters), settings=settings, use_strings=True)

        return await self._engine.do(work, what="reading an export", seconds=self._seconds)
