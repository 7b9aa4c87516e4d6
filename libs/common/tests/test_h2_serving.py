"""The door on our own HTTP/2 server, asked by grpcio as any caller's program would; its protocol is tried in the gateway."""

import asyncio
import ssl
from pathlib import Path

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ergonaut.errors import Broken, Unavailable
from ergonaut_common import entrance
from ergonaut_common.auth import KeyRing
from ergonaut_common.h2 import serving
from ergonaut_common.testing import free_port
from ergonaut_common.testing_certificates import Authority, Certificate
from ergonaut_common.tls import TlsFiles

PATIENCE_SECONDS = 10


def opened(address: str, tls: TlsFiles | None = None):
    return serving(address, service="tried", add=lambda _server: None, keys=KeyRing(), names=["tried"], tls=tls)


def files(own: Certificate) -> TlsFiles:
    return TlsFiles(own.certificate, own.key, None, "TRIED_TLS")


async def shown(port: int, authority: Authority) -> bytes:
    """The certificate that whoever comes now is shown."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting(authority))
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return found


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.file)


def written_in(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text())


async def is_healthy(port: int) -> bool:
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="tried"))
        return answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_it_is_healthy_on_the_port_that_it_tells():
    async with opened("127.0.0.1:0") as port:
        assert await is_healthy(port)


async def test_a_method_that_is_not_there_is_told_by_its_name():
    async with opened("127.0.0.1:0") as port, aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(aio.AioRpcError) as told:
            await channel.unary_unary("/tried.Service/Nothing")(b"")
        assert told.value.code() == grpc.StatusCode.UNIMPLEMENTED
        assert "/tried.Service/Nothing" in str(told.value.details())


async def test_a_port_that_is_taken_and_an_address_that_is_none_are_told():
    address = f"127.0.0.1:{free_port()}"
    async with opened(address) as port:
        assert await is_healthy(port)
        with pytest.raises(Unavailable, match=f"{address}; is the port taken"):
            async with opened(address):
                pass
    with pytest.raises(Broken, match="tell host:port"):
        async with opened("localhost"):
            pass


async def test_a_certificate_that_is_renewed_is_shown_to_whoever_comes_and_connections_go_on(tmp_path: Path):
    authority = Authority(tmp_path)
    own = authority.signed("tried")
    credentials = grpc.ssl_channel_credentials(authority.file.read_bytes())
    async with (
        opened("127.0.0.1:0", files(own)) as port,
        aio.secure_channel(f"127.0.0.1:{port}", credentials) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        await health.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_SECONDS)
        first = written_in(own.certificate)
        assert await shown(port, authority) == first
        authority.signed("tried")
        assert await shown(port, authority) == written_in(own.certificate) != first
        await health.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_SECONDS)


async def test_while_files_do_not_belong_together_the_certificate_stays_as_it_was(tmp_path: Path):
    authority = Authority(tmp_path)
    own, other = authority.signed("tried"), authority.signed("other")
    async with opened("127.0.0.1:0", files(own)) as port:
        first = written_in(own.certificate)
        own.certificate.write_bytes(other.certificate.read_bytes())
        assert await shown(port, authority) == first
        own.key.write_bytes(other.key.read_bytes())
        assert await shown(port, authority) == written_in(other.certificate)
        own.certificate.unlink()
        assert await shown(port, authority) == written_in(other.certificate)


async def test_of_callers_that_begin_tls_and_say_nothing_the_first_make_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(entrance, "BEGINNING_MAX", 4)
    authority = Authority(tmp_path)
    own = authority.signed("tried")
    async with opened("127.0.0.1:0", files(own)) as port, asyncio.timeout(PATIENCE_SECONDS):
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
        assert await shown(port, authority) == written_in(own.certificate)
        assert await silent[0][0].read() == b""
        for _, writer in silent:
            writer.transport.abort()
