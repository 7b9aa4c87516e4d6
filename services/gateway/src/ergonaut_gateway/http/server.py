"""The listening socket of the HTTP door: takes connections, watches their deadlines, and lets them end in order."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from ergonaut_common.entrance import Entrance, entrance
from ergonaut_common.lifetimes import background
from ergonaut_common.observe import get_logger
from ergonaut_gateway.http import heads
from ergonaut_gateway.http.connection import Connection, Door
from ergonaut_gateway.http.limits import HttpLimits
from ergonaut_gateway.http.router import Router

CLOSE_SECONDS = 2.0
"""How long connections may take to end once the door closes. Predictions have been waited for before that."""

SWEEP_SECONDS = 0.1
"""How often deadlines are looked at: a thousand connections cost a tenth of a millisecond."""

log = get_logger(__name__)


class HttpServer:
    """The door while it is open."""

    def __init__(self, door: Door, way_in: Entrance, port: int) -> None:
        self._door = door
        self._way_in = way_in
        self.port = port

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._door.connections)

    def count_also(self, elsewhere: Callable[[], int]) -> None:
        """Count connections of other doors against the same bound."""
        self._door.elsewhere = elsewhere

    async def let_go(self, *, within_seconds: float) -> None:
        """Take in nobody more, and part from each caller after an answer, so that nobody who asks again meets a closed
        connection; those who ask nothing for so long are parted from when the door closes."""
        self._way_in.close()
        self._door.draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                await self._door.emptied()


@contextlib.asynccontextmanager
async def opened_http(
    way_in: Entrance,
    router: Router,
    limits: HttpLimits,
    *,
    h2_factory: Callable[[], asyncio.Protocol] | None = None,
    close_seconds: float = CLOSE_SECONDS,
) -> AsyncIterator[HttpServer]:
    """Answer HTTP while the block runs. Raises Unavailable where another listens there.

    Connections that begin as HTTP/2 does are handed to what `h2_factory` makes. At the end requests at work may still take
    `close_seconds`.
    """
    door = Door(router, limits, h2_factory)
    door.date = heads.date(time.time())
    port = way_in.port
    await way_in.open(lambda: Connection(door))
    log.info("door is open", service="gateway", protocol="http", address=way_in.address, port=port)
    async with background(_sweep(door)):
        try:
            yield HttpServer(door, way_in, port)
        finally:
            way_in.close()
            await _drain(door, close_seconds)
            await router.close()


@contextlib.asynccontextmanager
async def serving_http(
    address: str,
    router: Router,
    limits: HttpLimits,
    *,
    h2_factory: Callable[[], asyncio.Protocol] | None = None,
    close_seconds: float = CLOSE_SECONDS,
) -> AsyncIterator[int]:
    """The same on an address of this process alone; gives the port. Raises Unavailable where it is taken."""
    opened = opened_http(entrance(address), router, limits, h2_factory=h2_factory, close_seconds=close_seconds)
    async with opened as server:
        yield server.port


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
