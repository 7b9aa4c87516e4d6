"""The service as a process, beside a real NATS server: killed at any moment, it loses nothing that it acknowledged."""

import asyncio
import contextlib
import random
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.api.vectors.v1 import vectors_pb2_grpc as pb_grpc
from ergonaut_common.testing import ServiceProcess, free_port, nats_server

from .chaos.damage import DAMAGED, damage

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

DIMENSION = 16
START_SECONDS = 60
PATIENCE_SECONDS = 60
"""After a state was damaged the whole log is replayed, in segments of a few rows each; a busy machine takes long for that."""

NAMES = 600
"""Ids that are written to; a search finds a thousand."""

KILLS = 4
"""How often the process is killed; `make chaos-vectors` kills nodes of several, two hundred times."""

CREATE = pb.CreateCollectionRequest(collection=pb.Collection(name="digits", dimension=DIMENSION))


class Service:
    """The process, and a client of it."""

    def __init__(self, folder: Path, nats_url: str) -> None:
        # So few rows are sealed and merged all the time, and saved: a kill meets any step of it.
        settings = {
            "ERGONAUT_NATS_URL": nats_url,
            "ERGONAUT_VECTORS_HEAD_ROWS_MAX": "64",
            "ERGONAUT_VECTORS_WAIT_SECONDS": str(PATIENCE_SECONDS),
        }
        self._process = ServiceProcess("vectors", folder, settings, patience_seconds=START_SECONDS)
        self._metadata = self._process.metadata()

    @contextlib.contextmanager
    def running(self) -> Iterator["Service"]:
        """Started and healthy; killed without warning when the block ends."""
        # The channel closes last, so that a call at work meets the kill and not its own client's leave.
        with grpc.insecure_channel(self._process.address) as channel, self._process.running():
            asyncio.run(self._process.wait_healthy())
            self._stub = pb_grpc.VectorsServiceStub(channel)
            yield self

    def stop(self) -> int:
        """Ask the process to leave; gives its exit code."""
        return asyncio.run(self._process.stopped(within_seconds=20))

    def call(self, method: str, request: object) -> object:
        return getattr(self._stub, method)(request, metadata=self._metadata, timeout=PATIENCE_SECONDS + 10)

    def begin(self, method: str, request: object) -> grpc.Future:
        return getattr(self._stub, method).future(request, metadata=self._metadata, timeout=PATIENCE_SECONDS + 10)

    def told(self, words: str) -> int:
        """How often its log says this."""
        return self._process.log.read_text().count(words)

    def find_all(self) -> dict[str, str]:
        """Every id with its version; an id that stood in it twice would show."""
        request = pb.SearchRequest(
            collection="digits", queries=[pb.Query(vector=[0.0] * DIMENSION)], limit=1000, exact=True
        )
        neighbours = self.call("Search", request).results[0].neighbours
        versions = {each.id: each.attributes["version"] for each in neighbours}
        assert len(versions) == len(neighbours)
        return versions


class Bus:
    """A NATS server on one port, killed and started again where it was."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder / "nats", free_port()
        self._running = contextlib.ExitStack()
        self.url = f"nats://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._running.enter_context(nats_server(self._folder, self._port))

    def kill(self) -> None:
        self._running.close()


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Bus]:
    bus = Bus(tmp_path)
    bus.start()
    yield bus
    bus.kill()


@pytest.fixture
def service(tmp_path: Path, bus: Bus) -> Service:
    return Service(tmp_path, bus.url)


def batch(version: int) -> tuple[pb.UpsertRequest, dict[str, str]]:
    """Forty points, of which half replace those of the batch before."""
    names = [f"p{20 * version % NAMES + at}" for at in range(40)]
    vectors = np.random.default_rng(version).normal(size=(40, DIMENSION))
    points = [
        pb.Point(id=name, vector=vector, attributes={"version": str(version)})
        for name, vector in zip(names, vectors, strict=True)
    ]
    return pb.UpsertRequest(collection="digits", points=points), dict.fromkeys(names, str(version))


class Kills:
    """Writes, and kills at moments that a seed decides; what was acknowledged must be there, the rest as a whole or not."""

    def __init__(self, service: Service, bus: Bus, seed: int) -> None:
        self._service, self._bus, self._dice = service, bus, random.Random(seed)
        self._version = 0
        self._truth: dict[str, str] = {}
        self._perhaps: dict[str, str] = {}

    def look(self) -> None:
        """See that nothing is lost or half there."""
        found = self._service.find_all()
        assert found in (self._truth, self._truth | self._perhaps)
        self._truth, self._perhaps = found, {}

    def write(self, count: int) -> None:
        """Write so many batches, each acknowledged."""
        for _ in range(count):
            request, written = self._next()
            self._service.call("Upsert", request)
            self._truth |= written

    def begin(self) -> grpc.Future:
        """Begin a batch, and wait for a moment in which it may be anywhere."""
        request, self._perhaps = self._next()
        pending = self._service.begin("Upsert", request)
        time.sleep(self._dice.uniform(0, 0.03))
        return pending

    def end(self, pending: grpc.Future) -> None:
        """Learn whether what was begun was acknowledged."""
        if pending.code() is grpc.StatusCode.OK:
            self._truth, self._perhaps = self._truth | self._perhaps, {}

    def kill_bus(self) -> None:
        """Kill NATS beneath a write."""
        pending = self.begin()
        self._bus.kill()
        self._bus.start()
        self.end(pending)
        self.look()

    def damage(self, shards: Path) -> bool:
        """Damage a file that counts; whether there was one."""
        saved = [path.parent for path in shards.glob("*/manifest") if not path.parent.name.endswith(".damaged")]
        return any(damage(shard, self._dice) for shard in saved[:1])

    def _next(self) -> tuple[pb.UpsertRequest, dict[str, str]]:
        self._version += 1
        return batch(self._version)


def test_killed_while_writing_and_merging_it_finds_all_that_was_acknowledged_once_and_whole(
    service: Service, bus: Bus, tmp_path: Path
) -> None:
    kills = Kills(service, bus, seed=5)
    damaged = 0
    for turn in range(KILLS):
        with service.running():
            service.call("CreateCollection", CREATE)
            kills.look()
            kills.write(6)
            if turn % 3 == 1:
                kills.kill_bus()
            pending = kills.begin()
        kills.end(pending)
        if turn % 4 == 2:
            damaged += kills.damage(tmp_path / "data" / "vectors" / "shards")
    with service.running():
        service.call("CreateCollection", CREATE)
        kills.look()
    assert damaged
    assert service.told(DAMAGED) == damaged


def test_it_goes_on_after_nats_was_killed(service: Service, bus: Bus) -> None:
    truth = dict[str, str]()
    with service.running():
        service.call("CreateCollection", CREATE)
        for version in range(2):
            request, written = batch(version)
            service.call("Upsert", request)
            truth |= written
        bus.kill()
        assert service.find_all() == truth
        bus.start()
        request, written = batch(2)
        service.call("Upsert", request)
        assert service.find_all() == truth | written


def test_told_to_stop_it_leaves_with_success(service: Service) -> None:
    with service.running():
        assert service.stop() == 0
