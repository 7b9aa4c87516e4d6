"""What the ledger needs to let old measurements go."""

from datetime import date, datetime
from typing import Protocol


class Ages(Protocol):
    """Measurements by age. All raise Unavailable when busy."""

    async def sealed_before(self) -> datetime | None:
        """The moment before which nothing is rolled up anew; None where nothing was dropped yet."""
        ...

    async def seal(self, before: datetime) -> None:
        """Move that moment; it never moves back."""
        ...

    async def months_of_samples(self) -> list[date]:
        """The first day of each month of which samples are kept, oldest first."""
        ...

    async def touched_before(self, before: datetime) -> bool:
        """Whether a minute before a moment waits to be rolled up."""
        ...

    async def drop_samples(self, month: date) -> None:
        """Drop a month's samples and the records of their messages."""
        ...

    async def days_of_minutes(self) -> list[date]:
        """The days of which roll-ups by minute are kept, oldest first."""
        ...

    async def drop_minutes(self, day: date) -> None:
        """Drop a day's roll-ups by minute."""
        ...
