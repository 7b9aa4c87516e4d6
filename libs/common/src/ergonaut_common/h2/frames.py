"""The frames of HTTP/2 (RFC 9113): their numbers, and the bytes of those that we send."""

from enum import IntEnum
from struct import Struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""How a caller begins a connection."""

HEAD_BYTES = 9
HEAD = Struct(">HBBBI")
"""A frame's head: its length in two parts, type, flags, stream."""

STREAM_MASK = 0x7FFFFFFF
"""The highest bit of a stream's number means nothing."""

WINDOW_MAX = 2**31 - 1
WINDOW_DEFAULT = 65_535
"""A flow-control window before anybody has said otherwise."""

FRAME_BYTES_MIN = 16_384
FRAME_BYTES_MAX = 2**24 - 1
"""Between these lies the largest frame that a side may take."""

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

ACK = 0x1
END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITISED = 0x20


class Code(IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class Setting(IntEnum):
    """What the sides tell of themselves."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class ConnectionBroken(Exception):
    """The caller broke a rule of the protocol; the connection ends with this code."""

    def __init__(self, code: Code, because: str) -> None:
        super().__init__(because)
        self.code = code


class StreamBroken(Exception):
    """The same, but only one stream ends."""

    def __init__(self, code: Code, because: str) -> None:
        super().__init__(because)
        self.code = code


_u32 = Struct(">I").pack
_setting = Struct(">HI").pack


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """A whole frame."""
    size = len(payload)
    return HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream_id) + payload


def settings(values: dict[Setting, int]) -> bytes:
    """Our settings."""
    return frame(SETTINGS, 0, 0, b"".join(_setting(key, value) for key, value in values.items()))


def window_update(stream_id: int, more_bytes: int) -> bytes:
    """Let the caller send more."""
    return frame(WINDOW_UPDATE, 0, stream_id, _u32(more_bytes))


def rst_stream(stream_id: int, code: Code) -> bytes:
    """End a stream at once."""
    return frame(RST_STREAM, 0, stream_id, _u32(code))


def goaway(last_stream_id: int, code: Code, because: str = "") -> bytes:
    """Take no stream after this one."""
    return frame(GOAWAY, 0, 0, _u32(last_stream_id) + _u32(code) + because.encode())


def without_padding(payload: bytes, flags: int) -> bytes:
    """What a frame carries besides padding. Raises ConnectionBroken where the padding does not fit."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ConnectionBroken(Code.PROTOCOL_ERROR, "the padding is longer than the frame")
    return payload[1 : len(payload) - payload[0]]
