"""Heads that came before: whoever is known by them is answered as at first, and nothing else is taken for a known one."""

import asyncio
import math
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ergonaut_gateway.http import HttpLimits, reading
from ergonaut_gateway.http.connection import Connection, Door
from ergonaut_gateway.http.known import HEAD_BYTES_MAX, KnownHead

from .http_raw import Site

HEAD = b"POST /echo?q=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n"


class KeptTransport(asyncio.Transport):
    """A transport into memory."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.ended = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def write_eof(self) -> None:
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.ended

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


def connection_to(door: Door) -> tuple[Connection, KeptTransport]:
    connection, transport = Connection(door), KeptTransport()
    connection.connection_made(transport)
    return connection, transport


def answers_to(door: Door, pieces: list[bytes]) -> tuple[bytes, bool]:
    """What is answered on a connection of its own, and whether that ended."""
    connection, transport = connection_to(door)
    for piece in pieces:
        if not transport.ended:
            connection.data_received(piece)
    connection.connection_lost(None)
    return transport.written, transport.ended


def known_after(sent: bytes) -> KnownHead | None:
    """What a connection knows after these bytes."""
    connection, _ = connection_to(Door(Site().router, HttpLimits()))
    connection.data_received(sent)
    return connection._reader._known


async def test_requests_that_differ_in_their_bodies_alone_are_known_and_answered_as_at_first() -> None:
    door = Door(Site().router, HttpLimits())
    longer = HEAD.replace(b": 3", b": 12") + b"twelve bytes"
    known = known_after(HEAD + b"one")
    assert known is not None
    request = known.whole(longer)
    assert request is not None
    assert (request.path, request.query, request.body) == ("/echo", "q=1", b"twelve bytes")
    assert request.headers == {"host": "h", "content-length": "12"}
    first = answers_to(door, [HEAD + b"one"])[0]
    again = answers_to(door, [HEAD + b"one", longer, HEAD + b"two"])[0]
    assert again == first + answers_to(door, [longer])[0] + first.replace(b"one", b"two")
    assert door.room.held_bytes == 0


@pytest.mark.parametrize(
    "sent",
    [
        HEAD + b"tw",
        HEAD + b"two\r\n",
        HEAD + b"two" + HEAD,
        HEAD[:-1],
        HEAD.replace(b"Host", b"host") + b"two",
        HEAD.replace(b": 3", b": +3") + b"two",
        HEAD.replace(b": 3", b": 3 ") + b"two",
        HEAD.replace(b": 3", b": ") + b"two",
        HEAD.replace(b": 3", b": 3\r\nX: y") + b"two",
        HEAD.replace(b": 3", b": 0000000003") + b"two",
        b"\r\n" + HEAD + b"two",
        b"",
    ],
)
async def test_what_is_not_exactly_one_request_with_the_known_head_is_parsed(sent: bytes) -> None:
    known = known_after(HEAD + b"one")
    assert known is not None
    assert known.whole(sent) is None


@pytest.mark.parametrize(
    "sent",
    [
        HEAD.replace(b"/1.1", b"/1.0").replace(b"Host: h", b"Connection: keep-alive") + b"one",
        HEAD.replace(b"Host: h", b"Host: h\r\nConnection: close") + b"one",
        HEAD.replace(b"Host: h", b"Host: h\r\nExpect: 100-continue") + b"one",
        HEAD.replace(b"Host: h", b"Host: h\r\nUpgrade: h2c\r\nConnection: upgrade") + b"one",
        HEAD.replace(b"Content-Length: 3", b"Transfer-Encoding: chunked") + b"3\r\none\r\n0\r\n\r\n",
        HEAD.replace(b"Host: h", b"Host: h\r\nX: " + b"x" * HEAD_BYTES_MAX) + b"one",
        HEAD.replace(b"h\r\n", b"h\n") + b"one",
        HEAD + b"one" + HEAD + b"two",
        HEAD + b"one\r\n",
        HEAD + b"one" + HEAD[:9],
        b"GET /echo HTTP/1.1\r\nHost: h\r\n\r\n",
    ],
)
async def test_a_head_that_does_not_say_all_is_not_known(sent: bytes) -> None:
    assert known_after(sent) is None


async def test_a_larger_body_than_may_come_is_refused_though_its_head_is_known() -> None:
    door = Door(Site().router, HttpLimits(body_bytes=5))
    written, ended = answers_to(door, [HEAD + b"one", HEAD.replace(b": 3", b": 6") + b"sixsix"])
    assert b"body: is larger than 5 bytes" in written
    assert ended
    assert door.room.held_bytes == 0


async def test_a_request_at_work_and_a_silent_connection_have_their_own_times() -> None:
    site = Site()
    door = Door(site.router, HttpLimits())
    connection, transport = connection_to(door)
    head = HEAD.replace(b"/echo", b"/held/a")
    for body in (b"one", b"two"):
        connection.data_received(head + body)
        assert connection.deadline_seconds == math.inf
        site.held.pop().answer(200, body)
        assert connection.deadline_seconds < math.inf
        assert transport.written.endswith(body)
    connection.data_received(head + b"333")
    connection.drain()
    assert not transport.ended
    door.draining = True
    site.held.pop().answer(200, b"three")
    assert transport.written.endswith(b"three")
    assert cast("bool", transport.ended)


async def test_no_known_request_is_taken_where_no_body_can_be_held() -> None:
    door = Door(Site().router, HttpLimits(all_bodies_bytes=5))
    connection, transport = connection_to(door)
    connection.data_received(HEAD + b"one")
    door.room.hold(3)
    connection.data_received(HEAD + b"two")
    connection.connection_lost(None)
    written, ended = transport.written, transport.ended
    assert b" 503 " in written
    assert ended
    assert door.room.held_bytes == 3


_LINES = st.sampled_from(
    [
        b"host: h\r\n",
        b"Host: h\n",
        b"content-length: 3\r\n",
        b"content-length: 4\r\n",
        b"Content-Length: 0\r\n",
        b"transfer-encoding: chunked\r\n",
        b"connection: close\r\n",
        b"connection: keep-alive\r\n",
        b"x: \r\n",
    ]
)
_REQUESTS = st.builds(
    lambda line, lines, end, body: b"".join((line, *lines, end, body)),
    st.sampled_from([b"POST /echo HTTP/1.1\r\n", b"GET /echo HTTP/1.1\r\n", b"GET /echo HTTP/1.0\r\n", b"\r\n"]),
    st.lists(_LINES, max_size=3),
    st.sampled_from([b"\r\n", b"\n", b"\n\n"]),
    st.sampled_from([b"", b"abc", b"abcd", b"3\r\nabc\r\n0\r\n\r\n", b"\r\n\r\n"]),
)


@given(st.lists(_REQUESTS, min_size=1, max_size=4), st.lists(st.sampled_from([1, 2, 40]), max_size=3))
@settings(max_examples=300, deadline=None)
async def test_what_is_known_is_answered_like_what_is_parsed(requests: list[bytes], joined: list[int]) -> None:
    pieces: list[bytes] = []
    left = b"".join(requests)
    for size in joined:
        pieces, left = [*pieces, left[:size]], left[size:]
    for sent in (requests, [*requests, *requests], [piece for piece in (*pieces, left) if piece]):
        knowing = answers_to(Door(Site().router, HttpLimits()), sent)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reading, "known_head", lambda *_: None)
            assert answers_to(Door(Site().router, HttpLimits()), sent) == knowing
