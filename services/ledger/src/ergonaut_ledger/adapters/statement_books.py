"""Statements' sums and certificates on ClickHouse; every value is a bound parameter. Fills the ports of `ports.statements`.

FINAL makes rows that a repeat has doubled count once, as everywhere in the ledger.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
from clickhouse_connect.driver.client import Client

from ergonaut_ledger.adapters.engine import Engine
from ergonaut_ledger.adapters.rollups import BY_PARTITION, DIMENSIONS, FIGURES, OF_SAMPLES, TABLES, ClickHouseUsage
from ergonaut_ledger.domain.certificates import Certificate, Period
from ergonaut_ledger.domain.compliance import Basis, GridDay, Hardware
from ergonaut_ledger.domain.statements import Asked, LineSums, StatementSums, Unmeasured
from ergonaut_ledger.domain.usage import EPOCH, Level, Span, parts
from ergonaut_ledger.ports.statements import CERTIFICATES_MAX, GRID_DAYS_MAX, UNMEASURED_MAX

_LABELS = {
    "project": "project",
    "job": "job_id",
    "run": "run_id",
    "host": "host",
    "day": "toString(toDate(at, 'UTC'))",
}

_OF_AVERAGE = "intensity_accounting = 'location-based' AND intensity_signal = 'average'"
"""Whose grams stand in location-based statements; energy under any other intensity is to be weighed anew, by zone."""

# Lines, their number, and both wholes by one reading: first each label's sums, then what these sum to.
_STATEMENT = f"""
SELECT *, countIf(NOT whole) OVER () AS labels
FROM
(
    SELECT
        label, of_runs, grouping(label) AS whole,
        sumKahanOrNull(energies) AS energy,
        sumKahanOrNull(ranges) AS energy_range,
        sumKahanOrNull(grams) AS location_grams,
        sum(others) AS other_sums,
        sumKahanOrNull(embodieds) AS embodied,
        sumKahanOrNull(electricities) AS electricity,
        sumKahanOrNull(rents) AS rent,
        uniqExactMerge(run_ids) AS runs,
        sum(told) AS samples_told
    FROM
    (
        SELECT
            {{label}} AS label, share = 'run' AS of_runs,
            sumKahanOrNull(energy_joules) AS energies,
            sumKahanOrNullIf(ifNull(energy_joules_range, 0), energy_joules IS NOT NULL) AS ranges,
            sumKahanOrNullIf(carbon_grams_co2e, {_OF_AVERAGE}) AS grams,
            countIf(energy_joules IS NOT NULL AND NOT ({_OF_AVERAGE})) AS others,
            sumKahanOrNull(embodied_grams_co2e) AS embodieds,
            sumKahanOrNullIf(cost_usd, component != 'machine') AS electricities,
            sumKahanOrNullIf(cost_usd, component = 'machine') AS rents,
            uniqExactStateIf(run_id, run_id != '') AS run_ids,
            sum(samples) AS told
        FROM @use
        GROUP BY label, of_runs
    )
    GROUP BY GROUPING SETS ((label, of_runs), (of_runs))
)
WHERE whole OR of_runs
ORDER BY whole DESC, energy DESC NULLS LAST, label
LIMIT {{{{limit:UInt32}}}}
"""  # noqa: S608 - constants only

# Asked for only where there are such sums, which is seldom.
_OTHERS = f"""
SELECT
    {{label}} AS label, share = 'run' AS of_runs, grouping(label) AS whole, zone,
    sumKahan(ifNull(building_joules, 0)) AS joules
FROM @use
WHERE energy_joules IS NOT NULL AND NOT ({_OF_AVERAGE})
GROUP BY GROUPING SETS ((label, of_runs, zone), (of_runs, zone))
"""  # noqa: S608 - constants only

_RUNS = "SELECT uniqExactIf(run_id, run_id != '' AND share = 'run') AS runs FROM @use"

_GRID_DAYS = f"""
SELECT
    toDate(at, 'UTC') AS day, zone, intensity_kind, intensity_source, intensity_signal, intensity_accounting,
    intensity_boundary,
    sumKahan(ifNull(building_joules, 0)) AS joules,
    sumKahan(ifNull(energy_joules_range, 0) * if(energy_joules > 0, building_joules / energy_joules, 1)) AS joules_range,
    sumKahan(ifNull(carbon_grams_co2e, 0)) AS grams,
    sumKahanIf(ifNull(energy_joules, 0), building_joules = energy_joules) AS joules_without_pue
FROM @use
WHERE energy_joules IS NOT NULL
GROUP BY ALL
ORDER BY ALL
LIMIT {GRID_DAYS_MAX + 1}
"""  # noqa: S608 - constants only

_HARDWARE = """
SELECT
    if(count(embodied_grams_co2e) = 0, NULL, sumKahan(embodied_grams_co2e)) AS embodied,
    uniqExact(host) AS hosts,
    uniqExactIf(host, embodied_grams_co2e IS NOT NULL) AS hosts_known
FROM @use
"""

_UNMEASURED = f"""
SELECT component, source, sum(samples) AS samples_told
FROM @use
WHERE method = 'not-measured' AND component != 'machine'
GROUP BY component, source
ORDER BY samples_told DESC, component, source
LIMIT {UNMEASURED_MAX}
"""  # noqa: S608 - constants only

_AROUND = "INTERVAL 1 DAY"
"""How far from a time its producers' numbers before and after it are looked for."""

# What is missing between a period's last number and the next one may be of either period, and is told in both.
#
# Numbers come from whole days and from the hours around them, which hold the least, the greatest and all of them. An hour of a
# producer that one of the time's ends cuts is read message by message; where its messages were dropped by age it counts as a
# whole. Numbers told around the time are of it where they lie among its own (a clock may have been set back meanwhile).
_MISSING = f"""
WITH
    (SELECT max(before) FROM sealed WHERE what = 'samples') AS sealed_before,
    cut AS
    (
        SELECT host, producer, hour
        FROM message_numbers
        WHERE tenant = {{tenant:String}} AND hour >= sealed_before
            AND hour IN (toStartOfHour({{starts_at:DateTime64(6, 'UTC')}}), toStartOfHour({{ends_at:DateTime64(6, 'UTC')}}))
        GROUP BY host, producer, hour
        HAVING (min(earliest_at) < {{starts_at:DateTime64(6, 'UTC')}} AND max(latest_at) >= {{starts_at:DateTime64(6, 'UTC')}})
            OR (min(earliest_at) < {{ends_at:DateTime64(6, 'UTC')}} AND max(latest_at) >= {{ends_at:DateTime64(6, 'UTC')}})
    ),
    told AS
    (
        SELECT host, producer, day AS hour, first, last, numbers, true AS inside
        FROM message_numbers_by_day
        WHERE tenant = {{tenant:String}} AND day >= {{days_from:DateTime('UTC')}} AND day < {{days_until:DateTime('UTC')}}
        UNION ALL
        SELECT
            host, producer, hour, first, last, numbers,
            latest_at >= {{starts_at:DateTime64(6, 'UTC')}} AND earliest_at < {{ends_at:DateTime64(6, 'UTC')}} AS inside
        FROM message_numbers
        WHERE tenant = {{tenant:String}}
            AND hour >= toStartOfHour({{starts_at:DateTime64(6, 'UTC')}}) - {_AROUND}
            AND hour < {{ends_at:DateTime64(6, 'UTC')}} + {_AROUND}
            AND (hour < {{days_from:DateTime('UTC')}} OR hour >= {{days_until:DateTime('UTC')}})
            AND (host, producer, hour) NOT IN cut
        UNION ALL
        SELECT
            key AS host, producer, toStartOfHour(occurred_at, 'UTC') AS hour,
            min(producer_sequence) AS first, max(producer_sequence) AS last, groupBitmapState(producer_sequence) AS numbers,
            occurred_at >= {{starts_at:DateTime64(6, 'UTC')}} AND occurred_at < {{ends_at:DateTime64(6, 'UTC')}} AS inside
        FROM events
        WHERE tenant = {{tenant:String}} AND area = 'telemetry' AND type = 'telemetry.power.sampled'
            AND key IN (SELECT host FROM cut) AND (key, producer, hour) IN cut
            AND (
                occurred_at BETWEEN toStartOfHour({{starts_at:DateTime64(6, 'UTC')}})
                    AND toStartOfHour({{starts_at:DateTime64(6, 'UTC')}}) + INTERVAL 1 HOUR
                OR occurred_at BETWEEN toStartOfHour({{ends_at:DateTime64(6, 'UTC')}})
                    AND toStartOfHour({{ends_at:DateTime64(6, 'UTC')}}) + INTERVAL 1 HOUR
            )
        GROUP BY host, producer, hour, inside
    ),
    spans AS
    (
        SELECT host, producer, min(first) AS lowest, max(last) AS highest FROM told WHERE inside GROUP BY host, producer
    ),
    around AS
    (
        SELECT host, producer, first, last, numbers, lowest, highest,
            last < lowest OR first > highest OR (first >= lowest AND last <= highest) AS on_one_side
        FROM told INNER JOIN spans USING (host, producer)
        WHERE NOT inside
            AND (hour <= {{starts_at:DateTime64(6, 'UTC')}} OR hour >= toStartOfHour({{ends_at:DateTime64(6, 'UTC')}}))
    )
SELECT sum(
    greatest(toInt64(highest - lowest + 1) - toInt64(kept) - toInt64(strays), 0)
    + if(before > 0, lowest - before - 1, 0) + if(after > 0, after - highest - 1, 0)
) AS missing
FROM
(
    SELECT host, producer, min(first) AS lowest, max(last) AS highest, groupBitmapMerge(numbers) AS kept
    FROM told
    WHERE inside
    GROUP BY host, producer
) AS own LEFT JOIN
(
    SELECT
        host, producer,
        maxIf(last, last < lowest) AS before,
        minIf(first, first > highest) AS after,
        groupBitmapMergeIf(numbers, first >= lowest AND last <= highest) AS strays
    FROM
    (
        SELECT host, producer, first, last, numbers, lowest, highest FROM around WHERE on_one_side
        UNION ALL
        SELECT host, producer, number AS first, number AS last, bitmapBuild([number]) AS numbers, lowest, highest
        FROM
        (
            SELECT host, producer, lowest, highest, arrayJoin(bitmapToArray(numbers)) AS number
            FROM around
            WHERE NOT on_one_side
        )
    )
    GROUP BY host, producer
) AS beside USING (host, producer)
"""  # noqa: S608 - constants only

_UNITS = """
SELECT sum(arrayFirst(metric -> metric.1 = {unit:String}, metrics).2) AS units
FROM runs
WHERE tenant = {tenant:String} AND run_id IN (SELECT run_id FROM @use WHERE run_id != '')
"""

_NAMES = {
    "run": "SELECT run_id AS label, any(name) AS title FROM runs"
    " WHERE tenant = {tenant:String} AND run_id IN {labels:Array(String)} GROUP BY run_id",
    "job": "SELECT job_id AS label, any(name) AS title FROM runs"
    " WHERE tenant = {tenant:String} AND job_id IN {labels:Array(String)} GROUP BY job_id",
}

_CERTIFICATES = f"""
SELECT
    certificate_id, version, principal, kind, registry, zone, starts_at, ends_at, energy_kwh, intensity_grams_per_kwh,
    offset_grams_co2e, cost_usd, voided
FROM
(
    SELECT * FROM certificates FINAL
    WHERE tenant = {{tenant:String}} AND ({{certificate_id:String}} = '' OR certificate_id = {{certificate_id:String}})
    ORDER BY version DESC
    LIMIT 1 BY certificate_id
)
ORDER BY ends_at DESC, certificate_id DESC
LIMIT {CERTIFICATES_MAX}
"""  # noqa: S608 - constants only


# The outermost ends choose the parts of the table that are read, the arrays the rows within them.
_USED = """(
    SELECT {dimensions}, toDateTime({at}, 'UTC') AS at, {figures}
    FROM {table} FINAL
    WHERE tenant = {{tenant:String}} AND ({{project:String}} = '' OR project = {{project:String}})
        AND {at} >= {{{level}_first:{kind}}} AND {at} < {{{level}_last:{kind}}}
        AND arrayExists(
            (start, end) -> {micros} >= start AND {micros} < end,
            {{{level}_starts:Array(Int64)}}, {{{level}_ends:Array(Int64)}}
        )
)"""


class ClickHouseStatementBooks:
    """Fills `StatementBooks`: from days, hours and minutes where these are rolled up, and from samples for the rest."""

    def __init__(self, engine: Engine, *, query_seconds: float) -> None:
        self._engine = engine
        self._query_seconds = query_seconds
        self._usage = ClickHouseUsage(engine, query_seconds=query_seconds)

    async def sums(self, asked: Asked, line_by: str, lines_max: int) -> StatementSums:
        sql = _STATEMENT.format(label=_LABELS[line_by])
        # The first two rows are the whole of runs and of the rest, where there are such.
        rows = await self._ask("summing a statement", sql, asked, limit=lines_max + 2)
        others = await self._others(asked, line_by) if any(row["other_sums"] for row in rows) else {}
        whole = {bool(row["of_runs"]): _sums(row, others) for row in rows if row["whole"]}
        lines = [_sums(row, others) for row in rows if not row["whole"]]
        return StatementSums(
            lines=tuple(lines[:lines_max]),
            labels=rows[0]["labels"] if rows else 0,
            whole=whole.get(True, LineSums("")),
            unattributed=whole.get(False, LineSums("")),
        )

    async def _others(self, asked: Asked, line_by: str) -> "_Others":
        """Joules by zone that are to be weighed anew, of each line and whole."""
        sql = _OTHERS.format(label=_LABELS[line_by])
        others: _Others = {}
        for row in await self._ask("summing what is weighed anew", sql, asked):
            others.setdefault(_line(row), {})[row["zone"]] = row["joules"]
        return others

    async def names(self, tenant: str, line_by: str, labels: Sequence[str]) -> Mapping[str, str]:
        sql = _NAMES.get(line_by)
        if sql is None or not labels:
            return {}
        parameters = {"tenant": tenant, "labels": list(labels)}
        rows = await self._engine.ask(sql, parameters, what="naming a statement's lines", seconds=self._query_seconds)
        return {row["label"]: row["title"] for row in rows}

    async def grid_days(self, asked: Asked) -> list[GridDay]:
        return [_grid_day(row) for row in await self._ask("summing by grid and day", _GRID_DAYS, asked)]

    async def hardware(self, asked: Asked) -> Hardware:
        [row] = await self._ask("summing embodied carbon", _HARDWARE, asked)
        return Hardware(row["embodied"], row["hosts"], row["hosts_known"])

    async def unmeasured(self, asked: Asked) -> list[Unmeasured]:
        rows = await self._ask("listing what was not measured", _UNMEASURED, asked)
        return [Unmeasured(row["component"], row["source"], row["samples_told"]) for row in rows]

    async def messages_missing(self, asked: Asked) -> int:
        days = _whole_days(asked.period)
        [row] = await self._ask("counting missing messages", _MISSING, asked, days_from=days[0], days_until=days[1])
        return int(row["missing"] or 0)

    async def functional_units(self, asked: Asked, unit: str) -> float:
        if not unit:
            [row] = await self._ask("counting runs", _RUNS, asked)
            return float(row["runs"])
        [row] = await self._ask("counting functional units", _UNITS, asked, unit=unit)
        return float(row["units"] or 0.0)

    async def _ask(self, what: str, sql: str, asked: Asked, **more: Any) -> list[Mapping[str, Any]]:
        period = asked.period
        parameters: dict[str, Any] = {
            "tenant": asked.tenant,
            "starts_at": period.starts_at,
            "ends_at": period.ends_at,
            "project": asked.project,
            **more,
        }
        if "@use" in sql:
            touched = await self._usage.touched_minutes(asked.tenant, period.starts_at, period.ends_at)
            use, spans = _use(parts(Span(period.starts_at, period.ends_at), Level.DAY, touched))
            sql, parameters = f"{sql.replace('@use', use)}\n{BY_PARTITION}", parameters | spans
        return await self._engine.ask(sql, parameters, what=what, seconds=self._query_seconds)


def _whole_days(period: Period) -> tuple[datetime, datetime]:
    """From when until when a time has whole days, UTC; the second is not after the first where it has none.

    >>> at = lambda day, hour: datetime(2026, 4, day, hour, tzinfo=UTC)
    >>> [when.day for when in _whole_days(Period(at(1, 5), at(4, 7)))]
    [2, 4]
    """
    first, last = (
        moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        for moment in (period.starts_at, period.ends_at)
    )
    return first if first == period.starts_at else first + timedelta(days=1), last


def _use(pieces: Mapping[Level, Sequence[Span]]) -> tuple[str, dict[str, Any]]:
    """What was used, as one table in the form of a roll-up, and the bound ends of its spans; each sample is in one span."""
    selects: list[str] = []
    ends: dict[str, Any] = {}
    for level, spans in pieces.items():
        if spans:
            selects.append(_used(level))
            ends |= {
                f"{level}_first": spans[0].starts_at,
                f"{level}_last": spans[-1].ends_at,
                f"{level}_starts": [_microseconds(span.starts_at) for span in spans],
                f"{level}_ends": [_microseconds(span.ends_at) for span in spans],
            }
    return f"({' UNION ALL '.join(selects)})", ends


def _used(level: Level) -> str:
    of_samples = level is Level.SAMPLE
    at = "started_at" if of_samples else "at"
    return _USED.format(
        level=level,
        table="power_samples" if of_samples else TABLES[level],
        dimensions=", ".join(name for name in DIMENSIONS if name != "tenant"),
        at=at,
        kind="DateTime64(6, 'UTC')" if of_samples else "DateTime('UTC')",
        micros=f"toUnixTimestamp64Micro(toDateTime64({at}, 6, 'UTC'))",
        figures=OF_SAMPLES if of_samples else f"{', '.join(FIGURES)}, seconds, samples",
    )


def _microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


class ClickHouseCertificateBook:
    """Fills `CertificateBook`."""

    def __init__(self, engine: Engine, *, insert_seconds: float, query_seconds: float) -> None:
        self._engine = engine
        self._insert_seconds = insert_seconds
        self._query_seconds = query_seconds

    async def find(self, tenant: str, certificate_id: str) -> Certificate | None:
        found = await self._certificates(tenant, certificate_id)
        return found[0] if found else None

    async def everything(self, tenant: str) -> list[Certificate]:
        return await self._certificates(tenant, "")

    async def append(self, tenant: str, certificate: Certificate, at: datetime) -> None:
        row = _certificate_row(tenant, certificate, at)

        def insert(client: Client) -> None:
            client.insert_arrow("certificates", pa.table({name: pa.array([value]) for name, value in row.items()}))

        await self._engine.do(insert, what="keeping a certificate", seconds=self._insert_seconds)

    async def _certificates(self, tenant: str, certificate_id: str) -> list[Certificate]:
        parameters = {"tenant": tenant, "certificate_id": certificate_id}
        rows = await self._engine.ask(
            _CERTIFICATES, parameters, what="reading certificates", seconds=self._query_seconds
        )
        return [_certificate(row) for row in rows]


_Line = tuple[str, bool, bool]
_Others = dict[_Line, dict[str, float]]


def _line(row: Mapping[str, Any]) -> _Line:
    return row["label"], bool(row["of_runs"]), bool(row["whole"])


def _sums(row: Mapping[str, Any], others: _Others) -> LineSums:
    return LineSums(
        label=row["label"],
        energy_joules=row["energy"],
        energy_joules_range=row["energy_range"],
        location_grams_co2e=row["location_grams"],
        other_joules=others.get(_line(row), {}),
        embodied_grams_co2e=row["embodied"],
        electricity_usd=row["electricity"],
        rent_usd=row["rent"],
        runs=row["runs"],
        samples=row["samples_told"],
    )


def _grid_day(row: Mapping[str, Any]) -> GridDay:
    day: date = row["day"]
    basis = Basis(
        zone=row["zone"],
        kind=row["intensity_kind"],
        source=row["intensity_source"],
        signal=row["intensity_signal"],
        accounting=row["intensity_accounting"],
        boundary=row["intensity_boundary"],
    )
    return GridDay(
        day=datetime(day.year, day.month, day.day, tzinfo=UTC),
        basis=basis,
        energy_joules=row["joules"],
        energy_joules_range=row["joules_range"],
        grams_co2e=row["grams"],
        joules_without_pue=row["joules_without_pue"],
    )


def _certificate_row(tenant: str, certificate: Certificate, at: datetime) -> dict[str, Any]:
    return {
        "tenant": tenant,
        "certificate_id": certificate.certificate_id,
        "version": certificate.version,
        "recorded_at": at,
        "principal": certificate.principal,
        "kind": certificate.kind,
        "registry": certificate.registry,
        "zone": certificate.zone,
        "starts_at": certificate.period.starts_at,
        "ends_at": certificate.period.ends_at,
        "energy_kwh": certificate.energy_kwh,
        "intensity_grams_per_kwh": certificate.intensity_grams_per_kwh,
        "offset_grams_co2e": certificate.offset_grams_co2e,
        "cost_usd": certificate.cost_usd,
        "voided": certificate.voided,
    }


def _certificate(row: Mapping[str, Any]) -> Certificate:
    fields = {name: value for name, value in row.items() if name not in ("starts_at", "ends_at")}
    return Certificate(**fields, period=Period(row["starts_at"], row["ends_at"]))
