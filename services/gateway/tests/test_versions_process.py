"""Versions on a whole process with a real NATS: only signed ones, changed under load without a failure, there after a kill."""

import asyncio
from pathlib import Path
from uuid import uuid4

import grpc
import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from ergonaut import signing
from ergonaut.api.inference.v1 import inference_pb2 as pb
from ergonaut.api.inference.v1.inference_pb2_grpc import ModelServiceStub
from ergonaut_common.testing import ServiceProcess, free_port, key_ring_file

from .onnx_models import doubling

pytestmark = pytest.mark.integration

PATIENCE_SECONDS = 30.0
SWITCHES = 100
CALLERS = 8
BODY = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}


class Site:
    """A gateway that serves what one key has signed, and how it is called."""

    def __init__(self, nats_url: str, folder: Path) -> None:
        self.tenant, self.folder = f"t-{uuid4().hex[:8]}", folder
        key = ec.generate_private_key(ec.SECP256R1())
        self.key, public = folder / "key.pem", folder / "key.pub"
        self.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        self.http_address = f"127.0.0.1:{free_port()}"
        settings = {
            "ERGONAUT_NATS_URL": nats_url,
            "ERGONAUT_GATEWAY_HTTP_ADDRESS": self.http_address,
            "ERGONAUT_GATEWAY_METRICS_ADDRESS": f"127.0.0.1:{free_port()}",
            "ERGONAUT_GATEWAY_SIGNATURE_POLICY": "require",
            "ERGONAUT_GATEWAY_SIGNATURE_KEYS": str(public),
        }
        ring = key_ring_file(folder, (self.tenant,))
        self.process = ServiceProcess("gateway", folder, settings, key_ring=ring, patience_seconds=PATIENCE_SECONDS)

    @property
    def metadata(self) -> list[tuple[str, str]]:
        return self.process.metadata(self.tenant)

    def http(self) -> httpx.AsyncClient:
        headers = dict(self.metadata)
        return httpx.AsyncClient(base_url=f"http://{self.http_address}", headers=headers, timeout=PATIENCE_SECONDS)

    async def deploy(self, stub: ModelServiceStub, content: bytes, *, is_signed: bool = True) -> int:
        file = self.folder / "model.onnx"
        file.write_bytes(content)
        bundle = signing.sign(file, self.key) if is_signed else ""
        messages = [
            pb.DeployModelRequest(name="doubling", signature_bundle=bundle),
            pb.DeployModelRequest(chunk=content),
        ]
        answer = await stub.DeployModel(iter(messages), metadata=self.metadata, timeout=PATIENCE_SECONDS)
        return answer.model.version


@pytest.fixture
def site(nats_url: str, tmp_path: Path) -> Site:
    return Site(nats_url, tmp_path)


async def _served(http: httpx.AsyncClient) -> int:
    answer = await http.post("/v2/models/doubling/infer", json=BODY)
    assert answer.status_code == 200, answer.text
    assert answer.json()["outputs"][0]["data"] == [2, 4, 6]
    return int(answer.json()["model_version"])


async def test_versions_change_a_hundred_times_under_load_and_no_request_fails(site: Site) -> None:
    with site.process.running():
        async with site.process.healthy("inference.GRPCInferenceService") as channel, site.http() as http:
            stub = ModelServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await site.deploy(stub, doubling("a"), is_signed=False)
            assert "the file is not signed" in str(refused.value.details())
            assert [await site.deploy(stub, doubling(name)) for name in ("a", "b")] == [1, 2]
            over = asyncio.Event()
            seen: set[int] = set()

            async def ask() -> int:
                asked = 0
                while not over.is_set():
                    seen.add(await _served(http))
                    asked += 1
                return asked

            callers = [asyncio.create_task(ask()) for _ in range(CALLERS)]
            for at in range(SWITCHES):
                request = pb.SetModelAliasRequest(name="doubling", alias="champion", version=str(at % 2 + 1))
                await stub.SetModelAlias(request, metadata=site.metadata, timeout=PATIENCE_SECONDS)
                assert await _served(http) == at % 2 + 1
            assert await site.deploy(stub, doubling("c")) == 3
            over.set()
            assert sum(await asyncio.gather(*callers)) > SWITCHES
            assert seen == {1, 2}


async def test_a_killed_gateway_serves_the_same_versions_by_the_same_names(site: Site) -> None:
    with site.process.running():
        async with site.process.healthy("inference.GRPCInferenceService") as channel:
            stub = ModelServiceStub(channel)
            for name in ("a", "b", "c"):
                await site.deploy(stub, doubling(name))
            request = pb.SetModelAliasRequest(name="doubling", alias="champion", version="2")
            await stub.SetModelAlias(request, metadata=site.metadata, timeout=PATIENCE_SECONDS)
        site.process.kill()
    with site.process.running():
        async with site.process.healthy("inference.GRPCInferenceService") as channel, site.http() as http:
            assert await _served(http) == 2
            request = pb.ListModelVersionsRequest(name="doubling")
            told = await ModelServiceStub(channel).ListModelVersions(request, metadata=site.metadata)
            assert [(each.version, each.state, [*each.aliases]) for each in told.versions] == [
                (1, pb.VERSION_STATE_UNLOADED, []),
                (2, pb.VERSION_STATE_READY, ["champion"]),
                (3, pb.VERSION_STATE_READY, []),
            ]
            assert {len(each.signed_by) for each in told.versions} == {64}
