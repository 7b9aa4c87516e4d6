"""Rows for exports from ClickHouse, some at a time in the order in which they lie on disk. Fills `ports.exports`."""

import calendar
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from clickhouse_connect.driver.client import Client

from ergonaut_ledger.adapters.engine import Engine
from ergonaut_ledger.adapters.rollups import DIMENSIONS
from ergonaut_ledger.domain.exporting import REQUESTS, Export, columns_of
from ergonaut_ledger.domain.usage import EPOCH, Span

SLICE_ROWS = 200_000
"""Rows of one slice, about 60 MB."""

REQUEST_ROWS = 2_000
"""Logged requests of one slice: at most some tens of megabytes."""


@dataclass(frozen=True, slots=True)
class _Measured:
    """A table of measurements: its time, what its rows are sorted by after run and time, and how its partitions are named."""

    table: str
    at: str
    then_by: tuple[str, ...]
    partition: str = "%Y%m"


_SUMMED_BY = tuple(name for name in DIMENSIONS if name not in ("tenant", "run_id"))
_MEASURED = {
    "samples": _Measured("power_samples", "started_at", ("event_id", "position")),
    "minutes": _Measured("power_minutes", "at", _SUMMED_BY, "%Y%m%d"),
    "hours": _Measured("power_hours", "at", _SUMMED_BY),
    "days": _Measured("power_days", "at", _SUMMED_BY),
}

_PARTITIONS = """
SELECT DISTINCT partition_id FROM system.parts
WHERE database = currentDatabase() AND table = {table:String} AND active
ORDER BY partition_id
"""

# The next rows after a key in the order in which the table lies on disk, so that a slice is read from where the one before it
# ended and no further than it goes.
_SLICE = """
SELECT {columns}
FROM {table} FINAL
WHERE tenant = {{tenant:String}} AND {at} >= {{starts_at:DateTime64(6, 'UTC')}} AND {at} < {{ends_at:DateTime64(6, 'UTC')}}
    AND ({{run_id:String}} = '' OR run_id = {{run_id:String}})
    AND (
        run_id > {{after_run_id:String}}
        OR (run_id = {{after_run_id:String}} AND {at} > fromUnixTimestamp64Micro({{after_at:Int64}}, 'UTC'))
        OR (
            run_id = {{after_run_id:String}} AND {at} = fromUnixTimestamp64Micro({{after_at:Int64}}, 'UTC')
            AND ({then_by}) > ({after_then})
        )
    )
ORDER BY tenant, run_id, {at}, {then_by}
LIMIT {{limit:UInt64}}
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

# Logged requests, in the order of time within a model, which is that in which they lie.
_REQUESTS = """
SELECT answered_at, model, version, request_id, latency_ms, rate, inputs, outputs, event_id, position
FROM model_requests FINAL
WHERE tenant = {tenant:String}
    AND answered_at >= {starts_at:DateTime64(6, 'UTC')} AND answered_at < {ends_at:DateTime64(6, 'UTC')}
    AND (model, answered_at, event_id, position) >
        ({after_model:String}, fromUnixTimestamp64Micro({after_at:Int64}, 'UTC'), {after_event_id:String}, {after_position:Int64})
ORDER BY model, answered_at, event_id, position
LIMIT {limit:UInt64}
SETTINGS do_not_merge_across_partitions_select_final = 1
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
        if export.table == REQUESTS:
            async for rows in self._requests(asked):
                yield rows
            return
        if export.table in _WHOLE:
            yield await self._read(_WHOLE[export.table], asked)
            return
        measured = _MEASURED[export.table]
        for span in await self._spans(measured, export.span):
            async for rows in self._rows(export.table, asked | {"starts_at": span.starts_at, "ends_at": span.ends_at}):
                yield rows

    async def _requests(self, asked: Mapping[str, Any]) -> AsyncIterator[Any]:
        after: dict[str, Any] = {"after_model": "", "after_at": 0, "after_event_id": "", "after_position": -1}
        while True:
            rows = await self._read(_REQUESTS, {**asked, **after, "limit": REQUEST_ROWS})
            if rows.num_rows:
                yield rows
            if rows.num_rows < REQUEST_ROWS:
                return
            [last] = rows.slice(rows.num_rows - 1).to_pylist()
            after = {f"after_{name}": last[name] for name in ("model", "event_id", "position")}
            after["after_at"] = (last["answered_at"] - EPOCH) // timedelta(microseconds=1)

    async def _spans(self, measured: _Measured, whole: Span) -> list[Span]:
        """The time by partitions: within one, rows are in order."""
        rows = await self._engine.ask(
            _PARTITIONS, {"table": measured.table}, what="finding an export's parts", seconds=self._seconds
        )
        spans = [_span_of(row["partition_id"], measured.partition) for row in rows]
        common = [Span(max(each.starts_at, whole.starts_at), min(each.ends_at, whole.ends_at)) for each in spans]
        return [each for each in common if each.starts_at < each.ends_at]

    async def _rows(self, table: str, asked: Mapping[str, Any]) -> AsyncIterator[Any]:
        measured = _MEASURED[table]
        sql = _slice_sql(table, measured)
        after: dict[str, Any] = {"after_run_id": "", "after_at": -1} | {
            f"after_{name}": 0 if name == "position" else "" for name in measured.then_by
        }
        while True:
            rows = await self._read(sql, {**asked, **after, "limit": SLICE_ROWS})
            if rows.num_rows:
                yield rows
            if rows.num_rows < SLICE_ROWS:
                return
            after = _key_of(rows.slice(rows.num_rows - 1).to_pylist()[0], measured)

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


def _slice_sql(table: str, measured: _Measured) -> str:
    after = (f"{{after_{name}:{'UInt32' if name == 'position' else 'String'}}}" for name in measured.then_by)
    return _SLICE.format(
        columns=", ".join(column.name for column in columns_of(table)),
        table=measured.table,
        at=measured.at,
        then_by=", ".join(measured.then_by),
        after_then=", ".join(after),
    )


def _key_of(row: Mapping[str, Any], measured: _Measured) -> dict[str, Any]:
    """Where a row stands in its table; times of whole seconds come as plain numbers."""
    at = row[measured.at]
    micros = at * 1_000_000 if isinstance(at, int) else (at - EPOCH) // timedelta(microseconds=1)
    return {"after_run_id": row["run_id"], "after_at": micros} | {
        f"after_{name}": row[name] for name in measured.then_by
    }


def _span_of(partition: str, form: str) -> Span:
    first = datetime.strptime(partition, form).replace(tzinfo=UTC)
    days = 1 if "%d" in form else calendar.monthrange(first.year, first.month)[1]
    return Span(first, first + timedelta(days=days))
