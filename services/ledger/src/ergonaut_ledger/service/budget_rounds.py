"""Judges the budgets whose runs have just used something, round after round. Told by `Keeping`, run by `main`."""

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence

from ergonaut.errors import ErgonautError, Unavailable
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_ledger.domain.budgets import needs_look
from ergonaut_ledger.domain.touched import Touched
from ergonaut_ledger.ports import StoredBudget
from ergonaut_ledger.service.budget_tallies import Scope, scopes_of
from ergonaut_ledger.service.budgeting import Budgeting

ROUND_SECONDS = 0.5
"""Pause between rounds: no budget is asked about more often. A first sample after a pause is judged at once."""

SCOPES_A_ROUND_MAX = 64
"""Scopes judged in a round, tenants in turn: at some 10 ms each they leave the engine time for others."""

LOOK_UPS_A_ROUND_MAX = 16
"""Jobs looked up in a round for limits of their own, after what is known to be limited: most have none, and thousands that are
new at once, as after a start, must delay no budget."""

LOOK_SECONDS = 1.0
"""How often windows that began anew, and tellings that failed, are looked for."""

BOOK_SECONDS = 10.0
"""How often the book is read as a whole, for what another ledger has changed in it."""

log = get_logger(__name__)


class _Due:
    """Scopes that are to be judged, each with the runs that used something: tenants in turn, a tenant's as they came."""

    def __init__(self) -> None:
        self._by_tenant: OrderedDict[str, OrderedDict[Scope, set[str]]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._by_tenant)

    def __len__(self) -> int:
        return sum(len(scopes) for scopes in self._by_tenant.values())

    def add(self, scope: Scope, runs: Iterable[str] = ()) -> None:
        """Have a scope judged; one that waits already keeps its place."""
        self._by_tenant.setdefault(scope[0], OrderedDict()).setdefault(scope, set()).update(runs)

    def take(self) -> tuple[Scope, set[str]]:
        """The scope whose turn it is."""
        tenant, scopes = self._by_tenant.popitem(last=False)
        scope, runs = scopes.popitem(last=False)
        if scopes:
            self._by_tenant[tenant] = scopes
        return scope, runs


class BudgetRounds:
    """Fills `UseWatcher`; `run` and `look` are to run beside each other as long as the process lives."""

    def __init__(self, budgeting: Budgeting, clock: Clock) -> None:
        self._budgeting = budgeting
        self._clock = clock
        self._limited = _Due()
        self._unknown = _Due()
        self._wake = asyncio.Event()
        self._failed: set[tuple[str, str]] = set()
        """Budgets that could not be looked at: the next look comes to them last, so that they keep no other one waiting."""

    def kept(self, touched: Sequence[Touched]) -> None:
        self._budgeting.tallies.note(touched)
        for each in touched:
            for scope in scopes_of(each):
                if self._budgeting.shelf.has(scope):
                    self._limited.add(scope, [each.run_id])
                elif self._budgeting.shelf.must_look_up(scope):
                    self._unknown.add(scope, [each.run_id])
        self._wake_where_due()

    async def start(self) -> None:
        """Read the book, and have every budget in it judged, since a death may have come in between. Raises Unavailable."""
        await self._budgeting.shelf.look()
        for stored in self._budgeting.shelf.all():
            budget = stored.record.budget
            self._limited.add((stored.record.tenant, budget.scope, budget.scope_key))
        self._wake_where_due()

    async def run(self) -> None:
        """Judge what is due, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.round()
            await self._clock.sleep(ROUND_SECONDS)

    async def round(self) -> None:
        """Judge the budgets of the scopes whose turn it is, then look for limits that jobs have brought along."""
        for due, scopes_max in ((self._limited, SCOPES_A_ROUND_MAX), (self._unknown, LOOK_UPS_A_ROUND_MAX)):
            failed = []
            for _ in range(min(len(due), scopes_max)):
                scope, runs = due.take()
                if not await self._judged(scope, runs):
                    failed.append((scope, runs))
            # Only now, so that one that takes as long as a question may is asked about once a round.
            for scope, runs in failed:
                due.add(scope, runs)
        self._wake_where_due()

    async def _judged(self, scope: Scope, runs: Collection[str]) -> bool:
        """Judge the budgets of a scope; says whether that could be done."""
        try:
            await self._judge_each(await self._budgeting.shelf.of_scope(scope), runs)
        except ErgonautError as error:
            log.warning("budgets are judged later", tenant=scope[0], scope=scope[1].value, because=str(error))
            return False
        return True

    def _wake_where_due(self) -> None:
        if self._limited or self._unknown:
            self._wake.set()

    async def look(self) -> None:
        """Find windows that began anew, budgets whose time has passed, and tellings that failed, for ever."""
        read_at = self._clock.monotonic()
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            try:
                if self._clock.monotonic() - read_at >= BOOK_SECONDS:
                    await self._budgeting.shelf.look()
                    read_at = self._clock.monotonic()
                await self.look_once()
            except ErgonautError as error:
                log.warning("budgets are looked at later", because=str(error))

    async def look_once(self) -> None:
        """Judge the budgets for which time alone has changed something, or of which something is untold. Raises Unavailable."""
        now = self._clock.now()
        due = {(one.record.tenant, one.record.budget_id): one for one in self._budgeting.shelf.all()}
        due = {key: one for key, one in due.items() if needs_look(one.record, now)}
        self._failed &= due.keys()
        for key in sorted(due, key=lambda each: each in self._failed):
            self._failed.add(key)
            await self._judge_each([due[key]])
            self._failed.discard(key)

    async def _judge_each(self, budgets: Iterable[StoredBudget], runs: Collection[str] = ()) -> None:
        """Raises Unavailable where a part is away; what is wrong with one budget keeps no other one waiting."""
        for stored in budgets:
            try:
                await self._budgeting.judge(stored, runs)
            except Unavailable:
                raise
            except ErgonautError as error:
                record = stored.record
                log.error("budget not judged", tenant=record.tenant, budget_id=record.budget_id, because=str(error))
