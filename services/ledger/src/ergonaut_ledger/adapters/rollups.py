"""Roll-ups on ClickHouse: made by recomputing from below, answered from the coarsest that is exact. Fills `ports.rollups`."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from clickhouse_connect.driver.client import Client

from ergonaut_ledger.adapters.columns import INSERT_SETTINGS
from ergonaut_ledger.adapters.engine import Engine
from ergonaut_ledger.domain.rolling import Portion, Touch
from ergonaut_ledger.domain.usage import COARSEST, EPOCH, Level, Span, Step, Usage, UsageQuestion, parts

TABLES = {Level.MINUTE: "power_minutes", Level.HOUR: "power_hours", Level.DAY: "power_days"}

DIMENSIONS = (
    "tenant", "run_id", "host", "component", "share", "method", "source", "zone", "intensity_kind", "intensity_source",
    "intensity_signal", "intensity_accounting", "intensity_boundary", "project", "job_id",
)  # fmt: skip
"""What roll-ups keep apart."""

FIGURES = (
    "energy_joules", "energy_joules_range", "building_joules", "carbon_grams_co2e", "embodied_grams_co2e", "cost_usd",
)  # fmt: skip
"""What they sum, null where no sample told it."""

_DIMENSIONS = ", ".join(DIMENSIONS)
_COLUMNS = f"{_DIMENSIONS}, at, {', '.join(FIGURES)}, seconds, samples"
_SUMS = ", ".join(f"sumKahanOrNull({figure}) AS {figure}_sum" for figure in FIGURES)

OF_SAMPLES = """
    energy_joules,
    range_fraction * energy_joules AS energy_joules_range,
    pue * energy_joules AS building_joules,
    carbon_grams_co2e, embodied_grams_co2e, cost_usd,
    dateDiff('microsecond', started_at, ended_at) / 1e6 AS seconds,
    1 AS samples
"""
"""A sample as a roll-up of one."""

# One partition is one day or month and a row never moves to another, so each may be read by itself.
BY_PARTITION = "SETTINGS do_not_merge_across_partitions_select_final = 1"

_ROLL_MINUTES = f"""
INSERT INTO power_minutes ({_COLUMNS})
SELECT {_DIMENSIONS}, at, {_SUMS}, sumKahan(seconds), sum(samples)
FROM
(
    SELECT {_DIMENSIONS}, toStartOfMinute(started_at) AS at, {OF_SAMPLES}
    FROM power_samples FINAL
    WHERE tenant = {{tenant:String}}
        AND started_at >= {{starts_at:DateTime64(6, 'UTC')}} AND started_at < {{ends_at:DateTime64(6, 'UTC')}}
        AND toStartOfMinute(started_at) IN {{minutes:Array(DateTime('UTC'))}}
)
GROUP BY {_DIMENSIONS}, at
{BY_PARTITION}
"""  # noqa: S608 - constants only


def _roll_up(source: str, target: str, start: str) -> str:
    return f"""
INSERT INTO {target} ({_COLUMNS})
SELECT {_DIMENSIONS}, bucket, {_SUMS}, sumKahan(seconds), sum(samples)
FROM (SELECT *, {start}(at, 'UTC') AS bucket FROM {source} FINAL
    WHERE tenant = {{tenant:String}} AND at >= {{starts_at:DateTime('UTC')}} AND at < {{ends_at:DateTime('UTC')}}
        AND bucket IN {{buckets:Array(DateTime('UTC'))}})
GROUP BY {_DIMENSIONS}, bucket
{BY_PARTITION}
"""  # noqa: S608 - constants only


_ROLL_HOUR = _roll_up("power_minutes", "power_hours", "toStartOfHour")
_ROLL_DAY = _roll_up("power_hours", "power_days", "toStartOfDay")

_DONE = """
INSERT INTO touched_minutes (tenant, minute, touch, sign)
SELECT {tenant:String}, tupleElement(each, 1), tupleElement(each, 2), -1
FROM (SELECT arrayJoin(arrayZip({minutes:Array(DateTime('UTC'))}, {touches:Array(UUID)})) AS each)
"""

_TOUCHED = """
SELECT tenant, minute, toString(touch) AS touch
FROM touched_minutes
GROUP BY tenant, minute, touch
HAVING sum(sign) > 0
ORDER BY minute, tenant
LIMIT {limit:UInt32}
"""

_TOUCHED_OF = """
SELECT DISTINCT minute
FROM
(
    SELECT minute, touch
    FROM touched_minutes
    WHERE tenant = {tenant:String}
        AND minute > {starts_at:DateTime64(6, 'UTC')} - INTERVAL 1 MINUTE AND minute < {ends_at:DateTime64(6, 'UTC')}
    GROUP BY minute, touch
    HAVING sum(sign) > 0
)
"""

# Where a level has one span, its ends say it all; to look each row up among the spans takes longer than to sum it.
_WITHIN = """
        AND arrayExists(
            (start, end) -> {at} >= start AND {at} < end,
            arrayMap(each -> fromUnixTimestamp64Micro(each, 'UTC'), {{{level}_starts:Array(Int64)}}),
            arrayMap(each -> fromUnixTimestamp64Micro(each, 'UTC'), {{{level}_ends:Array(Int64)}})
        )"""

_LABELS = {
    "run": "run_id",
    "job": "job_id",
    "project": "project",
    "host": "host",
    "component": "component",
    "share": "share",
    "zone": "zone",
}
_STARTS = {
    Step.MINUTE: "toStartOfMinute(at, 'UTC')",
    Step.HOUR: "toStartOfHour(at, 'UTC')",
    Step.DAY: "toStartOfDay(at, 'UTC')",
    Step.TOTAL: "toStartOfDay(toDateTime(0, 'UTC'), 'UTC')",
}


class ClickHouseRollUps:
    """Makes the roll-ups."""

    def __init__(self, engine: Engine, *, seconds: float) -> None:
        self._engine = engine
        self._seconds = seconds

    async def touched(self, limit: int) -> list[Touch]:
        rows = await self._engine.ask(
            _TOUCHED, {"limit": limit}, what="looking for touched minutes", seconds=self._seconds
        )
        return [Touch(row["tenant"], row["minute"], row["touch"]) for row in rows]

    async def roll(self, portion: Portion) -> None:
        """Minutes, then the hour, then the day, and only then the touches are taken away: killed anywhere, it is done again."""
        await self._engine.do(lambda client: roll(client, portion), what="rolling up", seconds=self._seconds)


def roll(client: Client, portion: Portion) -> None:
    """The statements of one portion, in their order."""
    tenant, minutes, hours, day = portion.tenant, portion.minutes, portion.hours, portion.day
    touches = {"minutes": [t.minute for t in portion.touches], "touches": [t.touch for t in portion.touches]}
    steps: Sequence[tuple[str, Mapping[str, Any]]] = (
        (_ROLL_MINUTES, {"minutes": [*minutes]} | _bounds(minutes[0], minutes[-1] + timedelta(minutes=1))),
        (_ROLL_HOUR, {"buckets": [*hours]} | _bounds(hours[0], hours[-1] + timedelta(hours=1))),
        (_ROLL_DAY, {"buckets": [day]} | _bounds(day, day + timedelta(days=1))),
        (_DONE, touches),
    )
    for sql, parameters in steps:
        client.query(sql, parameters={"tenant": tenant, **parameters}, settings=INSERT_SETTINGS)


def _bounds(starts_at: datetime, ends_at: datetime) -> dict[str, Any]:
    return {"starts_at": starts_at, "ends_at": ends_at}


class ClickHouseUsage:
    """Answers what was used."""

    def __init__(self, engine: Engine, *, query_seconds: float) -> None:
        self._engine = engine
        self._seconds = query_seconds

    async def touched_minutes(self, tenant: str, starts_at: datetime, ends_at: datetime) -> list[datetime]:
        parameters = {"tenant": tenant, "starts_at": starts_at, "ends_at": ends_at}
        rows = await self._engine.ask(
            _TOUCHED_OF, parameters, what="looking for touched minutes", seconds=self._seconds
        )
        return [row["minute"] for row in rows]

    async def usage(self, question: UsageQuestion, touched: Sequence[datetime], rows_max: int) -> list[Usage]:
        sql, parameters = usage_query(question, touched)
        rows = await self._engine.ask(
            sql, {**parameters, "rows_max": rows_max}, what="summing use", seconds=self._seconds
        )
        return [_usage(row, question) for row in rows]


def usage_query(question: UsageQuestion, touched: Sequence[datetime]) -> tuple[str, dict[str, Any]]:
    """The one question over all levels, and its bound values."""
    pieces = parts(question.span, COARSEST[question.step], touched)
    parameters: dict[str, Any] = {
        "tenant": question.tenant,
        "project": question.project,
        "run_id": question.run_id,
        "host": question.host,
    }
    selects = []
    for level, spans in pieces.items():
        if spans:
            parameters |= _spans(level, spans)
            selects.append(_select(level, spans, question))
    names = [_LABELS[label] for label in question.group_by]
    grouped = ", ".join([f"{_STARTS[question.step]} AS starts_at", *names])
    sums = ", ".join(f"sumKahanOrNull({figure}) AS {figure}_sum" for figure in FIGURES if figure != "building_joules")
    union = "\n    UNION ALL\n".join(selects)
    return (
        f"SELECT {grouped}, {sums}, sum(samples) AS samples_sum\nFROM\n(\n{union}\n)\n"
        f"GROUP BY {', '.join(['starts_at', *names])}\nORDER BY {', '.join(['starts_at', *names])}\n"
        f"LIMIT {{rows_max:UInt32}}\n{BY_PARTITION}",
        parameters,
    )


def _spans(level: Level, spans: Sequence[Span]) -> dict[str, Any]:
    """The spans as two arrays, and their outermost ends, by which parts are chosen."""
    return {
        f"{level}_first": spans[0].starts_at,
        f"{level}_last": spans[-1].ends_at,
        f"{level}_starts": [int((span.starts_at - EPOCH) / timedelta(microseconds=1)) for span in spans],
        f"{level}_ends": [int((span.ends_at - EPOCH) / timedelta(microseconds=1)) for span in spans],
    }


def _select(level: Level, spans: Sequence[Span], question: UsageQuestion) -> str:
    table, at = ("power_samples", "started_at") if level is Level.SAMPLE else (TABLES[level], "at")
    kind = "DateTime64(6, 'UTC')" if level is Level.SAMPLE else "DateTime('UTC')"
    figures = OF_SAMPLES if level is Level.SAMPLE else f"{', '.join(FIGURES)}, seconds, samples"
    name = f"toDateTime({at}, 'UTC') AS at" if level is Level.SAMPLE else at
    within = _WITHIN.format(level=level.value, at=at) if len(spans) > 1 else ""
    only = "".join(
        f" AND {column} = {{{column}:String}}" for column in ("project", "run_id", "host") if getattr(question, column)
    )
    return f"""
    SELECT {_DIMENSIONS}, {name}, {figures}
    FROM {table} FINAL
    WHERE tenant = {{tenant:String}} AND {at} >= {{{level}_first:{kind}}} AND {at} < {{{level}_last:{kind}}}
{within}{only}"""  # noqa: S608 - constants only


def _usage(row: Mapping[str, Any], question: UsageQuestion) -> Usage:
    at = row["starts_at"]
    starts_at = question.span.starts_at if question.step is Step.TOTAL else at
    return Usage(
        starts_at=starts_at if starts_at.tzinfo else starts_at.replace(tzinfo=UTC),
        labels={label: row[_LABELS[label]] for label in question.group_by},
        energy_joules=row["energy_joules_sum"],
        energy_joules_range=row["energy_joules_range_sum"],
        carbon_grams_co2e=row["carbon_grams_co2e_sum"],
        embodied_grams_co2e=row["embodied_grams_co2e_sum"],
        cost_usd=row["cost_usd_sum"],
        samples=row["samples_sum"],
    )
