"""Keeps every fact that is told, once. Called by the NATS door."""

import asyncio
from collections.abc import Sequence

from ergonaut_ledger.domain.rows import Batch
from ergonaut_ledger.domain.understanding import Malformed, Message, understand
from ergonaut_ledger.ports import Store


class Keeping:
    """Keeps every fact once."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def keep(self, messages: Sequence[Message]) -> list[Malformed | None]:
        """Keep all that can be; for each message, None or why it never can be. Raises when nothing could be kept now."""
        # After an absence a batch has thousands of messages; to read them here would hold up questions for 0.2 s.
        understood = await asyncio.to_thread(lambda: [understand(message) for message in messages])
        batch = Batch()
        for result in understood:
            if isinstance(result, Batch):
                batch.add(result)
        if batch.events:
            await self._store.keep(batch)
        return [result if isinstance(result, Malformed) else None for result in understood]
