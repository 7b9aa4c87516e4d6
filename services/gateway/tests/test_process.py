"""The whole process on a real NATS, started from environment settings only: it serves, survives, tells, and leaves in order."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import httpx
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ergonaut.api.inference.v1 import inference_pb2 as pb
from ergonaut.api.inference.v1.inference_pb2_grpc import ModelServiceStub
from ergonaut.events import DriftFound, InferenceServed, ModelDeployed, ModelRemoved, RequestsLogged, subject_of
from ergonaut_common.bus import Bus, open_bus
from ergonaut_common.settings import PlatformSettings
from ergonaut_common.testing import KeyRingFile, ServiceProcess, free_port, key_ring_file, nats_server

from .onnx_models import NUMPY_TO_ONNX, counting, doubling, identity

pytestmark = pytest.mark.integration

PATIENCE_SECONDS = 30.0
IN_FLIGHT = "ergonaut_inference_in_flight"
X = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}


@dataclass
class Site:
    """A process and how it is called; each site's tenant is its own, since all share one NATS."""

    process: ServiceProcess
    http_address: str
    metrics_address: str
    tenant: str

    @property
    def http(self) -> httpx.AsyncClient:
        headers = dict(self.process.metadata(self.tenant))
        transport = httpx.AsyncHTTPTransport(retries=3)
        return httpx.AsyncClient(
            base_url=f"http://{self.http_address}", headers=headers, timeout=PATIENCE_SECONDS, transport=transport
        )


def made_site(nats_url: str, folder: Path, key_ring: KeyRingFile, tenant: str) -> Site:
    http_address, metrics_address = (f"127.0.0.1:{free_port()}" for _ in range(2))
    settings = {
        "ERGONAUT_NATS_URL": nats_url,
        "ERGONAUT_GATEWAY_HTTP_ADDRESS": http_address,
        "ERGONAUT_GATEWAY_METRICS_ADDRESS": metrics_address,
    }
    process = ServiceProcess("gateway", folder, settings, key_ring=key_ring, patience_seconds=PATIENCE_SECONDS)
    return Site(process, http_address, metrics_address, tenant)


async def scraped(site: Site) -> dict[str, float]:
    async with httpx.AsyncClient() as http:
        lines = (await http.get(f"http://{site.metrics_address}/metrics", timeout=PATIENCE_SECONDS)).text.splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


@pytest.fixture
def sites(nats_url: str, tmp_path: Path) -> tuple[Site, Site]:
    tenant = f"t-{uuid4().hex[:8]}"
    key_ring = key_ring_file(tmp_path, (tenant,))
    return tuple(made_site(nats_url, tmp_path / name, key_ring, tenant) for name in ("one", "two"))


@pytest.fixture
def site(sites: tuple[Site, Site]) -> Site:
    return sites[0]


@contextlib.asynccontextmanager
async def healthy(site: Site) -> AsyncIterator[ModelServiceStub]:
    async with site.process.healthy("inference.GRPCInferenceService") as channel:
        yield ModelServiceStub(channel)


async def deploy(stub: ModelServiceStub, site: Site, content: bytes, name: str = "doubling") -> pb.Model:
    messages = iter([pb.DeployModelRequest(name=name), pb.DeployModelRequest(chunk=content)])
    metadata = site.process.metadata(site.tenant)
    return (await stub.DeployModel(messages, metadata=metadata, timeout=PATIENCE_SECONDS)).model


async def served_version(site: Site, name: str = "doubling") -> int:
    async with site.http as http:
        answer = await http.post(f"/v2/models/{name}/infer", json={"inputs": [X]})
        assert answer.status_code == 200, answer.text
        return int(answer.json()["model_version"])


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    async with open_bus(PlatformSettings(nats_url=nats_url), "test") as opened:
        await opened.ensure_streams("models", "inference")
        yield opened


async def test_tritonclient_is_served_over_http_and_grpc(site: Site) -> None:
    with site.process.running():
        async with healthy(site) as stub:
            await deploy(stub, site, doubling())
            for datatype in NUMPY_TO_ONNX:
                await deploy(stub, site, identity(datatype), f"identity-{datatype.lower()}")
            script = Path(__file__).with_name("triton_script.py")
            addresses = [site.http_address, site.process.address]
            arguments = [sys.executable, str(script), *addresses, site.process.keys[site.tenant]]
            done = await asyncio.to_thread(
                subprocess.run, arguments, capture_output=True, text=True, timeout=60, check=False
            )
    assert done.returncode == 0, done.stderr


async def test_a_killed_gateway_serves_again_what_it_served_and_another_one_follows(sites: tuple[Site, Site]) -> None:
    one, two = sites
    with one.process.running(), two.process.running():
        async with healthy(one) as stub, healthy(two):
            assert (await deploy(stub, one, doubling("a"))).version == 1
            assert (await deploy(stub, one, doubling("b"))).version == 2
            assert await served_version(one) == 2
            async with asyncio.timeout(PATIENCE_SECONDS), two.http as http:
                while (await http.get("/v2/models/doubling/versions/2/ready")).status_code != 200:
                    await asyncio.sleep(0.02)
            assert await served_version(two) == 2
        one.process.kill()
    with one.process.running():
        async with healthy(one) as stub:
            assert await served_version(one) == 2
            assert (await deploy(stub, one, doubling("b"))).version == 2


async def test_a_kill_in_the_middle_of_deployments_leaves_one_version_that_serves(site: Site) -> None:
    async def keep_deploying(stub: ModelServiceStub) -> int:
        done = 0
        with contextlib.suppress(grpc.aio.AioRpcError):
            while True:
                done = (await deploy(stub, site, doubling(f"file-{done + 1}"))).version
        return done

    # Without the trial of each file, which would take most of these times.
    site.process.environment["ERGONAUT_GATEWAY_MODEL_MEMORY_BYTES_MAX"] = "0"
    acknowledged = 0
    lifetimes_seconds = (0.15, 0.3, 0.45)
    for lifetime_seconds in lifetimes_seconds:
        with site.process.running():
            async with healthy(site) as stub:
                deploying = asyncio.create_task(keep_deploying(stub))
                await asyncio.sleep(lifetime_seconds)
                site.process.kill()
                acknowledged = max(acknowledged, await deploying)
    with site.process.running():
        async with healthy(site):
            version = await served_version(site)
    # Each kill may have come between a version's record and its acknowledgement.
    assert 1 <= acknowledged <= version <= acknowledged + len(lifetimes_seconds)


async def test_deployments_predictions_and_removals_are_told(site: Site, bus: Bus) -> None:
    events = {
        kind: await bus.jetstream.subscribe(subject_of(kind.TYPE, tenant=site.tenant))
        for kind in (ModelDeployed, InferenceServed, ModelRemoved)
    }
    site.process.environment["ERGONAUT_GATEWAY_REPORT_SECONDS"] = "600"
    with site.process.running():
        async with healthy(site) as stub:
            model = await deploy(stub, site, doubling())
            for _ in range(3):
                await served_version(site)
            async with httpx.AsyncClient() as http:
                metrics = (await http.get(f"http://{site.metrics_address}/metrics")).text
            await stub.RemoveModel(pb.RemoveModelRequest(name="doubling"), metadata=site.process.metadata(site.tenant))
        assert await site.process.stopped(within_seconds=20) == 0
    messages = {kind: await each.next_msg(timeout=PATIENCE_SECONDS) for kind, each in events.items()}
    deployed = ModelDeployed.model_validate_json(messages[ModelDeployed].data)
    assert (deployed.version, deployed.digest) == (1, model.digest)
    served = InferenceServed.model_validate_json(messages[InferenceServed].data)
    assert (served.model, served.version, served.requests, served.rows, served.failed) == ("doubling", 1, 3, 3, 0)
    assert 0 < served.latency_ms_p50 <= served.latency_ms_p99
    assert ModelRemoved.model_validate_json(messages[ModelRemoved].data).model == "doubling"
    labels = f'{{model="doubling",tenant="{site.tenant}",version="1"}}'
    assert f"ergonaut_inference_requests_total{labels} 3.0" in metrics
    assert f"ergonaut_inference_seconds_count{labels} 3.0" in metrics


async def test_a_model_that_nobody_asks_for_falls_asleep_and_answers_again_when_asked(site: Site) -> None:
    site.process.environment["ERGONAUT_GATEWAY_IDLE_SECONDS"] = "0.2"
    asleep = f'ergonaut_model_asleep{{model="doubling",tenant="{site.tenant}",version="1"}} 1.0'

    async def is_asleep(http: httpx.AsyncClient) -> bool:
        return asleep in (await http.get(f"http://{site.metrics_address}/metrics")).text

    with site.process.running():
        async with healthy(site) as stub, httpx.AsyncClient() as http, asyncio.timeout(PATIENCE_SECONDS):
            await deploy(stub, site, doubling())
            while not await is_asleep(http):
                await asyncio.sleep(0.05)
            assert await served_version(site) == 1


async def drift_of(told: Any, side: str) -> DriftFound:
    """The first drift of a side; what a model answers may drift a check sooner than what it is asked."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            found = DriftFound.model_validate_json((await told.next_msg(timeout=PATIENCE_SECONDS)).data)
            if found.side == side:
                return found


async def test_drift_of_what_is_asked_is_told_and_a_sample_of_requests_written_down(site: Site, bus: Bus) -> None:
    events = {
        kind: await bus.jetstream.subscribe(subject_of(kind.TYPE, tenant=site.tenant))
        for kind in (DriftFound, RequestsLogged)
    }
    watched = {"WATCH_ROWS_PER_SECOND": "100000", "WATCH_CHECK_SECONDS": "0.2", "REQUEST_LOG_RATE": "1"}
    site.process.environment |= {f"ERGONAUT_GATEWAY_{name}": value for name, value in watched.items()}
    rng = np.random.default_rng(1)
    with site.process.running():
        async with healthy(site) as stub, site.http as http:
            await deploy(stub, site, doubling())
            for at, mean in enumerate([0.0] * 20 + [5.0] * 10):
                x = {"name": "x", "shape": [100, 3], "datatype": "FP32", "data": rng.normal(mean, 1, 300).tolist()}
                answer = await http.post("/v2/models/doubling/infer", json={"id": f"id-{at}", "inputs": [x]})
                assert answer.status_code == 200, answer.text
            found = await drift_of(events[DriftFound], "inputs")
            async with httpx.AsyncClient() as metrics:
                scraped = (await metrics.get(f"http://{site.metrics_address}/metrics")).text
        assert await site.process.stopped(within_seconds=20) == 0
    assert (found.model, found.version) == ("doubling", 1)
    assert 1 <= found.features_drifting <= 3
    assert f'ergonaut_drift_open{{model="doubling",side="inputs",tenant="{site.tenant}",version="1"}} 1.0' in scraped
    logged = RequestsLogged.model_validate_json((await events[RequestsLogged].next_msg(timeout=PATIENCE_SECONDS)).data)
    assert logged.requests[0].request_id == "id-0"


async def test_a_stop_finishes_requests_at_work_and_is_not_serving_meanwhile(site: Site) -> None:
    rounds = {"name": "rounds", "shape": [], "datatype": "INT64", "data": [1_500_000]}
    with site.process.running():
        async with healthy(site) as stub, site.http as http, grpc.aio.insecure_channel(site.process.address) as channel:
            await deploy(stub, site, counting(), "counting")
            at_work = asyncio.create_task(http.post("/v2/models/counting/infer", json={"inputs": [rounds]}))
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not any(count for name, count in (await scraped(site)).items() if name.startswith(IN_FLIGHT)):
                    await asyncio.sleep(0.01)
            site.process.terminate()
            health = health_pb2_grpc.HealthStub(channel)
            async for told in health.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE_SECONDS):
                if told.status == health_pb2.HealthCheckResponse.NOT_SERVING:
                    break
            assert not at_work.done()
            answer = await at_work
            assert (answer.status_code, answer.json()["outputs"][0]["data"]) == (200, [1_500_000])
        assert await asyncio.to_thread(site.process.exit_code, 15) == 0
    assert "Traceback" not in site.process.log.read_text()


async def test_a_gateway_outlives_its_nats(tmp_path: Path) -> None:
    port = free_port()
    site = made_site(f"nats://127.0.0.1:{port}", tmp_path, key_ring_file(tmp_path), "default")
    site.process.environment["ERGONAUT_GATEWAY_RESYNC_SECONDS"] = "1"
    with contextlib.ExitStack() as first_life:
        first_life.enter_context(nats_server(tmp_path / "nats", port))
        with site.process.running():
            async with healthy(site) as stub:
                await deploy(stub, site, doubling("a"))
                first_life.close()
                assert await served_version(site) == 1
                await asyncio.sleep(2)
                assert await served_version(site) == 1
                with nats_server(tmp_path / "nats", port):
                    assert (await deploy(stub, site, doubling("b"))).version == 2
                    assert await served_version(site) == 2
            assert site.process.lives


def test_a_bad_setting_is_named_and_the_process_ends_at_once(site: Site) -> None:
    site.process.environment["ERGONAUT_GATEWAY_RUN_THREADS"] = "0"
    with site.process.running():
        assert site.process.exit_code() == 78
    assert "run_threads" in site.process.log.read_text()


def test_a_taken_port_is_named_and_the_process_ends(site: Site) -> None:
    import socket

    host, _, port = site.http_address.rpartition(":")
    with socket.create_server((host, int(port))), site.process.running():
        assert site.process.exit_code() == 1
    assert f"cannot listen on {site.http_address}" in site.process.log.read_text()
