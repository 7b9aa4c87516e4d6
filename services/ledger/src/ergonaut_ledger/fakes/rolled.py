"""Stand-ins for roll-ups, ages, exports and watchers that remember what they were asked for."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from ergonaut_ledger.domain.exporting import Export
from ergonaut_ledger.domain.rolling import Portion, Touch
from ergonaut_ledger.domain.touched import Touched


class FakeRollUps:
    """Fills `RollUps`: what is rolled is touched no more."""

    def __init__(self) -> None:
        self.touches: list[Touch] = []
        self.rolled: list[tuple[datetime, ...]] = []

    async def touched(self, limit: int) -> list[Touch]:
        return self.touches[:limit]

    async def roll(self, portion: Portion) -> None:
        self.rolled.append(portion.minutes)
        self.touches = [touch for touch in self.touches if touch not in portion.touches]


class FakeAges:
    """Fills `Ages` over months and days by name."""

    def __init__(self, months: Sequence[date] = (), days: Sequence[date] = ()) -> None:
        self.months, self.days = sorted(months), sorted(days)
        self.touched_at: datetime | None = None
        self._sealed: datetime | None = None

    async def sealed_before(self) -> datetime | None:
        return self._sealed

    async def seal(self, before: datetime) -> None:
        self._sealed = max(before, self._sealed or before)

    async def months_of_samples(self) -> list[date]:
        return [*self.months]

    async def touched_before(self, before: datetime) -> bool:
        return self.touched_at is not None and self.touched_at < before

    async def drop_samples(self, month: date) -> None:
        self.months.remove(month)

    async def days_of_minutes(self) -> list[date]:
        return [*self.days]

    async def drop_minutes(self, day: date) -> None:
        self.days.remove(day)


class FakeExportBooks:
    """Fills `ExportBooks` with the slices that it was given for each tenant."""

    def __init__(self, slices: Mapping[str, Sequence[Any]]) -> None:
        self._slices = slices

    async def slices(self, export: Export) -> AsyncIterator[Any]:
        for rows in self._slices.get(export.tenant, ()):
            yield rows

    async def key(self, tenant: str) -> bytes:
        return f"secret of {tenant}".encode().ljust(32, b".")


class FakeUseWatcher:
    """Fills `UseWatcher`."""

    def __init__(self) -> None:
        self.told: list[Sequence[Touched]] = []

    def kept(self, touched: Sequence[Touched]) -> None:
        self.told.append(touched)
