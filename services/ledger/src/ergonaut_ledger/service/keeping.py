"""Keeps every fact that is told, once. Called by the NATS door."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

from ergonaut_ledger.domain.bounds import EARLIEST, Malformed, Message
from ergonaut_ledger.domain.touched import touched_by
from ergonaut_ledger.domain.understanding import understand_all
from ergonaut_ledger.ports import Store, UseWatcher


class Keeping:
    """Keeps every fact once, and tells watchers whose use that may have changed."""

    def __init__(
        self, store: Store, watchers: Sequence[UseWatcher] = (), not_before: Callable[[], datetime] = lambda: EARLIEST
    ) -> None:
        self._store = store
        self._watchers = watchers
        self._not_before = not_before

    async def keep(self, messages: Sequence[Message]) -> list[Malformed | None]:
        """Keep all that can be; for each message, None or why it never can be. Raises when nothing could be kept now."""
        # After an absence a batch has thousands of messages; to read them here would hold up questions for 0.2 s.
        batch, problems = await asyncio.to_thread(understand_all, messages, self._not_before())
        if not batch.is_empty:
            await self._store.keep(batch)
        if self._watchers:
            touched = await asyncio.to_thread(touched_by, batch)
            for watcher in self._watchers:
                watcher.kept(touched)
        return problems
