"""What the ledger needs to hand its measurements out."""

from collections.abc import AsyncIterator
from typing import Any, Protocol

from ergonaut_ledger.domain.exporting import Export


class ExportBooks(Protocol):
    """A tenant's rows in slices of bounded size. All raise Unavailable when busy."""

    def slices(self, export: Export) -> AsyncIterator[Any]:
        """The rows of the table and time as Arrow tables, each row once, a slice at a time."""
        ...

    async def key(self, tenant: str) -> bytes:
        """The tenant's secret for digests, made when there is none yet."""
        ...
