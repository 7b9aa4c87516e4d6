"""What the ledger needs of the world: a store that keeps each fact once and answers questions about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ergonaut_ledger.domain.elsewhere import Days, Offer
from ergonaut_ledger.domain.footprints import ComponentSum, Coverage, PowerPoint, RunRecord
from ergonaut_ledger.domain.rows import Batch


@dataclass(frozen=True, slots=True)
class KeptEvent:
    """An event as it was kept."""

    event_id: str
    subject: str
    occurred_at: datetime
    body: str


class Store(Protocol):
    """The tenant's books. Every question names the tenants whose facts may be in the answer. All raise Unavailable when busy."""

    async def keep(self, batch: Batch) -> None:
        """Keep these facts, safely on disk when this returns. A fact that is kept already changes nothing."""
        ...

    async def runs(self, tenant: str, limit: int) -> list[RunRecord]:
        """The newest runs of which events tell, newest first."""
        ...

    async def run(self, tenant: str, run_id: str) -> RunRecord | None:
        """One run, where events tell of it."""
        ...

    async def components(self, tenant: str, run_id: str) -> list[ComponentSum]:
        """The sums of a run's samples, a component and way of measuring each, by component."""
        ...

    async def coverage(self, tenant: str, run_id: str) -> Coverage | None:
        """When a run was sampled and whether samples are missing; None where there is no sample."""
        ...

    async def power(self, tenant: str, run_id: str, points_max: int) -> list[PowerPoint]:
        """A run's power, at most so many points a component, in order of time, then component."""
        ...

    async def offers(self, tenants: Sequence[str], at: datetime) -> list[Offer]:
        """The offers on the market at a time; an offer first told of later counts as it was then told."""
        ...

    async def days(self, tenants: Sequence[str], at: datetime) -> Days:
        """Each zone's intensity at each hour of the day, by the day nearest to a time, as told last."""
        ...

    async def newest_body(self, tenant: str, event_type: str, key: str) -> str | None:
        """The body of the newest event of a type and key."""
        ...

    async def events(self, tenants: Sequence[str], area: str, key: str, limit: int) -> list[KeptEvent]:
        """The newest events, newest first; empty `area` or `key` does not narrow."""
        ...
