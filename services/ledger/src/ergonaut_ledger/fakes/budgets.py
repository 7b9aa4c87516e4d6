"""In-memory stand-ins for what budgets need, kept honest by the contract tests that the adapters pass too."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from ergonaut.budgets import BudgetScope
from ergonaut.errors import Unavailable
from ergonaut.events import Event
from ergonaut_ledger.domain.budgets import Answer, Asked, Chunk, Pace, Question, RunUnderWay, Use, total
from ergonaut_ledger.domain.rows import EventRow, SampleRow
from ergonaut_ledger.fakes.store import FakeStore
from ergonaut_ledger.ports import StoredBudget


class FakeBudgetBook:
    """Records in a dictionary, with revisions that count over all of them as NATS does."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], StoredBudget] = {}
        self._revision = 0

    async def everything(self) -> Sequence[StoredBudget]:
        return [self.kept[key] for key in sorted(self.kept)]

    async def find(self, tenant: str, budget_id: str) -> StoredBudget | None:
        return self.kept.get((tenant, budget_id))

    async def keep(self, stored: StoredBudget) -> StoredBudget | None:
        key = (stored.record.tenant, stored.record.budget_id)
        known = self.kept.get(key)
        if (known.revision if known else 0) != stored.revision:
            return None
        self._revision += 1
        self.kept[key] = replace(stored, revision=self._revision)
        return self.kept[key]

    async def forget(self, stored: StoredBudget) -> None:
        key = (stored.record.tenant, stored.record.budget_id)
        known = self.kept.get(key)
        if known is not None and known.revision == stored.revision:
            del self.kept[key]


class FakeBudgetSums:
    """Sums over what a fake store holds; `away` makes it unreachable, `asked` counts questions."""

    def __init__(self, store: FakeStore) -> None:
        self._store = store
        self.away = False
        self.asked: list[Asked] = []

    async def answer(self, question: Question, asked: Asked) -> Answer:
        if self.away:
            raise Unavailable("the engine is away")
        self.asked.append(asked)
        mine = [row for row in self._store._samples.values() if _is_of(row, question)]
        old = [
            row
            for row in mine
            if asked.hours_from is not None and asked.hours_from <= row.started_at < asked.minutes_from
        ]
        new = [row for row in mine if asked.minutes_from <= row.started_at]
        recent = [row for row in new if asked.recent_after < row.ended_at <= asked.recent_until]
        return Answer(
            _chunks(old, lambda at: at.replace(minute=0, second=0, microsecond=0)),
            _chunks(new, lambda at: at.replace(second=0, microsecond=0)),
            _pace(recent),
        )

    async def runs_under_way(self, question: Question, started_after: datetime, limit: int) -> list[RunUnderWay]:
        told: dict[str, list[EventRow]] = {}
        for row in self._store._events.values():
            if (row.tenant, row.area) == (question.tenant, "runs") and row.occurred_at > started_after:
                told.setdefault(row.key, []).append(row)
        runs = [_under_way(run_id, rows, question) for run_id, rows in sorted(told.items())]
        return sorted((run for run in runs if run), key=lambda run: run.started_at, reverse=True)[:limit]


class FakeAnnouncer:
    """Facts in the order in which they were first told, and how often; `away` makes the bus unreachable."""

    def __init__(self) -> None:
        self.told: dict[str, Event] = {}
        self.times = 0
        self.away = False

    async def tell(self, event: Event) -> None:
        if self.away:
            raise Unavailable("the bus is away")
        self.times += 1
        self.told.setdefault(event.event_id, event)


class FakeBudgetGauges:
    """The newest figure of each budget."""

    def __init__(self) -> None:
        self.ratios: dict[tuple[str, str], float] = {}

    def stands(self, tenant: str, budget_id: str, used_ratio: float) -> None:
        self.ratios[tenant, budget_id] = used_ratio

    def gone(self, tenant: str, budget_id: str) -> None:
        self.ratios.pop((tenant, budget_id), None)

    def told(self, event_type: str) -> None:
        pass

    def judged(self, seconds: float) -> None:
        pass


def _is_of(row: SampleRow, question: Question) -> bool:
    key = {
        BudgetScope.TENANT: "",
        BudgetScope.PROJECT: row.project,
        BudgetScope.JOB: row.job_id,
        BudgetScope.RUN: row.run_id,
    }[question.scope]
    timely = question.since <= row.started_at < question.until
    return row.tenant == question.tenant and row.share == "run" and key == question.scope_key and timely


def _chunks(rows: Iterable[SampleRow], span: Callable[[datetime], datetime]) -> list[Chunk]:
    groups: dict[datetime, list[Use]] = {}
    for row in rows:
        groups.setdefault(span(row.started_at), []).append(_use(row))
    return [Chunk(start, total(uses)) for start, uses in sorted(groups.items())]


def _use(row: SampleRow) -> Use:
    fraction = row.range_fraction or 0.0
    cost, grams, joules = row.cost_usd or 0.0, row.carbon_grams_co2e or 0.0, row.energy_joules or 0.0
    return Use(cost, grams, joules, fraction * cost, fraction * grams, fraction * joules)


def _pace(rows: Sequence[SampleRow]) -> Pace:
    if not rows:
        return Pace()
    whole = total(_use(row) for row in rows)
    return Pace(
        recent=Use(whole.cost_usd, whole.carbon_grams_co2e, whole.energy_joules),
        oldest_started_at=min(row.started_at for row in rows),
        newest_ended_at=max(row.ended_at for row in rows),
        interval_seconds=max((row.ended_at - row.started_at).total_seconds() for row in rows),
    )


def _under_way(run_id: str, rows: Sequence[EventRow], question: Question) -> RunUnderWay | None:
    times: dict[str, datetime] = {}
    for row in sorted(rows, key=lambda row: row.occurred_at):
        times[row.type] = row.occurred_at
    begun = times.get("runs.run.started")
    paused = times.get("runs.run.paused")
    if begun is None or {"runs.run.finished", "runs.run.preempted"} & set(times) or (paused and paused > begun):
        return None
    started = [json.loads(row.body) for row in rows if row.type == "runs.run.started"]
    job_id, project = started[0].get("job_id", ""), started[0].get("project", "")
    key = {
        BudgetScope.TENANT: "",
        BudgetScope.PROJECT: project,
        BudgetScope.JOB: job_id,
        BudgetScope.RUN: run_id,
    }[question.scope]
    return RunUnderWay(run_id, job_id, begun) if key == question.scope_key else None
