"""The gRPC door on a free port: keys, tenants, every method, and errors that name the field."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.api.vectors.v1 import vectors_pb2_grpc as pb_grpc
from ergonaut_common.auth import KeyRing
from ergonaut_common.h2 import serving
from ergonaut_common.testing import key_ring_file
from ergonaut_vectors.domain.quotas import Quota
from ergonaut_vectors.quotas import Quotas
from ergonaut_vectors.rpc.door import SERVICE_NAME, door
from ergonaut_vectors.workers import Workers


class Client:
    """A caller with a key."""

    def __init__(self, channel: aio.Channel, key: str) -> None:
        self._stub = pb_grpc.VectorsServiceStub(channel)
        self._metadata = (("authorization", f"Bearer {key}"),)

    async def __call__(self, method: str, request: object) -> object:
        return await getattr(self._stub, method)(request, metadata=self._metadata, timeout=30)


@pytest.fixture
async def clients(world, tmp_path: Path) -> AsyncIterator[dict[str, Client]]:
    path, keys = key_ring_file(tmp_path, ("acme", "other"))
    async with (
        world.running() as vectors,
        Workers("translations", threads=1, waiting_max=64) as translating,
        serving(
            "127.0.0.1:0",
            service="vectors",
            add=door(vectors, Quotas(Quota()), translating),
            keys=KeyRing.load(path),
            names=[SERVICE_NAME],
        ) as port,
        aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=SERVICE_NAME))
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        yield {name: Client(channel, key) for name, key in keys.items()} | {"nobody": Client(channel, "ergo_x_y")}


@pytest.fixture
async def acme(clients: dict[str, Client]) -> Client:
    """A tenant with a collection of three vectors on a line."""
    client = clients["acme"]
    await client("CreateCollection", pb.CreateCollectionRequest(collection=pb.Collection(name="line", dimension=2)))
    await client("Upsert", upsert([("a", [0, 0]), ("b", [1, 0]), ("c", [3, 0])]))
    return client


def upsert(points: Sequence[tuple[str, Sequence[float]]], collection: str = "line") -> pb.UpsertRequest:
    made = [pb.Point(id=name, vector=vector, attributes={"label": name.upper()}) for name, vector in points]
    return pb.UpsertRequest(collection=collection, points=made)


def search(*queries: Sequence[float], **fields: object) -> pb.SearchRequest:
    return pb.SearchRequest(collection="line", queries=[pb.Query(vector=query) for query in queries], **fields)


async def refusal(client: Client, method: str, request: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(aio.AioRpcError) as caught:
        await client(method, request)
    return caught.value.code(), caught.value.details()


@pytest.mark.parametrize("exact", [False, True])
async def test_the_nearest_are_answered_in_order_for_each_query(acme: Client, exact: bool) -> None:
    response = await acme("Search", search([0.9, 0], [4, 0], limit=2, exact=exact, sequence_min=1))
    told = [
        [(each.id, round(each.distance, 4), dict(each.attributes)) for each in row.neighbours]
        for row in response.results
    ]
    assert told == [
        [("b", 0.01, {"label": "B"}), ("a", 0.81, {"label": "A"})],
        [("c", 1.0, {"label": "C"}), ("b", 9.0, {"label": "B"})],
    ]


async def test_a_delete_is_seen_by_a_search_at_its_position(acme: Client) -> None:
    deleted = await acme("Delete", pb.DeleteRequest(collection="line", ids=["b", "unknown"]))
    response = await acme("Search", search([1, 0], sequence_min=deleted.sequence))
    assert [each.id for each in response.results[0].neighbours] == ["a", "c"]


async def test_collections_are_listed_with_defaults_filled_in_and_their_size(acme: Client) -> None:
    response = await acme("ListCollections", pb.ListCollectionsRequest())
    expected = pb.Collection(name="line", dimension=2, metric=pb.METRIC_L2, count=3, links=16, candidates_build=100)
    expected.MergeFrom(pb.Collection(element=pb.ELEMENT_FLOAT32, index=pb.IndexWish(recall=0.95), shards=1, replicas=1))
    assert list(response.collections) == [expected]


async def test_another_schema_is_a_conflict_and_a_dropped_name_is_free(acme: Client) -> None:
    wider = pb.CreateCollectionRequest(collection=pb.Collection(name="line", dimension=3, metric=pb.METRIC_COSINE))
    code, message = await refusal(acme, "CreateCollection", wider)
    assert (code, "dimension 2, not 3; metric l2, not cosine" in message) == (grpc.StatusCode.ALREADY_EXISTS, True)
    await acme("DropCollection", pb.DropCollectionRequest(collection="line"))
    made = await acme("CreateCollection", wider)
    assert (made.collection.dimension, made.collection.metric, made.collection.count) == (3, pb.METRIC_COSINE, 0)


async def test_another_tenant_sees_nothing_of_it(acme: Client, clients: dict[str, Client]) -> None:
    other = clients["other"]
    assert list((await other("ListCollections", pb.ListCollectionsRequest())).collections) == []
    for method, request in [
        ("Search", search([0, 0])),
        ("Upsert", upsert([("x", [0, 0])])),
        ("Delete", pb.DeleteRequest(collection="line", ids=["a"])),
        ("DropCollection", pb.DropCollectionRequest(collection="line")),
    ]:
        assert (await refusal(other, method, request))[0] == grpc.StatusCode.NOT_FOUND
    assert len((await acme("Search", search([0, 0]))).results[0].neighbours) == 3


async def test_an_unknown_key_is_not_let_in(clients: dict[str, Client]) -> None:
    assert (await refusal(clients["nobody"], "Search", search([0, 0])))[0] == grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("method", "request_", "message"),
    [
        ("Upsert", upsert([("x", [1, 2]), ("y", [1])]), "points[1].vector: has 1 numbers, the collection needs 2"),
        ("Upsert", upsert([("x", [1, np.inf])]), "points[0].vector: holds a number that is not finite"),
        ("Upsert", upsert([]), "points: has 0 entries"),
        ("Upsert", upsert([(str(i), [0, 0]) for i in range(1025)]), "points: has 1025 entries; 1 to 1024"),
        ("Delete", pb.DeleteRequest(collection="line", ids=["a", ""]), "ids[1]: has 0 characters"),
        ("Search", search([1, 2, 3]), "queries[0].vector: has 3 numbers, the collection needs 2"),
        ("Search", search(*[[0, 0]] * 1025), "queries: has 1025 entries; 1 to 1024"),
        ("Search", search([0, 0], limit=1001), "limit: is 1001, but must be 1 to 1000"),
        ("Search", search([0, 0], limit=10, candidates=5), "candidates: is 5, but must be at least limit, 10"),
        (
            "CreateCollection",
            pb.CreateCollectionRequest(collection=pb.Collection(name="x", dimension=9999)),
            "collection.dimension: is 9999, but must be 1 to 4096",
        ),
        (
            "CreateCollection",
            pb.CreateCollectionRequest(collection=pb.Collection(name="x", dimension=2, metric=9)),
            "collection.metric: 9 is not a metric",
        ),
    ],
)
async def test_bad_input_names_the_field_and_changes_nothing(
    acme: Client, method: str, request_: object, message: str
) -> None:
    code, details = await refusal(acme, method, request_)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith(message)
    (collection,) = (await acme("ListCollections", pb.ListCollectionsRequest())).collections
    assert (collection.name, collection.count) == ("line", 3)


async def test_an_answer_too_large_to_send_is_refused_with_a_reason(acme: Client) -> None:
    wordy = [pb.Point(id=str(i), vector=[i, 0], attributes={"text": "x" * 4000}) for i in range(1000)]
    await acme("Upsert", pb.UpsertRequest(collection="line", points=wordy[:900]))
    code, details = await refusal(acme, "Search", search(*[[0, 0]] * 8, limit=900))
    assert (code, "ask with fewer or a smaller limit" in details) == (grpc.StatusCode.INVALID_ARGUMENT, True)
