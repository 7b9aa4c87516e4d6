"""What the ledger needs of roll-ups: to make them, and to answer from them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from ergonaut_ledger.domain.rolling import Portion, Touch
from ergonaut_ledger.domain.usage import Usage, UsageQuestion


class RollUps(Protocol):
    """Sums by minute, hour and day, kept beside the samples. All raise Unavailable when busy."""

    async def touched(self, limit: int) -> list[Touch]:
        """What was kept since its minute was rolled up, oldest first, over all tenants."""
        ...

    async def roll(self, portion: Portion) -> None:
        """Sum a portion anew, on disk when this returns. May be done again at will."""
        ...


class UsageBooks(Protocol):
    """Answers from the roll-ups and, where these are not up to date, from the samples."""

    async def touched_minutes(self, tenant: str, starts_at: datetime, ends_at: datetime) -> list[datetime]:
        """The tenant's minutes in a time that are not rolled up as they are now."""
        ...

    async def usage(self, question: UsageQuestion, touched: Sequence[datetime], rows_max: int) -> list[Usage]:
        """What was used, in order of time, then labels; `touched` is what `touched_minutes` said just before."""
        ...
