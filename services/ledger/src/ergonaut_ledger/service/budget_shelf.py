"""The budgets as this process knows them: a copy of the book, found by scope, and the limits that jobs bring along."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import ValidationError

from ergonaut.budgets import BudgetScope
from ergonaut.events import JobSubmitted
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_ledger.domain.budgets import BudgetRecord, limits_of_job
from ergonaut_ledger.ports import BudgetBook, Store, StoredBudget
from ergonaut_ledger.service.budget_tallies import Scope

JOBS_KNOWN_MAX = 10_000
"""Jobs whose own limits are remembered, the newest; those of others are looked up again."""

UNKNOWN_SECONDS = (5.0, 60.0)
"""How soon a job that nobody has told of yet is looked up again, doubling from the first to the second: its samples may overtake
its submission, and thousands of jobs that are never told of must not be asked for all the time."""

JOB_LIMITS_KEPT = timedelta(days=60)
"""How long the book keeps what was told of a job's own limit; jobs may last 30 days, and pauses come on top."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a job's own limits; to be looked up again after a while where nobody has told of the job."""

    limits: tuple[BudgetRecord, ...]
    look_again_at: datetime | None = None
    looked: int = 1
    """How often it was looked up."""


class BudgetShelf:
    """Budgets by id and by scope."""

    def __init__(self, book: BudgetBook, store: Store, clock: Clock) -> None:
        self._book = book
        self._store = store
        self._clock = clock
        self._by_id: dict[tuple[str, str], StoredBudget] = {}
        self._by_scope: dict[Scope, set[str]] = {}
        self._jobs: OrderedDict[tuple[str, str], _Known] = OrderedDict()

    async def look(self) -> None:
        """Copy the book, and let it forget what was told of jobs long ago. Raises Unavailable."""
        known = dict(self._by_id)
        stored = await self._book.everything()
        old = [one for one in stored if self._is_stale(one.record)]
        for one in old:
            await self._book.forget(one)
        kept = {_key(one): one for one in stored if one not in old}
        for key in known.keys() - kept.keys():
            # A budget that was set meanwhile may not be among those that were read.
            if self._by_id.get(key) is known[key]:
                self._drop(key)
        for one in kept.values():
            self.put(one)

    def put(self, stored: StoredBudget) -> None:
        """Know a budget as it stands in the book, unless something newer is known."""
        key, record = _key(stored), stored.record
        known = self._by_id.get(key)
        if known is not None and known.revision > stored.revision:
            return
        self._drop(key)
        self._by_id[key] = stored
        self._by_scope.setdefault(_scope(record), set()).add(record.budget_id)

    def drop(self, stored: StoredBudget) -> None:
        """Know a budget no longer, unless something newer is known, such as that it was set again."""
        known = self._by_id.get(_key(stored))
        if known is not None and known.revision <= stored.revision:
            self._drop(_key(stored))

    def all(self) -> list[StoredBudget]:
        """Every budget in the book."""
        return [*self._by_id.values()]

    def find(self, tenant: str, budget_id: str) -> StoredBudget | None:
        """One budget of the book."""
        return self._by_id.get((tenant, budget_id))

    def of_tenant(self, tenant: str) -> list[StoredBudget]:
        """The tenant's, in order of their ids."""
        return sorted(
            (one for one in self._by_id.values() if one.record.tenant == tenant), key=lambda one: one.record.budget_id
        )

    async def of_scope(self, scope: Scope) -> list[StoredBudget]:
        """The budgets that limit a scope, those of a job's own words among them. Raises Unavailable."""
        tenant, kind, key = scope
        found = {budget_id: self._by_id[tenant, budget_id] for budget_id in self._by_scope.get(scope, ())}
        if kind is BudgetScope.JOB:
            for limit in await self._limits(tenant, key):
                # A budget that was set under the limit's name stands instead of it.
                found.setdefault(limit.budget_id, self.find(tenant, limit.budget_id) or StoredBudget(limit))
        return [found[budget_id] for budget_id in sorted(found)]

    def has(self, scope: Scope) -> bool:
        """Whether anything is known to limit a scope."""
        known = self._jobs.get((scope[0], scope[2])) if scope[1] is BudgetScope.JOB else None
        return scope in self._by_scope or (known is not None and bool(known.limits))

    def must_look_up(self, scope: Scope) -> bool:
        """Whether the scope is a job of which it is to be looked up now whether it brings limits of its own."""
        return scope[1] is BudgetScope.JOB and self._is_due(self._jobs.get((scope[0], scope[2])))

    def _is_due(self, known: _Known | None) -> bool:
        if known is None:
            return True
        return known.look_again_at is not None and self._clock.now() >= known.look_again_at

    def held(self, record: BudgetRecord) -> frozenset[str]:
        """Jobs that other budgets of the tenant keep paused."""
        others = (one.record for one in self.of_tenant(record.tenant) if one.record.budget_id != record.budget_id)
        return frozenset(job for other in others if other.exceeded for job in other.paused_jobs)

    async def _limits(self, tenant: str, job_id: str) -> Iterable[BudgetRecord]:
        known = self._jobs.get((tenant, job_id))
        if known is None or self._is_due(known):
            body = await self._store.newest_body(tenant, JobSubmitted.TYPE, job_id)
            known = _Known(_records(tenant, job_id, body)) if body is not None else self._unknown(known)
            self._jobs[tenant, job_id] = known
            if len(self._jobs) > JOBS_KNOWN_MAX:
                self._jobs.popitem(last=False)
        return known.limits

    def _unknown(self, before: _Known | None) -> _Known:
        looked = before.looked + 1 if before else 1
        soonest_seconds, latest_seconds = UNKNOWN_SECONDS
        pause_seconds = min(soonest_seconds * 2.0 ** min(looked - 1, 30), latest_seconds)
        return _Known((), self._clock.now() + timedelta(seconds=pause_seconds), looked)

    def _is_stale(self, record: BudgetRecord) -> bool:
        old = record.made_at < self._clock.now() - JOB_LIMITS_KEPT
        return record.of_job and old and not record.paused_jobs and not record.untold

    def _drop(self, key: tuple[str, str]) -> None:
        stored = self._by_id.pop(key, None)
        if stored is None:
            return
        scope = _scope(stored.record)
        self._by_scope[scope].discard(stored.record.budget_id)
        if not self._by_scope[scope]:
            del self._by_scope[scope]


def _records(tenant: str, job_id: str, body: str) -> tuple[BudgetRecord, ...]:
    """The limits that a job's submission names; none where the submission cannot be read."""
    try:
        told = JobSubmitted.model_validate_json(body)
    except ValidationError as error:
        log.error("a job's limits cannot be read and do not hold", tenant=tenant, job_id=job_id, because=str(error))
        return ()
    at = told.occurred_at
    return tuple(
        BudgetRecord(tenant=tenant, budget=limit, made_at=at, changed_at=at, of_job=True)
        for limit in limits_of_job(job_id, told.job.budget)
    )


def _key(stored: StoredBudget) -> tuple[str, str]:
    return stored.record.tenant, stored.record.budget_id


def _scope(record: BudgetRecord) -> Scope:
    return record.tenant, record.budget.scope, record.budget.scope_key
