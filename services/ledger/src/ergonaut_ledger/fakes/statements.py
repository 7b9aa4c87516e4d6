"""Statements' ports in memory, over the samples of a `FakeStore`; the contract tests hold them against ClickHouse."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from math import fsum

from ergonaut_ledger.domain.certificates import Certificate
from ergonaut_ledger.domain.compliance import Basis, GridDay, Hardware
from ergonaut_ledger.domain.rows import SampleRow
from ergonaut_ledger.domain.statements import Asked, LineSums, StatementSums, Unmeasured
from ergonaut_ledger.fakes.store import FakeStore
from ergonaut_ledger.ports.statements import CERTIFICATES_MAX, GRID_DAYS_MAX, UNMEASURED_MAX

_LABELS: Mapping[str, Callable[[SampleRow], str]] = {
    "project": lambda row: row.project,
    "job": lambda row: row.job_id,
    "run": lambda row: row.run_id,
    "host": lambda row: row.host,
    "day": lambda row: _day(row).date().isoformat(),
}


class FakeStatementBooks:
    """Sums over a fake store's samples."""

    def __init__(self, store: FakeStore) -> None:
        self._store = store

    async def sums(self, asked: Asked, line_by: str, lines_max: int) -> StatementSums:
        groups: dict[str, list[SampleRow]] = {}
        for row in self._samples(asked, of_runs=True):
            groups.setdefault(_LABELS[line_by](row), []).append(row)
        sums = [_sums(label, rows) for label, rows in groups.items()]
        known_first = sorted(sums, key=lambda one: (one.energy_joules is None, -(one.energy_joules or 0.0), one.label))
        return StatementSums(
            lines=tuple(known_first[:lines_max]),
            labels=len(groups),
            whole=_sums("", self._samples(asked, of_runs=True)),
            unattributed=_sums("", self._samples(asked, of_runs=False)),
        )

    async def names(self, tenant: str, line_by: str, labels: Sequence[str]) -> Mapping[str, str]:
        if line_by not in ("run", "job"):
            return {}
        runs = await self._store.runs(tenant, 1_000_000)
        named = {run.run_id if line_by == "run" else run.job_id: run.name for run in runs}
        return {label: named[label] for label in labels if label in named}

    async def grid_days(self, asked: Asked) -> list[GridDay]:
        groups: dict[tuple[datetime, Basis], list[SampleRow]] = {}
        for row in self._samples(asked):
            if row.energy_joules is not None:
                groups.setdefault((_day(row), _basis(row)), []).append(row)
        days = [_grid_day(day, basis, rows) for (day, basis), rows in groups.items()]
        return sorted(days, key=lambda one: (one.day, one.basis.zone, one.basis.source))[: GRID_DAYS_MAX + 1]

    async def hardware(self, asked: Asked) -> Hardware:
        rows = self._samples(asked)
        known = [row for row in rows if row.embodied_grams_co2e is not None]
        return Hardware(
            _known_sum(row.embodied_grams_co2e for row in rows),
            len({row.host for row in rows}),
            len({row.host for row in known}),
        )

    async def unmeasured(self, asked: Asked) -> list[Unmeasured]:
        counts: dict[tuple[str, str], int] = {}
        for row in self._samples(asked):
            if row.method == "not-measured" and row.component != "machine":
                counts[row.component, row.source] = counts.get((row.component, row.source), 0) + 1
        found = [Unmeasured(component, source, samples) for (component, source), samples in counts.items()]
        return sorted(found, key=lambda one: (-one.samples, one.component, one.source))[:UNMEASURED_MAX]

    async def messages_missing(self, asked: Asked) -> int:
        within: dict[tuple[str, str], set[int]] = {}
        every: dict[tuple[str, str], set[int]] = {}
        for row in self._store._events.values():
            if row.tenant == asked.tenant and row.producer:
                every.setdefault((row.key, row.producer), set()).add(row.producer_sequence)
                if asked.period.holds(row.occurred_at):
                    within.setdefault((row.key, row.producer), set()).add(row.producer_sequence)
        return sum(_missing_around(told, every[producer]) for producer, told in within.items())

    async def functional_units(self, asked: Asked, unit: str) -> float:
        if not unit:
            return float(len({row.run_id for row in self._samples(asked, of_runs=True) if row.run_id}))
        sampled = {row.run_id for row in self._samples(asked) if row.run_id}
        runs = await self._store.runs(asked.tenant, 1_000_000)
        return fsum(run.metrics.get(unit, 0.0) for run in runs if run.run_id in sampled)

    def _samples(self, asked: Asked, *, of_runs: bool | None = None) -> list[SampleRow]:
        return [
            row
            for row in self._store._samples.values()
            if row.tenant == asked.tenant
            and asked.period.holds(row.started_at)
            and asked.project in ("", row.project)
            and of_runs in (None, row.share == "run")
        ]


def _missing_around(told: set[int], every: set[int]) -> int:
    """The numbers that are missing among those of a time, and up to the nearest before and after it."""
    before = max((number for number in every if number < min(told)), default=min(told))
    after = min((number for number in every if number > max(told)), default=max(told))
    return len(set(range(before, after + 1)) - every)


class FakeCertificateBook:
    """Every version in a dictionary; the earliest telling of one stands."""

    def __init__(self) -> None:
        self._versions: dict[tuple[str, str, int], tuple[datetime, Certificate]] = {}

    async def find(self, tenant: str, certificate_id: str) -> Certificate | None:
        found = [one for one in await self.everything(tenant) if one.certificate_id == certificate_id]
        return found[0] if found else None

    async def everything(self, tenant: str) -> list[Certificate]:
        newest: dict[str, Certificate] = {}
        for (owner, name, version), (_, one) in self._versions.items():
            if owner == tenant and (name not in newest or newest[name].version < version):
                newest[name] = one
        in_order = sorted(newest.values(), key=lambda one: (one.period.ends_at, one.certificate_id), reverse=True)
        return in_order[:CERTIFICATES_MAX]

    async def append(self, tenant: str, certificate: Certificate, at: datetime) -> None:
        key = (tenant, certificate.certificate_id, certificate.version)
        before = self._versions.get(key)
        if before is None or at < before[0]:
            self._versions[key] = (at, certificate)


def _sums(label: str, rows: Sequence[SampleRow]) -> LineSums:
    measured = [row for row in rows if row.energy_joules is not None]
    other: dict[str, float] = {}
    for row in measured:
        if not _basis(row).is_location_average:
            other[row.zone] = other.get(row.zone, 0.0) + (row.energy_joules or 0.0) * row.pue
    ranges = fsum((row.energy_joules or 0.0) * (row.range_fraction or 0.0) for row in measured)
    return LineSums(
        label=label,
        energy_joules=_known_sum(row.energy_joules for row in rows),
        energy_joules_range=ranges if measured else None,
        location_grams_co2e=_known_sum(row.carbon_grams_co2e for row in rows if _basis(row).is_location_average),
        other_joules=other,
        embodied_grams_co2e=_known_sum(row.embodied_grams_co2e for row in rows),
        electricity_usd=_known_sum(row.cost_usd for row in rows if row.component != "machine"),
        rent_usd=_known_sum(row.cost_usd for row in rows if row.component == "machine"),
        runs=len({row.run_id for row in rows if row.run_id}),
        samples=len(rows),
    )


def _grid_day(day: datetime, basis: Basis, rows: Sequence[SampleRow]) -> GridDay:
    return GridDay(
        day=day,
        basis=basis,
        energy_joules=fsum((row.energy_joules or 0.0) * row.pue for row in rows),
        energy_joules_range=fsum((row.energy_joules or 0.0) * row.pue * (row.range_fraction or 0.0) for row in rows),
        grams_co2e=fsum(row.carbon_grams_co2e or 0.0 for row in rows),
        joules_without_pue=fsum(row.energy_joules or 0.0 for row in rows if row.pue == 1),
    )


def _basis(row: SampleRow) -> Basis:
    return Basis(
        row.zone,
        row.intensity_kind,
        row.intensity_source,
        row.intensity_signal,
        row.intensity_accounting,
        row.intensity_boundary,
    )


def _day(row: SampleRow) -> datetime:
    return row.started_at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _known_sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fsum(known) if known else None
