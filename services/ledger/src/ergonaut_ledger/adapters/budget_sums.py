"""What budgets ask of ClickHouse: sums by hour and by minute, the present pace, and runs under way.

FINAL makes a sample count once, however often it was told; a sample never moves to another month's partition, so that each
may be read by itself. What is long past comes out of the roll-ups, but for minutes that were touched since they were rolled up,
which are summed from their samples; so a year is asked for in moments, also when samples are dropped by age.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from ergonaut.budgets import BudgetScope
from ergonaut_ledger.adapters.engine import Engine
from ergonaut_ledger.adapters.rollups import ClickHouseUsage
from ergonaut_ledger.domain.budgets import HOURS_KEPT, Answer, Asked, Chunk, Pace, Question, RunUnderWay, Use, total
from ergonaut_ledger.domain.usage import EPOCH, Level, Span, parts

_OF_SCOPE = {
    BudgetScope.TENANT: "",
    BudgetScope.PROJECT: "AND project = {scope_key:String}",
    BudgetScope.JOB: "AND job_id = {scope_key:String}",
    BudgetScope.RUN: "AND run_id = {scope_key:String}",
}

_METRICS = ("cost_usd", "carbon_grams_co2e", "energy_joules")

_USE = ",\n    ".join(
    f"ifNull(sumKahan({metric}), 0) AS {metric}_used, ifNull(sumKahan(range_fraction * {metric}), 0) AS {metric}_range"
    for metric in _METRICS
)

_IS_RECENT = "ended_at > {recent_after:DateTime64(6, 'UTC')} AND ended_at <= {recent_until:DateTime64(6, 'UTC')}"

_RECENT = ",\n    ".join(f"ifNull(sumKahanIf({metric}, {_IS_RECENT}), 0) AS {metric}_recent" for metric in _METRICS)

_OF_QUESTION = """
FROM power_samples FINAL
WHERE tenant = {tenant:String} AND share = 'run'
    AND started_at >= {since:DateTime64(6, 'UTC')} AND started_at < {until:DateTime64(6, 'UTC')}
"""

_GROUPED = """
GROUP BY starts_at
ORDER BY starts_at
SETTINGS do_not_merge_across_partitions_select_final = 1
"""

_ROLLED = {Level.MINUTE: "power_minutes", Level.HOUR: "power_hours", Level.DAY: "power_days"}

# A roll-up keeps ways of measuring apart, so that the range of its joules is that of its grams and dollars too.
_SUMS_ROLLED = ", ".join(
    f"ifNull(sumKahan({metric}), 0) AS {metric}_used, "
    f"ifNull(sumKahan({metric} * ranged / nullIf(energy_joules, 0)), 0) AS {metric}_range"
    for metric in _METRICS
)

_MINUTES = f"""
SELECT
    toStartOfMinute(started_at) AS starts_at,
    {_USE},
    {_RECENT},
    countIf({_IS_RECENT}) AS recent_samples,
    minIf(started_at, {_IS_RECENT}) AS recent_from,
    maxIf(ended_at, {_IS_RECENT}) AS newest,
    maxIf(dateDiff('microsecond', started_at, ended_at), {_IS_RECENT}) / 1e6 AS seconds
{_OF_QUESTION}"""

_RUN_OF_SCOPE = {
    BudgetScope.TENANT: "",
    BudgetScope.PROJECT: "AND project = {scope_key:String}",
    BudgetScope.JOB: "AND job = {scope_key:String}",
    BudgetScope.RUN: "AND key = {scope_key:String}",
}

# Told by the newest start and the newest end: a run that was paused and goes on under its name has started again.
_UNDER_WAY = """
SELECT
    key AS run_id,
    max(JSONExtractString(body, 'job_id')) AS job,
    argMaxIf(JSONExtractString(body, 'project'), occurred_at, type = 'runs.run.started') AS project,
    maxIf(occurred_at, type = 'runs.run.started') AS newest_start_at,
    countIf(type IN ('runs.run.finished', 'runs.run.preempted')) AS ends,
    maxIf(occurred_at, type = 'runs.run.paused') AS newest_pause_at
FROM events
WHERE tenant = {tenant:String} AND area = 'runs' AND occurred_at > {started_after:DateTime64(6, 'UTC')}
    AND type IN ('runs.run.started', 'runs.run.finished', 'runs.run.preempted', 'runs.run.paused')
GROUP BY key
HAVING countIf(type = 'runs.run.started') > 0 AND ends = 0 AND newest_pause_at <= newest_start_at
"""

_NEWEST_FIRST = """
ORDER BY newest_start_at DESC, run_id
LIMIT {limit:UInt32}
"""


class ClickHouseBudgetSums:
    """Fills `BudgetSums`."""

    def __init__(self, engine: Engine, *, query_seconds: float) -> None:
        self._engine = engine
        self._query_seconds = query_seconds
        self._usage = ClickHouseUsage(engine, query_seconds=query_seconds)

    async def answer(self, question: Question, asked: Asked) -> Answer:
        hours = await self._long_past(question, asked.hours_from, min(asked.minutes_from, question.until))
        of_minutes = _MINUTES + _OF_SCOPE[question.scope] + _GROUPED
        span = {"since": asked.minutes_from, "until": question.until}
        recent = {"recent_after": asked.recent_after, "recent_until": asked.recent_until}
        minutes = await self._ask(of_minutes, question, **recent, **span)
        return Answer(hours, [_chunk(row) for row in minutes], _pace(minutes))

    async def runs_under_way(self, question: Question, started_after: datetime, limit: int) -> list[RunUnderWay]:
        sql = _UNDER_WAY + _RUN_OF_SCOPE[question.scope] + _NEWEST_FIRST
        rows = await self._ask(sql, question, started_after=started_after, limit=limit)
        return [RunUnderWay(row["run_id"], row["job"], row["newest_start_at"]) for row in rows]

    async def _long_past(self, question: Question, since: datetime | None, until: datetime) -> list[Chunk]:
        """Sums by hour for the last two days, by day before."""
        if since is None or since >= until:
            return []
        by_hour_from = until.replace(hour=0, minute=0, second=0, microsecond=0) - HOURS_KEPT
        spans = [
            (Level.DAY, Span(since, min(by_hour_from, until))),
            (Level.HOUR, Span(max(since, by_hour_from), until)),
        ]
        touched = await self._usage.touched_minutes(question.tenant, since, until)
        chunks: list[Chunk] = []
        for level, span in spans:
            if span.starts_at < span.ends_at:
                sql, parameters = _rolled(question, level, parts(span, level, touched))
                chunks += [_chunk(row) for row in await self._ask(sql, question, **parameters)]
        return chunks

    async def _ask(self, sql: str, question: Question, **parameters: Any) -> list[Mapping[str, Any]]:
        asked = {"tenant": question.tenant, "scope_key": question.scope_key, **parameters}
        return await self._engine.ask(sql, asked, what="summing for a budget", seconds=self._query_seconds)


def _rolled(question: Question, coarsest: Level, pieces: Mapping[Level, Sequence[Span]]) -> tuple[str, dict[str, Any]]:
    """The question over each level's spans, summed by hour or by day, and its bound values."""
    selects: list[str] = []
    parameters: dict[str, Any] = {}
    for level, spans in pieces.items():
        if spans:
            parameters |= {
                f"{level}_first": spans[0].starts_at,
                f"{level}_last": spans[-1].ends_at,
                f"{level}_starts": [_microseconds(span.starts_at) for span in spans],
                f"{level}_ends": [_microseconds(span.ends_at) for span in spans],
            }
            selects.append(_select(question, level))
    start = "toStartOfDay" if coarsest is Level.DAY else "toStartOfHour"
    union = "\n    UNION ALL\n".join(selects)
    return f"SELECT {start}(at, 'UTC') AS starts_at, {_SUMS_ROLLED}\nFROM\n(\n{union}\n)\n{_GROUPED}", parameters


def _select(question: Question, level: Level) -> str:
    """One level's rows. Its spans may be many after late samples, so they are one condition and not one question each."""
    sampled = level is Level.SAMPLE
    table, at = ("power_samples", "started_at") if sampled else (_ROLLED[level], "at")
    ranged = "range_fraction * energy_joules" if sampled else "energy_joules_range"
    microseconds = f"toUnixTimestamp64Micro(toDateTime64({at}, 6, 'UTC'))"
    return f"""
    SELECT toDateTime({at}, 'UTC') AS at, cost_usd, carbon_grams_co2e, energy_joules, {ranged} AS ranged
    FROM {table} FINAL
    WHERE tenant = {{tenant:String}} AND share = 'run' {_OF_SCOPE[question.scope]}
        AND {at} >= {{{level}_first:DateTime64(6, 'UTC')}} AND {at} < {{{level}_last:DateTime64(6, 'UTC')}}
        AND arrayExists(
            (start, end) -> {microseconds} >= start AND {microseconds} < end,
            {{{level}_starts:Array(Int64)}}, {{{level}_ends:Array(Int64)}}
        )"""  # noqa: S608 - constants only


def _microseconds(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


def _chunk(row: Mapping[str, Any]) -> Chunk:
    used = {metric: row[f"{metric}_used"] for metric in _METRICS}
    ranges = {f"{metric}_range": row[f"{metric}_range"] for metric in _METRICS}
    return Chunk(row["starts_at"], Use(**used, **ranges))


def _pace(minutes: Sequence[Mapping[str, Any]]) -> Pace:
    recent = [row for row in minutes if row["recent_samples"]]
    if not recent:
        return Pace()
    return Pace(
        recent=total(Use(**{metric: row[f"{metric}_recent"] for metric in _METRICS}) for row in recent),
        oldest_started_at=min(row["recent_from"] for row in recent),
        newest_ended_at=max(row["newest"] for row in recent),
        interval_seconds=max(row["seconds"] for row in recent),
    )
