"""The HTTP server byte by byte, on both event loops: order, bounds, deadlines, and an end in good order."""

import asyncio
import contextlib
import gzip
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ergonaut_gateway.http import HttpLimits, serving_http
from ergonaut_gateway.http import connection as connection_module
from ergonaut_gateway.http.connection import HUNG_UP_SECONDS, PIPELINED_MAX, PREFACE, Connection, Door
from ergonaut_gateway.http.exchange import Exchange

from .http_raw import Raw, Site, connected

LIMITS = HttpLimits(
    body_bytes=100_000,
    all_bodies_bytes=250_000,
    connections=4,
    body_seconds=30,
    head_seconds=30,
    idle_seconds=5,
    write_seconds=0.3,
    head_bytes=4_000,
    headers=20,
)
GET = b"GET /echo HTTP/1.1\r\nhost: h\r\n\r\n"


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
async def port(site: Site) -> AsyncIterator[int]:
    async with serving_http("127.0.0.1:0", site.router, LIMITS) as bound:
        yield bound


@pytest.fixture
async def raw(port: int) -> AsyncIterator[Raw]:
    async with connected(port) as opened:
        yield opened


async def eventually(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not is_so():
            await asyncio.sleep(0.005)


def post(body: bytes, path: bytes = b"/echo", *headers: bytes) -> bytes:
    lines = (b"POST %s HTTP/1.1" % path, b"host: h", b"content-length: %d" % len(body), *headers)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


async def test_a_connection_serves_one_request_after_the_other_and_tells_the_date(raw: Raw) -> None:
    for body in (b"one", b"", b"three"):
        await raw.send(post(body))
        answer = await raw.answer()
        assert (answer.status, answer.body) == (200, body)
        assert answer.headers["date"].endswith(" GMT")
        assert answer.headers["content-type"] == "text/plain"


async def test_a_request_that_comes_byte_by_byte_is_read_as_any_other(raw: Raw) -> None:
    await raw.send(*(bytes([byte]) for byte in post(b"slow")))
    assert (await raw.answer()).body == b"slow"


async def test_a_body_in_chunks_is_read_whole_and_its_trailers_are_passed_over(raw: Raw) -> None:
    head = b"POST /echo HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"
    await raw.send(head, b"3\r\nabc\r\n2;x=1\r\n", b"de\r\n0\r\nsum: 1\r\n\r\n", GET)
    assert (await raw.answer()).body == b"abcde"
    assert (await raw.answer()).status == 200


async def test_pipelined_requests_are_worked_on_together_and_answered_in_order(raw: Raw, site: Site) -> None:
    await raw.send(b"".join(b"GET /held/%d HTTP/1.1\r\nhost: h\r\n\r\n" % number for number in range(3)))
    for exchange in reversed(await site.holds(3)):
        exchange.answer(200, exchange.path_values["name"].encode())
    assert [(await raw.answer()).body for _ in range(3)] == [b"0", b"1", b"2"]


async def test_a_flood_of_pipelined_requests_is_taken_in_bit_by_bit(raw: Raw, site: Site) -> None:
    count, request = 3_000, b"GET /held/%d HTTP/1.1\r\nhost: h\r\n\r\n"
    raw.writer.write(b"".join(request % number for number in range(count)))
    seen = 0
    for number in range(count):
        held = await site.holds(number + 1)
        seen = max(seen, len(held) - number)
        held[number].answer(200, b"%d" % number)
        assert (await raw.answer()).body == b"%d" % number
    assert seen <= PIPELINED_MAX + 8 * 1024 // len(request)


async def test_http_1_0_closes_unless_it_is_asked_to_stay(raw: Raw, port: int) -> None:
    await raw.send(b"GET /echo HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
    assert (await raw.answer()).headers["connection"] == "keep-alive"
    await raw.send(b"GET /stream/2 HTTP/1.0\r\n\r\n")
    streamed = await raw.ended()
    assert streamed.endswith(b"\r\n\r\n0000000\n0000001\n")
    assert b"chunked" not in streamed


async def test_a_caller_who_wants_no_more_is_told_so_and_the_connection_ends(raw: Raw) -> None:
    await raw.send(b"GET /echo HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
    assert (await raw.answer()).headers["connection"] == "close"
    assert await raw.ended() == b""


async def test_head_is_answered_as_get_without_the_body(raw: Raw) -> None:
    await raw.send(b"HEAD /large/9 HTTP/1.1\r\nhost: h\r\n\r\n" + GET)
    assert (await raw.answer(bodiless=True)).headers["content-length"] == "9"
    assert (await raw.answer()).status == 200


async def test_a_caller_who_waits_before_sending_a_body_is_asked_for_it_in_its_turn(raw: Raw, site: Site) -> None:
    await raw.send(b"GET /held/a HTTP/1.1\r\nhost: h\r\n\r\n" + post(b"1", b"/echo", b"expect: 100-continue")[:-1])
    (held,) = await site.holds(1)
    held.answer(200, b"first")
    assert (await raw.answer()).body == b"first"
    assert (await raw.answer(bodiless=True)).status == 100
    await raw.send(b"1")
    assert (await raw.answer()).body == b"1"


async def test_a_caller_who_is_turned_away_hears_it_before_it_sends_its_body(raw: Raw) -> None:
    await raw.send(post(b"1", b"/closed", b"expect: 100-continue")[:-1])
    answer = await raw.answer()
    assert (answer.status, answer.headers["connection"], answer.body) == (403, "close", b'{"error":"not you"}')
    assert await raw.ended() == b""


@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        (b"GET /" + b"a" * 5_000, 414, b"a request line of at most 4000 bytes"),
        (b"GET /" + b"a" * 5_000 + b" HTTP/1.1\r\nhost: h\r\n\r\n", 414, b"a request line"),
        (b"GET / HTTP/1.1\r\nhost: h\r\nx: " + b"a" * 20_000, 431, b"at most 20 headers of 4000 bytes"),
        (b"GET / HTTP/1.1\r\nhost: h\r\n" + b"a" * 20_000, 431, b"at most 20 headers of 4000 bytes"),
        (b"GET / HTTP/1.1\r\nhost: h\r\n" + b"a: b\r\n" * 30, 431, b"at most 20 headers"),
        (
            b"POST /echo HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: " + b"a" * 20_000,
            431,
            b"at most 20 headers of 4000 bytes",
        ),
        (b"GET / HTTP/1.1\r\n\r\n", 400, b"Host: is missing"),
        (b"GET / HTTP/2.0\r\nhost: h\r\n\r\n", 505, b"HTTP/2.0 is not spoken here"),
        (b"CONNECT h:1 HTTP/1.1\r\nhost: h\r\n\r\n", 405, b"CONNECT is not answered"),
        (b"nonsense\r\n\r\n", 400, b"request: is not HTTP: "),
        (b"POST /echo HTTP/1.1\r\nhost: h\r\ncontent-length: x\r\n\r\n", 400, b"request: is not HTTP: "),
        (post(b"", b"/echo", b"transfer-encoding: chunked"), 400, b"request: is not HTTP: "),
        (post(b"", b"/echo", b"expect: magic"), 417, b"Expect: magic cannot be met"),
        (b"POST /echo HTTP/1.1\r\nhost: h\r\ncontent-length: 100001\r\n\r\n", 400, b"is larger than 100000 bytes"),
        (
            b"POST /echo HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\nfffff\r\n" + b"a" * 200_000,
            400,
            b"is larger than 100000 bytes",
        ),
    ],
)
async def test_what_cannot_be_taken_is_refused_with_the_reason_and_the_connection_ends(
    raw: Raw, sent: bytes, status: int, words: bytes
) -> None:
    await raw.send(sent)
    answer = await raw.answer()
    assert (answer.status, answer.headers["connection"]) == (status, "close")
    assert words in answer.body
    assert await raw.ended() == b""


async def test_a_refusal_waits_for_the_answers_before_it(raw: Raw, site: Site) -> None:
    await raw.send(b"GET /held/a HTTP/1.1\r\nhost: h\r\n\r\nnonsense\r\n\r\n")
    (held,) = await site.holds(1)
    held.answer(200, b"first")
    assert (await raw.answer()).body == b"first"
    assert (await raw.answer()).status == 400


async def test_a_caller_who_goes_on_sending_comes_to_read_why_it_was_refused(raw: Raw) -> None:
    await raw.send(post(b"a" * 5_000_000))
    assert (await raw.answer()).status == 400


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"GET /echo HTTP/1.1\r\nho", b"request: did not arrive within 0.3 s"),
        (post(b"12345")[:-2], b"body: did not arrive within 0.3 s"),
    ],
)
async def test_what_does_not_come_in_time_is_given_up(site: Site, sent: bytes, words: bytes) -> None:
    limits = replace(LIMITS, body_seconds=0.3, head_seconds=0.3)
    async with serving_http("127.0.0.1:0", site.router, limits) as port, connected(port) as raw:
        await raw.send(GET)
        assert (await raw.answer()).status == 200
        await raw.send(sent)
        answer = await raw.answer()
    assert (answer.status, words in answer.body) == (400, True)


async def test_a_connection_that_says_nothing_is_closed_without_a_word(site: Site) -> None:
    limits = replace(LIMITS, idle_seconds=0.2, head_seconds=0.3)
    async with (
        serving_http("127.0.0.1:0", site.router, limits) as port,
        connected(port) as silent,
        connected(port) as once,
    ):
        await once.send(GET)
        assert (await once.answer()).status == 200
        assert await once.ended() == b""
        assert await silent.ended() == b""


async def test_a_request_at_work_has_all_the_time_it_needs(site: Site) -> None:
    async with (
        serving_http("127.0.0.1:0", site.router, replace(LIMITS, idle_seconds=0.1)) as port,
        connected(port) as raw,
    ):
        await raw.send(b"GET /held/a HTTP/1.1\r\nhost: h\r\n\r\n")
        (held,) = await site.holds(1)
        await asyncio.sleep(0.6)
        held.answer(200, b"late")
        assert (await raw.answer()).body == b"late"


async def test_more_connections_than_fit_are_told_to_come_back_and_many_more_are_closed(port: int) -> None:
    async with contextlib.AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(connected(port)) for _ in range(9)]
        for raw in opened[:4]:
            await raw.send(GET)
            assert (await raw.answer()).status == 200
        for raw in opened[4:8]:
            await raw.send(GET)
            answer = await raw.answer()
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        with contextlib.suppress(ConnectionResetError):
            assert await opened[8].ended() == b""
    async with connected(port) as again:
        await asyncio.sleep(0.05)
        await again.send(GET)
        await again.answer()


async def test_where_all_places_are_taken_the_one_silent_for_longest_gives_way(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "SPARED_SECONDS", 0.05)
    async with contextlib.AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(connected(port)) for _ in range(4)]
        for raw in [*opened, opened[0]]:
            await raw.send(GET)
            assert (await raw.answer()).status == 200
        await asyncio.sleep(0.1)
        newest = await stack.enter_async_context(connected(port))
        await newest.send(GET)
        assert (await newest.answer()).status == 200
        assert await opened[1].ended() == b""
        await opened[0].send(GET)
        assert (await opened[0].answer()).status == 200


@pytest.mark.parametrize("size_bytes", [2_000, 300_000])
@pytest.mark.parametrize(("encoding", "unpack"), [(b"gzip", gzip.decompress), (b"deflate", zlib.decompress)])
async def test_an_answer_is_packed_for_a_caller_who_asks(
    raw: Raw, size_bytes: int, encoding: bytes, unpack: Callable[[bytes], bytes]
) -> None:
    await raw.send(b"GET /large/%d HTTP/1.1\r\nhost: h\r\naccept-encoding: %s\r\n\r\n" % (size_bytes, encoding))
    answer = await raw.answer()
    assert (answer.headers["content-encoding"], answer.headers["vary"]) == (encoding.decode(), "accept-encoding")
    assert unpack(answer.body) == b"a" * size_bytes


@pytest.mark.parametrize("wanted", [b"accept-encoding: br, gzip;q=0", b"accept-encoding: identity", b"x: y"])
async def test_an_answer_is_left_as_it_is_for_all_others(raw: Raw, wanted: bytes) -> None:
    await raw.send(b"GET /large/2000 HTTP/1.1\r\nhost: h\r\n" + wanted + b"\r\n\r\n")
    assert (await raw.answer()).body == b"a" * 2_000


async def test_a_body_that_unpacks_to_far_more_than_it_is_is_refused(site: Site) -> None:
    async with serving_http("127.0.0.1:0", site.router, HttpLimits()) as port, connected(port) as raw:
        await raw.send(post(gzip.compress(b"\0" * 4_000_000), b"/echo", b"content-encoding: gzip"))
        answer = await raw.answer()
        assert (answer.status, b"more than 250 times larger" in answer.body) == (400, True)
        await raw.send(post(gzip.compress(b"\0" * 1_000_000), b"/echo", b"content-encoding: gzip"))
        assert len((await raw.answer()).body) == 1_000_000


async def test_an_offer_to_speak_another_protocol_is_passed_over(raw: Raw) -> None:
    offer = (b"connection: Upgrade, HTTP2-Settings", b"upgrade: h2c", b"http2-settings: AAMA")
    await raw.send(post(b"a", b"/echo", *offer) + post(b"b", b"/echo", *offer), GET)
    assert [(await raw.answer()).body for _ in range(3)] == [b"a", b"b", b""]


async def test_a_stream_comes_in_pieces_and_the_connection_stays(raw: Raw) -> None:
    await raw.send(b"GET /stream/300 HTTP/1.1\r\nhost: h\r\n\r\n" + GET)
    answer = await raw.answer()
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.body == b"".join(b"%07d\n" % number for number in range(300))
    assert (await raw.answer()).status == 200


async def test_a_stream_whose_turn_has_not_come_waits(raw: Raw, site: Site) -> None:
    await raw.send(b"GET /held/a HTTP/1.1\r\nhost: h\r\n\r\nGET /stream/3 HTTP/1.1\r\nhost: h\r\n\r\n")
    (held,) = await site.holds(1)
    await asyncio.sleep(0.02)
    held.answer(200, b"first")
    assert (await raw.answer()).body == b"first"
    assert (await raw.answer()).body == b"0000000\n0000001\n0000002\n"


async def test_a_caller_who_does_not_read_is_given_up_and_no_answer_piles_up(raw: Raw, site: Site) -> None:
    await raw.send(b"GET /stream/999999999 HTTP/1.1\r\nhost: h\r\n\r\n")
    await eventually(lambda: bool(site.stopped_by))
    with contextlib.suppress(ConnectionResetError):
        assert len(await raw.ended()) < 20_000_000


async def test_work_is_told_when_its_caller_hangs_up(port: int, site: Site) -> None:
    async with connected(port) as raw:
        await raw.send(b"GET /held/a HTTP/1.1\r\nhost: h\r\n\r\nGET /held/b HTTP/1.1\r\nhost: h\r\n\r\n")
        held = await site.holds(2)
    await eventually(lambda: site.gone == ["a", "b"])
    for exchange in held:
        exchange.answer(200, b"nobody reads this")


async def test_a_caller_that_sends_no_more_but_reads_has_all_its_answers(port: int, site: Site) -> None:
    async with connected(port) as raw:
        await raw.send(b"GET /held/a HTTP/1.1\r\nhost: h\r\n\r\nGET /stream/3 HTTP/1.1\r\nhost: h\r\n\r\n")
        raw.writer.write_eof()
        (held,) = await site.holds(1)
        assert (await raw.answer()).status == 102
        await asyncio.sleep(2.5 * HUNG_UP_SECONDS)
        assert site.gone == []
        held.answer(200, b"still here")
        answer = await raw.answer()
        assert (answer.status, answer.body) == (200, b"still here")
        answer = await raw.answer()
        assert answer.body.count(b"\n") == 3
        assert await raw.ended() == b""


async def test_a_caller_that_sends_no_more_than_half_a_request_is_gone(port: int, site: Site) -> None:
    async with connected(port) as raw:
        await raw.send(b"GET /held/a HTTP/1.1\r\nhost: h\r\n\r\nGET /held/b HTTP/1.1\r\nho")
        raw.writer.write_eof()
        assert await raw.ended() == b""
    await eventually(lambda: site.gone == ["a"])


async def test_a_line_end_in_an_answers_header_is_an_error_and_no_header_of_its_own(port: int, site: Site) -> None:
    def split(exchange: Exchange) -> None:
        exchange.answer(200, b"", headers=[("x", "a\r\nset-cookie: b")])

    site.router.add("GET", "/split", split)
    async with connected(port) as raw:
        await raw.send(b"GET /split HTTP/1.1\r\nhost: h\r\n\r\n")
        answer = await raw.answer()
        assert (answer.status, "set-cookie" in answer.headers) == (500, False)


async def test_a_stop_ends_idle_connections_at_once_and_others_after_their_answers(site: Site) -> None:
    async with contextlib.AsyncExitStack() as stack:
        serving = serving_http("127.0.0.1:0", site.router, LIMITS)
        port = await serving.__aenter__()
        idle, busy = [await stack.enter_async_context(connected(port)) for _ in range(2)]
        await busy.send(b"GET /held/a HTTP/1.1\r\nhost: h\r\n\r\nGET /held/b HTTP/1.1\r\nhost: h\r\n\r\n")
        held = await site.holds(2)
        stopping = asyncio.create_task(serving.__aexit__(None, None, None))
        assert await idle.ended() == b""
        for exchange in held:
            exchange.answer(200, b"done")
        first, last = await busy.answer(), await busy.answer()
        assert "connection" not in first.headers
        assert (last.body, last.headers["connection"]) == (b"done", "close")
        assert await busy.ended() == b""
        await stopping


async def test_a_stop_does_not_wait_for_ever(site: Site) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with serving_http("127.0.0.1:0", site.router, LIMITS, close_seconds=0.1) as port:
            raw = await stack.enter_async_context(connected(port))
            await raw.send(b"GET /held/a HTTP/1.1\r\nhost: h\r\n\r\n")
            await site.holds(1)
        with contextlib.suppress(ConnectionResetError):
            assert await raw.ended() == b""
    assert site.gone == ["a"]


class Remembering(asyncio.Protocol):
    """Takes whatever comes, and answers with its number of bytes once there are thirty."""

    def connection_made(self, transport: Any) -> None:
        self.transport, self.came = transport, b""

    def data_received(self, data: bytes) -> None:
        self.came += data
        if len(self.came) == 30:
            self.transport.write(b"%d" % len(self.came))
            self.transport.close()


@pytest.mark.parametrize("cut", [1, 10, 24, 30])
async def test_a_connection_that_begins_as_http_2_does_is_handed_over_whole(site: Site, cut: int) -> None:
    async with serving_http("127.0.0.1:0", site.router, LIMITS, h2_factory=Remembering) as port:
        async with connected(port) as raw:
            sent = PREFACE + b"frames"
            await raw.send(sent[:cut], sent[cut:])
            assert await raw.ended() == b"30"
        async with connected(port) as raw:
            await raw.send(b"P", post(b"ordinary")[1:])
            assert (await raw.answer()).body == b"ordinary"


_TOKENS = st.sampled_from(
    [
        b"GET /echo HTTP/1.1\r\n",
        b"POST /echo HTTP/1.1\r\n",
        b"host: h\r\n",
        b"content-length: 3\r\n",
        b"transfer-encoding: chunked\r\n",
        b"expect: 100-continue\r\n",
        b"content-encoding: gzip\r\n",
        b"connection: close\r\n",
        b"upgrade: h2c\r\nconnection: upgrade\r\n",
        b"\r\n",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"abc",
        PREFACE,
    ]
)


@given(st.lists(_TOKENS | st.binary(max_size=8), max_size=12))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
async def test_no_bytes_do_more_than_be_refused_and_all_room_is_given_back(site: Site, parts: list[bytes]) -> None:
    door = Door(site.router, LIMITS)
    async with await asyncio.get_running_loop().create_server(lambda: Connection(door), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with connected(port) as raw:
            raw.writer.write(b"".join(parts))
            raw.writer.write_eof()
            with contextlib.suppress(ConnectionResetError):
                assert b"HTTP/1.1 5" not in (await raw.ended()).replace(b"HTTP/1.1 505", b"")
        async with connected(port) as after:
            await after.send(GET)
            assert (await after.answer()).status == 200
        async with asyncio.timeout(30):
            await door.emptied()
    assert door.room.held_bytes == 0


async def test_room_is_given_back_whatever_becomes_of_a_request(site: Site) -> None:
    door = Door(site.router, LIMITS)
    large, packed = b"a" * 90_000, gzip.compress(b"a" * 50_000)
    async with await asyncio.get_running_loop().create_server(lambda: Connection(door), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        sent = [
            post(large),
            post(large)[:-9],
            post(large, b"/held/a"),
            post(packed, b"/echo", b"content-encoding: gzip"),
            post(packed, b"/held/b", b"content-encoding: gzip"),
            post(packed[:-9], b"/echo", b"content-encoding: gzip"),
            post(large, b"/closed"),
            post(large, b"/nowhere"),
        ]
        for request in sent:
            async with connected(port) as raw:
                await raw.send(request)
        assert door.room.held_bytes > 0
        for exchange in await site.holds(2):
            exchange.answer(200, b"nobody reads this")
        async with asyncio.timeout(30):
            await door.emptied()
    assert door.room.held_bytes == 0
