"""Keeps tallies of use, and asks the books only for what can have changed since. Used by `Budgeting`."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ergonaut.budgets import BudgetScope
from ergonaut_common.clock import Clock
from ergonaut_ledger.domain.budgets import Question, Tally, to_ask, with_answer
from ergonaut_ledger.domain.touched import Touched
from ergonaut_ledger.ports import BudgetSums

TALLIES_MAX = 1_000
"""Tallies kept, those asked for last; one is at most some 100 KB. One that was dropped is asked for as a whole again."""

LOOK_BACK = timedelta(seconds=60)
"""Always asked again: where several ledgers share the books, this one is not told of what another has kept."""

REUSE_SECONDS = 0.25
"""An answer stands this long while nothing more was kept: all budgets of a scope and window are judged by one."""

Scope = tuple[str, BudgetScope, str]
"""Tenant, scope, and the run, job or project; empty for the tenant itself."""


def scopes_of(touched: Touched) -> list[Scope]:
    """Every scope whose use has changed with this run's."""
    named = (
        (BudgetScope.PROJECT, touched.project),
        (BudgetScope.JOB, touched.job_id),
        (BudgetScope.RUN, touched.run_id),
    )
    return [(touched.tenant, BudgetScope.TENANT, ""), *((touched.tenant, scope, key) for scope, key in named if key)]


@dataclass(slots=True)
class _Entry:
    """A tally, and what was kept since it was asked for."""

    tally: Tally | None = None
    oldest: datetime | None = None
    newest: datetime | None = None
    asked_at: float = 0.0


class Tallies:
    """What each question was answered so far."""

    def __init__(self, sums: BudgetSums, clock: Clock) -> None:
        self._sums = sums
        self._clock = clock
        self._entries: OrderedDict[Question, _Entry] = OrderedDict()
        self._questions: dict[Scope, set[Question]] = {}
        # Two answers to one question must not overtake each other; the engine works on one at a time anyway.
        self._asking = asyncio.Lock()

    def note(self, touched: Sequence[Touched]) -> None:
        """Samples of these runs were kept: sums from their beginning on may have changed."""
        if not self._questions:
            return
        for each in touched:
            for scope in scopes_of(each):
                for question in self._questions.get(scope, ()):
                    entry = self._entries[question]
                    entry.oldest = min(entry.oldest or each.oldest_started_at, each.oldest_started_at)
                    entry.newest = max(entry.newest or each.newest_ended_at, each.newest_ended_at)

    async def newest(self, question: Question) -> Tally:
        """What was used by now: all that was kept before this was called is in it. Raises Unavailable."""
        async with self._asking:
            at = self._clock.now()
            entry, began = self._entry(question), self._clock.monotonic()
            if entry.tally is not None and entry.oldest is None and began - entry.asked_at < REUSE_SECONDS:
                return entry.tally
            noted, entry.oldest = entry.oldest, None
            oldest = min(noted or at, at - LOOK_BACK)
            asked = to_ask(entry.tally, question, oldest, entry.newest or at, at)
            try:
                answer = await self._sums.answer(question, asked)
            except BaseException:
                entry.oldest = min(noted or oldest, entry.oldest or oldest)
                raise
            entry.tally, entry.asked_at = with_answer(entry.tally, asked, answer, at), began
            return entry.tally

    def _entry(self, question: Question) -> _Entry:
        """The question's entry, now the one asked for last; the one asked for longest ago makes room."""
        scope = (question.tenant, question.scope, question.scope_key)
        entry = self._entries.setdefault(question, _Entry())
        self._questions.setdefault(scope, set()).add(question)
        self._entries.move_to_end(question)
        if len(self._entries) > TALLIES_MAX:
            dropped, _ = self._entries.popitem(last=False)
            of_scope = self._questions[dropped.tenant, dropped.scope, dropped.scope_key]
            of_scope.discard(dropped)
            if not of_scope:
                del self._questions[dropped.tenant, dropped.scope, dropped.scope_key]
        return entry
