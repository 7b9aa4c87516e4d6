"""Sets budgets, tells how they stand, and sees to what follows from their use. Called by the gRPC door and by `BudgetRounds`.

What follows is decided, remembered together with what is to be told of it, told, and only then remembered as told. Killed in
between, the ledger tells it when it starts again; the event's id makes that the same telling.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ergonaut.budgets import BudgetSpec
from ergonaut.errors import NotFound, Refused, Unavailable
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_ledger.domain.budgets import (
    BudgetRecord,
    RunUnderWay,
    Seen,
    State,
    Window,
    changed,
    decided,
    ends_at_expected,
    made,
    needs_runs,
    question_of,
    removed,
    state_of,
    window_at,
)
from ergonaut_ledger.ports import Announcer, BudgetBook, BudgetGauges, BudgetSums, Store, StoredBudget
from ergonaut_ledger.service.budget_shelf import BudgetShelf
from ergonaut_ledger.service.budget_tallies import Tallies

BUDGETS_MAX = 200
"""Budgets of one tenant; each is a question to the books a round while its runs use something."""

JOB_LIMITS_LISTED_MAX = 100
"""Jobs' own limits in a listing, those of the newest jobs: months of jobs would bury the budgets that people set."""

CHANGES_MAX = 5
"""How often a change is tried that others were faster than."""

RUNS_MAX = 5_000
"""Runs under way that are told of in one go; others follow in the next rounds."""

RUNS_SINCE = timedelta(days=45)
"""Runs that started longer ago and never told of an end are taken to have died; jobs may last 30 days."""

KNOWN_RUNS_AGAIN_SECONDS = 5.0
"""How often runs are looked up that were told to stop and still use something: they may have been started again."""

NEW_RUNS_AGAIN_SECONDS = 1.0
"""How often runs are looked up while one uses something of which no start was told; its start may follow its samples."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class BudgetWorld:
    """All that budgets need of the world."""

    book: BudgetBook
    sums: BudgetSums
    store: Store
    announcer: Announcer
    gauges: BudgetGauges
    clock: Clock


@dataclass(frozen=True, slots=True)
class Standing:
    """How a budget stands in its present window."""

    record: BudgetRecord
    seen: Seen
    state: State
    window: Window
    ends_at_expected: datetime | None


class Budgeting:
    """The tenant's budgets."""

    def __init__(self, world: BudgetWorld) -> None:
        self._world = world
        self.shelf = BudgetShelf(world.book, world.store, world.clock)
        self.tallies = Tallies(world.sums, world.clock)
        self._runs_asked_at: dict[tuple[str, str], float] = {}

    async def set(self, tenant: str, budget: BudgetSpec, principal: str) -> Standing:
        """Set a budget, new or instead of the one of its id, and see at once to what follows. Raises Refused."""

        def change(stored: StoredBudget | None, at: datetime) -> BudgetRecord:
            if stored is None:
                return made(tenant, budget, at, principal)
            record = replace(stored.record, of_job=False)
            if (budget.scope, budget.scope_key) != (record.budget.scope, record.budget.scope_key):
                record = removed(record, at, principal, used=used, held=self.shelf.held(record))
            return changed(record, budget, at, principal)

        known = self.shelf.find(tenant, budget.budget_id)
        own = [one for one in self.shelf.of_tenant(tenant) if not one.record.of_job]
        if (known is None or known.record.of_job) and len(own) >= BUDGETS_MAX:
            raise Refused(f"{len(own)} budgets are set and that is all a tenant may have; remove one first")
        used = await self._used_of_exceeded(tenant, budget.budget_id)
        await self._changed(tenant, budget.budget_id, change)
        return await self.standing(tenant, budget.budget_id)

    async def remove(self, tenant: str, budget_id: str, principal: str) -> None:
        """Remove a budget; jobs that it paused go on. Raises NotFound, or Refused for a job's own limit."""

        def change(stored: StoredBudget | None, at: datetime) -> BudgetRecord:
            if stored is None:
                raise _not_found(budget_id)
            if stored.record.of_job:
                raise Refused(
                    "is the job's own limit; set a budget of this name with a higher limit", field="budget_id"
                )
            return removed(stored.record, at, principal, used=used, held=self.shelf.held(stored.record))

        used = await self._used_of_exceeded(tenant, budget_id)
        await self._changed(tenant, budget_id, change)

    async def standing(self, tenant: str, budget_id: str) -> Standing:
        """How a budget stands now. Raises NotFound."""
        stored = await self._world.book.find(tenant, budget_id)
        if stored is None:
            raise _not_found(budget_id)
        self.shelf.put(stored)
        return await self._standing(await self.judge(stored))

    async def standings(self, tenant: str) -> list[Standing]:
        """How the tenant's budgets stand now, in order of their ids; jobs' own limits where something was told of them lately."""
        known = [stored for stored in self.shelf.of_tenant(tenant) if not stored.record.removed]
        of_jobs = sorted((one for one in known if one.record.of_job), key=lambda one: one.record.made_at)
        left_out = {one.record.budget_id for one in of_jobs[:-JOB_LIMITS_LISTED_MAX]}
        return [await self._standing(stored) for stored in known if stored.record.budget_id not in left_out]

    async def judge(self, stored: StoredBudget, touched: Collection[str] = ()) -> StoredBudget:
        """Ask what was used, decide what follows, remember it, tell it; `touched` are runs that just used something."""
        began = self._world.clock.monotonic()
        for _ in range(CHANGES_MAX):
            record = stored.record
            if record.removed:
                return await self.tell(stored)
            seen = await self._seen(record)
            runs = await self._runs(record, seen, touched)
            after = decided(record, seen, runs, self.shelf.held(record), touched)
            self._show(record, seen, self._world.clock.monotonic() - began)
            if after == record or (not stored.revision and not after.untold):
                return await self.tell(stored)
            kept = await self._world.book.keep(replace(stored, record=after))
            if kept is not None:
                self.shelf.put(kept)
                return await self.tell(kept)
            stored = await self._world.book.find(record.tenant, record.budget_id) or StoredBudget(record)
        raise _too_busy(stored.record.budget_id)

    async def tell(self, stored: StoredBudget) -> StoredBudget:
        """Tell what was decided and not told yet, then remember that it was. Raises Unavailable, and it is told later."""
        if not stored.record.untold:
            if stored.record.removed:
                # It was told, and a death or an outage came before it could be forgotten.
                await self._forget(stored)
            return stored
        for untold in stored.record.untold:
            await self._world.announcer.tell(untold.event)
            self._world.gauges.told(untold.type)
        kept = await self._world.book.keep(replace(stored, record=replace(stored.record, untold=())))
        if kept is None:
            # Another has changed or told it in between; whatever it left untold it tells itself, or the next look does.
            return stored
        self.shelf.put(kept)
        if kept.record.removed:
            await self._forget(kept)
        return kept

    async def _changed(
        self, tenant: str, budget_id: str, change: Callable[[StoredBudget | None, datetime], BudgetRecord]
    ) -> StoredBudget:
        """The budget after a person's change was remembered and told."""
        for _ in range(CHANGES_MAX):
            stored = await self._world.book.find(tenant, budget_id)
            after = change(stored, self._world.clock.now())
            if stored is not None and after == stored.record:
                return await self.tell(stored)
            kept = await self._world.book.keep(StoredBudget(after, stored.revision if stored else 0))
            if kept is not None:
                self.shelf.put(kept)
                return await self.tell(kept)
        raise _too_busy(budget_id)

    async def _used_of_exceeded(self, tenant: str, budget_id: str) -> float:
        """What was used of a budget of which it was told that it is used up: the end of that is told with it too."""
        stored = await self._world.book.find(tenant, budget_id)
        if stored is None or not (stored.record.exceeded or stored.record.owed):
            return 0.0
        return (await self._seen(stored.record)).used

    async def _forget(self, stored: StoredBudget) -> None:
        await self._world.book.forget(stored)
        self.shelf.drop(stored)
        self._world.gauges.gone(stored.record.tenant, stored.record.budget_id)

    async def _standing(self, stored: StoredBudget) -> Standing:
        record = stored.record
        seen = await self._seen(record)
        window = window_at(record.budget, seen.at)
        state = state_of(record, seen.at)
        expected = None if state in {State.EXCEEDED, State.OVER} else ends_at_expected(record.budget, window, seen)
        return Standing(record, seen, state, window, expected)

    async def _seen(self, record: BudgetRecord) -> Seen:
        window = window_at(record.budget, self._world.clock.now())
        tally = await self.tallies.newest(question_of(record.tenant, record.budget, window))
        at, metric, used = self._world.clock.now(), record.budget.metric, tally.used
        return Seen(
            at=at,
            used=used.of(metric),
            used_range=used.range_of(metric),
            pace_per_second=tally.pace.per_second(metric),
            mean_per_second=tally.mean_per_second(metric, at),
            interval_seconds=tally.pace.interval_seconds,
            newest_ended_at=tally.pace.newest_ended_at,
        )

    async def _runs(self, record: BudgetRecord, seen: Seen, touched: Collection[str]) -> list[RunUnderWay]:
        """The runs under way, where deciding takes them and they were not just looked up."""
        if not needs_runs(record, seen, touched):
            return []
        key, now = (record.tenant, record.budget_id), self._world.clock.monotonic()
        known = record.exceeded and all(run_id in record.told_runs for run_id in touched)
        pause_seconds = KNOWN_RUNS_AGAIN_SECONDS if known else NEW_RUNS_AGAIN_SECONDS
        if record.exceeded and now - self._runs_asked_at.get(key, -KNOWN_RUNS_AGAIN_SECONDS) < pause_seconds:
            return []
        self._runs_asked_at[key] = now
        question = question_of(record.tenant, record.budget, window_at(record.budget, seen.at))
        return await self._world.sums.runs_under_way(question, seen.at - RUNS_SINCE, RUNS_MAX)

    def _show(self, record: BudgetRecord, seen: Seen, seconds: float) -> None:
        self._world.gauges.judged(seconds)
        if not record.of_job:
            self._world.gauges.stands(record.tenant, record.budget_id, seen.used / record.budget.limit)


def _not_found(budget_id: str) -> NotFound:
    return NotFound(f"no budget {budget_id!r} is set; `ergonaut budget list` tells those that are")


def _too_busy(budget_id: str) -> Unavailable:
    return Unavailable(f"the budget {budget_id} changes faster than it can be judged; try again")
