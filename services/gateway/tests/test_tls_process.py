"""TLS of the whole process, by its settings: the clients that people have, and certificates that are renewed."""

import asyncio
import contextlib
import os
import random
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import grpc
import httpx
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from ergonaut.api.inference.v1.inference_pb2_grpc import ModelServiceStub
from ergonaut.api.openinference.v2 import open_inference_pb2 as oip
from ergonaut.api.openinference.v2.open_inference_pb2_grpc import GRPCInferenceServiceStub
from ergonaut.cli import models
from ergonaut.client import AsyncClient
from ergonaut.local.home import SERVICES
from ergonaut_common.testing import key_ring_file
from ergonaut_common.testing_certificates import Authority, Certificate
from ergonaut_gateway.adapters.peers import GrpcPeerLinks
from ergonaut_gateway.domain.inference import InferenceRequest
from ergonaut_gateway.domain.peers import Errand

from .onnx_models import NUMPY_TO_ONNX, doubling, identity
from .test_process import PATIENCE_SECONDS, Site, X, deploy, made_site
from .test_workers_process import until, workers

pytestmark = pytest.mark.integration


@dataclass
class Secure:
    """A gateway that speaks TLS alone, and what its callers trust."""

    site: Site
    authority: Authority
    own: Certificate

    def http(self, own: Certificate | None = None) -> httpx.AsyncClient:
        context = ssl.create_default_context(cafile=self.authority.file)
        if own is not None:
            context.load_cert_chain(own.certificate, own.key)
        headers = dict(self.site.process.metadata(self.site.tenant))
        base = f"https://{self.site.http_address}"
        return httpx.AsyncClient(base_url=base, headers=headers, verify=context, timeout=PATIENCE_SECONDS)

    @contextlib.asynccontextmanager
    async def healthy(self, own: Certificate | None = None) -> AsyncIterator[ModelServiceStub]:
        """Its door of models, once it is there."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await self._ready(own):
                assert self.site.process.lives, self.site.process.log.read_text()[-2000:]
                await asyncio.sleep(0.02)
        async with grpc.aio.secure_channel(self.site.process.address, self.credentials(own)) as channel:
            yield ModelServiceStub(channel)

    def credentials(self, own: Certificate | None = None) -> grpc.ChannelCredentials:
        pair = (own.key.read_bytes(), own.certificate.read_bytes()) if own is not None else (None, None)
        return grpc.ssl_channel_credentials(self.authority.file.read_bytes(), *pair)

    async def _ready(self, own: Certificate | None) -> bool:
        async with self.http(own) as http:
            with contextlib.suppress(httpx.TransportError):
                return (await http.get("/v2/health/ready")).status_code == 200
        return False

    async def serial(self) -> int:
        """The number of the certificate that callers are shown."""
        host, _, port = self.site.http_address.rpartition(":")
        text = await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)), ca_certs=str(self.authority.file))
        shown = self.own.certificate.with_name("shown.crt")
        shown.write_text(text)
        return Certificate(shown, shown).serial

    async def shows(self, serial: int) -> None:
        """Return when that is shown."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await self.serial() != serial:
                await asyncio.sleep(0.02)


@pytest.fixture
def secure(nats_url: str, tmp_path: Path) -> Secure:
    tenant = f"t-{uuid4().hex[:8]}"
    site = made_site(nats_url, tmp_path / "one", key_ring_file(tmp_path, (tenant,)), tenant)
    authority = Authority(tmp_path)
    own = authority.signed("gateway")
    site.process.environment |= {
        "ERGONAUT_GATEWAY_TLS_CERTIFICATE": str(own.certificate),
        "ERGONAUT_GATEWAY_TLS_KEY": str(own.key),
    }
    return Secure(site, authority, own)


async def test_tritonclient_and_grpcio_are_served_over_tls_on_both_ports(secure: Secure) -> None:
    site = secure.site
    with site.process.running():
        async with secure.healthy() as stub:
            await deploy(stub, site, doubling())
            for datatype in NUMPY_TO_ONNX:
                await deploy(stub, site, identity(datatype), f"identity-{datatype.lower()}")
        script = Path(__file__).with_name("triton_script.py")
        told = [site.http_address, site.process.address, site.process.keys[site.tenant], str(secure.authority.file)]
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, str(script), *told],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr


async def test_callers_need_a_certificate_where_the_setting_says_so(secure: Secure, tmp_path: Path) -> None:
    friends = Authority(tmp_path, "friends")
    own = friends.signed("caller")
    secure.site.process.environment["ERGONAUT_GATEWAY_TLS_CLIENT_CA"] = str(friends.file)
    with secure.site.process.running():
        async with secure.healthy(own) as stub:
            await deploy(stub, secure.site, doubling())
        async with secure.http(own) as http:
            assert (await http.post("/v2/models/doubling/infer", json={"inputs": [X]})).status_code == 200
            # A certificate opens the connection, and no more.
            assert (await http.get("/v2", headers={"authorization": "Bearer none"})).status_code == 401
        with pytest.raises(httpx.TransportError):
            async with secure.http() as http:
                await http.get("/v2/health/live")


@pytest.mark.parametrize("count", [1, 2])
async def test_at_sighup_a_renewed_certificate_is_shown_and_connections_go_on(secure: Secure, count: int) -> None:
    process = secure.site.process
    process.environment["ERGONAUT_GATEWAY_WORKERS"] = str(count)
    with process.running():
        async with secure.healthy(), secure.http() as http:
            await secure.shows(secure.own.serial)
            assert (await http.get("/v2/health/live")).status_code == 200
            renewed = secure.authority.signed("gateway").serial
            os.kill(process.pid, signal.SIGHUP)
            await secure.shows(renewed)
            assert (await http.get("/v2/health/live")).status_code == 200
        assert await process.stopped() == 0


async def test_at_sighup_files_that_are_wrong_change_nothing_and_are_told(secure: Secure) -> None:
    process = secure.site.process
    with process.running():
        async with secure.healthy():
            secure.own.key.chmod(0o644)
            os.kill(process.pid, signal.SIGHUP)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while "can be read or written by every user" not in process.log.read_text():
                    await asyncio.sleep(0.02)
            assert await secure.serial() == secure.own.serial


async def test_a_gateway_whose_key_every_user_can_read_does_not_start_and_says_why(secure: Secure) -> None:
    secure.own.key.chmod(0o644)
    with secure.site.process.running():
        assert await asyncio.to_thread(secure.site.process.exit_code) == 1
    assert "ERGONAUT_GATEWAY_TLS_KEY" in secure.site.process.log.read_text()


async def test_a_key_without_a_certificate_is_a_wrong_setting(secure: Secure) -> None:
    del secure.site.process.environment["ERGONAUT_GATEWAY_TLS_CERTIFICATE"]
    with secure.site.process.running():
        assert await asyncio.to_thread(secure.site.process.exit_code) == 78
    assert "name both" in secure.site.process.log.read_text()


@pytest.mark.parametrize("needs_certificate", [False, True])
async def test_the_client_and_the_command_line_call_addresses_that_say_https(
    secure: Secure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, needs_certificate: bool
) -> None:
    process, caller = secure.site.process, secure.authority.signed("caller")
    if needs_certificate:
        process.environment["ERGONAUT_GATEWAY_TLS_CLIENT_CA"] = str(secure.authority.file)
        monkeypatch.setenv("ERGONAUT_TLS_CLIENT_CERTIFICATE", str(caller.certificate))
        monkeypatch.setenv("ERGONAUT_TLS_CLIENT_KEY", str(caller.key))
    for service in SERVICES:
        monkeypatch.setenv(f"ERGONAUT_{service.upper()}_ADDRESS", f"https://{process.address}")
    monkeypatch.setenv("ERGONAUT_GATEWAY_HTTP_ADDRESS", f"https://{secure.site.http_address}")
    monkeypatch.setenv("ERGONAUT_API_KEY", process.keys[secure.site.tenant])
    monkeypatch.setenv("ERGONAUT_TLS_CA", str(secure.authority.file))
    model, app = tmp_path / "doubling.onnx", typer.Typer()
    models.register(app)
    model.write_bytes(doubling())
    with process.running():
        async with secure.healthy(caller if needs_certificate else None):
            deployed = await asyncio.to_thread(CliRunner().invoke, app, ["deploy", str(model), "--name", "doubling"])
            assert deployed.exit_code == 0, deployed.output
            assert f"https://{secure.site.http_address}/v2/models/doubling" in deployed.output.replace("\n", "")
            async with AsyncClient() as client:
                [y, *_] = await client.models.predict("doubling", [X])
            assert y["data"] == [2, 4, 6]


async def test_gateways_send_each_other_requests_over_tls(
    secure: Secure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    site = secure.site
    site.process.environment |= {
        "ERGONAUT_GATEWAY_ADVERTISED_ADDRESS": site.process.address,
        "ERGONAUT_GATEWAY_BALANCING": "off",
    }
    with site.process.running():
        async with secure.healthy() as stub:
            await deploy(stub, site, doubling())
        monkeypatch.setenv("ERGONAUT_TLS_CA", str(secure.authority.file))
        key = Path(site.process.environment["ERGONAUT_SERVICE_KEY_FILE"]).read_text()
        links = GrpcPeerLinks(key, "another")
        link = links.open(site.process.address, tls=True)
        request = InferenceRequest("", {"x": np.array([[1, 2, 3]], np.float32)})
        errand = Errand(site.tenant, "doubling", 1, request, PATIENCE_SECONDS)
        answer = await link.ask(errand)
        link.close()
        await links.closed()
    assert answer.outputs["y"].tolist() == [[2, 4, 6]]


async def test_a_gateway_leaves_in_order_while_callers_say_nothing(secure: Secure) -> None:
    process = secure.site.process
    with process.running():
        async with secure.healthy():
            host, _, port = secure.site.http_address.rpartition(":")
            silent = [await asyncio.open_connection(host, int(port)) for _ in range(3)]
        assert await process.stopped(within_seconds=20) == 0
    for _, writer in silent:
        writer.close()
    assert "Traceback" not in process.log.read_text()


@pytest.mark.parametrize("count", [1, 2])
async def test_callers_that_speak_garbage_do_no_harm_and_fill_no_log(secure: Secure, count: int) -> None:
    process = secure.site.process
    process.environment["ERGONAUT_GATEWAY_WORKERS"] = str(count)
    chance = random.Random(7)
    with process.running():
        async with secure.healthy(), secure.http() as http:
            host, _, port = secure.site.http_address.rpartition(":")
            for _ in range(300):
                _, writer = await asyncio.open_connection(host, int(port))
                hello = b"\x16\x03\x01" if chance.random() < 0.5 else b""
                writer.write(hello + chance.randbytes(chance.randrange(2_000)))
                writer.close()
            assert (await http.get("/v2/health/live")).status_code == 200
        assert await process.stopped(within_seconds=20) == 0
    told = process.log.read_text()
    assert told.count("connections not begun") <= 2 * count
    assert "Traceback" not in told


async def test_workers_are_replaced_without_a_failed_request_over_tls(secure: Secure) -> None:
    process, answers, over = secure.site.process, [0] * 6, False
    process.environment["ERGONAUT_GATEWAY_WORKERS"] = "2"

    async def ask_http(number: int) -> None:
        async with secure.http() as http:
            while not over:
                (await http.post("/v2/models/doubling/infer", json={"inputs": [X]})).raise_for_status()
                answers[number] += 1

    async def ask_grpc(number: int) -> None:
        asked = oip.ModelInferRequest(model_name="doubling")
        asked.inputs.add(name="x", datatype="FP32", shape=[1, 3]).contents.fp32_contents.extend([1, 2, 3])
        metadata, credentials = process.metadata(secure.site.tenant), secure.credentials()
        options = (("grpc.use_local_subchannel_pool", 1),)
        async with grpc.aio.secure_channel(process.address, credentials, options=options) as channel:
            infer = GRPCInferenceServiceStub(channel).ModelInfer
            while not over:
                await infer(asked, metadata=metadata, timeout=PATIENCE_SECONDS, wait_for_ready=True)
                answers[number] += 1

    async def answered_again() -> None:
        before = list(answers)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while any(now < had + 2 for now, had in zip(answers, before, strict=True)):
                await asyncio.sleep(0.01)

    with process.running():
        async with secure.healthy() as stub:
            await deploy(stub, secure.site, doubling())
        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(ask_http(number))
            for number in (4, 5):
                group.create_task(ask_grpc(number))
            await answered_again()
            renewed = secure.authority.signed("gateway").serial
            first = {worker.pid for worker in workers(secure.site)}
            os.kill(process.pid, signal.SIGHUP)
            await until(lambda: len(workers(secure.site)) == 2 and not first & {w.pid for w in workers(secure.site)})
            await answered_again()
            over = True
        assert await secure.serial() == renewed
