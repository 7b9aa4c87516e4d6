"""Collections of vectors: create, write, search."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.api.vectors.v1.vectors_pb2_grpc import VectorsServiceStub
from ergonaut.client.connection import Connection, doing
from ergonaut.errors import Refused

if TYPE_CHECKING:
    from ergonaut.api.vectors.v1.vectors_pb2_grpc import VectorsServiceAsyncStub

_METRICS = {"l2": pb.METRIC_L2, "cosine": pb.METRIC_COSINE, "inner-product": pb.METRIC_INNER_PRODUCT}

BATCH_MAX = 256
"""Vectors sent in one call: few enough for the log's messages, enough to pay for the call."""


class Vectors:
    """Collections of vectors."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def _stub(self) -> "VectorsServiceAsyncStub":
        return VectorsServiceStub(self._connection.channel("vectors"))

    async def create(self, name: str, dimension: int, *, metric: str = "l2") -> pb.Collection:
        """Make a collection; `metric` is `l2`, `cosine` or `inner-product`. The same again changes nothing."""
        if metric not in _METRICS:
            raise Refused(f"{metric!r} is unknown; known are {', '.join(_METRICS)}", field="metric")
        with doing(f"creating the collection {name}"):
            request = pb.CreateCollectionRequest(
                collection=pb.Collection(name=name, dimension=dimension, metric=_METRICS[metric])
            )
            answer = await self._stub.CreateCollection(request)
            collection: pb.Collection = answer.collection
            return collection

    async def collections(self) -> list[pb.Collection]:
        """Every collection, by name."""
        with doing("listing collections"):
            answer = await self._stub.ListCollections(pb.ListCollectionsRequest())
            return [*answer.collections]

    async def drop(self, name: str) -> None:
        """Remove a collection and all in it."""
        with doing(f"dropping the collection {name}"):
            await self._stub.DropCollection(pb.DropCollectionRequest(collection=name))

    async def upsert(
        self,
        collection: str,
        vectors: Mapping[str, Sequence[float]],
        attributes: Mapping[str, Mapping[str, str]] | None = None,
    ) -> int:
        """Write vectors by id, in batches; gives the last batch's position in the log."""
        known = attributes or {}
        points = [
            pb.Point(id=point_id, vector=vector, attributes=dict(known.get(point_id, {})))
            for point_id, vector in vectors.items()
        ]
        sequence = 0
        for start in range(0, len(points), BATCH_MAX):
            with doing(f"writing to the collection {collection}"):
                request = pb.UpsertRequest(collection=collection, points=points[start : start + BATCH_MAX])
                answer = await self._stub.Upsert(request)
                sequence = int(answer.sequence)
        return sequence

    async def search(
        self, collection: str, queries: Sequence[Sequence[float]], limit: int = 10, *, exact: bool = False
    ) -> list[list[pb.Neighbour]]:
        """The nearest vectors to each query, nearest first."""
        found: list[list[pb.Neighbour]] = []
        for start in range(0, len(queries), BATCH_MAX):
            batch = [pb.Query(vector=query) for query in queries[start : start + BATCH_MAX]]
            with doing(f"searching the collection {collection}"):
                request = pb.SearchRequest(collection=collection, queries=batch, limit=limit, exact=exact)
                answer = await self._stub.Search(request)
                found.extend([*result.neighbours] for result in answer.results)
        return found
