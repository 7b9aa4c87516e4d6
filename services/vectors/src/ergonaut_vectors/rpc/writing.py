"""The door's methods that change vectors."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection
from functools import partial
from typing import Any

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.errors import ErgonautError, Refused
from ergonaut_common.rpc import caller
from ergonaut_vectors.catalogue import Opened, Positions
from ergonaut_vectors.domain.checking import checked_change, checked_removal, filter_of
from ergonaut_vectors.domain.segments.writes import Upserts
from ergonaut_vectors.rpc.asked import check_size, upserts_of
from ergonaut_vectors.rpc.shared import Door
from ergonaut_vectors.rpc.told import sequence_of

UNDER_WAY_MAX = 8
"""Batches of one call that are in the log's hands at once: enough that it is never idle, few enough to hold in memory."""

Ready = tuple[str, Opened, Upserts, str]


class WritingCalls(Door):
    """Writes, each answered when it can be found."""

    async def Upsert(self, request: pb.UpsertRequest, context: Any) -> pb.UpsertResponse:
        return _written(await self._write(await self._ready(request)))

    async def UpsertMany(
        self, requests: AsyncIterator[pb.UpsertManyRequest], context: Any
    ) -> AsyncIterator[pb.UpsertManyResponse]:
        under_way: deque[asyncio.Task[pb.UpsertResponse]] = deque()
        try:
            failure: ErgonautError | None = None
            async for request in requests:
                try:
                    # Begun one after the other, so that they stand in the log as they came.
                    under_way.append(await self._begun(request.batch, under_way))
                except ErgonautError as error:
                    failure = error
                    break
                while under_way and (under_way[0].done() or len(under_way) >= UNDER_WAY_MAX):
                    yield pb.UpsertManyResponse(written=await under_way.popleft())
            # Those before one that fails are written and answered all the same.
            while under_way:
                yield pb.UpsertManyResponse(written=await under_way.popleft())
            if failure is not None:
                raise failure
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def UpdatePayloads(self, request: pb.UpdatePayloadsRequest, context: Any) -> pb.UpdatePayloadsResponse:
        opened = await self._open(request.collection)
        check_size(request.ids, "ids")
        ids, payloads = list(request.ids), list(request.payloads)
        read = partial(checked_change, opened.schema, ids, payloads, merged=request.merged)
        positions = await self._asking.write(caller().tenant, opened, await self._behind.translating.run(read))
        return pb.UpdatePayloadsResponse(sequence=sequence_of(positions), sequences=dict(positions))

    async def Delete(self, request: pb.DeleteRequest, context: Any) -> pb.DeleteResponse:
        opened = await self._open(request.collection)
        if request.ids and request.filter:
            raise Refused("are told, and filter too; one of the two is taken", field="ids")
        only = filter_of(request.filter, "filter")
        if only is not None:
            positions, count = await self._asking.delete_matching(caller().tenant, opened, only)
        else:
            removal = checked_removal(list(request.ids))
            positions, count = await self._asking.write(caller().tenant, opened, removal), len(removal.ids)
        return pb.DeleteResponse(sequence=sequence_of(positions), sequences=dict(positions), count=count)

    async def _begun(
        self,
        request: pb.UpsertRequest,
        before: "Collection[asyncio.Task[pb.UpsertResponse]]",
    ) -> "asyncio.Task[pb.UpsertResponse]":
        """One batch of many, on its way into the log behind those that are under way."""
        ready = await self._ready(request)
        return asyncio.create_task(self._answered(ready))

    async def _answered(self, ready: Ready) -> pb.UpsertResponse:
        return _written(await self._write(ready))

    async def _ready(self, request: pb.UpsertRequest) -> Ready:
        opened = await self._open(request.collection)
        batch = await self._translated(partial(upserts_of, request, opened.schema), request.ByteSize())
        return caller().tenant, opened, batch, request.batch_id

    async def _write(self, ready: Ready) -> Positions:
        tenant, opened, batch, batch_id = ready
        return await self._asking.upsert(tenant, opened, batch, batch_id=batch_id)


def _written(positions: Positions) -> pb.UpsertResponse:
    return pb.UpsertResponse(sequence=sequence_of(positions), sequences=dict(positions))
