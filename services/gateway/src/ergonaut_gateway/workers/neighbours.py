"""A change by one worker is known to all before its caller is told that it is made: the next request may go to any of them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Generic, TypeVar

from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.endpoints.records import EndpointEntry, EndpointRecord
from ergonaut_gateway.domain.models import Entry, Model
from ergonaut_gateway.domain.pipelines.records import PipelineEntry, PipelineRecord
from ergonaut_gateway.ports import Records
from ergonaut_gateway.workers.board import Board, Kept

PATIENCE_SECONDS = 5.0
"""How long the others are waited for: to fetch, check and load a large model. Whoever is later has lost NATS or is stuck, and
serves what it has."""

LOOK_AGAIN_SECONDS = 0.005

log = get_logger(__name__)
RecordT = TypeVar("RecordT")
EntryT = TypeVar("EntryT", bound=Entry | PipelineEntry | EndpointEntry)


class Neighbours:
    """The other workers, as one worker sees them, and how far they are with one kind of records."""

    def __init__(self, board: Board, row: int, kept: Kept = Kept.MODELS) -> None:
        self._board = board
        self._row = row
        self._kept = kept

    def applied(self, revision: int) -> None:
        """This worker has applied the records' changes as far as this."""
        self._board.applied(self._row, revision, self._kept)

    async def all_applied(self, revision: int) -> None:
        """Return when the others have, too, or are late."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + PATIENCE_SECONDS
        while not self._board.all_applied(self._row, revision, self._kept):
            if loop.time() > give_up_at:
                log.warning("other workers are late", revision=revision, waited_seconds=PATIENCE_SECONDS)
                return
            # Another process's memory tells nobody when it changes.
            await asyncio.sleep(LOOK_AGAIN_SECONDS)


class _Neighbourly(Generic[RecordT, EntryT]):
    """Keeps records in what another one is, whose changes it tells to the neighbours."""

    def __init__(self, records: Records[RecordT, EntryT], neighbours: Neighbours) -> None:
        self._records = records
        self._neighbours = neighbours

    async def get(self, tenant: str, name: str) -> EntryT | None:
        return await self._records.get(tenant, name)

    async def put(self, record: RecordT, /, *, revision: int) -> EntryT:
        entry = await self._records.put(record, revision=revision)
        await self._neighbours.all_applied(entry.revision)
        return entry

    async def entries(self) -> Sequence[EntryT]:
        return await self._records.entries()

    async def changes(self, *, seconds: float) -> AsyncIterator[EntryT]:
        async for entry in self._records.changes(seconds=seconds):
            yield entry
            # Asked for the next one: this one was applied.
            self._neighbours.applied(entry.revision)


class NeighbourlyRegistry(_Neighbourly[Model, Entry]):
    """Fills `ModelRegistry`."""


class NeighbourlyPipelineBook(_Neighbourly[PipelineRecord, PipelineEntry]):
    """Fills `PipelineBook`."""


class NeighbourlyEndpointBook(_Neighbourly[EndpointRecord, EndpointEntry]):
    """Fills `EndpointBook`."""
