"""The listening socket of the HTTP door: takes connections, watches their deadlines, and lets them end in order."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable

from ergonaut.errors import Unavailable
from ergonaut_common.lifetimes import background
from ergonaut_common.observe import get_logger
from ergonaut_gateway.http import heads
from ergonaut_gateway.http.connection import Connection, Door
from ergonaut_gateway.http.limits import HttpLimits
from ergonaut_gateway.http.router import Router

BACKLOG = 512
"""Connections that the kernel holds for us while the loop is busy."""

CLOSE_SECONDS = 2.0
"""How long connections may take to end once the door closes. Predictions have been waited for before that."""

SWEEP_SECONDS = 0.1
"""How often deadlines are looked at: a thousand connections cost a tenth of a millisecond."""

log = get_logger(__name__)


@contextlib.asynccontextmanager
async def serving_http(
    address: str,
    router: Router,
    limits: HttpLimits,
    *,
    h2_factory: Callable[[], asyncio.Protocol] | None = None,
    reuse_port: bool = False,
    close_seconds: float = CLOSE_SECONDS,
) -> AsyncIterator[int]:
    """Answer HTTP while the block runs; gives the port. Raises Unavailable where the port is taken.

    Connections that begin as HTTP/2 does are handed to what `h2_factory` makes. At the end requests at work may still take
    `close_seconds`.
    """
    listener = _listener(address, reuse_port=reuse_port)
    port = int(listener.getsockname()[1])
    door = Door(router, limits, h2_factory)
    door.date = heads.date(time.time())
    server = await asyncio.get_running_loop().create_server(lambda: Connection(door), sock=listener, backlog=BACKLOG)
    log.info("door is open", service="gateway", protocol="http", address=address, port=port)
    async with background(_sweep(door)):
        try:
            yield port
        finally:
            server.close()
            await _drain(door, close_seconds)
            await router.close()


async def _sweep(door: Door) -> None:
    """Call what has expired, and keep the date current, for ever."""
    loop = asyncio.get_running_loop()
    second = 0
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        if int(time.time()) != second:
            second = int(time.time())
            door.date = heads.date(second)
        now = loop.time()
        for connection in [each for each in door.connections if each.deadline_seconds < now]:
            connection.expire()


async def _drain(door: Door, close_seconds: float) -> None:
    """Let connections end: those without a request at once, the others after their answers, all within the time."""
    door.draining = True
    for connection in list(door.connections):
        connection.drain()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(close_seconds):
            await door.emptied()
    if door.connections:
        log.warning("connections cut off", connections=len(door.connections), waited_seconds=close_seconds)
    for connection in list(door.connections):
        connection.abort()


def _listener(address: str, *, reuse_port: bool) -> socket.socket:
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server(
            (host.strip("[]"), int(port)), family=family, backlog=BACKLOG, reuse_port=reuse_port
        )
    except (OSError, ValueError) as error:
        raise Unavailable(f"the gateway cannot listen on {address}: {error}") from error
