"""The /metrics endpoint that Prometheus scrapes; services make plain prometheus_client objects.

Answered on the service's own loop: the thread that prometheus_client would start wakes twice a second for nothing, which alone
costs a second of CPU time an hour.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

from ergonaut.errors import Unavailable

REQUEST_SECONDS_MAX = 5.0
"""How long a scraper may take to ask; one that says nothing must not keep its connection."""

REQUEST_BYTES_MAX = 16 * 1024
"""Scrapers' headers are far shorter."""


@contextlib.asynccontextmanager
async def serving_metrics(address: str) -> AsyncIterator[int]:
    """Serve this process's metrics while the block runs; gives the port. Raises Unavailable."""
    host, _, port = address.rpartition(":")
    try:
        server = await asyncio.start_server(_answer, host, int(port), limit=REQUEST_BYTES_MAX)
    except (OSError, ValueError, OverflowError) as error:
        raise Unavailable(f"metrics cannot be served on {address!r}: {error}; is the port taken?") from error
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request a connection, as scrapers are content with."""
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        async with asyncio.timeout(REQUEST_SECONDS_MAX):
            writer.write(_response((await reader.readuntil(b"\r\n\r\n")).decode("latin-1")))
            await writer.drain()
    writer.close()


def _response(request: str) -> bytes:
    first, *lines = request.splitlines()
    method, _, target = first.partition(" ")
    if method != "GET":
        return _message("405 Method Not Allowed", "text/plain", b"only GET\n")
    if target.partition(" ")[0].partition("?")[0] not in ("/", "/metrics"):
        return _message("404 Not Found", "text/plain", b"metrics are at /metrics\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    encode, content_type = choose_encoder(headers.get("accept", ""))
    return _message("200 OK", content_type, encode(REGISTRY))


def _message(status: str, content_type: str, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
