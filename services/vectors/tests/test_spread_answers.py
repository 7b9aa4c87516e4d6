"""A collection that is spread over nodes answers as one process that has all of it: every kind of question, drawn by chance."""

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from grpc import aio

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.api.vectors.v1 import vectors_pb2_grpc as pb_grpc
from ergonaut_common.auth import KeyRing
from ergonaut_common.clock import SystemClock
from ergonaut_common.rpc import serving
from ergonaut_common.testing import free_port, key_ring_file
from ergonaut_vectors.adapters.node_links import GrpcNodeLinks
from ergonaut_vectors.archive.fakes import FakePast
from ergonaut_vectors.cluster.fakes import FakeAnnouncements, FakeShardMaps
from ergonaut_vectors.cluster.node import Own, World, being
from ergonaut_vectors.domain.quotas import Quota
from ergonaut_vectors.domain.space import Rows
from ergonaut_vectors.fakes import FakeStores
from ergonaut_vectors.quotas import Quotas
from ergonaut_vectors.rpc import steps
from ergonaut_vectors.rpc.door import SERVICE_NAME, behind_of, door_before
from ergonaut_vectors.workers import Workers

from .conftest import LIMITS
from .conftest import World as Beside

pytestmark = pytest.mark.asyncio(loop_scope="module")

DIMENSION, SHARDS, COUNT, DRAWN = 8, 5, 240, 12
WORDS = ["river", "stone", "engine", "winter", "copper", "market", "signal", "garden", "violin", "harbour"]
SHELVES = ["a", "b", "c", "d", "e", "f", "g"]


def vectors_of(count: int) -> Rows:
    return np.random.default_rng(3).standard_normal((count, DIMENSION)).astype("<f4")


def payload_of(at: int) -> dict[str, Any]:
    drawn = np.random.default_rng(at)
    told: dict[str, Any] = {"shelf": SHELVES[at % 7], "text": " ".join(drawn.choice(WORDS, 3 + at % 9))}
    if at % 5:
        told["year"] = [1990 + at % 31, 2000.5, f"{2000 + at % 9}-01-01T00:00:00Z", "old"][at % 4]
    if at % 3 == 0:
        told["tags"] = [int(tag) for tag in drawn.integers(0, 4, 2)]
    return told


NAMES = [f"point-{at}" for at in range(COUNT)]
ROWS = vectors_of(COUNT)
PAYLOADS = [json.dumps(payload_of(at)).encode() for at in range(COUNT)]


class Caller:
    """Calls one door."""

    def __init__(self, stub: Any, key: str) -> None:
        self._stub = stub
        self._metadata = (("authorization", f"Bearer {key}"),)

    async def __call__(self, method: str, request: Any) -> Any:
        return await getattr(self._stub, method)(request, metadata=self._metadata, timeout=30)

    async def stream(self, requests: Sequence[Any]) -> list[Any]:
        call = self._stub.UpsertMany(iter(requests), metadata=self._metadata, timeout=30)
        return [answer async for answer in call]


class Town:
    """Several nodes in one process, and one beside them that has everything."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path, keys = key_ring_file(folder)
        self.key, self.service_key = keys["default"], keys["service"]
        self.maps, self.announcements, self.past = FakeShardMaps(), FakeAnnouncements(), FakePast()
        self.beside = Beside()
        self.nodes: list[Caller] = []

    @contextlib.asynccontextmanager
    async def process(self, name: str) -> AsyncIterator[Caller]:
        """A process; one without a name is no node."""
        self.beside.stores = FakeStores()
        async with contextlib.AsyncExitStack() as stack:
            vectors = await stack.enter_async_context(self.beside.running(replace(LIMITS, writes_waiting_max=64)))
            threads = await stack.enter_async_context(Workers("searches", threads=2, waiting_max=64))
            behind, port = behind_of(vectors, Quotas(Quota()), threads), free_port()
            add = door_before(behind)
            if name:
                own = Own(name, f"127.0.0.1:{port}", "", 1.0, self.service_key, self.folder / name / "shards")
                links = GrpcNodeLinks(self.service_key)
                world = World(self.maps, self.announcements, links, self.past, SystemClock())
                add = await stack.enter_async_context(being(own, world, vectors, behind))
            ring = KeyRing.load(self.path)
            address = f"127.0.0.1:{port}"
            await stack.enter_async_context(
                serving(address, service="vectors", add=add, keys=ring, names=[SERVICE_NAME])
            )
            channel = await stack.enter_async_context(aio.insecure_channel(address))
            yield Caller(pb_grpc.VectorsServiceStub(channel), self.key)


class Both:
    """The spread collection at some node, and all of it in one process."""

    def __init__(self, nodes: list[Caller], whole: Caller) -> None:
        self.nodes = nodes
        self.whole = whole
        self.asked = 0
        self.sequences: dict[int, int] = {}

    @property
    def node(self) -> Caller:
        self.asked += 1
        return self.nodes[self.asked % len(self.nodes)]

    async def ask(self, method: str, request: Any) -> tuple[Any, Any]:
        return await self.node(method, request), await self.whole(method, request)

    async def refused(self, method: str, request: Any) -> tuple[Any, Any]:
        told = []
        for caller in (self.node, self.whole):
            with pytest.raises(aio.AioRpcError) as caught:
                await caller(method, request)
            told.append((caught.value.code(), caught.value.details()))
        return told[0], told[1]

    def options(self, drawn: np.random.Generator, limit_max: int = 12, **more: Any) -> pb.SearchOptions:
        filters = ["", '{"field": "shelf", "in": ["a", "c", "d"]}', '{"field": "year", "range": {"gte": 2000}}']
        reading = pb.Reading(
            sequences_min=self.sequences, with_payloads=bool(drawn.integers(2)), with_vectors=bool(drawn.integers(2))
        )
        limit = int(drawn.integers(1, limit_max + 1))
        return pb.SearchOptions(limit=limit, filter=str(drawn.choice(filters)), exact=True, reading=reading, **more)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Both]:
    town = Town(tmp_path_factory.mktemp("town"))
    async with contextlib.AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(town.process(name)) for name in ("one", "two", "three")]
        schema = pb.Collection(
            name="books",
            dimension=DIMENSION,
            metric=pb.METRIC_COSINE,
            shards=SHARDS,
            fields={"text": pb.Field(type="text")},
        )
        await nodes[0]("CreateCollection", pb.CreateCollectionRequest(collection=schema))
        [kept] = await town.maps.all()
        assert not any(kept.map.answered_by(name) for name in ("one", "two", "three")), "no node has everything"
        whole = await stack.enter_async_context(town.process(""))
        made = Both(nodes, whole)
        rows = pb.Rows(ids=NAMES, vectors=pb.Matrix(rows=ROWS.tobytes()), payloads=PAYLOADS)
        written = await made.node("Upsert", pb.UpsertRequest(collection="books", rows=rows))
        made.sequences = dict(written.sequences)
        yield made


def drawn_matrix(drawn: np.random.Generator, count: int = 1) -> pb.Matrix:
    return pb.Matrix(rows=drawn.standard_normal((count, DIMENSION)).astype("<f4").tobytes())


def the_same(here: Any, there: Any) -> None:
    """Answers are equal, but for the last bit of distances and scores that were computed in another company."""
    assert alike(here) == alike(there)


def alike(answer: Any) -> Any:
    if hasattr(answer, "DESCRIPTOR"):
        return [(field.name, alike(value)) for field, value in answer.ListFields()]
    if isinstance(answer, float):
        return "inf" if np.isinf(answer) else round(answer, 4)
    if isinstance(answer, str | bytes | int | bool):
        return answer
    if hasattr(answer, "items"):
        return dict(answer)
    return [alike(each) for each in answer]


@pytest.mark.parametrize("seed", range(DRAWN))
async def test_what_is_like_examples_is_the_same(both: Both, seed: int) -> None:
    drawn = np.random.default_rng(seed)
    examples = [NAMES[at] for at in drawn.choice(COUNT, 5, replace=False)]
    likes = int(drawn.integers(1, 6))
    strategy = [pb.EXAMPLE_STRATEGY_MEAN, pb.EXAMPLE_STRATEGY_BEST][seed % 2]
    request = pb.SearchByExampleRequest(
        collection="books",
        positive=examples[:likes],
        negative=examples[likes:],
        strategy=strategy,
        options=both.options(drawn),
    )
    here, there = await both.ask("SearchByExample", request)
    the_same(here, there)
    assert here.result.neighbours


@pytest.mark.parametrize("seed", range(DRAWN))
async def test_groups_are_the_same(both: Both, seed: int) -> None:
    drawn = np.random.default_rng(seed)
    request = pb.SearchGroupsRequest(
        collection="books",
        vector=drawn_matrix(drawn),
        group_by=["shelf", "tags", "year"][seed % 3],
        group_size=int(drawn.integers(1, 9)),
        options=both.options(drawn),
    )
    here, there = await both.ask("SearchGroups", request)
    the_same(here, there)
    assert here.groups


@pytest.mark.parametrize("seed", range(DRAWN))
async def test_words_and_nearness_are_joined_the_same(both: Both, seed: int) -> None:
    drawn = np.random.default_rng(seed)
    fusion = pb.Fusion(kind=[pb.FUSION_KIND_RECIPROCAL_RANK, pb.FUSION_KIND_WEIGHTED][seed % 2], words_weight=0.6)
    request = pb.SearchHybridRequest(
        collection="books",
        vector=drawn_matrix(drawn) if seed % 4 else None,
        text=" ".join(drawn.choice(WORDS, 3)),
        text_field="text",
        fusion=fusion,
        options=both.options(drawn),
    )
    here, there = await both.ask("SearchHybrid", request)
    the_same(here, there)
    assert here.results


@pytest.mark.parametrize("seed", range(DRAWN))
async def test_things_of_several_vectors_are_the_same(both: Both, seed: int) -> None:
    drawn = np.random.default_rng(seed)
    request = pb.SearchMultiVectorRequest(
        collection="books",
        vectors=drawn_matrix(drawn, int(drawn.integers(1, 5))),
        group_by=["shelf", "year", "tags"][seed % 3],
        options=both.options(drawn, limit_max=5),
    )
    here, there = await both.ask("SearchMultiVector", request)
    the_same(here, there)
    assert here.results


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("field", ["year", "shelf", "tags"])
async def test_pages_by_a_field_are_the_same_from_the_first_to_the_last(
    both: Both, field: str, descending: bool
) -> None:
    after, listed = "", []
    while True:
        request = pb.ListPointsRequest(
            collection="books",
            limit=37,
            order_by=field,
            descending=descending,
            after=after,
            reading=pb.Reading(with_payloads=True, with_vectors=not after, sequences_min=both.sequences),
        )
        here, there = await both.ask("ListPoints", request)
        the_same(here, there)
        listed += here.points.ids
        after = here.next
        if not after:
            break
    assert sorted(listed) == sorted(NAMES)


@pytest.mark.parametrize("field", ["shelf", "tags", "year"])
async def test_values_are_counted_the_same(both: Both, field: str) -> None:
    request = pb.GetValueCountsRequest(
        collection="books", field=field, limit=50, reading=pb.Reading(sequences_min=both.sequences)
    )
    here, there = await both.ask("GetValueCounts", request)
    the_same(here, there)
    assert here.values
    assert (here.count_missing_max, there.count_missing_max) == (0, 0)


async def test_counts_of_more_values_than_shards_tell_say_how_much_they_may_lack(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "VALUES_MAX", 3)
    request = pb.GetValueCountsRequest(
        collection="books", field="shelf", limit=50, reading=pb.Reading(sequences_min=both.sequences)
    )
    here, there = await both.ask("GetValueCounts", request)
    told = {each.value: each.count for each in here.values}
    assert (there.count_missing_max, len(there.values)) == (0, len(SHELVES))
    assert here.count_missing_max > 0
    assert all(0 <= each.count - told.get(each.value, 0) <= here.count_missing_max for each in there.values)
    assert sum(told.values()) < sum(each.count for each in there.values)


WRONG: list[tuple[str, Any]] = [
    ("SearchByExample", pb.SearchByExampleRequest(collection="books", positive=["point-1", "none"])),
    ("SearchByExample", pb.SearchByExampleRequest(collection="books", positive=["point-1"], negative=["", "none"])),
    ("SearchByExample", pb.SearchByExampleRequest(collection="books")),
    ("SearchGroups", pb.SearchGroupsRequest(collection="books", vector=pb.Matrix(rows=ROWS[0].tobytes()))),
    ("SearchHybrid", pb.SearchHybridRequest(collection="books", text="?", text_field="text")),
    ("SearchHybrid", pb.SearchHybridRequest(collection="books", text="river")),
    ("SearchMultiVector", pb.SearchMultiVectorRequest(collection="books", group_by="shelf")),
    ("ListPoints", pb.ListPointsRequest(collection="books", order_by="year", after="nowhere")),
    ("GetValueCounts", pb.GetValueCountsRequest(collection="books")),
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda each: each[0])
async def test_what_is_wrong_is_told_the_same(both: Both, wrong: tuple[str, Any]) -> None:
    here, there = await both.refused(*wrong)
    assert here == there
    assert here[0] in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)


async def test_batches_of_one_call_stand_in_its_order_where_they_write_the_same_ids(both: Both) -> None:
    asked: Callable[[int], Any] = lambda turn: pb.UpsertManyRequest(
        batch=pb.UpsertRequest(
            collection="books",
            points=[
                pb.Point(
                    id=f"turned-{turn % 7}-{at}", vector=[float(turn + 1)] * DIMENSION, payload=b'{"turn": %d}' % turn
                )
                for at in range(3)
            ],
        )
    )
    answers = await both.node.stream([asked(turn) for turn in range(40)])
    assert len(answers) == 40
    names = [f"turned-{turn}-{at}" for turn in range(7) for at in range(3)]
    got = await both.node(
        "GetPoints", pb.GetPointsRequest(collection="books", ids=names, reading=pb.Reading(with_payloads=True))
    )
    last = {turn % 7: turn for turn in range(40)}
    assert [json.loads(each)["turn"] for each in got.points.payloads] == [
        last[turn] for turn in range(7) for _ in range(3)
    ]
    await both.node("Delete", pb.DeleteRequest(collection="books", ids=names))
