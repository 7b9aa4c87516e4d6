"""TLS at the doors, in process and on both event loops: what is refused at the start, who is let in, and what a caller can do."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ergonaut.errors import Refused
from ergonaut_common import entrance as entrance_module
from ergonaut_common.auth import KeyRing
from ergonaut_common.entrance import entrance
from ergonaut_common.testing import key_ring_file
from ergonaut_common.testing_certificates import Authority, Certificate
from ergonaut_common.tls import GRPC_PROTOCOLS, HTTP_PROTOCOLS, Certificates, TlsFiles, server_context
from ergonaut_gateway import h2
from ergonaut_gateway.http import HttpLimits, opened_http
from ergonaut_gateway.rpc import NAMES, door

from .conftest import Gateways
from .http_raw import Raw, Site

PATIENCE_SECONDS = 10.0
LIMITS = HttpLimits(body_bytes=1_000_000, idle_seconds=5, head_seconds=1)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def files(own: Certificate, client_ca: Path | None = None) -> TlsFiles:
    return TlsFiles(own.certificate, own.key, client_ca, "ERGONAUT_GATEWAY_TLS")


@pytest.fixture
def context(authority: Authority) -> Certificates:
    return Certificates(files(authority.signed("gateway")), HTTP_PROTOCOLS)


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
async def port(site: Site, context: Certificates) -> AsyncIterator[int]:
    async with opened_http(entrance("127.0.0.1:0", context), site.router, LIMITS, close_seconds=0.2) as server:
        yield server.port


def trusting(authority: Authority, own: Certificate | None = None) -> ssl.SSLContext:
    """What a caller uses who trusts this authority, with a certificate of its own where one is given."""
    context = ssl.create_default_context(cafile=authority.file)
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    return context


def http(port: int, context: ssl.SSLContext) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"https://127.0.0.1:{port}", verify=context, timeout=PATIENCE_SECONDS)


@contextlib.asynccontextmanager
async def connected(port: int, authority: Authority) -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting(authority))
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not is_so():
            await asyncio.sleep(0.005)


# What is refused at the start.


def test_a_key_that_every_user_can_read_is_refused(authority: Authority) -> None:
    own = authority.signed("gateway")
    own.key.chmod(0o644)
    with pytest.raises(Refused, match=r"ERGONAUT_GATEWAY_TLS_KEY: .*can be read or written by every user"):
        server_context(files(own), HTTP_PROTOCOLS)
    own.key.chmod(0o640)
    server_context(files(own), HTTP_PROTOCOLS)


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(authority: Authority) -> None:
    own = authority.signed("gateway", password=b"secret")
    with pytest.raises(Refused, match=r"ERGONAUT_GATEWAY_TLS_KEY: .*is locked by a password"):
        server_context(files(own), HTTP_PROTOCOLS)


def test_a_key_of_another_certificate_is_refused(authority: Authority) -> None:
    own, other = authority.signed("gateway"), authority.signed("other")
    with pytest.raises(Refused, match=r"ERGONAUT_GATEWAY_TLS_CERTIFICATE: .*are no certificate and its key"):
        server_context(files(replace(own, key=other.key)), HTTP_PROTOCOLS)


@pytest.mark.parametrize("name", ["certificate", "key", "client_ca"])
@pytest.mark.parametrize("content", [None, b"", b"no PEM at all", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_file_that_is_not_there_or_holds_something_else_is_named_with_its_setting(
    authority: Authority, tmp_path: Path, name: str, content: bytes | None
) -> None:
    given = files(authority.signed("gateway"), authority.file)
    wrong = tmp_path / "wrong.pem"
    if content is not None:
        wrong.write_bytes(content)
        wrong.chmod(0o600)
    with pytest.raises(Refused, match=r"ERGONAUT_GATEWAY_TLS_.*wrong\.pem"):
        server_context(replace(given, **{name: wrong}), HTTP_PROTOCOLS)


def test_nothing_older_than_tls_1_2_is_spoken(authority: Authority) -> None:
    context = server_context(files(authority.signed("gateway")), HTTP_PROTOCOLS)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert {each["name"] for each in context.get_ciphers() if "CBC" in each["name"]} == set()


# HTTP.


async def test_requests_are_answered_one_after_the_other_on_a_connection(port: int, authority: Authority) -> None:
    async with http(port, trusting(authority)) as client:
        for body in (b"one", b"", b"x" * 900_000):
            answer = await client.post("/echo", content=body)
            assert (answer.status_code, answer.content) == (200, body)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_both_versions_of_tls_are_spoken_and_the_protocol_is_agreed_upon(
    port: int, authority: Authority, version: ssl.TLSVersion
) -> None:
    wanted = trusting(authority)
    wanted.minimum_version = wanted.maximum_version = version
    wanted.set_alpn_protocols(["http/1.1"])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=wanted)
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    writer.transport.abort()


async def test_an_answer_of_many_megabytes_comes_whole_to_a_slow_caller(port: int, authority: Authority) -> None:
    async with connected(port, authority) as raw:
        await raw.send(b"GET /large/20000000 HTTP/1.1\r\nhost: h\r\n\r\n")
        await asyncio.sleep(0.05)
        assert len((await raw.answer()).body) == 20_000_000


async def test_who_sends_too_much_comes_to_read_that_it_is_refused(port: int, authority: Authority) -> None:
    async with connected(port, authority) as raw:
        await raw.send(b"POST /echo HTTP/1.1\r\nhost: h\r\ncontent-length: 2000000\r\n\r\n", b"x" * 500_000)
        assert (await raw.answer()).status == 400


async def test_a_stream_goes_on_piece_by_piece_and_ends_when_its_caller_goes(
    port: int, authority: Authority, site: Site
) -> None:
    async with connected(port, authority) as raw:
        await raw.send(b"GET /stream/10 HTTP/1.1\r\nhost: h\r\n\r\n")
        assert (await raw.answer()).body.count(b"\n") == 10
        await raw.send(b"GET /stream/100000000 HTTP/1.1\r\nhost: h\r\n\r\n")
        await raw.reader.readuntil(b"0000100\n")
    await until(lambda: bool(site.stopped_by))


async def test_a_caller_that_hangs_up_is_noticed(port: int, authority: Authority, site: Site) -> None:
    async with connected(port, authority) as raw:
        await raw.send(b"GET /held/a HTTP/1.1\r\nhost: h\r\n\r\n")
        await site.holds(1)
        raw.writer.close()
        await until(lambda: site.gone == ["a"])


# Who is let in.


async def test_who_does_not_trust_us_turns_away_and_others_are_served(
    port: int, authority: Authority, tmp_path: Path
) -> None:
    with pytest.raises(httpx.ConnectError):
        async with http(port, trusting(Authority(tmp_path, "stranger"))) as client:
            await client.get("/echo")
    async with http(port, trusting(authority)) as client:
        assert (await client.get("/echo")).status_code == 200


async def test_who_speaks_no_tls_is_cut_off_and_told_nothing(port: int, authority: Authority) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /echo HTTP/1.1\r\nhost: h\r\n\r\n")
    async with asyncio.timeout(PATIENCE_SECONDS):
        with contextlib.suppress(ConnectionError):
            assert not (await reader.read()).startswith(b"HTTP")
    writer.close()
    async with http(port, trusting(authority)) as client:
        assert (await client.get("/echo")).status_code == 200


async def test_where_callers_need_a_certificate_only_those_of_the_named_authority_are_let_in(
    authority: Authority, site: Site, tmp_path: Path
) -> None:
    friends, strangers = Authority(tmp_path, "friends"), Authority(tmp_path, "strangers")
    context = Certificates(files(authority.signed("gateway"), friends.file), HTTP_PROTOCOLS)
    async with opened_http(entrance("127.0.0.1:0", context), site.router, LIMITS, close_seconds=0.2) as server:
        async with http(server.port, trusting(authority, friends.signed("caller"))) as client:
            assert (await client.get("/echo")).status_code == 200
        for own in (None, strangers.signed("other"), authority.signed("gateway-itself")):
            # With TLS 1.3 a caller learns of it with what it reads first.
            with pytest.raises(httpx.TransportError):
                async with http(server.port, trusting(authority, own)) as client:
                    await client.get("/echo")


async def test_callers_that_begin_and_say_nothing_make_way_for_others(
    port: int, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entrance_module, "BEGINNING_MAX", 4)
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
    async with http(port, trusting(authority)) as client:
        assert (await client.get("/echo")).status_code == 200
    async with asyncio.timeout(PATIENCE_SECONDS):
        # The first to come are the first to go.
        assert await silent[0][0].read() == b""
    for _, writer in silent:
        writer.close()


async def test_a_caller_that_says_nothing_is_cut_off_in_time(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrance_module, "HANDSHAKE_SECONDS", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await reader.read() == b""
    writer.close()


# gRPC.


@pytest.mark.parametrize("protocols", [GRPC_PROTOCOLS, HTTP_PROTOCOLS])
async def test_grpcio_is_answered_on_both_ports(
    authority: Authority, gateways: Gateways, tmp_path: Path, protocols: tuple[str, ...]
) -> None:
    gateway, (ring, _) = gateways.another(), key_ring_file(tmp_path, ("default",))
    context = Certificates(files(authority.signed("gateway")), protocols)
    add = door(gateway.models, gateway.catalogue, gateway.predictions)
    credentials = grpc.ssl_channel_credentials(authority.file.read_bytes())
    async with h2.opened(add, gateway.predictions, KeyRing.load(ring), NAMES, close_seconds=0.1) as own:
        way_in = entrance("127.0.0.1:0", context)
        async with own.listening(way_in) as port, grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
            answer = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=PATIENCE_SECONDS, wait_for_ready=True
            )
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            assert len(own.connections) == 1
            # One that fails before it began is no connection of ours.
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            await writer.drain()
            writer.close()
            assert len(own.connections) == 1
