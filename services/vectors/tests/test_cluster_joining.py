"""Requests cut by shard and answers made one again: as one shard that has everything would answer. And the keeper's rounds."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ergonaut.announcements import SILENT_SECONDS
from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.errors import Refused, Unavailable
from ergonaut_common.clock import FakeClock
from ergonaut_vectors.archive.fakes import FakePast
from ergonaut_vectors.cluster import joining
from ergonaut_vectors.cluster.fakes import FakeLinks, FakeShardMaps
from ergonaut_vectors.cluster.joining import Told
from ergonaut_vectors.cluster.keeping import Keeping
from ergonaut_vectors.cluster.nodes import Nodes, telling
from ergonaut_vectors.cluster.ports import Asking
from ergonaut_vectors.cluster.splitting import by_shard
from ergonaut_vectors.domain.placing.choosing import Node, chosen_nodes
from ergonaut_vectors.domain.placing.comparing import differing
from ergonaut_vectors.domain.placing.moving import ReplicaReport
from ergonaut_vectors.domain.placing.shard_map import ReplicaStage, first_map
from ergonaut_vectors.domain.placing.slots import equal_ranges
from ergonaut_vectors.domain.records import Key, Record, Stage
from ergonaut_vectors.domain.schema import Schema

NOW = replace(first_map("uid", equal_ranges(3), 1, {"a": Node("a")}), tenant="default", name="books")
NAMES = [f"point-{at}" for at in range(40)]
DISTANCES = {name: float((at * 7) % 13) for at, name in enumerate(NAMES)}
RECORD = Record(Key("default", "books"), Schema("books", 4, shards=3, replicas=2), "uid", Stage.READY)


def payload(name: str) -> bytes:
    return json.dumps({"name": name}).encode()


def vector(name: str) -> bytes:
    return np.array([DISTANCES[name], 1.0], "<f4").tobytes()


def ranked(names: Sequence[str], limit: int) -> list[str]:
    return sorted(names, key=lambda name: (DISTANCES[name], name))[:limit]


def of_shard(shard: int) -> list[str]:
    return [NAMES[at] for at in NOW.by_shard(NAMES)[shard]]


def told(answers: Mapping[int, Any], missing: Sequence[int] = ()) -> Told:
    return Told(answers, missing, NOW)


def test_a_packed_answer_has_the_nearest_of_all_with_what_belongs_to_them() -> None:
    def packed(names: list[str]) -> pb.SearchResponse:
        distances = np.array([DISTANCES[name] for name in names], "<f4").tobytes()
        matrix = pb.Matrix(rows=b"".join(map(vector, names)), element=pb.ELEMENT_FLOAT32)
        told = pb.PackedNeighbours(
            counts=[len(names), 0], ids=names, distances=distances, payloads=map(payload, names), vectors=matrix
        )
        return pb.SearchResponse(packed=told)

    request = pb.SearchRequest(options=pb.SearchOptions(limit=7, packed=True))
    joined = joining.searched(request, told({shard: packed(ranked(of_shard(shard), 7)) for shard in range(3)}, [5]))
    expected = ranked(NAMES, 7)
    assert list(joined.packed.counts) == [7, 0]
    assert list(joined.packed.ids) == expected
    assert list(joined.packed.payloads) == [payload(name) for name in expected]
    assert joined.packed.vectors.rows == b"".join(map(vector, expected))
    assert list(joined.shards_missing) == [5]


@pytest.mark.parametrize("with_options", [True, False])
def test_an_answer_one_by_one_has_the_nearest_of_all(with_options: bool) -> None:
    def one_by_one(names: list[str]) -> pb.SearchResponse:
        hits = [pb.Neighbour(id=name, distance=DISTANCES[name], attributes={"name": name}) for name in names]
        return pb.SearchResponse(results=[pb.Neighbours(neighbours=hits)])

    options = pb.SearchOptions(limit=5) if with_options else None
    request = pb.SearchRequest(limit=5, options=options)
    joined = joining.searched(request, told({shard: one_by_one(ranked(of_shard(shard), 5)) for shard in range(3)}))
    assert [hit.id for hit in joined.results[0].neighbours] == ranked(NAMES, 5)


def test_pages_and_counts_are_those_of_all() -> None:
    def points(names: list[str]) -> pb.Rows:
        return pb.Rows(ids=names, sequences=[NAMES.index(name) + 1 for name in names], payloads=map(payload, names))

    got = {shard: pb.GetPointsResponse(points=points(of_shard(shard))) for shard in range(3)}
    asked = ["point-9", "point-3", "point-30"]
    some = {
        shard: pb.GetPointsResponse(points=points([name for name in of_shard(shard) if name in asked])) for shard in got
    }
    assert list(joining.got(pb.GetPointsRequest(ids=asked), told(some)).points.ids) == asked
    pages = {shard: pb.ListPointsResponse(points=points(of_shard(shard)[:10])) for shard in range(3)}
    page = joining.listed(pb.ListPointsRequest(limit=10), told(pages))
    assert list(page.points.ids) == NAMES[:10]
    assert json.loads(page.next) == [10, NAMES[9]]
    assert list(page.points.payloads) == [payload(name) for name in NAMES[:10]]
    counts = {shard: pb.GetCountResponse(count=len(of_shard(shard))) for shard in range(3)}
    assert joining.counted(pb.GetCountRequest(), told(counts)).count == len(NAMES)


def test_a_write_goes_to_the_shards_of_its_ids_with_what_belongs_to_each() -> None:
    rows = pb.Rows(
        ids=NAMES, vectors=pb.Matrix(rows=b"".join(map(vector, NAMES))), payloads=[payload(name) for name in NAMES]
    )
    parts = by_shard(pb.UpsertRequest(collection="books", rows=rows, batch_id="one"), NOW)
    for shard, part in parts.items():
        assert isinstance(part, pb.UpsertRequest)
        assert list(part.rows.ids) == of_shard(shard)
        assert part.rows.vectors.rows == b"".join(map(vector, of_shard(shard)))
        assert list(part.rows.payloads) == [payload(name) for name in of_shard(shard)]
        assert part.batch_id == "one"
    points = by_shard(pb.UpsertRequest(points=[pb.Point(id=name) for name in NAMES]), NOW)
    assert sorted(point.id for part in points.values() for point in part.points) == sorted(NAMES)
    changed = by_shard(pb.UpdatePayloadsRequest(ids=NAMES[:2], payloads=[b"{}"]), NOW)
    assert all(list(part.payloads) == [b"{}"] for part in changed.values())
    everywhere = by_shard(pb.DeleteRequest(filter="{}"), NOW)
    assert set(everywhere) == {0, 1, 2}
    with pytest.raises(Refused):
        by_shard(pb.UpdatePayloadsRequest(ids=NAMES[:3], payloads=[b"{}", b"{}"]), NOW)


def test_the_replica_that_most_others_contradict_is_made_anew() -> None:
    assert differing({"a": {5: "x"}, "b": {5: "x"}, "c": {5: "y"}}) == {"c"}
    assert differing({"a": {5: "x", 9: "z"}, "b": {5: "x"}}) == set()
    assert differing({"a": {5: "x"}, "b": {9: "y"}}) == set()
    assert differing({"a": {5: "x"}, "b": {5: "y"}}) == {"a", "b"}


class Peer:
    """A node that tells what it was told to tell."""

    def __init__(self) -> None:
        self.told: dict[int, ReplicaReport] = {}
        self.rebuilt: list[int] = []
        self.away = False

    async def ask(self, asking: Asking) -> bytes:
        raise AssertionError("the keeper asks for reports alone")

    async def reports(self, tenant: str, collection: str) -> Mapping[int, ReplicaReport]:
        if self.away:
            raise Unavailable("away")
        return self.told

    async def download(self, tenant: str, collection: str, shard: int, folder: Path) -> None:
        raise AssertionError("the keeper fetches nothing")

    async def rebuild(self, tenant: str, collection: str, shard: int) -> None:
        self.rebuilt.append(shard)

    def close(self) -> None:
        return


class Cluster:
    """A keeper that sees some nodes."""

    def __init__(self, *names: str) -> None:
        self.clock, self.links, self.maps, self.past = FakeClock(), FakeLinks(), FakeShardMaps(), FakePast()
        self.nodes = Nodes(self.links, self.clock)
        self.peers: dict[str, Peer] = {}
        for key in RECORD.shards:
            self.past.logs[key] = []
        for name in names:
            self.join(name)
        self.keepers = [Keeping(name, self.maps, self.nodes, self.past, self.clock) for name in names]

    def join(self, name: str) -> None:
        self.peers[name] = Peer()
        self.links.nodes[f"{name}:1"] = self.peers[name]
        self.nodes.hear(telling(name, f"{name}:1")(self.clock.now()))

    async def rounds(self, count: int = 6) -> None:
        for _ in range(count):
            for keeper in self.keepers:
                await keeper.round()


async def test_a_collection_gets_its_map_once_whoever_asks_first() -> None:
    cluster = Cluster("a", "b", "c")
    maps = [await keeper.add(RECORD) for keeper in cluster.keepers]
    assert maps[0] == maps[1] == maps[2]
    assert (maps[0].tenant, maps[0].name, len(maps[0].shards)) == ("default", "books", 3)
    await cluster.keepers[1].remove(RECORD)
    assert await cluster.maps.all() == []


async def test_a_new_node_gets_replicas_that_are_ready_when_they_have_caught_up() -> None:
    cluster = Cluster("a")
    await cluster.keepers[0].add(RECORD)
    cluster.peers["a"].told = {shard: ReplicaReport(9, drained=True) for shard in range(3)}
    cluster.join("b")
    cluster.keepers.append(Keeping("b", cluster.maps, cluster.nodes, cluster.past, cluster.clock))
    await cluster.rounds()
    [kept] = await cluster.maps.all()
    assert all(shard.nodes(ReplicaStage.READY) == ["a"] for shard in kept.map.shards)
    assert any(shard.nodes(ReplicaStage.COPYING) == ["b"] for shard in kept.map.shards)
    cluster.peers["b"].told = {shard: ReplicaReport(9) for shard in range(3)}
    await cluster.rounds()
    [kept] = await cluster.maps.all()
    assert all(shard.nodes(ReplicaStage.READY) == ["a", "b"] for shard in kept.map.shards)


async def test_another_node_keeps_the_map_while_the_one_that_kept_it_is_silent() -> None:
    keeper, other = chosen_nodes(RECORD.uid, [Node("a"), Node("b")], 2)
    cluster = Cluster(keeper)
    await cluster.keepers[0].add(RECORD)
    cluster.peers[keeper].told = {shard: ReplicaReport(9) for shard in range(3)}
    cluster.join(other)
    await cluster.rounds()
    cluster.peers[other].told = {shard: ReplicaReport(9) for shard in range(3)}
    cluster.peers[keeper].away = True
    cluster.keepers = [Keeping(other, cluster.maps, cluster.nodes, cluster.past, cluster.clock)]
    await cluster.rounds(1)
    [before] = await cluster.maps.all()
    await cluster.clock.advance(SILENT_SECONDS + 1)
    cluster.nodes.hear(telling(other, f"{other}:1")(cluster.clock.now()))
    await cluster.rounds()
    [after] = await cluster.maps.all()
    assert not any(other in shard.nodes(ReplicaStage.READY) for shard in before.map.shards), "while it may be at work"
    assert all(other in shard.nodes(ReplicaStage.READY) for shard in after.map.shards)


async def test_a_replica_that_differs_is_made_anew_and_one_that_is_away_is_left_alone() -> None:
    cluster = Cluster("a", "b")
    await cluster.keepers[0].add(RECORD)
    cluster.peers["a"].told = {0: ReplicaReport(9, digests={9: "x"})}
    cluster.peers["b"].told = {0: ReplicaReport(9, digests={9: "x"})}
    await cluster.rounds(1)
    assert cluster.peers["a"].rebuilt == cluster.peers["b"].rebuilt == []
    cluster.peers["b"].told = {0: ReplicaReport(9, digests={9: "y"})}
    await cluster.rounds(1)
    assert cluster.peers["a"].rebuilt == [0], "one of two that differ answers meanwhile"
    assert cluster.peers["b"].rebuilt == []
    cluster.peers["b"].away = True
    await cluster.rounds(1)
    assert cluster.peers["b"].rebuilt == []
