"""The public door where collections are spread over nodes: what this node has whole it answers, all else it gathers."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.errors import Broken, NotFound
from ergonaut_common.rpc import caller
from ergonaut_vectors.asking import Asking
from ergonaut_vectors.cluster.keeping import Keeping
from ergonaut_vectors.cluster.spread import Spread
from ergonaut_vectors.domain.placing.shard_map import ShardMap
from ergonaut_vectors.domain.quotas import Quota, Usage
from ergonaut_vectors.quotas import Quotas
from ergonaut_vectors.rpc.door import VectorsDoor
from ergonaut_vectors.rpc.gathered import IN_STEPS, Answer, in_order
from ergonaut_vectors.rpc.shared import Behind

COUNTED_AT_ONCE = 16
"""Collections that are counted at a time where other nodes have them: a tenant may have a thousand, of a millisecond each."""


class SpreadDoor(VectorsDoor):
    """As `VectorsDoor`, for a node of several."""

    def __init__(self, behind: Behind, spread: Spread, keeping: Keeping) -> None:
        # Room is taken here, for vectors on all nodes.
        unbounded = Asking(behind.catalogue, Quotas(Quota()), behind.translating, behind.changes)
        super().__init__(replace(behind, asking=unbounded))
        self._spread = spread
        self._keeping = keeping
        # The ids of batches that came over calls with many and are under way.
        self._writing: WeakKeyDictionary[asyncio.Task[pb.UpsertResponse], frozenset[str]] = WeakKeyDictionary()

    async def CreateCollection(self, request: pb.CreateCollectionRequest, context: Any) -> pb.CreateCollectionResponse:
        response = await super().CreateCollection(request, context)
        record = await self._record(request.collection.name)
        await self._keeping.add(record)
        return response

    async def ListCollections(self, request: pb.ListCollectionsRequest, context: Any) -> pb.ListCollectionsResponse:
        response = await super().ListCollections(request, context)
        counts = await self._counts({each.name: each.count for each in response.collections})
        for collection in response.collections:
            collection.count = counts[collection.name]
        return response

    async def SplitShard(self, request: pb.SplitShardRequest, context: Any) -> pb.SplitShardResponse:
        now = await self._keeping.add(await self._record(request.collection))
        made = await self._spread.split(self._enter(), now, request, self._keeping.heard())
        return pb.SplitShardResponse(shard=made)

    async def DescribeCollection(self, request: pb.DescribeCollectionRequest, context: Any) -> Any:
        return await self._read("DescribeCollection", request, context)

    async def Search(self, request: pb.SearchRequest, context: Any) -> Any:
        return await self._read("Search", request, context)

    async def SearchByExample(self, request: pb.SearchByExampleRequest, context: Any) -> Any:
        return await self._read_in_steps("SearchByExample", request, context)

    async def SearchGroups(self, request: pb.SearchGroupsRequest, context: Any) -> Any:
        return await self._read_in_steps("SearchGroups", request, context)

    async def SearchHybrid(self, request: pb.SearchHybridRequest, context: Any) -> Any:
        return await self._read_in_steps("SearchHybrid", request, context)

    async def SearchMultiVector(self, request: pb.SearchMultiVectorRequest, context: Any) -> Any:
        return await self._read_in_steps("SearchMultiVector", request, context)

    async def GetPoints(self, request: pb.GetPointsRequest, context: Any) -> Any:
        return await self._read("GetPoints", request, context)

    async def ListPoints(self, request: pb.ListPointsRequest, context: Any) -> Any:
        now = await self._elsewhere(request.collection)
        if now is None or not request.order_by:
            return await self._read("ListPoints", request, context)
        return await self._in_steps(in_order, now, request)

    async def GetCount(self, request: pb.GetCountRequest, context: Any) -> Any:
        return await self._read("GetCount", request, context)

    async def GetValueCounts(self, request: pb.GetValueCountsRequest, context: Any) -> Any:
        return await self._read_in_steps("GetValueCounts", request, context)

    async def Upsert(self, request: pb.UpsertRequest, context: Any) -> Any:
        await self._take_room_for(request)
        return await self._write_spread("Upsert", request, context)

    async def UpdatePayloads(self, request: pb.UpdatePayloadsRequest, context: Any) -> Any:
        return await self._write_spread("UpdatePayloads", request, context)

    async def Delete(self, request: pb.DeleteRequest, context: Any) -> Any:
        return await self._write_spread("Delete", request, context)

    async def _begun(
        self, request: pb.UpsertRequest, before: "Collection[asyncio.Task[pb.UpsertResponse]]"
    ) -> "asyncio.Task[pb.UpsertResponse]":
        """One batch of many. Of two that are with other nodes at once nobody knows which comes first: where they write
        the same ids the later one waits."""
        await self._take_room_for(request)
        names = frozenset(request.rows.ids) | {point.id for point in request.points}
        if earlier := [task for task in before if not task.done() and names & self._writing.get(task, frozenset())]:
            await asyncio.wait(earlier)
        now = await self._elsewhere(request.collection)
        if now is None:
            task = await super()._begun(request, before)
        else:
            task = asyncio.create_task(self._spread.write("Upsert", self._enter(), now, request))
        self._writing[task] = names
        return task

    async def _read(self, method: str, request: Any, context: Any) -> Any:
        now = await self._elsewhere(request.collection)
        if now is None:
            return await getattr(VectorsDoor, method)(self, request, context)
        now = await self._spread.reaching(now, sequences_of(request))
        return await self._spread.read(method, self._enter(), now, request)

    async def _read_in_steps(self, method: str, request: Any, context: Any) -> Any:
        now = await self._elsewhere(request.collection)
        if now is None:
            return await getattr(VectorsDoor, method)(self, request, context)
        return await self._in_steps(IN_STEPS[method], now, request)

    async def _in_steps(self, answer: Answer, now: ShardMap, request: Any) -> Any:
        tenant, schema = self._enter(), (await self._record(request.collection)).schema
        now = await self._spread.reaching(now, sequences_of(request))
        partial = hasattr(request, "options") and request.options.reading.partial
        return await self._spread.in_steps(tenant, now, lambda shards: answer(shards, schema, request), partial=partial)

    async def _write_spread(self, method: str, request: Any, context: Any) -> Any:
        now = await self._elsewhere(request.collection)
        if now is None:
            return await getattr(VectorsDoor, method)(self, request, context)
        return await self._spread.write(method, self._enter(), now, request)

    async def _take_room_for(self, request: pb.UpsertRequest) -> None:
        """Raise Refused where the tenant may not have so many vectors more, on all nodes together."""
        count = len(request.rows.ids) + len(request.points)
        schema = (await self._record(request.collection)).schema
        await self._take_room(caller().tenant, Usage(vectors=count, vector_bytes=count * schema.space.row_bytes))

    async def _take_room(self, tenant: str, more: Usage) -> None:
        await self._behind.quotas.check_room_anywhere(tenant, more, lambda: self._used(tenant))

    async def _used(self, tenant: str) -> Usage:
        every = self._behind.catalogue.all(tenant)
        counts = await self._counts({opened.schema.name: opened.count for opened in every})
        used = Usage()
        for opened in every:
            count = counts[opened.schema.name]
            used = used.with_more(Usage(1, count, count * opened.schema.space.row_bytes))
        return used

    async def _counts(self, here: Mapping[str, int]) -> Mapping[str, int]:
        """Vectors of each of these collections, of which so many are known here."""
        turns = asyncio.Semaphore(COUNTED_AT_ONCE)

        async def count(name: str) -> int:
            async with turns:
                return await self._count(name, here[name])

        return dict(zip(here, await asyncio.gather(*map(count, here)), strict=True))

    async def _count(self, name: str, here: int) -> int:
        try:
            now = await self._elsewhere(name)
            if now is None:
                return here
            asked = pb.GetCountRequest(collection=name)
            return int((await self._spread.read("GetCount", caller().tenant, now, asked)).count)
        except NotFound:
            # It was dropped at this moment.
            return 0
        except Broken:
            # A shard of it fails, or is being dropped, which is nothing to calls about others: what is known here counts.
            return here

    async def _elsewhere(self, name: str) -> ShardMap | None:
        """The map of a collection of which this node does not answer for every shard."""
        record = await self._record(name)
        now = await self._spread.map_of(record.uid)
        if now is None:
            now = await self._keeping.add(record)
        return None if now.answered_by(self._spread.node) else now

    async def _record(self, name: str) -> Any:
        return (await self._behind.catalogue.open(caller().tenant, name)).record  # type: ignore[attr-defined]


def sequences_of(request: Any) -> Collection[int]:
    """The shards that a caller names positions of."""
    told = request.options if hasattr(request, "options") else request
    return list(told.reading.sequences_min) if hasattr(told, "reading") else []
