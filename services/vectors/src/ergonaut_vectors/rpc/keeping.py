"""The door's methods about whole collections: made, told of, dropped, kept and brought back."""

import contextlib
from datetime import UTC
from functools import partial
from typing import Any

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.errors import NotFound, Refused, Unavailable
from ergonaut_vectors.catalogue import Opened
from ergonaut_vectors.domain.quotas import Usage
from ergonaut_vectors.quotas import usage_of
from ergonaut_vectors.rpc.schemas import collection_of, schema_of, shard_of, snapshot_of, wish_of
from ergonaut_vectors.rpc.shared import Door


class KeepingCalls(Door):
    """Whole collections."""

    async def CreateCollection(self, request: pb.CreateCollectionRequest, context: Any) -> pb.CreateCollectionResponse:
        tenant, schema = self._enter(), schema_of(request.collection)
        await self._check_room(tenant, schema.name)
        opened = await self._behind.catalogue.create(tenant, schema)
        return pb.CreateCollectionResponse(collection=collection_of(opened))

    async def ListCollections(self, request: pb.ListCollectionsRequest, context: Any) -> pb.ListCollectionsResponse:
        collections = [collection_of(opened) for opened in self._behind.catalogue.all(self._enter())]
        return pb.ListCollectionsResponse(collections=collections)

    async def DropCollection(self, request: pb.DropCollectionRequest, context: Any) -> pb.DropCollectionResponse:
        await self._behind.catalogue.drop(self._enter(), request.collection)
        return pb.DropCollectionResponse()

    async def DescribeCollection(
        self, request: pb.DescribeCollectionRequest, context: Any
    ) -> pb.DescribeCollectionResponse:
        opened = await self._open(request.collection)
        states = opened.states()
        seen = await self._asking.fields([state.view for state in states if state.view is not None])
        return pb.DescribeCollectionResponse(
            collection=collection_of(opened),
            shards=[shard_of(state) for state in states],
            fields=[
                pb.SeenField(name=name, type=kind, count=count) for (name, kind), count in sorted(seen.counts.items())
            ],
            has_more_fields=not seen.whole,
        )

    async def SetIndex(self, request: pb.SetIndexRequest, context: Any) -> pb.SetIndexResponse:
        wish = wish_of(request.index)
        opened = await self._behind.catalogue.set_index(self._enter(), request.collection, wish)
        return pb.SetIndexResponse(collection=collection_of(opened))

    async def SplitShard(self, request: pb.SplitShardRequest, context: Any) -> pb.SplitShardResponse:
        tenant, splits = self._enter(), self._behind.splits
        if splits is None:
            raise Refused("is of another region's collection, which is split where it is written", field="shard")
        return pb.SplitShardResponse(shard=await splits.split(tenant, request.collection, request.shard))

    async def GetUsage(self, request: pb.GetUsageRequest, context: Any) -> pb.GetUsageResponse:
        tenant = self._enter()
        used, quota = await self._used(tenant), self._behind.quotas.of(tenant)
        return pb.GetUsageResponse(
            used=pb.Usage(
                collections=used.collections,
                vectors=used.vectors,
                vector_bytes=used.vector_bytes,
                calls_per_second=self._behind.quotas.calls_per_second(tenant),
            ),
            allowed=pb.Usage(
                collections=quota.collections,
                vectors=quota.vectors,
                vector_bytes=quota.vector_bytes,
                calls_per_second=quota.calls_per_second,
            ),
        )

    async def CreateSnapshot(self, request: pb.CreateSnapshotRequest, context: Any) -> pb.CreateSnapshotResponse:
        tenant = self._enter()
        kept = await self._snapshots.make(tenant, request.collection)
        if self._behind.changes is not None:
            await self._behind.changes.kept(tenant, kept)
        return pb.CreateSnapshotResponse(snapshot=snapshot_of(kept))

    async def ListSnapshots(self, request: pb.ListSnapshotsRequest, context: Any) -> pb.ListSnapshotsResponse:
        kept = await self._snapshots.all(self._enter(), request.collection)
        return pb.ListSnapshotsResponse(snapshots=[snapshot_of(each) for each in kept])

    async def DropSnapshot(self, request: pb.DropSnapshotRequest, context: Any) -> pb.DropSnapshotResponse:
        await self._snapshots.drop(self._enter(), request.collection, request.id)
        return pb.DropSnapshotResponse()

    async def RestoreCollection(
        self, request: pb.RestoreCollectionRequest, context: Any
    ) -> pb.RestoreCollectionResponse:
        tenant = self._enter()
        if bool(request.snapshot_id) == request.HasField("at"):
            raise Refused("must be told, or at; one of the two", field="snapshot_id")
        await self._check_room(tenant, request.new_name)
        moment = request.snapshot_id or request.at.ToDatetime(tzinfo=UTC)
        opened = await self._snapshots.restore(tenant, request.collection, request.new_name, moment)
        return pb.RestoreCollectionResponse(collection=await _counted(opened))

    async def CloneCollection(self, request: pb.CloneCollectionRequest, context: Any) -> pb.CloneCollectionResponse:
        tenant = self._enter()
        await self._check_room(tenant, request.new_name)
        opened = await self._snapshots.restore(tenant, request.collection, request.new_name, None)
        return pb.CloneCollectionResponse(collection=await _counted(opened))

    async def _used(self, tenant: str) -> Usage:
        """What a tenant has."""
        return usage_of(self._behind.catalogue.all(tenant))

    async def _check_room(self, tenant: str, name: str) -> None:
        catalogue = self._behind.catalogue
        try:
            await catalogue.open(tenant, name)
        except NotFound:
            await self._take_room(tenant, Usage(collections=1))

    async def _take_room(self, tenant: str, more: Usage) -> None:
        """Raise Refused where a tenant may not have so much more."""
        self._behind.quotas.check_room(tenant, more, partial(self._behind.catalogue.all, tenant))


async def _counted(opened: Opened) -> pb.Collection:
    """A new collection with how many vectors it was given, as far as these can be seen in time."""
    with contextlib.suppress(Unavailable):
        await opened.seen({})
    return collection_of(opened)
