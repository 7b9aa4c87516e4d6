"""How much one HTTP/2 door takes in, and how long it waits."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class H2Limits:
    """Bounds of one door. What is over them gets a clear refusal, or, where nobody listens, its connection closed."""

    connections: int = 1024
    streams: int = 256
    """Calls of one connection that are worked on at once; Triton's and Go's clients want more than the usual 100."""
    frame_bytes: int = 64 * 1024
    """The largest frame; larger than the default, since a batch of tensors is."""
    stream_window_bytes: int = 1024 * 1024
    """What a caller may send ahead on one stream."""
    connection_window_bytes: int = 8 * 1024 * 1024
    """And on all streams together."""
    message_bytes: int = 16 * 1024 * 1024
    """Of one message, packed and unpacked; the same as on the other gRPC doors."""
    all_messages_bytes: int = 512 * 1024 * 1024
    """Of all messages larger than a frame that are read or answered now."""
    header_bytes: int = 32 * 1024
    """Of one list of headers, packed and unpacked."""
    continuations: int = 16
    """Frames in which one list may come; without a bound empty ones cost nothing to send and much to read."""
    control_burst: int = 1_000
    """Frames that carry no data (PING, SETTINGS, PRIORITY, empty DATA) that may come at once."""
    control_per_second: int = 1_000
    """And for how long they may go on coming."""
    resets_burst: int = 1_000
    """Calls that a caller may give up at once; each costs us more than it costs him."""
    resets_per_second: int = 500
    """And for how long he may go on with that."""
    idle_seconds: float = 300.0
    """How long a connection may be without a call."""
    silent_seconds: float = 30.0
    """How long nothing may come while a call is open before we ask whether the caller lives, and how long he may take."""
    write_seconds: float = 30.0
    """How long a caller may leave answers unread, all of them or, by a window that does not move, one."""
    unsent_bytes: int = 64 * 1024 * 1024
    """Of answers that one connection's windows hold back; who wants more must read those first."""
    window_step_bytes: int = 1024
    """A window that is opened by less than this while an answer waits for it counts as a frame without data."""
    body_seconds: float = 30.0
    """In which a call's one message must come."""
    calls: int = 1_000
    """Calls at work at once, but for those that have a way and bounds of their own; as on the other gRPC doors."""
    begin_seconds: float = 10.0
    """In which preface and settings, and a begun list of headers, must come."""


class Budget:
    """So much at once, and so much a second for ever."""

    __slots__ = ("_burst", "_left", "_now_seconds", "_per_second", "_since_seconds")

    def __init__(self, burst: int, per_second: int, *, now_seconds: Callable[[], float] = time.monotonic) -> None:
        self._burst = float(burst)
        self._left = float(burst)
        self._per_second = per_second
        self._now_seconds = now_seconds
        self._since_seconds = now_seconds()

    def spend(self) -> bool:
        """Take one; false where none is left."""
        if self._left < 1:
            now = self._now_seconds()
            self._left = min(self._burst, (now - self._since_seconds) * self._per_second)
            self._since_seconds = now
            if self._left < 1:
                return False
        self._left -= 1
        return True
