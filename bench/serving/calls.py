"""One connection of our own client, over HTTP/1.1 or gRPC: sends prepared bytes, finds the end of the answer, reads no more.

`load` decides when something is sent. A gRPC answer counts as right where it has a message; its trailers are not unpacked.
"""

import asyncio
import struct
from collections.abc import Callable
from typing import Protocol, cast

OK = 200
LOST = 0
"""The status told of a call whose connection broke off."""

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 4, 6, 8
GOAWAY, RESET = 7, 3
ENDS_STREAM, ENDS_HEADERS, ACKNOWLEDGES = 1, 4, 1
INITIAL_WINDOW, HUGE_WINDOW = 65_535, 2**31 - 1 - 65_535
FRAME_BYTES_MAX = 16_384

Answered = Callable[["Connection", int, bytes], None]
"""Told at each answer: the connection, which is free again, the HTTP status, and all that came."""


class Connection(Protocol):
    """What `load` sees of a connection."""

    row: int
    due: float

    def send(self, request: bytes) -> None:
        """Send one request; the answer to the one before must have come."""
        ...

    def close(self) -> None:
        """Close it; nothing more is told."""
        ...


class _Base(asyncio.Protocol):
    def __init__(self, answered: Answered) -> None:
        self._answered: Answered | None = answered
        self._came = bytearray()
        self._transport: asyncio.Transport | None = None
        self.row, self.due, self.busy = 0, 0.0, False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self.busy and self._answered:
            self._done(LOST, str(exc or "closed by the server").encode())

    def close(self) -> None:
        """Close it; nothing more is told."""
        self._answered = None
        if self._transport is not None:
            self._transport.abort()

    @property
    def lives(self) -> bool:
        """Whether something can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def _done(self, status: int, came: bytes) -> None:
        self.busy = False
        if self._answered:
            self._answered(cast("Connection", self), status, came)


class HttpConnection(_Base):
    """HTTP/1.1, one request at a time."""

    def send(self, request: bytes) -> None:
        """Send a whole request."""
        self.busy = True
        if self._transport is None:
            self._done(LOST, b"not connected")
            return
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._came += data
        came = self._came
        head = came.find(b"\r\n\r\n") + 4
        if head < 4:
            return
        lower = bytes(came[:head]).lower()
        at = lower.find(b"content-length:")
        if at >= 0:
            whole = head + int(lower[at + 15 : lower.index(b"\r", at)])
            complete = len(came) >= whole
        else:
            complete = came.endswith(b"0\r\n\r\n")
        if complete:
            everything = bytes(came)
            came.clear()
            self._done(int(everything[9:12]), everything)


class GrpcConnection(_Base):
    """HTTP/2, one call at a time, each a new stream with the same header block, written without a table."""

    def __init__(self, answered: Answered, headers: list[tuple[str, str]]) -> None:
        super().__init__(answered)
        self._block = b"".join(_field(name, value) for name, value in headers)
        self._stream, self._window = -1, INITIAL_WINDOW
        self._waits = b""
        self._data = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # Streams' own windows hold one answer, and the connection's never ends within a benchmark.
        cast("asyncio.Transport", transport).write(
            PREFACE + _frame(SETTINGS, 0, 0, b"") + _frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", HUGE_WINDOW))
        )

    def send(self, request: bytes) -> None:
        """Send a message with its five bytes in front."""
        self.busy = True
        if self._transport is None:
            self._done(LOST, b"not connected")
            return
        self._stream += 2
        self._data.clear()
        begin = _frame(HEADERS, ENDS_HEADERS, self._stream, self._block)
        if self._window < len(request):
            self._waits = request
            self._transport.write(begin)
            return
        self._transport.write(begin + self._message(request))

    def _message(self, request: bytes) -> bytes:
        self._window -= len(request)
        pieces = [request[at : at + FRAME_BYTES_MAX] for at in range(0, len(request), FRAME_BYTES_MAX)]
        last = len(pieces) - 1
        return b"".join(
            _frame(DATA, ENDS_STREAM if at == last else 0, self._stream, piece) for at, piece in enumerate(pieces)
        )

    def data_received(self, data: bytes) -> None:
        came = self._came
        came += data
        at = 0
        while len(came) >= at + 9 and len(came) >= at + 9 + (size := int.from_bytes(came[at : at + 3])):
            kind, flags, stream = came[at + 3], came[at + 4], int.from_bytes(came[at + 5 : at + 9]) & 0x7FFFFFFF
            self._take(kind, flags, stream, bytes(came[at + 9 : at + 9 + size]))
            at += 9 + size
        del came[:at]

    def _take(self, kind: int, flags: int, stream: int, content: bytes) -> None:
        if self._transport is None:
            return
        if kind == DATA:
            self._data += content
        elif kind == SETTINGS and not flags & ACKNOWLEDGES:
            self._transport.write(_frame(SETTINGS, ACKNOWLEDGES, 0, b""))
        elif kind == PING and not flags & ACKNOWLEDGES:
            self._transport.write(_frame(PING, ACKNOWLEDGES, 0, content))
        elif kind == WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(content)
            if self._waits and self._window >= len(self._waits):
                waits, self._waits = self._waits, b""
                self._transport.write(self._message(waits))
        elif kind == GOAWAY:
            self._transport.close()
        if (
            self.busy
            and stream == self._stream
            and ((kind in (DATA, HEADERS) and flags & ENDS_STREAM) or kind == RESET)
        ):
            self._done(OK if len(self._data) > 5 else LOST, bytes(self._data) or b"no message came")


def _field(name: str, value: str) -> bytes:
    """A header that no table remembers (RFC 7541, 6.2.2), so that the same bytes mean the same in every call."""
    return b"\0" + _text(name) + _text(value)


def _text(text: str) -> bytes:
    raw = text.encode()
    if len(raw) < 127:
        return bytes((len(raw),)) + raw
    return bytes((127, *_rest(len(raw) - 127))) + raw


def _rest(number: int) -> list[int]:
    """A number in groups of seven bits, the lowest first (RFC 7541, 5.1)."""
    groups = []
    while number >= 128:
        groups.append(number % 128 + 128)
        number //= 128
    return [*groups, number]


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return len(content).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + content
