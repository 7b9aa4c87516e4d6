"""Heads that say in two ways, or wrongly, where a request ends: refused, and nothing behind them is taken for a request."""

from collections.abc import AsyncIterator

import pytest

from ergonaut_gateway.http import HttpLimits, serving_http

from .http_raw import Site, connected

HIDDEN = b"GET /held/hidden HTTP/1.1\r\nHost: h\r\n\r\n"
ENDS_IN_TWO_WAYS = {
    "a length and chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and a length": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "a list of lengths": b"Content-Length: 2, 2\r\n\r\n{}",
    "a length with a sign": b"Content-Length: +2\r\n\r\n{}",
    "an empty length": b"Content-Length:\r\n\r\n",
    "a length without end": b"Content-Length: 99999999999999999999999\r\n\r\n",
    "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and then something": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "something and then chunked": b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "another coding": b"Transfer-Encoding: identity\r\n\r\n",
    "a word like chunked": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a blank before the colon": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a control character": b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "a folded line": b"X: y\r\n z\r\nContent-Length: 2\r\n\r\n{}",
    "a bare line feed": b"X: y\nZ: 1\r\nContent-Length: 2\r\n\r\n{}",
    "a bare carriage return": b"X: y\rContent-Length: 9\r\n\r\n",
    "a zero byte": b"X: a\0b\r\nContent-Length: 2\r\n\r\n{}",
    "a chunk's size in another form": b"Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
    "a chunk's end left out": b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}0\r\n\r\n",
    "a chunk's line ended otherwise": b"Transfer-Encoding: chunked\r\n\r\n2;a\nb\r\n{}\r\n0\r\n\r\n",
    "a chunk without end": b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    "a length after the body": b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 50\r\n\r\n",
    "an offer that hides both": b"Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",  # noqa: E501
    "a second host": b"Host: other\r\nContent-Length: 2\r\n\r\n{}",
}


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
async def port(site: Site) -> AsyncIterator[int]:
    async with serving_http("127.0.0.1:0", site.router, HttpLimits()) as bound:
        yield bound


@pytest.mark.parametrize("rest", ENDS_IN_TWO_WAYS.values(), ids=ENDS_IN_TWO_WAYS)
async def test_a_request_with_two_ends_is_refused_and_hides_none(port: int, site: Site, rest: bytes) -> None:
    async with connected(port) as raw:
        await raw.send(b"POST /echo HTTP/1.1\r\nHost: h\r\n" + rest + HIDDEN)
        answer = await raw.answer()
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert b"HTTP/1.1" not in await raw.ended()
    assert site.held == []


async def test_an_old_caller_cannot_send_chunks(port: int, site: Site) -> None:
    async with connected(port) as raw:
        head = b"POST /echo HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
        await raw.send(head + b"0\r\n\r\n" + HIDDEN)
        answer = await raw.answer()
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert await raw.ended() == b""
    assert site.held == []
