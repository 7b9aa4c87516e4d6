"""Endpoints on whole processes with a real NATS: versions and weights change under load over HTTP and gRPC and no request fails,
also where another gateway is killed; and the command line."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import grpc
import pytest
import typer
from typer.testing import CliRunner

from ergonaut.api.inference.v1 import endpoints_pb2 as pb
from ergonaut.api.inference.v1 import inference_pb2
from ergonaut.api.inference.v1.endpoints_pb2_grpc import EndpointServiceStub
from ergonaut.api.openinference.v2 import open_inference_pb2 as oip
from ergonaut.api.openinference.v2.open_inference_pb2_grpc import GRPCInferenceServiceStub
from ergonaut.cli import endpoints as commands
from ergonaut_common.testing import key_ring_file

from .onnx_models import doubling
from .test_process import PATIENCE_SECONDS, Site, deploy, healthy, made_site

pytestmark = pytest.mark.integration

CALLERS = 4
STEPS = (1, 5, 25, 50, 75, 100)
ROUNDS = 5
BODY = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}

app = typer.Typer()
commands.register(app)


@pytest.fixture
def sites(nats_url: str, tmp_path: Path) -> tuple[Site, Site]:
    tenant = f"t-{uuid4().hex[:8]}"
    key_ring = key_ring_file(tmp_path, (tenant, "stranger"))
    one, two = (made_site(nats_url, tmp_path / name, key_ring, tenant) for name in ("one", "two"))
    return one, two


def split(canary: float) -> pb.Endpoint:
    champion = pb.Route(name="champion", model="doubling", version="1", weight=100 - canary)
    return pb.Endpoint(
        name="live", routes=[champion, pb.Route(name="canary", model="doubling", version="2", weight=canary)]
    )


class Load:
    """Callers who ask the endpoint again and again; whatever goes wrong ends the test."""

    def __init__(self) -> None:
        self.asked = 0
        self.versions: set[str] = set()
        self._over = asyncio.Event()

    async def by_http(self, site: Site) -> None:
        async with site.http as http:
            while not self._over.is_set():
                answer = await http.post("/v2/models/live/infer", json=BODY)
                assert answer.status_code == 200, answer.text
                self._note(answer.json()["model_version"])

    async def by_grpc(self, site: Site) -> None:
        tensor = oip.ModelInferRequest.InferInputTensor(
            name="x", datatype="FP32", shape=[1, 3], contents=oip.InferTensorContents(fp32_contents=[1, 2, 3])
        )
        request = oip.ModelInferRequest(model_name="live", inputs=[tensor])
        metadata = site.process.metadata(site.tenant)
        async with grpc.aio.insecure_channel(site.http_address) as channel:
            stub = GRPCInferenceServiceStub(channel)
            while not self._over.is_set():
                answer = await stub.ModelInfer(request, metadata=metadata, timeout=PATIENCE_SECONDS)
                self._note(answer.model_version)

    @asynccontextmanager
    async def on(self, site: Site) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(self.by_http(site))
                group.create_task(self.by_grpc(site))
            try:
                yield
            finally:
                self._over.set()

    def _note(self, version: str) -> None:
        self.asked += 1
        self.versions.add(version)


@asynccontextmanager
async def served(site: Site) -> AsyncIterator[tuple[EndpointServiceStub, list[tuple[str, str]]]]:
    """A gateway with two versions and an endpoint of them."""
    metadata = site.process.metadata(site.tenant)
    async with healthy(site) as models, grpc.aio.insecure_channel(site.process.address) as channel:
        for name in ("a", "b"):
            await deploy(models, site, doubling(name))
        await models.LoadModel(inference_pb2.LoadModelRequest(name="doubling", version="1"), metadata=metadata)
        stub = EndpointServiceStub(channel)
        await stub.ApplyEndpoint(pb.ApplyEndpointRequest(endpoint=split(0)), metadata=metadata)
        yield stub, metadata


async def answering(site: Site, version: str) -> None:
    """Return once the endpoint answers by a version."""
    async with asyncio.timeout(PATIENCE_SECONDS), site.http as http:
        while (await http.post("/v2/models/live/infer", json=BODY)).json().get("model_version") != version:
            await asyncio.sleep(0.01)


async def test_weights_versions_and_rollbacks_change_under_load_and_no_request_fails(sites: tuple[Site, Site]) -> None:
    site = sites[0]
    with site.process.running():
        async with served(site) as (stub, metadata), asyncio.timeout(PATIENCE_SECONDS):
            load = Load()
            async with load.on(site):
                for _ in range(ROUNDS):
                    for canary in STEPS:
                        await stub.ApplyEndpoint(pb.ApplyEndpointRequest(endpoint=split(canary)), metadata=metadata)
                        await asyncio.sleep(0.02)
                    await stub.RollBackEndpoint(pb.RollBackEndpointRequest(name="live"), metadata=metadata)
                    await stub.ApplyEndpoint(pb.ApplyEndpointRequest(endpoint=split(0)), metadata=metadata)
            assert load.versions == {"1", "2"}
            told = await stub.GetEndpoint(pb.GetEndpointRequest(name="live"), metadata=metadata)
            assert told.endpoint.revision == 1 + ROUNDS * (len(STEPS) + 2)
            assert len(told.history) == 20
            await stub.ApplyEndpoint(pb.ApplyEndpointRequest(endpoint=split(100)), metadata=metadata)
            async with site.http as http:
                assert (await http.post("/v2/models/live/infer", json=BODY)).json()["model_version"] == "2"
            figures = await stub.GetEndpointFigures(pb.GetEndpointFiguresRequest(name="live"), metadata=metadata)
            assert [(each.name, each.requests, each.failed) for each in figures.routes] == [
                ("champion", 0, 0),
                ("canary", 1, 0),
            ]


async def test_a_kill_of_another_gateway_is_seen_by_no_caller_of_this_one_and_loses_no_change(
    sites: tuple[Site, Site],
) -> None:
    one, two = sites
    with one.process.running():
        async with served(one) as (stub, metadata), asyncio.timeout(2 * PATIENCE_SECONDS):
            load = Load()
            with two.process.running():
                async with healthy(two), load.on(one):
                    for canary in STEPS:
                        await stub.ApplyEndpoint(pb.ApplyEndpointRequest(endpoint=split(canary)), metadata=metadata)
                        if canary == 25:
                            two.process.kill()
            with two.process.running():
                async with healthy(two), two.http as http:
                    assert (await http.post("/v2/models/live/infer", json=BODY)).json()["model_version"] == "2"
            assert load.asked > len(STEPS)


async def test_a_version_deployed_a_moment_before_its_route_fails_nobody_on_another_gateway(
    sites: tuple[Site, Site],
) -> None:
    one, two = sites
    with one.process.running(), two.process.running():
        async with served(one) as (stub, metadata), healthy(one) as models, healthy(two):
            loads = Load(), Load()
            await answering(two, "1")
            async with asyncio.timeout(2 * PATIENCE_SECONDS), loads[0].on(one), loads[1].on(two):
                for name in "cdefgh":
                    version = (await deploy(models, one, doubling(name))).version
                    only = pb.Endpoint(
                        name="live",
                        routes=[pb.Route(name="champion", model="doubling", version=str(version), weight=1)],
                    )
                    await stub.ApplyEndpoint(pb.ApplyEndpointRequest(endpoint=only), metadata=metadata)
                await answering(two, str(version))
            assert all(load.asked > CALLERS for load in loads)


async def test_a_stranger_sees_and_changes_nothing_and_no_key_is_no_caller(sites: tuple[Site, Site]) -> None:
    site = sites[0]
    with site.process.running():
        async with served(site) as (stub, _):
            stranger = site.process.metadata("stranger")
            listed = await stub.ListEndpoints(pb.ListEndpointsRequest(), metadata=stranger)
            assert list(listed.endpoints) == []
            for asked in (
                stub.GetEndpoint(pb.GetEndpointRequest(name="live"), metadata=stranger),
                stub.RemoveEndpoint(pb.RemoveEndpointRequest(name="live"), metadata=stranger),
                stub.GetEndpointFigures(pb.GetEndpointFiguresRequest(name="live"), metadata=stranger),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await asked
                assert refused.value.code() is grpc.StatusCode.NOT_FOUND
            with pytest.raises(grpc.aio.AioRpcError) as unknown:
                await stub.ListEndpoints(pb.ListEndpointsRequest())
            assert unknown.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_an_endpoint_is_applied_shifted_counted_and_rolled_back_on_the_command_line(
    sites: tuple[Site, Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = sites[0]
    for name, value in (
        ("ERGONAUT_HOME", str(tmp_path / "home")),
        ("ERGONAUT_API_KEY", site.process.keys[site.tenant]),
        ("ERGONAUT_GATEWAY_ADDRESS", site.process.address),
        ("COLUMNS", "200"),
    ):
        monkeypatch.setenv(name, value)

    async def ergonaut(*arguments: str) -> tuple[int, str]:
        done = await asyncio.to_thread(CliRunner().invoke, app, ["endpoints", *arguments])
        return done.exit_code, done.stdout + done.stderr

    with site.process.running():
        async with served(site):
            routes = ("--route", "champion=doubling@1:90", "--route", "canary=doubling@2:10")
            assert await ergonaut("apply", "live", *routes, "--key", "user") == (
                0,
                "live, revision 2: champion 90 % doubling@1, canary 10 % doubling@2\n",
            )
            code, told = await ergonaut("set-weights", "live", "champion=50", "canary=50", "--because", "looks good")
            assert (code, told) == (0, "live, revision 3: champion 50 % doubling@1, canary 50 % doubling@2\n")
            code, told = await ergonaut("rollback", "live", "--json")
            assert (code, json.loads(told)["revision"]) == (0, "4")
            code, told = await ergonaut("get", "live")
            assert code == 0
            assert "looks good" in told
            assert (await ergonaut("figures", "live"))[0] == 0
            code, told = await ergonaut("apply", "live", "--route", "champion=doubling@9:1")
            assert code != 0
            assert "routes.champion" in told
            code, told = await ergonaut("apply", "live", "--route", "champion:doubling")
            assert code != 0
            assert "write it as NAME=MODEL@VERSION:WEIGHT" in told
            assert (await ergonaut("remove", "live"))[0] == 0
            code, told = await ergonaut("list")
            assert "live" not in told
