"""A store in memory that keeps the promises of `Store`; the contract test holds it against ClickHouse."""

import json
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from math import fsum
from typing import Any, Protocol, TypeVar

from ergonaut.events import PowerSampled, RequestsLogged, RunPaused
from ergonaut_ledger.domain.elsewhere import Days, HourOfDay, Offer
from ergonaut_ledger.domain.footprints import ComponentSum, Coverage, PowerPoint, RunRecord
from ergonaut_ledger.domain.readings import Readings
from ergonaut_ledger.domain.rows import Batch, EventRow, IntensityRow, OfferRow, RequestRow, SampleRow, Told
from ergonaut_ledger.domain.usage import STEP_SECONDS, Usage, UsageQuestion
from ergonaut_ledger.ports import KeptEvent

NEAR = timedelta(days=8)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class FakeUsageBooks:
    """Answers from the samples that a `FakeStore` keeps; nothing is ever rolled up, so nothing is out of date."""

    def __init__(self, store: "FakeStore") -> None:
        self._store = store

    async def touched_minutes(
        self,
        tenant: str,  # noqa: ARG002 - the port's words
        starts_at: datetime,  # noqa: ARG002 - the port's words
        ends_at: datetime,  # noqa: ARG002 - the port's words
    ) -> list[datetime]:
        return []

    async def usage(
        self,
        question: UsageQuestion,
        touched: Sequence[datetime],  # noqa: ARG002 - the port's words
        rows_max: int,
    ) -> list[Usage]:
        width = timedelta(seconds=STEP_SECONDS.get(question.step, 0))
        columns = [{"run": "run_id", "job": "job_id"}.get(label, label) for label in question.group_by]
        rows = [
            row
            for row in self._store.samples_of(question.tenant)
            if question.span.starts_at <= row.started_at < question.span.ends_at
            and all(getattr(question, name) in ("", getattr(row, name)) for name in ("project", "run_id", "host"))
        ]

        def group(row: SampleRow) -> tuple[Any, ...]:
            at = row.started_at - (row.started_at - EPOCH) % width if width else question.span.starts_at
            return at, *(getattr(row, column) for column in columns)

        return [_usage(question, key, of) for key, of in sorted(_grouped(rows, group).items())][:rows_max]


def _usage(question: UsageQuestion, key: tuple[Any, ...], rows: Sequence[SampleRow]) -> Usage:
    ranged = (row for row in rows if row.energy_joules is not None and row.range_fraction is not None)
    return Usage(
        starts_at=key[0],
        labels=dict(zip(question.group_by, key[1:], strict=True)),
        energy_joules=_sum_of_known(row.energy_joules for row in rows),
        energy_joules_range=_sum_of_known((row.energy_joules or 0.0) * (row.range_fraction or 0.0) for row in ranged),
        carbon_grams_co2e=_sum_of_known(row.carbon_grams_co2e for row in rows),
        embodied_grams_co2e=_sum_of_known(row.embodied_grams_co2e for row in rows),
        cost_usd=_sum_of_known(row.cost_usd for row in rows),
        samples=len(rows),
    )


class _HasTold(Protocol):
    @property
    def told(self) -> Told: ...


R = TypeVar("R", bound=_HasTold)
T = TypeVar("T")


class FakeStore:
    """The books as dictionaries by each fact's identity."""

    def __init__(self) -> None:
        self._events: dict[Hashable, EventRow] = {}
        self._samples: dict[Hashable, SampleRow] = {}
        self._offers: dict[Hashable, OfferRow] = {}
        self._intensities: dict[Hashable, IntensityRow] = {}
        self.requests: dict[Hashable, RequestRow] = {}
        """Logged requests, by their identity."""

    async def keep(self, batch: Batch) -> None:
        for readings in batch.readings:
            batch = _with_rows(batch, readings)
        _keep(self._samples, batch.samples, lambda row: (row.tenant, row.told.event_id, row.position))
        _keep(self._offers, batch.offers, lambda row: (row.tenant, row.told.event_id))
        _keep(self._intensities, batch.intensities, lambda row: (row.tenant, row.told.event_id, row.position))
        _keep(self.requests, batch.requests, lambda row: (row.tenant, row.told.event_id, row.position))
        _keep(self._events, batch.events, lambda row: (row.tenant, row.told.event_id))

    async def runs(self, tenant: str, limit: int) -> list[RunRecord]:
        begun = [
            _run(key, events)
            for key, events in self._told_of_runs(tenant).items()
            if any(row.type != RunPaused.TYPE for row in events)
        ]
        return sorted(begun, key=lambda run: (run.started_at, run.run_id), reverse=True)[:limit]

    async def run(self, tenant: str, run_id: str) -> RunRecord | None:
        told = self._told_of_runs(tenant).get(run_id)
        return _run(run_id, told) if told else None

    async def components(self, tenant: str, run_id: str) -> list[ComponentSum]:
        groups = _grouped(self._of_run(tenant, run_id), lambda row: (row.component, row.method, row.source))
        return [_component(how, rows) for how, rows in sorted(groups.items())]

    async def coverage(self, tenant: str, run_id: str) -> Coverage | None:
        samples = self._of_run(tenant, run_id)
        if not samples:
            return None
        return Coverage(
            job_id=max(row.job_id for row in samples),
            zone=max(samples, key=lambda row: row.started_at).zone,
            first_at=min(row.started_at for row in samples),
            last_at=max(row.ended_at for row in samples),
            pue=_mean_over(samples, _joules, lambda row: row.pue),
            intensity_grams_per_kwh=_mean_over(
                samples, lambda row: _joules(row) * row.pue, lambda row: row.intensity_grams_per_kwh
            ),
            intensity_sources=tuple(sorted({f"{row.intensity_kind}: {row.intensity_source}" for row in samples})),
            intensity_bases=tuple(
                sorted(
                    {f"{row.intensity_signal}, {row.intensity_accounting}, {row.intensity_boundary}" for row in samples}
                )
            ),
            samples_missing=sum(
                self._missing(tenant, producer, {row.producer_sequence for row in rows})
                for producer, rows in _grouped(samples, lambda row: row.producer).items()
            ),
        )

    async def power(self, tenant: str, run_id: str, points_max: int) -> list[PowerPoint]:
        samples = [row for row in self._of_run(tenant, run_id) if row.energy_joules is not None]
        if not samples:
            return []
        first = min(row.started_at for row in samples)
        microsecond = timedelta(microseconds=1)
        span = max((max(row.ended_at for row in samples) - first) // microsecond, 1)
        width = span // points_max + 1
        meters = _grouped(
            (row for row in samples if row.ended_at > row.started_at),
            lambda row: ((row.started_at - first) // microsecond // width, row.component, row.host, row.producer),
        )
        watts: dict[tuple[int, str], float] = defaultdict(float)
        for (index, component, _, _), rows in meters.items():
            seconds = fsum((row.ended_at - row.started_at).total_seconds() for row in rows)
            watts[index, component] += fsum(row.energy_joules or 0.0 for row in rows) / seconds
        return [
            PowerPoint(first + index * width * microsecond, component, power)
            for (index, component), power in sorted(watts.items())
        ]

    async def offers(self, tenants: Sequence[str], at: datetime) -> list[Offer]:
        told = _grouped((row for row in self._offers.values() if row.tenant in tenants), lambda row: row.offer_id)
        then = [
            min(rows, key=lambda row: (row.told_at > at, abs(row.told_at - at), row.told.event_id))
            for _, rows in sorted(told.items())
        ]
        names = Offer.__dataclass_fields__
        return [Offer(**{name: getattr(row, name) for name in names}) for row in then if row.available]

    async def days(self, tenants: Sequence[str], at: datetime) -> Days:
        hour_begun = at.replace(minute=0, second=0, microsecond=0)
        near = [row for row in self._intensities.values() if row.tenant in tenants and abs(row.starts_at - at) <= NEAR]
        days: dict[str, dict[int, HourOfDay]] = defaultdict(dict)
        for (zone, hour), rows in _grouped(near, lambda row: (row.zone, row.starts_at.astimezone(UTC).hour)).items():
            newest_first = sorted(rows, key=lambda row: row.told_at, reverse=True)
            best = min(newest_first, key=lambda row: (abs(row.starts_at - hour_begun), row.starts_at))
            days[zone][hour] = HourOfDay(best.intensity_grams_per_kwh, best.kind, best.range_fraction)
        return days

    async def newest_body(self, tenant: str, event_type: str, key: str) -> str | None:
        found = [row for row in self._events.values() if (row.tenant, row.type, row.key) == (tenant, event_type, key)]
        return max(found, key=lambda row: (row.occurred_at, row.told.event_id)).body if found else None

    async def events(self, tenants: Sequence[str], area: str, key: str, limit: int) -> list[KeptEvent]:
        found = [
            row
            for row in self._events.values()
            if row.tenant in tenants and area in ("", row.area) and key in ("", row.key)
        ]
        found.sort(key=lambda row: (row.occurred_at, row.told.event_id), reverse=True)
        return [KeptEvent(row.told.event_id, row.subject, row.occurred_at, _body(row)) for row in found[:limit]]

    def events_of(self, tenant: str, event_type: str) -> list[EventRow]:
        """All events of a tenant and type."""
        return [row for row in self._events.values() if (row.tenant, row.type) == (tenant, event_type)]

    def samples_of(self, tenant: str) -> list[SampleRow]:
        """All samples of a tenant."""
        return [row for row in self._samples.values() if row.tenant == tenant]

    def _told_of_runs(self, tenant: str) -> dict[str, list[EventRow]]:
        rows = (row for row in self._events.values() if (row.tenant, row.area) == (tenant, "runs"))
        return _grouped(rows, lambda row: row.key)

    def _of_run(self, tenant: str, run_id: str) -> list[SampleRow]:
        wanted = (tenant, run_id, "run")
        return [row for row in self._samples.values() if (row.tenant, row.run_id, row.share) == wanted]

    def _missing(self, tenant: str, producer: str, of_run: set[int]) -> int:
        told = {
            row.producer_sequence for row in self._events.values() if (row.tenant, row.producer) == (tenant, producer)
        }
        first, last = min(of_run), max(of_run)
        before = max((number for number in told if number < first), default=first)
        after = min((number for number in told if number > last), default=last)
        return len(set(range(before, after + 1)) - told)


def _body(row: EventRow) -> str:
    if row.type == RequestsLogged.TYPE:
        of_requests = {"event_id": row.told.event_id, "tenant": row.tenant, "model": row.key}
        return json.dumps(of_requests | {"requests_kept_in": "model_requests"}, separators=(",", ":"))
    if row.body or row.type != PowerSampled.TYPE:
        return row.body
    told = {"event_id": row.told.event_id, "tenant": row.tenant, "host": row.key, "producer": row.producer}
    whole = told | {"sequence": row.producer_sequence, "samples_kept_in": "power_samples"}
    return json.dumps(whole, separators=(",", ":"))


def _with_rows(batch: Batch, readings: Readings) -> Batch:
    """The batch with the rows of columns put among its others."""
    whole = Batch(events=[*rows_of(readings.events, EventRow)], samples=[*rows_of(readings.samples, SampleRow)])
    whole.add(batch)
    return whole


def rows_of(table: Any, kind: Callable[..., T]) -> Iterator[T]:
    """An Arrow table's rows as the dataclasses that they stand for."""
    for row in table.to_pylist():
        told = Told(row.pop("event_id"), row.pop("stream"), row.pop("sequence"))
        yield kind(told=told, **row)


def _keep(kept: dict[Hashable, R], rows: Iterable[R], identity: Callable[[R], Hashable]) -> None:
    for row in rows:
        before = kept.get(identity(row))
        if before is None or row.told.sequence < before.told.sequence:
            kept[identity(row)] = row


def _grouped(rows: Iterable[T], key: Callable[[T], Any]) -> dict[Any, list[T]]:
    groups: dict[Any, list[T]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return groups


def _component(how: tuple[str, str, str], rows: Sequence[SampleRow]) -> ComponentSum:
    component, method, source = how
    ranged = [(row.range_fraction, row.energy_joules or 0.0) for row in rows if row.range_fraction is not None]
    energy = fsum(joules for _, joules in ranged)
    mean = fsum(fraction * joules for fraction, joules in ranged) / energy if energy else None
    return ComponentSum(
        component=component,
        method=method,
        source=source,
        range_fraction=mean if mean is not None else max((fraction for fraction, _ in ranged), default=None),
        energy_joules=_sum_of_known(row.energy_joules for row in rows),
        carbon_grams_co2e=_sum_of_known(row.carbon_grams_co2e for row in rows),
        cost_usd=_sum_of_known(row.cost_usd for row in rows),
        samples=len(rows),
        embodied_grams_co2e=_sum_of_known(row.embodied_grams_co2e for row in rows),
    )


def _sum_of_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fsum(known) if known else None


def _joules(row: SampleRow) -> float:
    return row.energy_joules or 0.0


def _mean_over(
    rows: Sequence[SampleRow], weight: Callable[[SampleRow], float], value: Callable[[SampleRow], float]
) -> float:
    whole = fsum(weight(row) for row in rows)
    if not whole:
        return fsum(value(row) for row in rows) / len(rows)
    return fsum(value(row) * weight(row) for row in rows) / whole


def _run(run_id: str, events: Sequence[EventRow]) -> RunRecord:
    bodies = [
        (row.type, row.occurred_at, json.loads(row.body)) for row in sorted(events, key=lambda row: row.occurred_at)
    ]
    newest: dict[str, dict[str, Any]] = {event_type: body for event_type, _, body in bodies}
    started, finished = newest.get("runs.run.started", {}), newest.get("runs.run.finished", {})
    at = {event_type: occurred_at for event_type, occurred_at, _ in bodies}
    resumed = "runs.run.paused" in at and at["runs.run.paused"] <= at.get("runs.run.started", EPOCH)
    begun = [datetime.fromisoformat(body["started_at"]) for _, _, body in bodies if body.get("started_at")]
    ended = [datetime.fromisoformat(body["ended_at"]) for _, _, body in bodies if body.get("ended_at")]
    told = [body["metrics"] for _, _, body in bodies if body.get("metrics")]
    copied = ("project", "host", "provider", "region", "machine_type", "zone", "offer_id")
    prices = ("price_microusd_per_hour", "electricity_microusd_per_kwh")
    return RunRecord(
        run_id=run_id,
        job_id=max(body.get("job_id", "") for _, _, body in bodies),
        name=started.get("name") or run_id,
        state=finished.get("state") or _state_of_unfinished(at),
        started_at=min(begun, default=bodies[0][1]),
        ended_at=None if resumed and not finished else max(ended, default=None),
        metrics=finished.get("metrics") or (told[-1] if told else {}),
        starts=_times_of(bodies, "runs.run.started"),
        pauses=_times_of(bodies, "runs.run.paused"),
        **{name: started.get(name, "") for name in copied},
        **{name: started.get(name, 0) for name in prices},
    )


def _times_of(bodies: Sequence[tuple[str, datetime, Any]], event_type: str) -> tuple[datetime, ...]:
    return tuple(sorted({occurred_at for told, occurred_at, _ in bodies if told == event_type}))


def _state_of_unfinished(at: dict[str, datetime]) -> str:
    """By the newest of each kind of event; `at` holds when that was."""
    if "runs.run.preempted" in at:
        return "preempted"
    paused = at.get("runs.run.paused", EPOCH) > at.get("runs.run.started", EPOCH)
    return "paused" if paused else "running"
