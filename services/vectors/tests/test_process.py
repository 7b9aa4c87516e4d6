"""The service as a process, beside a real NATS server: killed at any moment, it loses nothing that it acknowledged."""

import asyncio
import contextlib
import os
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
from ergonaut_vectors.adapters.kernel_cache import place_kernel_cache

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

DIMENSION = 16
START_SECONDS = 60


class Service:
    """The process, and a client of it."""

    def __init__(self, folder: Path, nats_url: str) -> None:
        settings = {"ERGONAUT_NATS_URL": nats_url}
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
        return getattr(self._stub, method)(request, metadata=self._metadata, timeout=20)

    def begin(self, method: str, request: object) -> grpc.Future:
        return getattr(self._stub, method).future(request, metadata=self._metadata, timeout=20)

    def find_all(self) -> dict[str, str]:
        """Every id with its version; an id that stood in it twice would show."""
        request = pb.SearchRequest(
            collection="digits", queries=[pb.Query(vector=[0.0] * DIMENSION)], limit=1000, exact=True
        )
        neighbours = self.call("Search", request).results[0].neighbours
        versions = {each.id: each.attributes["version"] for each in neighbours}
        assert len(versions) == len(neighbours)
        return versions


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with nats_server(tmp_path / "nats") as url:
        yield Service(tmp_path, url)


def batch(version: int) -> tuple[pb.UpsertRequest, dict[str, str]]:
    """Forty points, of which half replace those of the batch before."""
    names = [f"p{20 * version + at}" for at in range(40)]
    vectors = np.random.default_rng(version).normal(size=(40, DIMENSION))
    points = [
        pb.Point(id=name, vector=vector, attributes={"version": str(version)})
        for name, vector in zip(names, vectors, strict=True)
    ]
    return pb.UpsertRequest(collection="digits", points=points), dict.fromkeys(names, str(version))


def test_killed_while_writing_it_finds_all_that_was_acknowledged_once_and_whole(service: Service) -> None:
    dice, truth, unknown, version = random.Random(5), dict[str, str](), dict[str, str](), 0
    for _ in range(4):
        with service.running():
            made = pb.CreateCollectionRequest(collection=pb.Collection(name="digits", dimension=DIMENSION))
            service.call("CreateCollection", made)
            found = service.find_all()
            # What was not acknowledged before the kill is there as a whole or not at all.
            assert found in (truth, truth | unknown)
            truth = found
            for _ in range(4):
                request, written = batch(version)
                service.call("Upsert", request)
                truth, version = truth | written, version + 1
            request, unknown = batch(version)
            pending = service.begin("Upsert", request)
            time.sleep(dice.uniform(0, 0.01))
        if pending.code() is grpc.StatusCode.OK:
            truth, unknown = truth | unknown, {}
        version += 1


def test_it_goes_on_after_nats_was_killed(tmp_path: Path) -> None:
    port, truth = free_port(), dict[str, str]()
    service = Service(tmp_path, f"nats://127.0.0.1:{port}")
    with contextlib.ExitStack() as whole:
        first = contextlib.ExitStack()
        first.enter_context(nats_server(tmp_path / "nats", port))
        whole.enter_context(service.running())
        made = pb.CreateCollectionRequest(collection=pb.Collection(name="digits", dimension=DIMENSION))
        service.call("CreateCollection", made)
        for version in range(2):
            request, written = batch(version)
            service.call("Upsert", request)
            truth |= written
        first.close()
        assert service.find_all() == truth
        whole.enter_context(nats_server(tmp_path / "nats", port))
        request, written = batch(2)
        service.call("Upsert", request)
        assert service.find_all() == truth | written


def test_told_to_stop_it_leaves_with_success(service: Service) -> None:
    with service.running():
        assert service.stop() == 0


def test_kernels_are_kept_in_the_data_folder_where_the_code_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "unset")
    assert place_kernel_cache(Path("/proc/self"), tmp_path / "kernels") == tmp_path / "kernels"
    assert os.environ["NUMBA_CACHE_DIR"] == str(tmp_path / "kernels")
    assert place_kernel_cache(tmp_path, tmp_path / "kernels") is None
