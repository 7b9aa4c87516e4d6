"""A change by one worker is known to all before its caller is told that it is made: the next request may go to any of them."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.models import Entry, Model
from ergonaut_gateway.ports import ModelRegistry
from ergonaut_gateway.workers.board import Board

PATIENCE_SECONDS = 5.0
"""How long the others are waited for: to fetch, check and load a large model. Whoever is later has lost NATS or is stuck, and
serves what it has."""

LOOK_AGAIN_SECONDS = 0.005

log = get_logger(__name__)


class Neighbours:
    """The other workers, as one worker sees them."""

    def __init__(self, board: Board, row: int) -> None:
        self._board = board
        self._row = row

    def applied(self, revision: int) -> None:
        """This worker has applied the registry's changes as far as this."""
        self._board.applied(self._row, revision)

    async def all_applied(self, revision: int) -> None:
        """Return when the others have, too, or are late."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + PATIENCE_SECONDS
        while not self._board.all_applied(self._row, revision):
            if loop.time() > give_up_at:
                log.warning("other workers are late", revision=revision, waited_seconds=PATIENCE_SECONDS)
                return
            # Another process's memory tells nobody when it changes.
            await asyncio.sleep(LOOK_AGAIN_SECONDS)


class NeighbourlyRegistry:
    """Fills `ModelRegistry`, by another one whose changes it tells to the neighbours."""

    def __init__(self, registry: ModelRegistry, neighbours: Neighbours) -> None:
        self._registry = registry
        self._neighbours = neighbours

    async def get(self, tenant: str, name: str) -> Entry | None:
        return await self._registry.get(tenant, name)

    async def put(self, model: Model, *, revision: int) -> Entry:
        entry = await self._registry.put(model, revision=revision)
        await self._neighbours.all_applied(entry.revision)
        return entry

    async def entries(self) -> Sequence[Entry]:
        return await self._registry.entries()

    async def changes(self, *, seconds: float) -> AsyncIterator[Entry]:
        async for entry in self._registry.changes(seconds=seconds):
            yield entry
            # Asked for the next one: this one was applied.
            self._neighbours.applied(entry.revision)
