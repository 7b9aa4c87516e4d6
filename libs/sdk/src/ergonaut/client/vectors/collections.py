"""Collections themselves: made, described, dropped, kept as snapshots and brought back."""

from collections.abc import Mapping
from datetime import datetime

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.channels import TRANSFER_TIMEOUT_SECONDS
from ergonaut.client.connection import doing, stamp
from ergonaut.client.vectors.arrays import element_of, metric_of
from ergonaut.client.vectors.base import Calls
from ergonaut.errors import Refused

FieldTold = str | Mapping[str, str]
"""A type, or a type and a language: "float", {"type": "text", "language": "english"}."""


class CollectionCalls(Calls):
    """What is done with whole collections."""

    async def create(
        self,
        name: str,
        dimension: int,
        *,
        metric: str = "l2",
        element: str = "float32",
        fields: Mapping[str, FieldTold] | None = None,
        wish: pb.Collection | None = None,
    ) -> pb.Collection:
        """Make a collection; the same again changes nothing.

        `metric` is `l2`, `cosine`, `inner-product` or `hamming`; `element` is `float32`, `float16`, `uint8`, `int8` or `binary`.
        `wish` tells of an index, shards and replicas: pb.Collection(index=index_of(kind="hnsw"), shards=4).
        """
        collection = pb.Collection()
        if wish is not None:
            collection.CopyFrom(wish)
        told = {field: _field_of(each) for field, each in (fields or {}).items()}
        collection.MergeFrom(
            pb.Collection(
                name=name, dimension=dimension, metric=metric_of(metric), element=element_of(element), fields=told
            )
        )
        with doing(f"creating the collection {name}"):
            answer = await self._stub.CreateCollection(pb.CreateCollectionRequest(collection=collection))
            made: pb.Collection = answer.collection
            return made

    async def collections(self) -> list[pb.Collection]:
        """Every collection, by name."""
        with doing("listing collections"):
            answer = await self._stub.ListCollections(pb.ListCollectionsRequest())
            return [*answer.collections]

    async def describe(self, name: str) -> pb.DescribeCollectionResponse:
        """A collection's schema, sizes, shards and segments."""
        with doing(f"asking how the collection {name} stands"):
            answer: pb.DescribeCollectionResponse = await self._stub.DescribeCollection(
                pb.DescribeCollectionRequest(collection=name)
            )
            return answer

    async def drop(self, name: str) -> None:
        """Remove a collection and all in it."""
        with doing(f"dropping the collection {name}"):
            await self._stub.DropCollection(pb.DropCollectionRequest(collection=name))

    async def set_index(self, name: str, wish: pb.IndexWish) -> pb.Collection:
        """Wish for another index, made by `index_of`; the collection is re-indexed while it answers."""
        with doing(f"wishing for an index of the collection {name}"):
            answer = await self._stub.SetIndex(pb.SetIndexRequest(collection=name, index=wish))
            collection: pb.Collection = answer.collection
            return collection

    async def split(self, name: str, shard: int = 0) -> int:
        """Make half of a shard another shard, while it is read and written; gives the new one's number."""
        with doing(f"splitting shard {shard} of the collection {name}"):
            return int((await self._stub.SplitShard(pb.SplitShardRequest(collection=name, shard=shard))).shard)

    async def usage(self) -> pb.GetUsageResponse:
        """What this tenant has in all its collections, and may have."""
        with doing("asking what is used"):
            answer: pb.GetUsageResponse = await self._stub.GetUsage(pb.GetUsageRequest())
            return answer

    async def snapshot(self, name: str) -> pb.Snapshot:
        """Keep a collection as it is now."""
        with doing(f"keeping the collection {name}"):
            request = pb.CreateSnapshotRequest(collection=name)
            answer = await self._stub.CreateSnapshot(request, timeout=TRANSFER_TIMEOUT_SECONDS)
            snapshot: pb.Snapshot = answer.snapshot
            return snapshot

    async def snapshots(self, name: str) -> list[pb.Snapshot]:
        """What is kept of a collection, newest first."""
        with doing(f"listing snapshots of the collection {name}"):
            answer = await self._stub.ListSnapshots(pb.ListSnapshotsRequest(collection=name))
            return [*answer.snapshots]

    async def drop_snapshot(self, name: str, snapshot_id: str) -> None:
        """Keep a snapshot no longer."""
        with doing(f"dropping a snapshot of the collection {name}"):
            await self._stub.DropSnapshot(pb.DropSnapshotRequest(collection=name, id=snapshot_id))

    async def restore(
        self, name: str, new_name: str, *, snapshot_id: str = "", at: datetime | None = None
    ) -> pb.Collection:
        """Make a new collection of what one was, in a snapshot or at a moment; one without a zone is UTC."""
        if bool(snapshot_id) == (at is not None):
            raise Refused("must be a snapshot or a moment, one of the two", field="snapshot_id")
        request = pb.RestoreCollectionRequest(
            collection=name, new_name=new_name, snapshot_id=snapshot_id, at=stamp(at) if at else None
        )
        with doing(f"restoring the collection {name}"):
            answer = await self._stub.RestoreCollection(request, timeout=TRANSFER_TIMEOUT_SECONDS)
            collection: pb.Collection = answer.collection
            return collection

    async def clone(self, name: str, new_name: str) -> pb.Collection:
        """Make a new collection of what one holds now."""
        with doing(f"copying the collection {name}"):
            request = pb.CloneCollectionRequest(collection=name, new_name=new_name)
            answer = await self._stub.CloneCollection(request, timeout=TRANSFER_TIMEOUT_SECONDS)
            collection: pb.Collection = answer.collection
            return collection


def _field_of(told: FieldTold) -> pb.Field:
    return pb.Field(type=told) if isinstance(told, str) else pb.Field(**told)
