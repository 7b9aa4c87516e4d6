"""The listening socket of the HTTP door, on uvicorn within our own event loop. Another engine would replace this file alone."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn

from ergonaut.errors import Unavailable
from ergonaut_common.observe import get_logger

BACKLOG = 512
"""Connections that the kernel holds for us while the loop is busy."""

CLOSE_SECONDS = 2
"""How long connections may take to close once no request is at work."""

START_POLL_SECONDS = 0.01
"""uvicorn tells that it has started by a flag only."""

log = get_logger(__name__)


class _Server(uvicorn.Server):
    """uvicorn that leaves signals to the process it is a part of."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serving_http(address: str, app: Any, *, connections_max: int) -> AsyncIterator[int]:
    """Answer HTTP while the block runs; gives the port. Raises Unavailable where the port is taken."""
    listener = _listener(address)
    port = int(listener.getsockname()[1])
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=connections_max,
        timeout_graceful_shutdown=CLOSE_SECONDS,
    )
    server = _Server(config)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(server.serve(sockets=[listener]))
        while not server.started and not serving.done():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(START_POLL_SECONDS)
        log.info("door is open", service="gateway", protocol="http", address=address, port=port)
        try:
            yield port
        finally:
            server.should_exit = True


def _listener(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host.strip("[]"), int(port)), family=family, backlog=BACKLOG)
    except (OSError, ValueError) as error:
        raise Unavailable(f"the gateway cannot listen on {address}: {error}") from error
    # Connections take this over. Without it the end of each answer would wait 40 ms for the caller's delayed acknowledgement;
    # asyncio sets it only on sockets that name their protocol, which create_server's do not.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
