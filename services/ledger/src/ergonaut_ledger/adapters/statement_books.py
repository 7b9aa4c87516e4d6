"""Statements' sums and certificates on ClickHouse; every value is a bound parameter. Fills the ports of `ports.statements`.

FINAL makes rows that a repeat has doubled count once, as everywhere in the ledger.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
from clickhouse_connect.driver.client import Client

from ergonaut_ledger.adapters.engine import Engine
from ergonaut_ledger.domain.certificates import Certificate, Period
from ergonaut_ledger.domain.compliance import Basis, GridDay, Hardware
from ergonaut_ledger.domain.statements import Asked, LineSums, Unmeasured
from ergonaut_ledger.ports.statements import CERTIFICATES_MAX, GRID_DAYS_MAX, UNMEASURED_MAX

_SCOPE = """
    tenant = {tenant:String}
    AND started_at >= {starts_at:DateTime64(6, 'UTC')} AND started_at < {ends_at:DateTime64(6, 'UTC')}
    AND ({project:String} = '' OR project = {project:String})
"""

_LABELS = {
    "project": "project",
    "job": "job_id",
    "run": "run_id",
    "host": "host",
    "day": "toString(toDate(started_at, 'UTC'))",
}

# As location-based statements ask for the average signal, energy under any other intensity is summed by zone, to be weighed anew.
_SUMS = """
    if(count(energy_joules) = 0, NULL, sumKahan(energy_joules)) AS energy,
    if(count(energy_joules) = 0, NULL, sumKahan(energy_joules * ifNull(range_fraction, 0))) AS energy_range,
    if(
        countIf(carbon_grams_co2e IS NOT NULL AND intensity_accounting = 'location-based' AND intensity_signal = 'average') = 0,
        NULL,
        sumKahanIf(carbon_grams_co2e, intensity_accounting = 'location-based' AND intensity_signal = 'average')
    ) AS location_grams,
    sumMapIf(
        [zone], [ifNull(energy_joules, 0) * pue],
        energy_joules IS NOT NULL AND NOT (intensity_accounting = 'location-based' AND intensity_signal = 'average')
    ) AS other,
    if(count(embodied_grams_co2e) = 0, NULL, sumKahan(embodied_grams_co2e)) AS embodied,
    if(countIf(cost_usd IS NOT NULL AND component != 'machine') = 0, NULL, sumKahanIf(cost_usd, component != 'machine'))
        AS electricity,
    if(countIf(cost_usd IS NOT NULL AND component = 'machine') = 0, NULL, sumKahanIf(cost_usd, component = 'machine'))
        AS rent,
    uniqExactIf(run_id, run_id != '') AS runs,
    count() AS samples
"""

_WHOLE = f"SELECT '' AS label, {_SUMS} FROM power_samples FINAL WHERE {_SCOPE}"  # noqa: S608 - constants only

_GRID_DAYS = f"""
SELECT
    toDate(started_at, 'UTC') AS day, zone, intensity_kind, intensity_source, intensity_signal, intensity_accounting,
    intensity_boundary,
    sumKahan(energy_joules * pue) AS joules,
    sumKahan(energy_joules * pue * ifNull(range_fraction, 0)) AS joules_range,
    sumKahan(ifNull(carbon_grams_co2e, 0)) AS grams,
    sumKahanIf(ifNull(energy_joules, 0), pue = 1) AS joules_without_pue
FROM power_samples FINAL
WHERE {_SCOPE} AND energy_joules IS NOT NULL
GROUP BY ALL
ORDER BY ALL
LIMIT {GRID_DAYS_MAX + 1}
"""  # noqa: S608 - constants only

_HARDWARE = f"""
SELECT
    if(count(embodied_grams_co2e) = 0, NULL, sumKahan(embodied_grams_co2e)) AS embodied,
    uniqExact(host) AS hosts,
    uniqExactIf(host, embodied_grams_co2e IS NOT NULL) AS hosts_known
FROM power_samples FINAL
WHERE {_SCOPE}
"""  # noqa: S608 - constants only

_UNMEASURED = f"""
SELECT component, source, count() AS samples
FROM power_samples FINAL
WHERE {_SCOPE} AND method = 'not-measured' AND component != 'machine'
GROUP BY component, source
ORDER BY samples DESC, component, source
LIMIT {UNMEASURED_MAX}
"""  # noqa: S608 - constants only

_MISSING = """
SELECT sum(numbers) AS missing
FROM
(
    SELECT max(producer_sequence) - min(producer_sequence) + 1 - uniqExact(producer_sequence) AS numbers
    FROM events
    WHERE tenant = {tenant:String} AND area = 'telemetry' AND type = 'telemetry.power.sampled'
        AND occurred_at >= {starts_at:DateTime64(6, 'UTC')} AND occurred_at < {ends_at:DateTime64(6, 'UTC')}
    GROUP BY key, producer
)
"""

_UNITS = f"""
SELECT sum(arrayFirst(metric -> metric.1 = {{unit:String}}, metrics).2) AS units
FROM runs
WHERE tenant = {{tenant:String}}
    AND run_id IN (SELECT run_id FROM power_samples WHERE {_SCOPE} AND run_id != '')
"""  # noqa: S608 - constants only

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


class ClickHouseStatementBooks:
    """Fills `StatementBooks`."""

    def __init__(self, engine: Engine, *, query_seconds: float) -> None:
        self._engine = engine
        self._query_seconds = query_seconds

    async def lines(self, asked: Asked, line_by: str, limit: int) -> list[LineSums]:
        sql = f"""
            SELECT {_LABELS[line_by]} AS label, {_SUMS} FROM power_samples FINAL WHERE {_SCOPE} AND share = 'run'
            GROUP BY label ORDER BY energy DESC NULLS LAST, label LIMIT {{limit:UInt32}}
        """  # noqa: S608 - constants only
        return [_sums(row) for row in await self._ask("summing a statement", sql, asked, limit=limit)]

    async def labels(self, asked: Asked, line_by: str) -> int:
        sql = f"SELECT uniqExact({_LABELS[line_by]}) AS labels FROM power_samples WHERE {_SCOPE} AND share = 'run'"  # noqa: S608
        [row] = await self._ask("counting a statement's lines", sql, asked)
        return int(row["labels"])

    async def whole(self, asked: Asked) -> LineSums:
        [row] = await self._ask("summing a statement", f"{_WHOLE} AND share = 'run'", asked)
        return _sums(row)

    async def unattributed(self, asked: Asked) -> LineSums:
        [row] = await self._ask("summing idling and others", f"{_WHOLE} AND share != 'run'", asked)
        return _sums(row)

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
        return [Unmeasured(**row) for row in await self._ask("listing what was not measured", _UNMEASURED, asked)]

    async def messages_missing(self, asked: Asked) -> int:
        [row] = await self._ask("counting missing messages", _MISSING, asked)
        return int(row["missing"] or 0)

    async def functional_units(self, asked: Asked, unit: str) -> float:
        if not unit:
            return float((await self.whole(asked)).runs)
        [row] = await self._ask("counting functional units", _UNITS, asked, unit=unit)
        return float(row["units"] or 0.0)

    async def _ask(self, what: str, sql: str, asked: Asked, **more: Any) -> list[Mapping[str, Any]]:
        parameters = {
            "tenant": asked.tenant,
            "starts_at": asked.period.starts_at,
            "ends_at": asked.period.ends_at,
            "project": asked.project,
            **more,
        }
        return await self._engine.ask(sql, parameters, what=what, seconds=self._query_seconds)


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


def _sums(row: Mapping[str, Any]) -> LineSums:
    zones, joules = row["other"]
    return LineSums(
        label=row["label"],
        energy_joules=row["energy"],
        energy_joules_range=row["energy_range"],
        location_grams_co2e=row["location_grams"],
        other_joules=dict(zip(zones, joules, strict=True)),
        embodied_grams_co2e=row["embodied"],
        electricity_usd=row["electricity"],
        rent_usd=row["rent"],
        runs=row["runs"],
        samples=row["samples"],
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
