"""HTTP/2 as those use it who want to wear a server out: floods, crumbs of windows, answers left lying. Each costs them the stream
or the connection, and nobody else anything."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from struct import pack

import pytest

from ergonaut.api.openinference.v2 import open_inference_pb2 as oip
from ergonaut_common.auth import KeyRing
from ergonaut_common.entrance import entrance
from ergonaut_common.h2 import H2Limits
from ergonaut_common.h2.connection import Connection
from ergonaut_common.h2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Code,
    frame,
)
from ergonaut_common.testing import key_ring_file
from ergonaut_gateway import h2
from ergonaut_gateway.adapters.onnx import OnnxLoader
from ergonaut_gateway.http import HttpLimits, Router, opened_http
from ergonaut_gateway.rpc import NAMES, door

from .conftest import Gateways
from .h2_frames import Wire, connected, framed, listening
from .http_raw import connected as raw_connected
from .onnx_models import doubling
from .test_h2 import headers
from .test_h2_grpc import INFER, Own, request

LIMITS = H2Limits(
    streams=300,
    control_burst=50,
    control_per_second=1,
    resets_burst=20,
    resets_per_second=1,
    unsent_bytes=200_000,
    body_seconds=5.0,
)
SHUT = pack(">HI", 4, 0)
"""Settings by which no answer is let through."""

ROWS = 5_000
LARGE = framed(request(ROWS).SerializeToString())
"""60 kB, whose answer has twice as much."""


@pytest.fixture
async def own(gateways: Gateways, tmp_path: Path) -> AsyncIterator[Own]:
    gateway = gateways.another(OnnxLoader())
    path, keys = key_ring_file(tmp_path, ("default",))
    await gateway.deploy(doubling())
    add = door(gateway.models, gateway.catalogue, gateway.predictions)
    async with (
        h2.opened(add, gateway.predictions, KeyRing.load(path), NAMES, LIMITS, close_seconds=0.1) as opened,
        listening(opened) as port,
    ):
        yield Own(opened, gateway, port, (("authorization", f"Bearer {keys['default']}"),))
    gateway.predictions.close()


def ask(wire: Wire, own: Own, stream_id: int, message: bytes) -> None:
    wire.send(frame(HEADERS, END_HEADERS, stream_id, wire.block(INFER, *own.metadata)))
    for at in range(0, len(message), 16_000):
        ended = END_STREAM if at + 16_000 >= len(message) else 0
        wire.send(frame(DATA, ended, stream_id, message[at : at + 16_000]))


async def until_unsent(own: Own, streams: int = 1) -> Connection:
    """The connection, once so many answers wait for windows."""
    async with asyncio.timeout(30):
        while True:
            for connection in own.door.connections:
                if len(connection._blocked) >= streams:
                    return connection
            await asyncio.sleep(0.001)


async def broken_off(wire: Wire) -> Code:
    last = await wire.end()
    assert last is not None
    return Code(last.code)


async def answers_others(own: Own) -> None:
    async with connected(own.port) as other:
        ask(other, own, 1, framed(request().SerializeToString()))
        assert (await other.answer(1))[0]["grpc-status"] == "0"


async def test_headers_that_may_not_be_come_only_so_often(own: Own) -> None:
    async with connected(own.port) as wire:
        for stream_id in range(1, 101, 2):
            wire.send(frame(HEADERS, END_HEADERS | END_STREAM, stream_id, headers((":path", ""))))
        assert await broken_off(wire) == Code.ENHANCE_YOUR_CALM
    await answers_others(own)


async def test_streams_that_the_server_is_made_to_reset_come_only_so_often(own: Own) -> None:
    async with connected(own.port) as wire:
        for stream_id in range(1, 101, 2):
            wire.send(frame(HEADERS, END_HEADERS, stream_id, wire.block(INFER, *own.metadata)))
            wire.send(frame(WINDOW_UPDATE, 0, stream_id, pack(">I", 0)))
        assert await broken_off(wire) == Code.ENHANCE_YOUR_CALM
    await answers_others(own)


@pytest.mark.parametrize("stream_id", [0, 1])
async def test_windows_that_open_by_crumbs_while_an_answer_waits_end_the_connection(own: Own, stream_id: int) -> None:
    settings = SHUT if stream_id else pack(">HI", 4, 2**31 - 1)
    async with connected(own.port, settings) as wire:
        ask(wire, own, 1, LARGE)
        await until_unsent(own)
        wire.send(frame(WINDOW_UPDATE, 0, stream_id, pack(">I", 1)) * 100)
        assert await broken_off(wire) == Code.ENHANCE_YOUR_CALM
    await answers_others(own)


async def test_windows_that_open_by_steps_pass_the_whole_answer_however_many_they_are(own: Own) -> None:
    async with connected(own.port, SHUT) as wire:
        ask(wire, own, 1, LARGE)
        await until_unsent(own)
        for _ in range(200):
            wire.send(frame(WINDOW_UPDATE, 0, 0, pack(">I", 1_024)), frame(WINDOW_UPDATE, 0, 1, pack(">I", 1_024)))
        told, data = await wire.answer(1)
    assert told["grpc-status"] == "0"
    assert len(oip.ModelInferResponse.FromString(data[5:]).raw_output_contents[0]) == 12 * ROWS


async def test_crumbs_for_which_nothing_waits_are_let_pass(own: Own) -> None:
    async with connected(own.port) as wire:
        wire.send(frame(WINDOW_UPDATE, 0, 0, pack(">I", 1)) * 500)
        ask(wire, own, 1, framed(request().SerializeToString()))
        assert (await wire.answer(1))[0]["grpc-status"] == "0"


async def test_an_answer_that_is_let_through_nowhere_is_given_up_in_time_and_others_go_on(own: Own) -> None:
    async with connected(own.port, SHUT) as wire:
        ask(wire, own, 1, LARGE)
        connection = await until_unsent(own)
        connection.control.sweep(LIMITS.write_seconds - 1)
        assert connection.unsent_bytes > 12 * ROWS
        wire.send(frame(WINDOW_UPDATE, 0, 1, pack(">I", 2_000)))
        await wire.until(DATA)
        connection.control.sweep(LIMITS.write_seconds - 1)
        assert connection.unsent_bytes > 0, "it moved, so it has its time again"
        connection.control.sweep(2)
        assert Code((await wire.until(RST_STREAM)).code) == Code.ENHANCE_YOUR_CALM
        assert (connection.unsent_bytes, connection.streams) == (0, {})
        wire.send(frame(SETTINGS, 0, 0, pack(">HI", 4, 65_535)))
        ask(wire, own, 3, framed(request().SerializeToString()))
        assert (await wire.answer(3))[0]["grpc-status"] == "0"


async def test_who_leaves_too_many_answers_lying_gets_no_more_until_they_are_read(own: Own) -> None:
    async with connected(own.port, SHUT) as wire:
        ask(wire, own, 1, LARGE)
        connection = await until_unsent(own)
        ask(wire, own, 3, LARGE)
        told, _ = await wire.answer(3)
        assert (told["grpc-status"], told["grpc-message"]) == ("8", "too many answers lie unread; read those first")
        assert connection.unsent_bytes <= LIMITS.unsent_bytes
        wire.send(frame(WINDOW_UPDATE, 0, 0, pack(">I", 2**20)), frame(WINDOW_UPDATE, 0, 1, pack(">I", 2**20)))
        assert (await wire.answer(1))[0]["grpc-status"] == "0"
        assert connection.unsent_bytes == 0


async def test_windows_that_shut_again_and_again_come_only_so_often(own: Own) -> None:
    async with connected(own.port) as wire:
        for size in [0, 2**31 - 1] * 50:
            wire.send(frame(SETTINGS, 0, 0, pack(">HI", 4, size)))
        assert await broken_off(wire) == Code.ENHANCE_YOUR_CALM


async def test_a_call_of_which_only_headers_came_ends_in_time(own: Own) -> None:
    async with connected(own.port) as wire:
        wire.send(frame(HEADERS, END_HEADERS, 1, wire.block(INFER, *own.metadata)))
        async with asyncio.timeout(30):
            while not any(connection.streams for connection in own.door.connections):
                await asyncio.sleep(0.001)
        (connection,) = own.door.connections
        connection.control.sweep(LIMITS.body_seconds)
        assert connection.streams
        connection.control.sweep(1)
        told, _ = await wire.answer(1)
        assert (told["grpc-status"], told["grpc-message"]) == ("4", "the request did not arrive within 5 s")


FLOODS = {
    "priorities": b"".join(frame(PRIORITY, 0, 2 * at + 1, pack(">IB", 0, 1)) for at in range(100)),
    "frames that nobody knows": frame(0xFA, 0, 0, b"x") * 100,
    "acknowledged settings": frame(SETTINGS, 1, 0) * 100,
    "acknowledged pings": frame(6, 1, 0, b"12345678") * 100,
    "farewells": frame(GOAWAY, 0, 0, b"\0" * 8) * 100,
    "continuations": frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b") * 100,
    "table sizes": frame(HEADERS, 0, 1, b"\x20" * 40_000),
}


@pytest.mark.parametrize("sent", FLOODS.values(), ids=FLOODS)
async def test_a_flood_ends_its_connection_only(own: Own, sent: bytes) -> None:
    async with connected(own.port) as wire:
        wire.send(sent)
        assert await broken_off(wire) == Code.ENHANCE_YOUR_CALM
    await answers_others(own)


async def test_connections_of_both_protocols_count_against_one_bound(own: Own) -> None:
    limits = HttpLimits(connections=2)
    router = Router()
    router.add("GET", "/hello", lambda exchange: exchange.answer(200, b"hello"))
    async with opened_http(entrance("127.0.0.1:0"), router, limits, h2_factory=own.door) as http:
        http.count_also(lambda: len(own.door.connections))
        own.door.elsewhere = lambda: http.connections
        async with connected(http.port) as first, connected(http.port) as second:
            for wire in (first, second):
                ask(wire, own, 1, framed(request().SerializeToString()))
                assert (await wire.answer(1))[0]["grpc-status"] == "0"
            async with raw_connected(http.port) as raw:
                await raw.send(b"GET /hello HTTP/1.1\r\nhost: h\r\n\r\n")
                assert (await raw.answer()).status == 503
        async with asyncio.timeout(30):
            while own.door.connections or http.connections:
                await asyncio.sleep(0.001)
        async with raw_connected(http.port) as raw:
            await raw.send(b"GET /hello HTTP/1.1\r\nhost: h\r\n\r\n")
            assert (await raw.answer()).status == 200
            own.door._limits = replace(LIMITS, connections=1)
            async with connected(http.port) as late:
                assert await broken_off(late) == Code.NO_ERROR
