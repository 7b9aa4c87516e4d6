"""What the analysis asks of ClickHouse, as SQL; every value is a bound parameter. Built by `main`.

FINAL makes a sample count once, however often it was told; a sample never moves to another month's partition, so that each may
be read by itself. Whole tenants and hosts are asked of the roll-ups; samples are read of single runs, or of chosen ones lately.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from ergonaut.errors import Broken
from ergonaut.events import AnomalyFound
from ergonaut.events.runs import PhaseSpan
from ergonaut_ledger.adapters.engine import Engine
from ergonaut_ledger.adapters.rollups import ClickHouseUsage, usage_query
from ergonaut_ledger.adapters.run_use import RunUses
from ergonaut_ledger.domain.anomalies import AcceleratorUse, Anomaly, Subject, Watts, anomaly_of
from ergonaut_ledger.domain.efficiency import Slice
from ergonaut_ledger.domain.recommending import HostShares, IdleAccelerator
from ergonaut_ledger.domain.usage import Span, Step, UsageQuestion
from ergonaut_ledger.ports.analysis import EPOCH, Stretch

_BY_PARTITION = "SETTINGS do_not_merge_across_partitions_select_final = 1"

_DURING = """
    started_at >= {starts_at:DateTime64(6, 'UTC')} AND started_at < {ends_at:DateTime64(6, 'UTC')}
"""

PHASES_COUNT = """
SELECT sum(JSONLength(body, 'phases')) AS phases
FROM events FINAL
WHERE tenant = {tenant:String} AND area = 'runs' AND key = {run_id:String} AND type = 'runs.phase.finished'
"""

PHASES = """
SELECT phase
FROM
(
    SELECT arrayJoin(JSONExtractArrayRaw(body, 'phases')) AS phase
    FROM events FINAL
    WHERE tenant = {tenant:String} AND area = 'runs' AND key = {run_id:String} AND type = 'runs.phase.finished'
)
ORDER BY parseDateTime64BestEffortOrNull(JSONExtractString(phase, 'started_at'), 6, 'UTC'), phase
LIMIT {limit:UInt32}
"""

# Numbered phases only, the newest ones; the outer order is that of their beginnings.
NEWEST_STEPS = """
SELECT phase
FROM
(
    SELECT phase, parseDateTime64BestEffortOrNull(JSONExtractString(phase, 'started_at'), 6, 'UTC') AS started_at
    FROM
    (
        SELECT arrayJoin(JSONExtractArrayRaw(body, 'phases')) AS phase
        FROM events FINAL
        WHERE tenant = {tenant:String} AND area = 'runs' AND key = {run_id:String} AND type = 'runs.phase.finished'
    )
    WHERE JSONType(phase, 'step') = 'Int64' OR JSONType(phase, 'step') = 'UInt64'
    ORDER BY started_at DESC, phase
    LIMIT {limit:UInt32}
)
ORDER BY started_at, phase
"""

# A meter's samples follow each other, so those of one step stand for the time from the first one's beginning to the last's end.
# `@use` stands for what the run used since a time, see `run_use`.
SLICES = """
WITH
    (
        SELECT (
            min(started_at),
            greatest(dateDiff('microsecond', min(started_at), max(ended_at)), 1),
            greatest(uniqExact(host, producer, component), 1)
        )
        FROM @use
    ) AS span,
    greatest(intDiv(span.2 * span.3, {slices_max:UInt32}) + 1, 1) AS width
SELECT
    min(started_at) AS first_at,
    max(ended_at) AS last_at,
    if(count(energy_joules) = 0, NULL, sumKahan(energy_joules)) AS energy,
    if(count(energy_joules_range) = 0, NULL, sumKahan(energy_joules_range)) AS energy_range,
    if(count(carbon_grams_co2e) = 0, NULL, sumKahan(carbon_grams_co2e)) AS carbon,
    if(count(cost_usd) = 0, NULL, sumKahan(cost_usd)) AS cost
FROM @use
GROUP BY host, producer, component, energy_joules IS NULL, intDiv(dateDiff('microsecond', span.1, started_at), width)
ORDER BY first_at
SETTINGS do_not_merge_across_partitions_select_final = 1
"""

PREDICTIONS = """
SELECT sum(JSONExtractUInt(body, 'rows')) AS predictions
FROM events FINAL
WHERE tenant = {tenant:String} AND area = 'inference' AND type = 'inference.request.served'
    AND parseDateTime64BestEffortOrNull(JSONExtractString(body, 'started_at'), 6, 'UTC') >= {starts_at:DateTime64(6, 'UTC')}
    AND parseDateTime64BestEffortOrNull(JSONExtractString(body, 'ended_at'), 6, 'UTC') <= {ends_at:DateTime64(6, 'UTC')}
"""

# Over the answer of `usage_query`, kept apart by run and share.
HEAVIEST = """
SELECT run_id, energy_joules_sum AS energy
FROM ({usage})
WHERE run_id != '' AND share = 'run' AND energy > 0
ORDER BY energy DESC, run_id
LIMIT {{limit:UInt32}}
"""

# The same of one host, kept apart by component, too.
HOST_SHARES = """
SELECT
    sumIf(energy_joules_sum, share = 'run' AND run_id = {{charged_run:String}}) AS run_joules,
    sumIf(energy_joules_sum, share = 'others' OR (share = 'run' AND run_id != {{charged_run:String}})) AS others_joules,
    sumIf(energy_joules_sum, share = 'idle') AS idle_joules
FROM ({usage})
WHERE component = 'cpu'
"""

_UNCUT = 2**32 - 1
"""The answer within is cut nowhere: the heaviest run may come last by its name."""

# Each share of an accelerator is told for every interval, so the longest one is how long it was seen in that hour.
IDLE_ACCELERATORS = f"""
SELECT
    host, component,
    sumIf(seen, NOT held) AS idle_seconds,
    sum(seen) AS seen_seconds,
    sumIf(joules, NOT held) AS energy,
    if(countIf(grams IS NOT NULL AND NOT held) = 0, NULL, sumIf(grams, NOT held)) AS carbon,
    if(countIf(usd IS NOT NULL AND NOT held) = 0, NULL, sumIf(usd, NOT held)) AS cost,
    if(energy > 0, sumIf(joules_range, NOT held) / energy, NULL) AS range
FROM
(
    SELECT
        host, component,
        countIf(share = 'run' AND share_joules > 0) > 0 AS held,
        least(3600, max(share_seconds)) AS seen,
        sum(share_joules) AS joules,
        sum(share_joules_range) AS joules_range,
        sum(share_grams) AS grams,
        sum(share_usd) AS usd
    FROM
    (
        SELECT
            host, component, at, share,
            sum(seconds) AS share_seconds,
            ifNull(sum(energy_joules), 0) AS share_joules,
            ifNull(sum(energy_joules_range), 0) AS share_joules_range,
            sum(carbon_grams_co2e) AS share_grams,
            sum(cost_usd) AS share_usd
        FROM power_hours FINAL
        WHERE tenant = {{tenant:String}} AND startsWith(component, 'gpu') AND energy_joules IS NOT NULL
            AND at >= toStartOfHour({{starts_at:DateTime64(6, 'UTC')}}, 'UTC') AND at < {{ends_at:DateTime64(6, 'UTC')}}
        GROUP BY host, component, at, share, run_id
    )
    GROUP BY host, component, at
)
GROUP BY host, component
HAVING energy > 0
ORDER BY energy DESC, host, component
LIMIT {{limit:UInt32}}
{_BY_PARTITION}
"""  # noqa: S608 - only constants above are put in

# By minutes, since a part of them holds one day and one of samples a month.
TENANTS = """
SELECT DISTINCT tenant
FROM power_minutes
WHERE at >= toStartOfMinute({since:DateTime64(6, 'UTC')}, 'UTC')
ORDER BY tenant
LIMIT {limit:UInt32}
"""

POWER_OF_RUNS = f"""
SELECT
    run_id, host, component, at,
    sum(seconds) / uniqExact(producer) AS seconds,
    sum(joules) / seconds AS watts
FROM
(
    SELECT
        run_id, host, component, producer,
        toStartOfInterval(started_at, toIntervalSecond({{step_seconds:UInt32}})) AS at,
        sum(energy_joules) AS joules,
        sum(dateDiff('microsecond', started_at, ended_at)) / 1e6 AS seconds
    FROM power_samples FINAL
    WHERE tenant = {{tenant:String}} AND run_id != '' AND share = 'run'
        AND energy_joules IS NOT NULL AND ended_at > started_at AND {_DURING}
        AND (run_id, host, component) IN
        (
            SELECT run_id, host, component
            FROM power_minutes FINAL
            WHERE tenant = {{tenant:String}} AND run_id != '' AND share = 'run' AND energy_joules IS NOT NULL
                AND at >= toStartOfMinute({{starts_at:DateTime64(6, 'UTC')}}, 'UTC') AND at < {{ends_at:DateTime64(6, 'UTC')}}
            GROUP BY run_id, host, component
            ORDER BY sum(energy_joules) DESC, run_id, host, component
            LIMIT {{series_max:UInt32}}
        )
    GROUP BY run_id, host, component, producer, at
)
GROUP BY run_id, host, component, at
ORDER BY run_id, host, component, at
{_BY_PARTITION}
"""  # noqa: S608 - only constants above are put in

# Whether anything was ever used is the same for each version of a sum, so that none need be the final one.
ACCELERATOR_USE = """
SELECT run_id, host, component, max(job_id) AS job, ifNull(max(joules) > 0, 0) AS used
FROM
(
    SELECT run_id, host, component, job_id, energy_joules AS joules
    FROM power_hours
    WHERE tenant = {tenant:String} AND run_id IN {run_ids:Array(String)} AND share = 'run' AND startsWith(component, 'gpu')
    UNION ALL
    SELECT run_id, host, component, job_id, energy_joules AS joules
    FROM power_minutes
    WHERE tenant = {tenant:String} AND run_id IN {run_ids:Array(String)} AND share = 'run' AND startsWith(component, 'gpu')
        AND at >= {since:DateTime64(6, 'UTC')} - INTERVAL 1 DAY
)
GROUP BY run_id, host, component
"""

ACCELERATORS_GRANTED = """
SELECT key AS job, max(JSONExtractUInt(body, 'job', 'resources', 'accelerator_count')) AS granted
FROM events
WHERE tenant = {tenant:String} AND area = 'jobs' AND type = 'jobs.job.submitted' AND key IN {job_ids:Array(String)}
GROUP BY key
"""

RUNS_WITH_PHASES = """
SELECT key AS run_id
FROM events
WHERE tenant = {tenant:String} AND area = 'runs' AND type = 'runs.phase.finished'
    AND occurred_at >= {since:DateTime64(6, 'UTC')}
GROUP BY key
ORDER BY max(occurred_at) DESC, key
LIMIT {limit:UInt32}
"""

ANOMALIES = """
SELECT argMin(body, occurred_at) AS told
FROM events
WHERE tenant = {tenant:String} AND area = 'ledger' AND type = 'ledger.anomaly.found'
    AND occurred_at >= {since:DateTime64(6, 'UTC')}
    AND ({run_id:String} = '' OR JSONExtractString(body, 'run_id') = {run_id:String})
GROUP BY key
ORDER BY min(occurred_at) DESC, key
LIMIT {limit:UInt32}
"""


class ClickHouseAnalysisBooks:
    """Fills `AnalysisBooks`."""

    def __init__(self, engine: Engine, *, query_seconds: float) -> None:
        self._engine = engine
        self._query_seconds = query_seconds
        self._usage = ClickHouseUsage(engine, query_seconds=query_seconds)
        self._uses = RunUses(engine, query_seconds=query_seconds)

    async def phases(self, tenant: str, run_id: str, limit: int) -> tuple[list[PhaseSpan], int]:
        [count] = await self._ask("counting phases", PHASES_COUNT, tenant=tenant, run_id=run_id)
        rows = await self._ask("reading phases", PHASES, tenant=tenant, run_id=run_id, limit=limit)
        return _spans(run_id, rows), int(count["phases"] or 0)

    async def newest_steps(self, tenant: str, run_id: str, limit: int) -> list[PhaseSpan]:
        rows = await self._ask("reading steps", NEWEST_STEPS, tenant=tenant, run_id=run_id, limit=limit)
        return _spans(run_id, rows)

    async def slices(self, tenant: str, run_id: str, slices_max: int, since: datetime = EPOCH) -> list[Slice]:
        use = await self._uses.of(tenant, run_id, since)
        rows = await self._ask("reading a run's samples", use.asked(SLICES), **use.parameters, slices_max=slices_max)
        names = ("first_at", "last_at", "energy", "energy_range", "carbon", "cost")
        return [Slice(*(row[name] for name in names)) for row in rows]

    async def predictions(self, tenant: str, during: Stretch) -> int:
        [row] = await self._ask("counting predictions", PREDICTIONS, tenant=tenant, **_bounds(during))
        return int(row["predictions"] or 0)

    async def heaviest_runs(self, tenant: str, during: Stretch, limit: int) -> list[str]:
        if during.starts_at >= during.ends_at:
            return []
        rows = await self._ask_usage("ranking runs", HEAVIEST, _use(tenant, during, "run", "share"), limit=limit)
        return [row["run_id"] for row in rows]

    async def host_shares(self, tenant: str, host: str, run_id: str, during: Stretch) -> HostShares | None:
        if during.starts_at >= during.ends_at:
            return None
        question = replace(_use(tenant, during, "component", "share", "run"), host=host)
        [row] = await self._ask_usage("summing a host", HOST_SHARES, question, charged_run=run_id)
        shares = HostShares(*(row[name] or 0.0 for name in ("run_joules", "others_joules", "idle_joules")))
        # Without an idle share nobody measured the host: a tracker alone knows its own run only.
        return shares if shares.idle_joules else None

    async def idle_accelerators(self, tenant: str, during: Stretch, limit: int) -> list[IdleAccelerator]:
        rows = await self._ask(
            "finding idle accelerators", IDLE_ACCELERATORS, tenant=tenant, limit=limit, **_bounds(during)
        )
        return [
            IdleAccelerator(
                host=row["host"],
                component=row["component"],
                idle_seconds=row["idle_seconds"],
                seen_seconds=row["seen_seconds"],
                energy_joules=row["energy"],
                carbon_grams_co2e=row["carbon"],
                cost_usd=row["cost"],
                range_fraction=row["range"],
            )
            for row in rows
        ]

    async def tenants(self, since: datetime, limit: int) -> list[str]:
        rows = await self._ask("listing tenants", TENANTS, since=since, limit=limit)
        return [row["tenant"] for row in rows]

    async def power_of_runs(
        self, tenant: str, during: Stretch, step_seconds: int, series_max: int
    ) -> dict[Subject, list[Watts]]:
        rows = await self._ask(
            "reading power of runs",
            POWER_OF_RUNS,
            tenant=tenant,
            step_seconds=step_seconds,
            series_max=series_max,
            **_bounds(during),
        )
        series: dict[Subject, list[Watts]] = {}
        for row in rows:
            subject = Subject(row["run_id"], row["host"], row["component"])
            series.setdefault(subject, []).append(Watts(row["at"], row["seconds"], row["watts"]))
        return series

    async def accelerator_use(self, tenant: str, run_ids: Sequence[str], since: datetime) -> dict[str, AcceleratorUse]:
        if not run_ids:
            return {}
        asked = {"tenant": tenant, "run_ids": list(run_ids), "since": since}
        rows = await self._ask("reading use of accelerators", ACCELERATOR_USE, **asked)
        jobs = sorted({row["job"] for row in rows} - {""})
        told = await self._ask("reading grants of accelerators", ACCELERATORS_GRANTED, tenant=tenant, job_ids=jobs)
        granted = {row["job"]: int(row["granted"]) for row in told}
        return {run_id: _accelerator_use(run_id, rows, granted) for run_id in {row["run_id"] for row in rows}}

    async def runs_with_phases(self, tenant: str, since: datetime, limit: int) -> list[str]:
        rows = await self._ask("listing runs with phases", RUNS_WITH_PHASES, tenant=tenant, since=since, limit=limit)
        return [row["run_id"] for row in rows]

    async def anomalies(self, tenant: str, run_id: str, since: datetime, limit: int) -> list[Anomaly]:
        rows = await self._ask("listing anomalies", ANOMALIES, tenant=tenant, run_id=run_id, since=since, limit=limit)
        try:
            return [anomaly_of(AnomalyFound.model_validate_json(row["told"])) for row in rows]
        except ValidationError as error:
            raise Broken(f"an anomaly was kept in a form that this ledger cannot read: {error}") from error

    async def _ask_usage(
        self, what: str, sql: str, question: UsageQuestion, **parameters: Any
    ) -> list[Mapping[str, Any]]:
        """Ask over sums that are taken from the coarsest roll-ups that are up to date, from samples where none is."""
        span = question.span
        touched = await self._usage.touched_minutes(question.tenant, span.starts_at, span.ends_at)
        usage, bound = usage_query(question, touched)
        return await self._ask(what, sql.format(usage=usage), **(bound | {"rows_max": _UNCUT} | parameters))

    async def _ask(self, what: str, sql: str, **parameters: Any) -> list[Mapping[str, Any]]:
        return await self._engine.ask(sql, parameters, what=what, seconds=self._query_seconds)


def _accelerator_use(run_id: str, rows: Sequence[Mapping[str, Any]], granted: Mapping[str, int]) -> AcceleratorUse:
    own = [(Subject(run_id, row["host"], row["component"]), row) for row in rows if row["run_id"] == run_id]
    return AcceleratorUse(
        used=frozenset(subject for subject, row in own if row["used"]),
        seen=frozenset(subject for subject, _ in own),
        granted=max(granted.get(row["job"], 0) for _, row in own),
    )


def _spans(run_id: str, rows: Sequence[Mapping[str, Any]]) -> list[PhaseSpan]:
    try:
        return [PhaseSpan.model_validate_json(row["phase"]) for row in rows]
    except ValidationError as error:
        raise Broken(f"phases of {run_id} were kept in a form that this ledger cannot read: {error}") from error


def _use(tenant: str, during: Stretch, *group_by: str) -> UsageQuestion:
    return UsageQuestion(tenant, Span(during.starts_at, during.ends_at), Step.TOTAL, group_by)


def _bounds(during: Stretch) -> dict[str, datetime]:
    return {"starts_at": during.starts_at, "ends_at": during.ends_at}
