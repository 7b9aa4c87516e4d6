"""One stream of a connection: its windows, what waits to be sent on it, and the call that it carries."""

from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING, Protocol

from ergonaut_common.h2.frames import END_HEADERS, END_STREAM, HEADERS, Code
from ergonaut_common.h2.headers import packed

if TYPE_CHECKING:
    from ergonaut_common.h2.sending import Sending

_start = Struct(">HBBB").pack


class HeaderFrame:
    """A header block as frames carry it, but for the stream's number; made once, sent very often."""

    __slots__ = ("block", "ending", "open")

    def __init__(self, status: int | None, *fields: tuple[str, str]) -> None:
        self.block = packed(status, fields)
        size = len(self.block)
        self.open = _start(size >> 8, size & 0xFF, HEADERS, END_HEADERS)
        self.ending = _start(size >> 8, size & 0xFF, HEADERS, END_HEADERS | END_STREAM)


class Call(Protocol):
    """What a stream carries."""

    def data(self, payload: bytes, *, ended: bool) -> None:
        """More of the request came; `ended` says that it was the last. Raises StreamBroken."""
        ...

    def lost(self) -> None:
        """The caller has given the call up, or has gone."""
        ...

    def swept(self, elapsed_seconds: float) -> None:
        """So much time has passed since the last sweep, or since the call began."""
        ...


class Stream:
    """One stream, on which one call is answered."""

    __slots__ = (
        "call",
        "closed",
        "connection",
        "ended",
        "expected_bytes",
        "id",
        "owed_bytes",
        "pending",
        "pending_bytes",
        "receive_window",
        "send_window",
        "stalled_seconds",
        "tail",
        "when_drained",
    )

    call: Call

    def __init__(self, connection: "Sending", stream_id: int, *, send_window: int, receive_window: int) -> None:
        self.connection = connection
        self.id = stream_id
        self.send_window = send_window
        self.receive_window = receive_window
        self.ended = False
        """Whether the caller has said all."""
        self.closed = False
        self.expected_bytes = -1
        """How much is still to come by the request's own account; -1 where it gave none."""
        self.owed_bytes = 0
        self.pending: deque[memoryview] | None = None
        self.pending_bytes = 0
        self.stalled_seconds = 0.0
        """For how long nothing of what is pending could be sent, as far as sweeps have seen."""
        self.tail: HeaderFrame | None = None
        self.when_drained: Callable[[], object] | None = None

    def answer(self, head: HeaderFrame | None, body: bytes, tail: HeaderFrame | None) -> None:
        """Send headers, a body and the headers that end the stream, each if it is there. Dropped where the stream is closed."""
        self.connection.send(self, head, body, tail)

    def reset(self, code: Code) -> None:
        """End the stream without an answer."""
        self.connection.reset(self, code)

    def consumed(self, size_bytes: int) -> None:
        """So much of what came is worked off: the caller may send as much again."""
        self.owed_bytes += size_bytes
        if not self.ended and not self.closed and 2 * self.owed_bytes >= self.connection.limits.stream_window_bytes:
            self.connection.let_send(self)
