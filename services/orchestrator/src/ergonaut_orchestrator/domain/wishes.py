"""What was asked of a job: by whom it is held paused, and whether a budget has stopped it for good."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from ergonaut.workflows import Asked

BUDGETS_MAX = 256
"""Budgets remembered by one job: far more than concern any, and few enough for a workflow's memory."""

A_PERSON = ""
"""Who asks where no budget does."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """A job goes on when nobody holds it any more.

    A person lets go of all holds, and only a person of a person's. A budget that holds the job and lets it go on speaks for
    all budgets: the ledger names only jobs that none of them holds any more. Of one budget's wishes the newest counts, by
    the time at which it was asked, so that wishes may come twice and in any order. A person's always counts, as the newest.
    """

    held_by: Mapping[str, Asked] = field(default_factory=dict)
    stop: Asked | None = None
    resumed_count: int = 0
    asked_at: Mapping[str, datetime] = field(default_factory=dict)
    """When each budget last asked for something."""

    @property
    def hold(self) -> Asked | None:
        """The first of those that want the job paused."""
        return next(iter(self.held_by.values()), None)

    @property
    def interrupt(self) -> Asked | None:
        """What keeps the job from running, if anything does."""
        return self.stop or self.hold

    def with_pause(self, asked: Asked) -> "Wishes":
        """Somebody wants the job paused; who holds it already, holds it for the first reason given."""
        if not self._is_news(asked) or len(self.held_by) >= BUDGETS_MAX:
            return self
        held_by = dict(self.held_by)
        held_by.setdefault(asked.budget_id, asked)
        return replace(self, held_by=held_by, asked_at=self._noting(asked))

    def with_resume(self, asked: Asked) -> "Wishes":
        """Somebody wants it to go on."""
        if not self._is_news(asked):
            return self
        held_by = {who: why for who, why in self.held_by.items() if not self._lets_go(asked, who, why)}
        return replace(self, held_by=held_by, resumed_count=self.resumed_count + 1, asked_at=self._noting(asked))

    def with_stop(self, asked: Asked) -> "Wishes":
        """A budget ends the job; the first one that does is named."""
        if not self._is_news(asked):
            return self
        return replace(self, stop=self.stop or asked, asked_at=self._noting(asked))

    def _lets_go(self, asked: Asked, who: str, why: Asked) -> bool:
        """Whether a wish to go on ends this hold: a budget's does so only for holds that are older than it."""
        if asked.budget_id == A_PERSON:
            return True
        if who == A_PERSON or asked.budget_id not in self.held_by:
            return False
        return asked.asked_at is None or why.asked_at is None or why.asked_at <= asked.asked_at

    def _is_news(self, asked: Asked) -> bool:
        known = self.asked_at.get(asked.budget_id)
        return asked.asked_at is None or known is None or asked.asked_at > known

    def _noting(self, asked: Asked) -> Mapping[str, datetime]:
        if asked.asked_at is None:
            return self.asked_at
        newest = {**self.asked_at, asked.budget_id: asked.asked_at}
        return dict(sorted(newest.items(), key=lambda item: item[1])[-BUDGETS_MAX:])
