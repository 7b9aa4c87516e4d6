"""Snapshots of a running service: killed at any moment while one is made, it keeps whole ones alone, and brings them back."""

import asyncio
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.api.vectors.v1 import vectors_pb2_grpc as pb_grpc
from ergonaut_common.testing import ServiceProcess, nats_server

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

DIMENSION = 8
START_SECONDS = 90
ROUNDS = 3
"""How often the process is killed while a snapshot is made; `make chaos-vectors` does it more often, with nodes of several."""


class Service:
    """The process, and a client of it."""

    def __init__(self, folder: Path, nats_url: str) -> None:
        settings = {"ERGONAUT_NATS_URL": nats_url}
        self.process = ServiceProcess("vectors", folder, settings, patience_seconds=START_SECONDS)

    def start(self) -> None:
        self.process.start()
        asyncio.run(self.process.wait_healthy())
        self._channel = grpc.insecure_channel(self.process.address)
        self._stub = pb_grpc.VectorsServiceStub(self._channel)

    def kill(self) -> None:
        self.process.kill()
        self._channel.close()

    def call(self, method: str, **request: Any) -> Any:
        return self.begin(method, **request).result()

    def begin(self, method: str, **request: Any) -> Any:
        kind = getattr(pb, f"{method}Request")
        return getattr(self._stub, method).future(kind(**request), metadata=self.process.metadata(), timeout=60)

    def write(self, names: list[str], value: float) -> None:
        rows = np.full((len(names), DIMENSION), value, "<f4")
        payloads = [b'{"value": %d}' % value] * len(names)
        packed = pb.Rows(ids=names, vectors=pb.Matrix(rows=rows.tobytes()), payloads=payloads)
        self.call("Upsert", collection="books", rows=packed)

    def held(self, collection: str) -> dict[str, tuple[bytes, bytes]]:
        """All there is, by id."""
        reading = pb.Reading(with_payloads=True, with_vectors=True)
        points = self.call("ListPoints", collection=collection, limit=1000, reading=reading).points
        rows, width = points.vectors.rows, DIMENSION * 4
        cut = [rows[at * width : (at + 1) * width] for at in range(len(points.ids))]
        return {name: (row, payload) for name, row, payload in zip(points.ids, cut, points.payloads, strict=True)}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with nats_server(tmp_path / "nats") as url:
        service = Service(tmp_path, url)
        service.start()
        try:
            yield service
        finally:
            service.kill()


def test_what_was_kept_comes_back_whenever_the_process_is_killed(service: Service) -> None:
    chance = random.Random(7)
    service.call("CreateCollection", collection=pb.Collection(name="books", dimension=DIMENSION, shards=2))
    held: dict[str, dict[str, tuple[bytes, bytes]]] = {}
    for at in range(ROUNDS):
        service.write(
            [f"point-{chance.randrange(100)}" for _ in range(1)] + [f"round-{at}-{n}" for n in range(80)], at + 1.0
        )
        now = service.held("books")
        kept = service.call("CreateSnapshot", collection="books").snapshot
        held[kept.id] = now
        making = service.begin("CreateSnapshot", collection="books")
        time.sleep(chance.random() * 0.2)
        service.kill()
        assert making.exception() is None or isinstance(making.exception(), grpc.RpcError)
        service.start()
        assert service.held("books") == now
        told = service.call("ListSnapshots", collection="books").snapshots
        assert set(held) <= {each.id for each in told}
        newest = service.call("RestoreCollection", collection="books", new_name=f"new-{at}", snapshot_id=told[0].id)
        assert newest.collection.count == len(now)
        chosen = chance.choice(sorted(held))
        service.call("RestoreCollection", collection="books", new_name=f"again-{at}", snapshot_id=chosen)
        assert service.held(f"again-{at}") == held[chosen]


def test_a_shard_is_split_by_a_call_and_the_process_comes_back_to_both(service: Service) -> None:
    service.call("CreateCollection", collection=pb.Collection(name="books", dimension=DIMENSION))
    service.write([f"point-{at}" for at in range(300)], 1.0)
    held = service.held("books")
    assert service.call("SplitShard", collection="books", shard=0).shard == 1
    assert service.held("books") == held
    service.kill()
    service.start()
    assert service.held("books") == held
    shards = service.call("DescribeCollection", collection="books").shards
    assert sum(shard.count for shard in shards) == 300
    assert min(shard.count for shard in shards) > 100
    with pytest.raises(grpc.RpcError, match="has shards 0 to 1"):
        service.call("SplitShard", collection="books", shard=2)


def test_a_moment_comes_back_and_a_copy_is_of_now(service: Service) -> None:
    service.call("CreateCollection", collection=pb.Collection(name="books", dimension=DIMENSION, shards=2))
    service.write([f"early-{at}" for at in range(30)], 1.0)
    early = service.held("books")
    moment = datetime.now(UTC)
    service.write([f"early-{at}" for at in range(10)] + ["late"], 2.0)
    service.call("Delete", collection="books", ids=["early-29"])
    service.call("RestoreCollection", collection="books", new_name="then", at=moment)
    assert service.held("then") == early
    copied = service.call("CloneCollection", collection="books", new_name="copy").collection
    assert copied.count == len(service.held("copy"))
    assert service.held("copy") == service.held("books")
    with pytest.raises(grpc.RpcError, match="exists"):
        service.call("CloneCollection", collection="books", new_name="copy")
