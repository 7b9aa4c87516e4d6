"""`AnalysisBooks` over what a fake store holds, kept honest by the contract test that the adapter passes too."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from math import fsum

from ergonaut.events import AnomalyFound, InferenceServed, JobSubmitted, PhasesFinished
from ergonaut.events.runs import PhaseSpan
from ergonaut_ledger.domain.anomalies import AcceleratorUse, Anomaly, Subject, Watts, anomaly_of
from ergonaut_ledger.domain.efficiency import Slice
from ergonaut_ledger.domain.recommending import HostShares, IdleAccelerator
from ergonaut_ledger.domain.rows import SampleRow
from ergonaut_ledger.fakes.store import FakeStore
from ergonaut_ledger.ports.analysis import EPOCH, Stretch

MICROSECOND = timedelta(microseconds=1)


class FakeAnalysisBooks:
    """The same answers from dictionaries."""

    def __init__(self, store: FakeStore) -> None:
        self._store = store

    async def phases(self, tenant: str, run_id: str, limit: int) -> tuple[list[PhaseSpan], int]:
        told = [PhasesFinished.model_validate_json(body) for body in self._bodies(tenant, PhasesFinished.TYPE, run_id)]
        spans = sorted((span for event in told for span in event.phases), key=lambda span: span.started_at)
        return spans[:limit], len(spans)

    async def newest_steps(self, tenant: str, run_id: str, limit: int) -> list[PhaseSpan]:
        spans, _ = await self.phases(tenant, run_id, limit=10**9)
        return [span for span in spans if span.step is not None][-limit:]

    async def slices(self, tenant: str, run_id: str, slices_max: int, since: datetime = EPOCH) -> list[Slice]:
        rows = [row for row in self._store._of_run(tenant, run_id) if row.started_at >= since]
        if not rows:
            return []
        first = min(row.started_at for row in rows)
        span = max((max(row.ended_at for row in rows) - first) // MICROSECOND, 1)
        meters = len({(row.host, row.producer, row.component) for row in rows})
        width = span * meters // slices_max + 1
        groups: dict[tuple[object, ...], list[SampleRow]] = defaultdict(list)
        for row in rows:
            step = (row.started_at - first) // MICROSECOND // width
            groups[row.host, row.producer, row.component, row.energy_joules is None, step].append(row)
        return sorted((_slice(group) for group in groups.values()), key=lambda each: each.started_at)

    async def predictions(self, tenant: str, during: Stretch) -> int:
        told = [InferenceServed.model_validate_json(body) for body in self._bodies(tenant, InferenceServed.TYPE, "")]
        return sum(
            event.rows for event in told if during.starts_at <= event.started_at and event.ended_at <= during.ends_at
        )

    async def heaviest_runs(self, tenant: str, during: Stretch, limit: int) -> list[str]:
        joules: dict[str, float] = defaultdict(float)
        for row in self._during(tenant, during):
            if row.run_id and row.share == "run":
                joules[row.run_id] += row.energy_joules or 0.0
        used = [run_id for run_id, energy in joules.items() if energy > 0]
        return sorted(used, key=lambda run_id: (-joules[run_id], run_id))[:limit]

    async def host_shares(self, tenant: str, host: str, run_id: str, during: Stretch) -> HostShares | None:
        rows = [row for row in self._during(tenant, during) if (row.host, row.component) == (host, "cpu")]
        mine = _joules(row for row in rows if (row.share, row.run_id) == ("run", run_id))
        idle = _joules(row for row in rows if row.share == "idle")
        return HostShares(mine, _joules(rows) - mine - idle, idle) if idle else None

    async def idle_accelerators(self, tenant: str, during: Stretch, limit: int) -> list[IdleAccelerator]:
        hours: dict[tuple[str, str], dict[datetime, list[SampleRow]]] = defaultdict(lambda: defaultdict(list))
        for row in self._during(tenant, during):
            if row.component.startswith("gpu") and row.energy_joules is not None:
                hour = row.started_at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
                hours[row.host, row.component][hour].append(row)
        found = [_idle(host, component, list(each.values())) for (host, component), each in hours.items()]
        found = [each for each in found if each.energy_joules > 0]
        return sorted(found, key=lambda each: (-each.energy_joules, each.host, each.component))[:limit]

    async def tenants(self, since: datetime, limit: int) -> list[str]:
        return sorted({row.tenant for row in self._store._samples.values() if row.started_at >= since})[:limit]

    async def power_of_runs(
        self, tenant: str, during: Stretch, step_seconds: int, series_max: int
    ) -> dict[Subject, list[Watts]]:
        steps: dict[Subject, dict[datetime, list[SampleRow]]] = defaultdict(lambda: defaultdict(list))
        for row in self._during(tenant, during):
            measured = row.energy_joules is not None and row.ended_at > row.started_at
            if row.run_id and row.share == "run" and measured:
                seconds = int(row.started_at.timestamp()) // step_seconds * step_seconds
                subject = Subject(row.run_id, row.host, row.component)
                steps[subject][datetime.fromtimestamp(seconds, UTC)].append(row)
        heaviest = sorted(
            steps,
            key=lambda of: (-_joules(row for rows in steps[of].values() for row in rows), of.run_id, of.component),
        )[:series_max]
        return {of: [_watts(at, rows) for at, rows in sorted(steps[of].items())] for of in heaviest}

    async def accelerator_use(
        self,
        tenant: str,
        run_ids: Sequence[str],
        since: datetime,  # noqa: ARG002 - a fake sums nothing by minutes
    ) -> dict[str, AcceleratorUse]:
        rows = [row for run_id in run_ids for row in self._store._of_run(tenant, run_id)]
        uses: dict[str, AcceleratorUse] = {}
        for run_id in {row.run_id for row in rows if row.component.startswith("gpu")}:
            own = [row for row in rows if row.run_id == run_id and row.component.startswith("gpu")]
            jobs = self._bodies(tenant, JobSubmitted.TYPE, max(row.job_id for row in own) or "none")
            granted = [JobSubmitted.model_validate_json(body).job.resources.accelerator_count for body in jobs]
            seen = frozenset(Subject(run_id, row.host, row.component) for row in own)
            used = frozenset(Subject(run_id, row.host, row.component) for row in own if row.energy_joules)
            uses[run_id] = AcceleratorUse(used, seen, max(granted, default=0))
        return uses

    async def runs_with_phases(self, tenant: str, since: datetime, limit: int) -> list[str]:
        newest: dict[str, datetime] = {}
        for row in self._store._events.values():
            if (row.tenant, row.type) == (tenant, PhasesFinished.TYPE) and row.occurred_at >= since:
                newest[row.key] = max(newest.get(row.key, row.occurred_at), row.occurred_at)
        return sorted(sorted(newest), key=lambda run_id: newest[run_id], reverse=True)[:limit]

    async def anomalies(self, tenant: str, run_id: str, since: datetime, limit: int) -> list[Anomaly]:
        told: dict[str, AnomalyFound] = {}
        for body in self._bodies(tenant, AnomalyFound.TYPE, ""):
            event = AnomalyFound.model_validate_json(body)
            if event.occurred_at >= since and run_id in ("", event.run_id):
                told.setdefault(event.anomaly_id, event)
        newest_first = sorted(
            sorted(told.values(), key=lambda e: e.anomaly_id), key=lambda e: e.occurred_at, reverse=True
        )
        return [anomaly_of(event) for event in newest_first[:limit]]

    def _bodies(self, tenant: str, event_type: str, key: str) -> list[str]:
        rows = [row for row in self._store._events.values() if (row.tenant, row.type) == (tenant, event_type)]
        assert all(json.loads(row.body) for row in rows), "events but readings are kept with their bodies"
        return [row.body for row in sorted(rows, key=lambda row: row.occurred_at) if key in ("", row.key)]

    def _during(self, tenant: str, during: Stretch) -> list[SampleRow]:
        return [
            row
            for row in self._store._samples.values()
            if row.tenant == tenant and during.starts_at <= row.started_at < during.ends_at
        ]


def _slice(rows: Sequence[SampleRow]) -> Slice:
    ranged = [row for row in rows if row.energy_joules is not None and row.range_fraction is not None]
    return Slice(
        started_at=min(row.started_at for row in rows),
        ended_at=max(row.ended_at for row in rows),
        energy_joules=_sum_of_known(row.energy_joules for row in rows),
        energy_joules_range=_sum_of_known((row.energy_joules or 0.0) * (row.range_fraction or 0.0) for row in ranged),
        carbon_grams_co2e=_sum_of_known(row.carbon_grams_co2e for row in rows),
        cost_usd=_sum_of_known(row.cost_usd for row in rows),
    )


def _idle(host: str, component: str, hours: Sequence[Sequence[SampleRow]]) -> IdleAccelerator:
    lengths = [
        min(3600.0, (max(row.ended_at for row in rows) - min(row.started_at for row in rows)).total_seconds())
        for rows in hours
    ]
    held = [any(row.share == "run" and (row.energy_joules or 0.0) > 0 for row in rows) for rows in hours]
    free = [row for rows, taken in zip(hours, held, strict=True) if not taken for row in rows]
    joules = _joules(free)
    off_by = fsum((row.energy_joules or 0.0) * (row.range_fraction or 0.0) for row in free)
    return IdleAccelerator(
        host=host,
        component=component,
        idle_seconds=fsum(length for length, taken in zip(lengths, held, strict=True) if not taken),
        seen_seconds=fsum(lengths),
        energy_joules=joules,
        carbon_grams_co2e=_sum_of_known(row.carbon_grams_co2e for row in free),
        cost_usd=_sum_of_known(row.cost_usd for row in free),
        range_fraction=off_by / joules if joules else None,
    )


def _watts(at: datetime, rows: Sequence[SampleRow]) -> Watts:
    seconds = fsum((row.ended_at - row.started_at).total_seconds() for row in rows) / len(
        {row.producer for row in rows}
    )
    return Watts(at, seconds, _joules(rows) / seconds)


def _joules(rows: Iterable[SampleRow]) -> float:
    return fsum(row.energy_joules or 0.0 for row in rows)


def _sum_of_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fsum(known) if known else None
