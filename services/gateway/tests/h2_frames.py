"""HTTP/2 spoken by hand, for what no client would say."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import hpack

from ergonaut_common.h2 import frames

SECONDS_MAX = 10
"""How long an answer may take on a busy machine."""


@asynccontextmanager
async def listening(factory: Callable[[], asyncio.Protocol]) -> AsyncIterator[int]:
    """Serve connections on a free port, which is given."""
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@dataclass(frozen=True)
class Frame:
    """A frame that came."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes

    @property
    def code(self) -> int:
        """Why RST_STREAM or GOAWAY was sent."""
        at = 4 if self.kind == frames.GOAWAY else 0
        return int.from_bytes(self.payload[at : at + 4], "big")


class Wire:
    """A connection whose every byte is ours to choose."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()

    def send(self, *pieces: bytes) -> None:
        self.writer.write(b"".join(pieces))

    def begin(self, settings: bytes = b"") -> None:
        self.send(frames.PREFACE, frames.frame(frames.SETTINGS, 0, 0, settings))

    def block(self, path: str, *more: tuple[str, str], drop: Sequence[str] = ()) -> bytes:
        fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ]
        return self.encoder.encode([field for field in fields if field[0] not in drop] + list(more))

    async def next(self) -> Frame | None:
        """The next frame; None at the end of the connection."""
        try:
            async with asyncio.timeout(SECONDS_MAX):
                head = await self.reader.readexactly(frames.HEAD_BYTES)
                high, low, kind, flags, stream_id = frames.HEAD.unpack(head)
                return Frame(kind, flags, stream_id, await self.reader.readexactly((high << 8) | low))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def until(self, kind: int, *, answering: bool = False) -> Frame:
        """The next frame of a kind that is no acknowledgement, or with `answering` that is one."""
        while (frame := await self.next()) is not None:
            if frame.kind == kind and bool(frame.flags & frames.ACK) == answering:
                return frame
        raise AssertionError("the connection ended before")

    async def answer(self, stream_id: int) -> tuple[dict[str, str], bytes]:
        """The headers and trailers of a stream together, and its data."""
        fields: dict[str, str] = {}
        data = b""
        while (frame := await self.next()) is not None:
            if frame.kind == frames.HEADERS:
                told = dict(self.decoder.decode(frame.payload))
                if frame.stream_id == stream_id:
                    fields |= told
            if frame.stream_id != stream_id:
                continue
            data += frame.payload if frame.kind == frames.DATA else b""
            assert frame.kind != frames.RST_STREAM, frame
            if frame.flags & frames.END_STREAM:
                return fields, data
        raise AssertionError("the connection ended before")

    async def end(self) -> Frame | None:
        """The GOAWAY that was said last, when the connection has ended."""
        last = None
        while (frame := await self.next()) is not None:
            last = frame if frame.kind == frames.GOAWAY else last
        return last


@asynccontextmanager
async def connected(port: int, settings: bytes | None = b"") -> AsyncIterator[Wire]:
    """A connection, begun unless there are no settings to begin it with."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    wire = Wire(reader, writer)
    if settings is not None:
        wire.begin(settings)
    try:
        yield wire
    finally:
        writer.close()


def framed(message: bytes) -> bytes:
    """A gRPC message with its prefix."""
    return b"\0" + len(message).to_bytes(4, "big") + message
