"""HTTP byte by byte, for what no client library would send, and handlers to send it to."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from ergonaut.errors import NotAllowed
from ergonaut_gateway.http import Router
from ergonaut_gateway.http.exchange import Exchange, PeerGone

PATIENCE_SECONDS = 10.0


@dataclass
class Answer:
    """An answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes


class Raw:
    """A connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *parts: bytes) -> None:
        """Send parts, each in a packet of its own as far as that can be had."""
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
            await asyncio.sleep(0.002)

    async def answer(self, *, bodiless: bool = False) -> Answer:
        """The next answer."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            line, *lines = head.strip().split("\r\n")
            headers = dict(each.split(": ", 1) for each in lines)
            body = b"" if bodiless else await self._body(headers)
        return Answer(int(line.split()[1]), headers, body)

    async def ended(self) -> bytes:
        """What still comes until the server closes."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.reader.read()

    async def _body(self, headers: dict[str, str]) -> bytes:
        if "content-length" in headers:
            return await self.reader.readexactly(int(headers["content-length"]))
        if headers.get("transfer-encoding") != "chunked":
            return b""
        pieces = []
        while size := int(await self.reader.readline(), 16):
            pieces.append(await self.reader.readexactly(size))
            await self.reader.readline()
        await self.reader.readline()
        return b"".join(pieces)


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[Raw]:
    """A connection that is closed when the block ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


class Site:
    """Handlers that a test steers."""

    def __init__(self) -> None:
        self.router = Router()
        self.held: list[Exchange] = []
        self.gone: list[str] = []
        self.stopped_by: list[type[BaseException]] = []
        for method in ("GET", "POST"):
            self.router.add(
                method, "/echo", lambda exchange: exchange.answer(200, bytes(exchange.request.body), "text/plain")
            )
            self.router.add(method, "/held/{name}", self.hold)
        self.router.add("POST", "/closed", lambda _: None, admit=self.refuse)
        self.router.add("GET", "/large/{bytes}", self.large)
        self.router.add("GET", "/stream/{count}", self.stream)

    def hold(self, exchange: Exchange) -> None:
        self.held.append(exchange)
        exchange.on_gone(lambda: self.gone.append(exchange.path_values["name"]))

    def refuse(self, _: Exchange) -> None:
        raise NotAllowed("not you")

    def large(self, exchange: Exchange) -> None:
        exchange.answer(200, b"a" * int(exchange.path_values["bytes"]), "text/plain")

    async def stream(self, exchange: Exchange) -> None:
        stream = exchange.stream(200, "text/plain")
        try:
            for number in range(int(exchange.path_values["count"])):
                await stream.write(b"%07d\n" % number)
        except (PeerGone, asyncio.CancelledError) as error:
            self.stopped_by.append(type(error))
            raise
        stream.close()

    async def holds(self, count: int) -> list[Exchange]:
        """The exchanges that are held, once there are so many."""
        async with asyncio.timeout(30):
            while len(self.held) < count:
                await asyncio.sleep(0.005)
        return self.held
