"""Bodies of requests: read whole, within bounds of size, time and memory, and unpacked where they come compressed."""

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from starlette.requests import ClientDisconnect, Request

from ergonaut.errors import Refused, Unavailable

_WINDOW = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How much is taken in: by one request, by all at once, and how long a body may take."""

    body_bytes: int
    all_bodies_bytes: int
    timeout_seconds: float


@dataclass(slots=True)
class _Body:
    """What came of one body so far."""

    parts: list[bytes] = field(default_factory=list)
    size_bytes: int = 0
    held_bytes: int = 0


class Bodies:
    """Reads bodies, and knows how many bytes of them are held."""

    def __init__(self, limits: BodyLimits) -> None:
        self._limits = limits
        self._held_bytes = 0

    @contextlib.asynccontextmanager
    async def held(self, request: Request) -> AsyncIterator[bytes]:
        """The body, counted as held while the block runs. Raises Refused where it is wrong, Unavailable where memory is short."""
        body = _Body()
        try:
            await self._read(request, body)
            encoding = request.headers.get("content-encoding", "identity").strip().lower()
            whole = b"".join(body.parts)
            body.parts.clear()
            if encoding != "identity":
                whole = await asyncio.to_thread(self._unpacked, whole, encoding)
                self._hold(len(whole), body)
            yield whole
        finally:
            self._held_bytes -= body.held_bytes

    async def _read(self, request: Request, body: _Body) -> None:
        try:
            async with asyncio.timeout(self._limits.timeout_seconds):
                async for part in request.stream():
                    self._take(part, body)
                    if body.size_bytes > 2 * self._limits.body_bytes:
                        break
        except TimeoutError as error:
            raise Refused(f"did not arrive within {self._limits.timeout_seconds:g} s", field="body") from error
        except ClientDisconnect as error:
            raise Refused("ended early", field="body") from error
        if body.size_bytes > self._limits.body_bytes:
            raise Refused(f"is larger than {self._limits.body_bytes} bytes", field="body")

    def _take(self, part: bytes, body: _Body) -> None:
        """Keep a part. Of a body that is too large the rest is dropped, up to as much again, so that a caller who is still
        sending comes to read why it was refused."""
        body.size_bytes += len(part)
        if body.size_bytes > self._limits.body_bytes:
            body.parts.clear()
            return
        self._hold(len(part), body)
        body.parts.append(part)

    def _hold(self, size_bytes: int, body: _Body) -> None:
        """Count bytes as held. What comes packed counts packed and unpacked, since memory is what is short."""
        if self._held_bytes + size_bytes > self._limits.all_bodies_bytes:
            raise Unavailable("too many large requests are at work; ask again")
        self._held_bytes += size_bytes
        body.held_bytes += size_bytes

    def _unpacked(self, packed: bytes, encoding: str) -> bytes:
        window = _WINDOW.get(encoding)
        if window is None:
            raise Refused(f"{encoding!r} is not known; send gzip, deflate or none", field="Content-Encoding")
        unpacking = zlib.decompressobj(window)
        try:
            # One byte more than allowed, to tell a body that just fits from one that does not.
            unpacked = unpacking.decompress(packed, self._limits.body_bytes + 1)
        except zlib.error as error:
            raise Refused(f"is not {encoding}: {error}", field="body") from error
        if len(unpacked) > self._limits.body_bytes:
            raise Refused(f"is larger than {self._limits.body_bytes} bytes when unpacked", field="body")
        if not unpacking.eof:
            raise Refused(f"ends within its {encoding} data", field="body")
        return unpacked
