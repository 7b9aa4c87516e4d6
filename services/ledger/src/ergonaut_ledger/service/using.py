"""Tells what a tenant used over time. Called by the gRPC door."""

from collections.abc import Sequence

from ergonaut.errors import Refused
from ergonaut_ledger.domain.usage import ROWS_MAX, Usage, UsageQuestion
from ergonaut_ledger.ports.rollups import UsageBooks


class Using:
    """Answers from roll-ups, and from samples where these are newer."""

    def __init__(self, books: UsageBooks) -> None:
        self._books = books

    async def usage(self, question: UsageQuestion) -> Sequence[Usage]:
        """What was used. Raises Refused where that is more than one answer can hold."""
        span = question.span
        touched = await self._books.touched_minutes(question.tenant, span.starts_at, span.ends_at)
        found = await self._books.usage(question, touched, ROWS_MAX + 1)
        if len(found) > ROWS_MAX:
            raise Refused(
                f"more than {ROWS_MAX:,} rows; take a coarser step, fewer labels or a shorter time", field="group_by"
            )
        return found
