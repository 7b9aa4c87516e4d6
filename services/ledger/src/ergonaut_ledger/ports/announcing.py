"""Who tells the world what the ledger noticed."""

from typing import Protocol

from ergonaut.events import Event


class Announcer(Protocol):
    """Tells the world."""

    async def tell(self, event: Event) -> None:
        """Tell a fact; the same fact twice is told once. Raises Unavailable."""
        ...
