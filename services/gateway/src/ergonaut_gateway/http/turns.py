"""Exchanges of a connection, each in its turn: answers leave in the order of their requests, whichever is ready first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from ergonaut_common.h2.bodies import PACKED_FROM_BYTES, packed
from ergonaut_gateway.http import heads
from ergonaut_gateway.http.encodings import encoding_wanted
from ergonaut_gateway.http.exchange import Exchange, Headers, PeerGone, Request

if TYPE_CHECKING:
    from collections.abc import Iterable

PACKED_INLINE_BYTES = 64 * 1024
"""Answers up to here are packed at once, in about a millisecond; larger ones in a thread."""

JOINED_BYTES = 16 * 1024
"""Answers up to here are copied into one piece, which costs less than handing over several."""

PACKED_PATHS = ("/infer", "/predict", "/openapi.json", "/page")
"""How paths below /v2 end whose answers may be packed."""

BODILESS = frozenset({204, 304})
"""Statuses whose answers have no body, and no length either."""


class Line(Protocol):
    """What a turn needs of its connection."""

    @property
    def date(self) -> bytes:
        """The header line with the date."""
        ...

    def closes_after(self, turn: Turn) -> bool:
        """Whether the connection ends with this turn, since the server stops."""
        ...

    def release(self, size_bytes: int) -> None:
        """So many bytes of a body are held no longer."""
        ...

    def progressed(self, turn: Turn) -> None:
        """There is something new to write, or the turn is over."""
        ...

    def flows(self, turn: Turn) -> bool:
        """Whether what a turn writes now goes to the caller without piling up. Raises PeerGone."""
        ...

    async def progress(self) -> None:
        """Wait until that may have changed."""
        ...

    def abort(self) -> None:
        """Cut the connection at once."""
        ...


class Turn(Exchange):
    """An exchange and what of its answer was not written yet."""

    __slots__ = ("_line", "held_bytes", "pieces", "stays", "version", "whole")

    def __init__(self, line: Line, request: Request, *, version: str, stays: bool, held_bytes: int) -> None:
        super().__init__(request)
        self._line = line
        self.version = version
        self.stays = stays
        """Whether the connection stays open after the answer."""
        self.held_bytes = held_bytes
        self.pieces: list[bytes] = []
        self.whole = False
        """Whether all of the answer is in `pieces` or written."""

    def _send(self, status: int, body: bytes, content_type: str, headers: Headers) -> None:
        further = heads.further(headers) if headers else b""
        if self.held_bytes:
            self._released()
        if self.gone:
            return
        if len(body) >= PACKED_FROM_BYTES and self._packs(status, body, content_type, further):
            return
        self._whole(status, body, content_type, further)

    def _begin(self, status: int, content_type: str, headers: Headers) -> TurnStream:
        further = heads.further(headers) if headers else b""
        self._released()
        chunked = self.version == "1.1"
        if not chunked:
            self.stays = False
        lines = (heads.CHUNKED if chunked else b"", further)
        self._put((self._head(status, content_type, lines),))
        return TurnStream(self, self._line, chunked=chunked, silent=self.request.method == "HEAD")

    def put(self, *pieces: bytes) -> None:
        """Write more of the answer, now or when the turn comes."""
        self._put(pieces)

    def end(self) -> None:
        """All of the answer was put."""
        self.whole = True
        self._line.progressed(self)

    def _put(self, pieces: Iterable[bytes]) -> None:
        self.pieces.extend(pieces)
        self._line.progressed(self)

    def _released(self) -> None:
        self._line.release(self.held_bytes)
        self.held_bytes = 0

    def _packs(self, status: int, body: bytes, content_type: str, further: bytes) -> bool:
        """Begin to send the answer packed, where the caller takes that; small ones at once."""
        encoding = encoding_wanted(self.request.headers.get("accept-encoding", ""))
        if not encoding or status in BODILESS or _reads_it_plain_only(self.request.path):
            return False
        further += heads.further((("content-encoding", encoding), ("vary", "accept-encoding")))
        if len(body) <= PACKED_INLINE_BYTES:
            self._whole(status, packed(body, encoding), content_type, further)
            return True
        packing = asyncio.get_running_loop().run_in_executor(None, packed, body, encoding)
        packing.add_done_callback(lambda done: self._whole(status, done.result(), content_type, further))
        return True

    def _whole(self, status: int, body: bytes, content_type: str, further: bytes) -> None:
        size_bytes = len(body)
        head = self._head(status, content_type, (b"" if status in BODILESS else heads.length(size_bytes), further))
        if not size_bytes or status in BODILESS or self.request.method == "HEAD":
            self.pieces.append(head)
        elif size_bytes <= JOINED_BYTES:
            self.pieces.append(head + body)
        else:
            self.pieces += (head, body)
        self.end()

    def _head(self, status: int, content_type: str, lines: tuple[bytes, bytes]) -> bytes:
        line = self._line
        if line.closes_after(self):
            self.stays = False
        stay = b"" if self.stays else heads.CLOSE
        if self.stays and self.version == "1.0":
            stay = heads.STAY
        return b"".join((heads.beginning(status, content_type), *lines, stay, line.date, b"\r\n"))


def _reads_it_plain_only(path: str) -> bool:
    """Whether this is of the inference protocol and no prediction: Triton's asyncio client asks for packed answers everywhere
    but can read only predictions that are, as Triton packs no others."""
    return path.startswith("/v2/") and not path.endswith(PACKED_PATHS)


class TurnStream:
    """An answer that is written piece by piece. Fills `Stream`."""

    def __init__(self, turn: Turn, line: Line, *, chunked: bool, silent: bool) -> None:
        self._turn = turn
        self._line = line
        self._chunked = chunked
        self._silent = silent

    async def write(self, piece: bytes) -> None:
        assert not self._turn.whole, "nothing is written after the end"
        if self._turn.gone:
            raise PeerGone
        if piece and not self._silent:
            self._turn.put(heads.chunk(piece) if self._chunked else piece)
        while not self._line.flows(self._turn):
            await self._line.progress()

    def close(self) -> None:
        if self._turn.whole or self._turn.gone:
            return
        if self._chunked and not self._silent:
            self._turn.pieces.append(heads.LAST_CHUNK)
        self._turn.end()

    def abort(self) -> None:
        if not self._turn.whole and not self._turn.gone:
            self._line.abort()
