"""gRPC's messages: each has a byte that says whether it is packed and four that say how long it is."""

from collections.abc import Callable
from struct import Struct
from typing import cast

import grpc

from ergonaut.errors import Refused, Unavailable
from ergonaut_common.h2.answers import CallFailed
from ergonaut_common.h2.bodies import PACKED_FROM_BYTES, BodyRoom, packed, unpacked

PREFIX_BYTES = 5
_prefix = Struct(">BI")

COUNTED_BYTES = 64 * 1024
"""Messages up to here are not counted as held; how many there can be is bounded by connections and streams."""

Unpack = Callable[[], bytes]


class Inbox:
    """Puts the messages of one call together, each when it is asked for: of tiny ones very many fit a window."""

    __slots__ = ("_bytes_max", "_held", "_room", "_unread", "encoding")

    def __init__(self, encoding: str, bytes_max: int, room: BodyRoom) -> None:
        self.encoding = encoding
        self._bytes_max = bytes_max
        self._room = room
        self._unread = bytearray()
        self._held = 0

    @property
    def ready(self) -> bool:
        """Whether `take` has something to say."""
        unread = self._unread
        if len(unread) < PREFIX_BYTES:
            return False
        marked, size = cast("tuple[int, int]", _prefix.unpack_from(unread))
        return marked > 1 or size > self._bytes_max or len(unread) >= PREFIX_BYTES + size

    def add(self, payload: bytes) -> None:
        """Keep bytes that came. Raises CallFailed where there is no room."""
        self._unread += payload
        more = len(payload) if self._held else len(self._unread)
        if self._held or more > COUNTED_BYTES:
            try:
                self._room.hold(more)
            except Unavailable as error:
                raise CallFailed(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error)) from error
            self._held += more

    def take(self, *, keep_held: bool = False) -> tuple[bool, bytes] | None:
        """The next message and whether it is packed, None while it is not whole. With `keep_held` its bytes count as held until
        `close`. Raises CallFailed."""
        unread = self._unread
        if len(unread) < PREFIX_BYTES:
            return None
        marked, size = self._prefix(unread)
        end = PREFIX_BYTES + size
        if len(unread) < end:
            return None
        message = bytes(memoryview(unread)[PREFIX_BYTES:end])
        del unread[:end]
        if self._held and not keep_held:
            let_go = max(0, self._held - len(unread))
            self._room.release(let_go)
            self._held -= let_go
        return marked, message

    def check_empty(self) -> None:
        """Raise CallFailed where a message is not whole at the end."""
        if self._unread:
            raise CallFailed(grpc.StatusCode.INTERNAL, "the last message is not whole")

    def close(self) -> None:
        """Hold nothing any more."""
        self._unread = bytearray()
        self._room.release(self._held)
        self._held = 0

    def unpacking(self, marked: bool, message: bytes) -> Unpack | None:
        """What unpacks a message, maybe slowly; None for one that is not packed. Raises CallFailed."""
        if not marked:
            return None
        if not self.encoding:
            raise CallFailed(grpc.StatusCode.INTERNAL, "a message is packed, but grpc-encoding does not say how")
        encoding, bytes_max = self.encoding, self._bytes_max

        def unpack() -> bytes:
            try:
                return unpacked(message, encoding, size_bytes_max=bytes_max)
            except Refused as error:
                raise CallFailed(grpc.StatusCode.RESOURCE_EXHAUSTED, f"the message: {error}") from error

        return unpack

    def _prefix(self, begin: bytearray) -> tuple[bool, int]:
        marked, size = _prefix.unpack_from(begin)
        if marked > 1:
            raise CallFailed(grpc.StatusCode.INTERNAL, "a message begins with neither 0 nor 1")
        if size > self._bytes_max:
            raise CallFailed(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"a message of {size} bytes is larger than the {self._bytes_max} that are taken; send less at once",
            )
        return bool(marked), size


def framed(message: bytes, encoding: str, *, bytes_max: int) -> bytes:
    """A message as it is sent, packed where that was agreed and pays. Raises CallFailed for one that is too large."""
    size = len(message)
    if size > bytes_max:
        raise CallFailed(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"the answer has {size} bytes, more than the {bytes_max} that are sent; ask for less at once",
        )
    if encoding and size >= PACKED_FROM_BYTES:
        message = packed(message, encoding)
        return _prefix.pack(1, len(message)) + message
    return _prefix.pack(0, size) + message
