"""The /metrics endpoint that Prometheus scrapes; services make plain prometheus_client objects.

Answered on the service's own loop: the thread that prometheus_client would start wakes twice a second for nothing, which alone
costs a second of CPU time an hour.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from ergonaut.errors import Unavailable

REQUEST_SECONDS_MAX = 5.0
"""How long a scraper may take to ask; one that says nothing must not keep its connection."""

REQUEST_BYTES_MAX = 16 * 1024
"""Scrapers' headers are far shorter."""


Collected = Callable[[], Awaitable[Collector]]
"""Gives the metrics of the moment."""


async def _of_this_process() -> Collector:
    return REGISTRY


@contextlib.asynccontextmanager
async def serving_metrics(
    address: str, *, listener: socket.socket | None = None, collected: Collected = _of_this_process
) -> AsyncIterator[int]:
    """Serve metrics while the block runs, this process's unless told otherwise; gives the port. Raises Unavailable.

    A `listener` is a socket that has the address already.
    """
    host, _, port = address.rpartition(":")
    answer = partial(_answer, collected)
    try:
        if listener is not None:
            server = await asyncio.start_server(answer, sock=listener, limit=REQUEST_BYTES_MAX)
        else:
            server = await asyncio.start_server(answer, host, int(port), limit=REQUEST_BYTES_MAX)
    except (OSError, ValueError, OverflowError) as error:
        raise Unavailable(f"metrics cannot be served on {address!r}: {error}; is the port taken?") from error
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()


async def _answer(collected: Collected, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request a connection, as scrapers are content with."""
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        async with asyncio.timeout(REQUEST_SECONDS_MAX):
            request = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            writer.write(await _response(collected, request))
            await writer.drain()
    writer.close()


async def _response(collected: Collected, request: str) -> bytes:
    first, *lines = request.splitlines()
    method, _, target = first.partition(" ")
    if method != "GET":
        return _message("405 Method Not Allowed", "text/plain", b"only GET\n")
    if target.partition(" ")[0].partition("?")[0] not in ("/", "/metrics"):
        return _message("404 Not Found", "text/plain", b"metrics are at /metrics\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    encode, content_type = choose_encoder(headers.get("accept", ""))
    # Of its two encoders one is said to take a registry only; both do no more than to collect.
    return _message("200 OK", content_type, encode(await collected()))


def _message(status: str, content_type: str, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
