"""The service as a process, beside a real NATS server: killed at any moment, it loses nothing that it acknowledged."""

import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.api.vectors.v1 import vectors_pb2_grpc as pb_grpc
from ergonaut_common.testing import free_port, key_ring_file, nats_server
from ergonaut_vectors.adapters.kernel_cache import place_kernel_cache

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

DIMENSION = 16
START_SECONDS = 60


class Service:
    """The process, and a client of it."""

    def __init__(self, folder: Path, nats_url: str, keys_file: Path, key: str) -> None:
        self._log = folder / "vectors.log"
        self._port = free_port()
        self._metadata = (("authorization", f"Bearer {key}"),)
        self._environment = os.environ | {
            "ERGONAUT_NATS_URL": nats_url,
            "ERGONAUT_KEYS_FILE": str(keys_file),
            "ERGONAUT_DATA_DIR": str(folder / "data"),
            "ERGONAUT_VECTORS_GRPC_ADDRESS": f"127.0.0.1:{self._port}",
            "ERGONAUT_VECTORS_METRICS_ADDRESS": "127.0.0.1:0",
        }
        self._process: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator["Service"]:
        """Started and healthy; killed without warning when the block ends."""
        with self._log.open("ab") as output:
            arguments = [sys.executable, "-m", "ergonaut_vectors"]
            self._process = subprocess.Popen(arguments, env=self._environment, stdout=output, stderr=output)
        # The first attempts come before the door is open; gRPC's own pauses between them grow to seconds.
        options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 100)]
        with grpc.insecure_channel(f"127.0.0.1:{self._port}", options) as channel:
            try:
                self._wait_until_healthy(channel)
                self._stub = pb_grpc.VectorsServiceStub(channel)
                yield self
            finally:
                self._process.kill()
                self._process.wait()

    def stop(self) -> int:
        """Ask the process to leave; gives its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(20)

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

    def _wait_until_healthy(self, channel: grpc.Channel) -> None:
        give_up_at = time.monotonic() + START_SECONDS
        stub = health_pb2_grpc.HealthStub(channel)
        while time.monotonic() < give_up_at and self._process.poll() is None:
            with contextlib.suppress(grpc.RpcError):
                if (
                    stub.Check(health_pb2.HealthCheckRequest(), timeout=1).status
                    == health_pb2.HealthCheckResponse.SERVING
                ):
                    return
            time.sleep(0.05)
        raise TimeoutError(f"the service is not healthy; its log ends: {self._log.read_text()[-3000:]}")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    keys_file, keys = key_ring_file(tmp_path)
    with nats_server(tmp_path / "nats") as url:
        yield Service(tmp_path, url, keys_file, keys["default"])


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
    keys_file, keys = key_ring_file(tmp_path)
    port, truth = free_port(), dict[str, str]()
    service = Service(tmp_path, f"nats://127.0.0.1:{port}", keys_file, keys["default"])
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
