"""The gRPC door: translates between `ergonaut.api.vectors.v1` and the service's words."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from grpc import aio

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.api.vectors.v1 import vectors_pb2_grpc as pb_grpc
from ergonaut.channels import MESSAGE_BYTES_MAX
from ergonaut.errors import Refused
from ergonaut_common.rpc import caller
from ergonaut_vectors.domain.schema import (
    BATCH_MAX,
    CANDIDATES_BUILD_DEFAULT,
    LINKS_DEFAULT,
    Hit,
    Point,
    Schema,
    checked_ask,
)
from ergonaut_vectors.domain.space import Metric
from ergonaut_vectors.live import LiveCollection
from ergonaut_vectors.service import Vectors
from ergonaut_vectors.workers import Workers

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["VectorsService"].full_name

_METRICS = {
    pb.METRIC_UNSPECIFIED: Metric.L2,
    pb.METRIC_L2: Metric.L2,
    pb.METRIC_COSINE: Metric.COSINE,
    pb.METRIC_INNER_PRODUCT: Metric.INNER_PRODUCT,
}
_METRIC_VALUES = {metric: value for value, metric in _METRICS.items()}


class VectorsDoor(pb_grpc.VectorsServiceServicer):
    """Answers the calls of a tenant about its own collections. Large messages are translated in a thread."""

    def __init__(self, vectors: Vectors, translating: Workers) -> None:
        self._vectors = vectors
        self._translating = translating

    async def CreateCollection(self, request: pb.CreateCollectionRequest, context: Any) -> pb.CreateCollectionResponse:
        live = await self._vectors.create(caller().tenant, _schema_of(request.collection))
        return pb.CreateCollectionResponse(collection=_collection_of(live))

    async def ListCollections(self, request: pb.ListCollectionsRequest, context: Any) -> pb.ListCollectionsResponse:
        collections = [_collection_of(live) for live in self._vectors.collections(caller().tenant)]
        return pb.ListCollectionsResponse(collections=collections)

    async def DropCollection(self, request: pb.DropCollectionRequest, context: Any) -> pb.DropCollectionResponse:
        await self._vectors.drop(caller().tenant, request.collection)
        return pb.DropCollectionResponse()

    async def Upsert(self, request: pb.UpsertRequest, context: Any) -> pb.UpsertResponse:
        _check_size(request.points, "points")
        points = await self._translating.run(lambda: [_point_of(point) for point in request.points])
        sequence = await self._vectors.upsert(caller().tenant, request.collection, points)
        return pb.UpsertResponse(sequence=sequence)

    async def Delete(self, request: pb.DeleteRequest, context: Any) -> pb.DeleteResponse:
        sequence = await self._vectors.delete(caller().tenant, request.collection, list(request.ids))
        return pb.DeleteResponse(sequence=sequence)

    async def Search(self, request: pb.SearchRequest, context: Any) -> pb.SearchResponse:
        _check_size(request.queries, "queries")
        ask = checked_ask(request.limit, request.candidates, exact=request.exact)
        queries = await self._translating.run(lambda: [_numbers(query.vector) for query in request.queries])
        hits = await self._vectors.search(
            caller().tenant, request.collection, queries, ask, sequence_min=request.sequence_min
        )
        return await self._translating.run(lambda: _response_of(hits))


def door(vectors: Vectors, translating: Workers) -> Callable[[aio.Server], None]:
    """What `serving` needs to add this door to a server."""
    return lambda server: pb_grpc.add_VectorsServiceServicer_to_server(
        VectorsDoor(vectors, translating),  # type: ignore[abstract]  # the whole contract is answered by door.py
        server,
    )


def _schema_of(collection: pb.Collection) -> Schema:
    if collection.metric not in _METRICS:
        raise Refused(f"{collection.metric} is not a metric", field="collection.metric")
    return Schema(
        name=collection.name,
        dimension=collection.dimension,
        metric=_METRICS[collection.metric],
        links=collection.links or LINKS_DEFAULT,
        candidates_build=collection.candidates_build or CANDIDATES_BUILD_DEFAULT,
    )


def _collection_of(live: LiveCollection) -> pb.Collection:
    schema = live.record.schema
    return pb.Collection(
        name=schema.name,
        dimension=schema.dimension,
        metric=_METRIC_VALUES[schema.metric],
        count=live.index.count,
        links=schema.links,
        candidates_build=schema.candidates_build,
    )


def _check_size(entries: Sequence[object], where: str) -> None:
    """Refuse what is too much before work is spent on it."""
    if len(entries) > BATCH_MAX:
        raise Refused(f"has {len(entries)} entries; 1 to {BATCH_MAX} are taken at once", field=where)


def _numbers(vector: Sequence[float]) -> "np.ndarray[Any, np.dtype[np.float32]]":
    return np.fromiter(vector, np.float32, count=len(vector))


def _point_of(point: pb.Point) -> Point:
    return Point(point.id, _numbers(point.vector), dict(point.attributes))


def _response_of(hits: Sequence[Sequence[Hit]]) -> pb.SearchResponse:
    response = pb.SearchResponse(results=[_neighbours_of(row) for row in hits])
    if (size := response.ByteSize()) > MESSAGE_BYTES_MAX:
        message = (
            f"the answer has {size} bytes, at most {MESSAGE_BYTES_MAX} can be sent; ask with fewer or a smaller limit"
        )
        raise Refused(message, field="queries")
    return response


def _neighbours_of(hits: Sequence[Hit]) -> pb.Neighbours:
    neighbours = [pb.Neighbour(id=hit.id, distance=hit.distance, attributes=hit.attributes) for hit in hits]
    return pb.Neighbours(neighbours=neighbours)
