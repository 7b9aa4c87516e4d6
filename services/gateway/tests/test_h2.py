"""HTTP/2 by hand: every rule that a caller can break is answered as RFC 9113 says, and nothing that a caller sends does harm."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from struct import pack

import pytest
from grpc_health.v1 import health_pb2

from ergonaut_common.auth import KeyRing
from ergonaut_common.h2 import H2Limits
from ergonaut_common.h2.connection import Connection
from ergonaut_common.h2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITISED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Code,
    frame,
)
from ergonaut_common.h2.limits import Budget
from ergonaut_common.testing import key_ring_file
from ergonaut_gateway import h2
from ergonaut_gateway.h2 import H2Door
from ergonaut_gateway.rpc import NAMES, door

from .conftest import Gateways
from .h2_frames import Wire, connected, framed, listening

CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
ASK = framed(health_pb2.HealthCheckRequest().SerializeToString())
HEALTHY = framed(health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING).SerializeToString())
LIMITS = H2Limits(
    streams=4, control_burst=50, control_per_second=1, resets_burst=20, resets_per_second=1, header_bytes=4096
)


@pytest.fixture
async def own(gateways: Gateways, tmp_path: Path) -> AsyncIterator[H2Door]:
    gateway = gateways.another()
    path, _ = key_ring_file(tmp_path, ("default",))
    add = door(gateway.models, gateway.catalogue, gateway.predictions)
    async with h2.opened(add, gateway.predictions, KeyRing.load(path), NAMES, LIMITS, close_seconds=0.1) as opened:
        yield opened


@pytest.fixture
async def port(own: H2Door) -> AsyncIterator[int]:
    async with listening(own) as opened:
        yield opened


def call(wire: Wire, stream_id: int, path: str = CHECK) -> bytes:
    head = frame(HEADERS, END_HEADERS, stream_id, wire.block(path))
    return head + frame(DATA, END_STREAM, stream_id, ASK)


async def test_a_call_is_answered_in_three_frames(port: int) -> None:
    async with connected(port) as wire:
        wire.send(call(wire, 1))
        fields, data = await wire.answer(1)
    assert data == HEALTHY
    assert (fields[":status"], fields["content-type"], fields["grpc-status"]) == ("200", "application/grpc", "0")


async def test_padding_priorities_continuations_and_unknown_frames_change_nothing(port: int) -> None:
    async with connected(port) as wire:
        block = wire.block(CHECK)
        first = b"\x03" + pack(">IB", 0, 5) + block[:4] + b"\0\0\0"
        wire.send(
            frame(0xBE, 0xFF, 7, b"whatever"),
            frame(PRIORITY, 0, 9, pack(">IB", 3, 1)),
            frame(HEADERS, PADDED | PRIORITISED, 1, first),
            frame(CONTINUATION, 0, 1, block[4:7]),
            frame(CONTINUATION, END_HEADERS, 1, block[7:]),
            frame(DATA, PADDED, 1, b"\x02" + ASK[:3] + b"\0\0"),
            frame(DATA, 0, 1, ASK[3:]),
            frame(HEADERS, END_HEADERS | END_STREAM, 1, wire.encoder.encode([("some", "trailer")])),
        )
        assert (await wire.answer(1))[1] == HEALTHY


async def test_bytes_that_come_one_by_one_are_a_call_as_well(port: int) -> None:
    async with connected(port, None) as wire:
        for byte in PREFACE + frame(SETTINGS, 0, 0) + call(wire, 1):
            wire.send(bytes((byte,)))
            await wire.writer.drain()
        assert (await wire.answer(1))[1] == HEALTHY


async def test_headers_that_come_again_mean_the_same_and_changed_tables_mean_what_they_say(port: int) -> None:
    async with connected(port) as wire:
        for number in range(12):
            path, answer = ((CHECK, "0"), ("/no.Such/Method", "12"))[number % 3 == 2]
            more = (("x-number", str(number)),) if number % 4 == 1 else ()
            head = frame(HEADERS, END_HEADERS | END_STREAM * 0, 2 * number + 1, wire.block(path, *more))
            wire.send(head, frame(DATA, END_STREAM, 2 * number + 1, ASK))
            assert (await wire.answer(2 * number + 1))[0]["grpc-status"] == answer


async def test_pings_and_settings_are_acknowledged(port: int) -> None:
    async with connected(port) as wire:
        assert (await wire.until(SETTINGS)).payload
        wire.send(frame(PING, 0, 0, b"12345678"))
        assert (await wire.until(SETTINGS, answering=True)).payload == b""
        assert (await wire.until(PING, answering=True)).payload == b"12345678"


def headers(*fields: tuple[str, str]) -> bytes:
    return b"".join(
        b"\x00" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode() for name, value in fields
    )


OPEN = frame(HEADERS, END_HEADERS, 1, headers((":method", "POST"), (":scheme", "http"), (":path", WATCH), ("content-type", "application/grpc")))  # fmt: skip  # noqa: E501

BROKEN = {
    "data on no stream": (frame(DATA, 0, 0, b"x"), Code.PROTOCOL_ERROR),
    "data before headers": (frame(DATA, 0, 1, b"x"), Code.PROTOCOL_ERROR),
    "data on a stream that is over": (
        OPEN + frame(RST_STREAM, 0, 1, pack(">I", 8)) + frame(DATA, 0, 1),
        Code.STREAM_CLOSED,
    ),
    "headers on an even stream": (frame(HEADERS, END_HEADERS, 2, b""), Code.PROTOCOL_ERROR),
    "headers on no stream": (frame(HEADERS, END_HEADERS, 0, b""), Code.PROTOCOL_ERROR),
    "headers on an older stream": (
        frame(HEADERS, END_HEADERS, 5, b"") + frame(HEADERS, END_HEADERS, 3, b""),
        Code.STREAM_CLOSED,
    ),
    "headers that cannot be unpacked": (frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff"), Code.COMPRESSION_ERROR),
    "headers of no table entry": (frame(HEADERS, END_HEADERS, 1, b"\xfe"), Code.COMPRESSION_ERROR),
    "headers too long": (frame(HEADERS, 0, 1, b"x" * 4097), Code.ENHANCE_YOUR_CALM),
    "headers that grow": (
        frame(HEADERS, END_HEADERS, 1, b"\x40\x01a\x7f\x81\x07" + b"b" * 1024 + b"\xbe" * 9),
        Code.ENHANCE_YOUR_CALM,
    ),
    "empty continuations": (frame(HEADERS, 0, 1) + frame(CONTINUATION, 0, 1) * 20, Code.ENHANCE_YOUR_CALM),
    "a continuation of nothing": (frame(CONTINUATION, 0, 1), Code.PROTOCOL_ERROR),
    "something else amid headers": (frame(HEADERS, 0, 1) + frame(PING, 0, 0, b"12345678"), Code.PROTOCOL_ERROR),
    "padding longer than its frame": (OPEN + frame(DATA, PADDED, 1, b"\x05abc"), Code.PROTOCOL_ERROR),
    "a priority cut off": (frame(HEADERS, PRIORITISED | END_HEADERS, 1, b"\0\0"), Code.FRAME_SIZE_ERROR),
    "a stream that depends on itself": (frame(PRIORITY, 0, 3, pack(">IB", 3, 0)), Code.PROTOCOL_ERROR),
    "a priority of no stream": (frame(PRIORITY, 0, 0, pack(">IB", 3, 0)), Code.PROTOCOL_ERROR),
    "a reset of an idle stream": (frame(RST_STREAM, 0, 1, pack(">I", 8)), Code.PROTOCOL_ERROR),
    "a reset of another length": (OPEN + frame(RST_STREAM, 0, 1, b"x"), Code.FRAME_SIZE_ERROR),
    "settings of a stream": (frame(SETTINGS, 0, 1), Code.PROTOCOL_ERROR),
    "settings cut off": (frame(SETTINGS, 0, 0, b"abc"), Code.FRAME_SIZE_ERROR),
    "an acknowledgement that says more": (frame(SETTINGS, 1, 0, pack(">HI", 1, 0)), Code.FRAME_SIZE_ERROR),
    "a window that is too large": (frame(SETTINGS, 0, 0, pack(">HI", 4, 2**31)), Code.FLOW_CONTROL_ERROR),
    "frames that are too small": (frame(SETTINGS, 0, 0, pack(">HI", 5, 100)), Code.PROTOCOL_ERROR),
    "a push that is neither on nor off": (frame(SETTINGS, 0, 0, pack(">HI", 2, 2)), Code.PROTOCOL_ERROR),
    "a push": (frame(PUSH_PROMISE, END_HEADERS, 1, pack(">I", 2)), Code.PROTOCOL_ERROR),
    "a ping of a stream": (frame(PING, 0, 1, b"12345678"), Code.PROTOCOL_ERROR),
    "a ping of another length": (frame(PING, 0, 0, b"1234567"), Code.FRAME_SIZE_ERROR),
    "a goaway of a stream": (frame(GOAWAY, 0, 1, b"12345678"), Code.PROTOCOL_ERROR),
    "a goaway cut off": (frame(GOAWAY, 0, 0, b"123"), Code.FRAME_SIZE_ERROR),
    "a window of nothing": (frame(WINDOW_UPDATE, 0, 0, pack(">I", 0)), Code.PROTOCOL_ERROR),
    "a window of another length": (frame(WINDOW_UPDATE, 0, 0, b"abc"), Code.FRAME_SIZE_ERROR),
    "a window that grows too large": (frame(WINDOW_UPDATE, 0, 0, pack(">I", 2**31 - 1)), Code.FLOW_CONTROL_ERROR),
    "a window of an idle stream": (frame(WINDOW_UPDATE, 0, 1, pack(">I", 1)), Code.PROTOCOL_ERROR),
    "a frame too large": (b"\x01\x00\x01" + b"\0" * 6, Code.FRAME_SIZE_ERROR),
    "pings without end": (frame(PING, 0, 0, b"12345678") * 100, Code.ENHANCE_YOUR_CALM),
    "settings without end": (frame(SETTINGS, 0, 0) * 100, Code.ENHANCE_YOUR_CALM),
    "empty data without end": (OPEN + frame(DATA, 0, 1) * 100, Code.ENHANCE_YOUR_CALM),
}


@pytest.mark.parametrize(("sent", "code"), BROKEN.values(), ids=BROKEN)
async def test_a_broken_rule_of_the_connection_ends_it_with_its_code(port: int, sent: bytes, code: Code) -> None:
    async with connected(port) as wire:
        wire.send(sent)
        last = await wire.end()
    assert last is not None
    assert Code(last.code) == code


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\n\r\n", PREFACE + frame(PING, 0, 0, b"12345678"), PREFACE + frame(SETTINGS, 1, 0)]
)
async def test_a_connection_that_does_not_begin_as_one_ends(port: int, first: bytes) -> None:
    async with connected(port, None) as wire:
        wire.send(first)
        last = await wire.end()
    assert last is not None
    assert Code(last.code) == Code.PROTOCOL_ERROR


REQUEST = {":method": "POST", ":scheme": "http", ":path": CHECK, "content-type": "application/grpc"}
RULE = Code.PROTOCOL_ERROR


def asking(*more: tuple[str, str]) -> bytes:
    return headers(*REQUEST.items(), *more)


STREAM_BROKEN = {
    "no path": (headers(*(REQUEST | {":path": ""}).items()), b"", RULE),
    "no method": (headers(*list(REQUEST.items())[1:]), b"", RULE),
    "a pseudo-header twice": (headers((":path", "/"), *REQUEST.items()), b"", RULE),
    "a pseudo-header of answers": (headers((":status", "200"), *REQUEST.items()), b"", RULE),
    "a pseudo-header too late": (headers(("a", "b"), *REQUEST.items()), b"", RULE),
    "upper case": (asking(("Te", "trailers")), b"", RULE),
    "a header of HTTP/1": (asking(("connection", "close")), b"", RULE),
    "another te": (asking(("te", "gzip")), b"", RULE),
    "a length that is none": (asking(("content-length", "x")), b"", RULE),
    "less than the length": (asking(("content-length", "9")), frame(DATA, END_STREAM, 1, ASK), RULE),
    "more than the length": (asking(("content-length", "3")), frame(DATA, END_STREAM, 1, ASK), RULE),
    "trailers that do not end": (asking(), frame(HEADERS, END_HEADERS, 1, headers(("a", "b"))), RULE),
    "trailers with a path": (asking(), frame(HEADERS, END_HEADERS | 1, 1, headers((":path", "b"))), RULE),
    "a window of nothing": (asking(), frame(WINDOW_UPDATE, 0, 1, pack(">I", 0)), RULE),
    "a window too large": (asking(), frame(WINDOW_UPDATE, 0, 1, pack(">I", 2**31 - 1)), Code.FLOW_CONTROL_ERROR),
}


@pytest.mark.parametrize(("block", "then", "code"), STREAM_BROKEN.values(), ids=STREAM_BROKEN)
async def test_a_broken_rule_of_a_stream_ends_only_that(port: int, block: bytes, then: bytes, code: Code) -> None:
    async with connected(port) as wire:
        wire.send(frame(HEADERS, END_HEADERS, 1, block), then)
        assert Code((await wire.until(RST_STREAM)).code) == code
        wire.send(call(wire, 3))
        assert (await wire.answer(3))[1] == HEALTHY


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"content-type": "application/json"}, "415"),
        ({"content-type": "application/grpc-web"}, "415"),
        ({":method": "PUT"}, "405"),
    ],
)
async def test_what_is_no_grpc_is_refused_by_status(port: int, change: dict[str, str], status: str) -> None:
    async with connected(port) as wire:
        wire.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, headers(*(REQUEST | change).items())))
        assert (await wire.answer(1))[0][":status"] == status


GRPC_REFUSED = {
    "no such method": (REQUEST | {":path": "/a.B/C"}, ASK, "12", "there is no method /a.B/C here"),
    "an unknown encoding": (REQUEST | {"grpc-encoding": "br"}, ASK, "12", "grpc-encoding br is not known"),
    "a timeout that is none": (REQUEST | {"grpc-timeout": "1x"}, ASK, "13", "grpc-timeout 1x cannot be read"),
    "no message": (REQUEST, b"", "12", f"{CHECK} takes one message, none was sent"),
    "two messages": (REQUEST, ASK + ASK, "12", f"{CHECK} takes one message, more were sent"),
    "half a message": (REQUEST, ASK[:3], "13", "the last message is not whole"),
    "a message that is none": (REQUEST, framed(b"\xff\xff"), "3", f"the message is not what {CHECK} takes"),
    "a packed message": (REQUEST, b"\1" + ASK[1:], "13", "a message is packed, but grpc-encoding does not say how"),
    "a strange message": (REQUEST, b"\2" + ASK[1:], "13", "a message begins with neither 0 nor 1"),
}


@pytest.mark.parametrize(("fields", "body", "status", "words"), GRPC_REFUSED.values(), ids=GRPC_REFUSED)
async def test_a_wrong_call_gets_a_status_and_a_sentence(
    port: int, fields: dict[str, str], body: bytes, status: str, words: str
) -> None:
    async with connected(port) as wire:
        wire.send(frame(HEADERS, END_HEADERS, 1, headers(*fields.items())), frame(DATA, END_STREAM, 1, body))
        told, data = await wire.answer(1)
    assert (told["grpc-status"], told["grpc-message"].replace("%25", "%"), data) == (status, words, b"")


async def test_a_message_too_large_is_refused_before_it_came_and_its_sender_told_to_stop(port: int) -> None:
    async with connected(port) as wire:
        wire.send(
            frame(HEADERS, END_HEADERS, 1, wire.block(CHECK)), frame(DATA, 0, 1, b"\0" + pack(">I", 2**31) + b"x")
        )
        assert (await wire.answer(1))[0]["grpc-status"] == "8"
        assert Code((await wire.until(RST_STREAM)).code) == Code.NO_ERROR
        wire.send(frame(DATA, 0, 1, b"still sending"), call(wire, 3))
        assert (await wire.answer(3))[1] == HEALTHY


async def test_a_message_that_does_not_arrive_in_time_ends_its_call(gateways: Gateways, tmp_path: Path) -> None:
    gateway = gateways.another()
    path, keys = key_ring_file(tmp_path, ("default",))
    add = door(gateway.models, gateway.catalogue, gateway.predictions)
    limits = replace(LIMITS, body_seconds=0.05)
    async with (
        h2.opened(add, gateway.predictions, KeyRing.load(path), NAMES, limits, close_seconds=0.1) as factory,
        listening(factory) as opened,
        connected(opened) as wire,
    ):
        for stream_id, method in ((1, CHECK), (3, "/inference.GRPCInferenceService/ModelInfer")):
            block = wire.block(method, ("authorization", f"Bearer {keys['default']}"))
            wire.send(frame(HEADERS, END_HEADERS, stream_id, block), frame(DATA, 0, stream_id, b"\0\0"))
            told, _ = await wire.answer(stream_id)
            assert (told["grpc-status"], told["grpc-message"]) == ("4", "the request did not arrive within 0.05 s")


async def test_more_calls_than_may_be_at_work_are_told_to_come_back(gateways: Gateways) -> None:
    gateway = gateways.another()
    limits = replace(LIMITS, calls=2)
    async with (
        h2.opened(lambda _server: None, gateway.predictions, KeyRing(), (), limits, close_seconds=0.1) as factory,
        listening(factory) as opened,
        connected(opened) as wire,
    ):
        wire.send(call(wire, 1, WATCH), call(wire, 3, WATCH), call(wire, 5))
        assert (await wire.answer(5))[0]["grpc-status"] == "8"


async def test_more_streams_than_may_be_open_are_refused_and_can_be_tried_again(port: int) -> None:
    async with connected(port) as wire:
        for stream_id in (1, 3, 5, 7):
            wire.send(call(wire, stream_id, WATCH))
        wire.send(call(wire, 9))
        refused = await wire.until(RST_STREAM)
        assert (refused.stream_id, Code(refused.code)) == (9, Code.REFUSED_STREAM)
        wire.send(frame(RST_STREAM, 0, 1, pack(">I", Code.CANCEL)), call(wire, 11))
        assert (await wire.answer(11))[1] == HEALTHY


async def test_who_begins_and_gives_up_without_end_loses_the_connection(port: int) -> None:
    async with connected(port) as wire:
        for stream_id in range(1, 101, 2):
            wire.send(call(wire, stream_id, WATCH), frame(RST_STREAM, 0, stream_id, pack(">I", Code.CANCEL)))
        last = await wire.end()
    assert last is not None
    assert Code(last.code) == Code.ENHANCE_YOUR_CALM


async def test_no_more_is_sent_than_the_windows_let_through(port: int) -> None:
    async with connected(port, pack(">HI", 4, 3)) as wire:
        wire.send(call(wire, 1))
        first = await wire.until(DATA)
        assert first.payload == HEALTHY[:3]
        wire.send(frame(SETTINGS, 0, 0, pack(">HI", 4, 4)))
        assert (await wire.until(DATA)).payload == HEALTHY[3:4]
        wire.send(frame(WINDOW_UPDATE, 0, 1, pack(">I", 100)))
        assert (await wire.answer(1))[1] == HEALTHY[4:]


async def test_who_reads_no_answers_is_not_listened_to_any_more_and_in_the_end_cut_off(gateways: Gateways) -> None:
    gateway = gateways.another()
    limits = replace(LIMITS, control_burst=10**9)
    pings = frame(PING, 0, 0, b"12345678") * 10_000
    async with (
        h2.opened(lambda _server: None, gateway.predictions, KeyRing(), (), limits, close_seconds=0.1) as factory,
        listening(factory) as opened,
        connected(opened) as wire,
    ):
        (connection,) = [each async for each in _connections(factory)]
        wire.reader._limit = 1
        async with asyncio.timeout(20):
            while not connection.paused:
                wire.send(pings)
                await asyncio.sleep(0)
        connection.control.sweep(1)
        connection.control.sweep(limits.write_seconds)
        async with asyncio.timeout(20):
            while factory.connections:
                await asyncio.sleep(0.01)


async def _connections(factory: H2Door) -> AsyncIterator[Connection]:
    while not factory.connections:
        await asyncio.sleep(0.01)
    for connection in factory.connections:
        yield connection


async def test_a_door_that_closes_answers_what_was_begun_and_takes_no_more(own: H2Door, port: int) -> None:
    async with connected(port) as wire:
        wire.send(frame(HEADERS, END_HEADERS, 1, wire.block(CHECK)))
        wire.send(frame(PING, 0, 0, b"12345678"))
        await wire.until(PING, answering=True)
        closing = asyncio.create_task(own.close(within_seconds=5))
        announced = await wire.until(GOAWAY)
        assert int.from_bytes(announced.payload[:4], "big") == 2**31 - 1
        ping = await wire.until(PING)
        wire.send(frame(PING, 1, 0, ping.payload))
        assert int.from_bytes((await wire.until(GOAWAY)).payload[:4], "big") == 1
        wire.send(call(wire, 3))
        assert Code((await wire.until(RST_STREAM)).code) == Code.REFUSED_STREAM
        wire.send(frame(DATA, END_STREAM, 1, ASK))
        assert (await wire.answer(1))[0]["grpc-status"] == "0"
        assert await wire.end() is None
        await closing


async def test_more_connections_than_may_be_open_are_told_to_come_back(gateways: Gateways) -> None:
    gateway = gateways.another()
    limits = replace(LIMITS, connections=1)
    async with (
        h2.opened(lambda _server: None, gateway.predictions, KeyRing(), (), limits, close_seconds=0.1) as factory,
        listening(factory) as opened,
        connected(opened) as first,
        connected(opened) as second,
    ):
        last = await second.end()
        assert last is not None
        assert Code(last.code) == Code.NO_ERROR
        first.send(call(first, 1))
        assert (await first.answer(1))[1] == HEALTHY


async def test_who_is_silent_is_asked_and_who_stays_silent_is_cut_off(own: H2Door, port: int) -> None:
    async with connected(port) as wire:
        wire.send(call(wire, 1, WATCH))
        await wire.until(DATA)
        (connection,) = own.connections
        connection.control.sweep(1)
        connection.control.sweep(LIMITS.silent_seconds + 1)
        await wire.until(PING)
        connection.control.sweep(LIMITS.silent_seconds + 1)
        assert await wire.end() is None


async def test_who_asks_nothing_for_long_and_who_begins_nothing_in_time_are_closed(own: H2Door, port: int) -> None:
    async with connected(port) as idle, connected(port, None) as slow:
        idle.send(call(idle, 1))
        await idle.answer(1)
        await slow.until(SETTINGS)
        for connection in list(own.connections):
            connection.control.sweep(1)
            connection.control.sweep(LIMITS.begin_seconds + 1)
        assert Code((await slow.until(GOAWAY)).code) == Code.ENHANCE_YOUR_CALM
        (connection,) = [each for each in own.connections if each.control.introduced]
        connection.control.sweep(LIMITS.idle_seconds)
        assert Code((await idle.until(GOAWAY)).code) == Code.NO_ERROR


def test_a_budget_is_spent_at_once_and_comes_back_with_time() -> None:
    now = [0.0]
    budget = Budget(2, 1, now_seconds=lambda: now[0])
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    now[0] = 1.5
    assert [budget.spend() for _ in range(2)] == [True, False]
    now[0] = 100.0
    assert [budget.spend() for _ in range(3)] == [True, True, False]
