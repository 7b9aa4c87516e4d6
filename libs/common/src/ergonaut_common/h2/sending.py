"""The half of a connection that sends: answers leave as windows and the transport let them; streams and the connection end."""

import asyncio
from collections import deque
from struct import Struct
from typing import cast

import grpc

from ergonaut_common.h2 import frames
from ergonaut_common.h2.answers import CallFailed
from ergonaut_common.h2.control import Control
from ergonaut_common.h2.frames import DATA, HEAD, Code
from ergonaut_common.h2.limits import H2Limits
from ergonaut_common.h2.streams import HeaderFrame, Stream

RESET_IDS_MAX = 1024
"""Streams that we ended before their callers had; what they still send on these is dropped."""

_u32 = Struct(">I").pack
_data_head = HEAD.pack


class Sending:
    """What is open, and what waits to be sent."""

    def __init__(self, limits: H2Limits) -> None:
        self.limits = limits
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self.streams: dict[int, Stream] = {}
        self.last_id = 0
        self._reset_ids: deque[int] = deque(maxlen=RESET_IDS_MAX)
        self.send_window = frames.WINDOW_DEFAULT
        self._blocked: dict[int, Stream] = {}
        self.unsent_bytes = 0
        """Of all answers that wait for windows."""
        self._out: list[bytes] | None = None
        self.paused = False
        self.lost = False
        self.control = Control(self)

    def reset(self, stream: Stream, code: Code) -> None:
        """End a stream without an answer."""
        if not stream.closed:
            self._note_reset(stream.id)
            self.write(frames.rst_stream(stream.id, code))
            self.forget(stream)

    def forget(self, stream: Stream) -> None:
        """Nothing more is sent on a stream."""
        stream.closed = True
        stream.pending = None
        self.unsent_bytes -= stream.pending_bytes
        stream.pending_bytes = 0
        self.streams.pop(stream.id, None)
        self._blocked.pop(stream.id, None)
        if stream.when_drained is not None:
            stream.when_drained()
        if self.control.closing and not self.streams and self._out is None:
            self._transport.close()

    def end(self, code: Code, because: str) -> None:
        """Close the connection, saying why."""
        if not self.control.ended:
            self.control.ended = True
            self.write(frames.goaway(self.last_id, code, because))
        if self._out:
            # Written here, since closing comes before what data_received has gathered would be.
            self._transport.write(b"".join(self._out))
            self._out.clear()
        self._transport.close()

    def abort(self) -> None:
        """Cut the connection."""
        self._transport.abort()

    def close(self) -> None:
        """Close it once what was written has left."""
        self._transport.close()

    def _note_reset(self, stream_id: int) -> None:
        self._reset_ids.append(stream_id)

    # Sending.

    def write(self, piece: bytes) -> None:
        """Send, with what else leaves now. The event loop gathers what is written in one turn."""
        if self._out is not None:
            self._out.append(piece)
        elif not self.lost:
            self._transport.write(piece)

    def send(self, stream: Stream, head: HeaderFrame | None, body: bytes, tail: HeaderFrame | None) -> None:
        """Send an answer or a part of one, now or when the caller has room for it."""
        if stream.closed:
            return
        size = len(body)
        number = _u32(stream.id)
        pieces = [] if head is None else [head.open, number, head.block]
        if (
            stream.pending is None
            and size <= stream.send_window
            and size <= self.send_window
            and size <= self.control.frame_bytes
            and not self.paused
        ):
            if size:
                stream.send_window -= size
                self.send_window -= size
                pieces += (_data_head(size >> 8, size & 0xFF, DATA, 0, stream.id), body)
            if tail is not None:
                pieces += (tail.ending, number, tail.block)
            self.write(b"".join(pieces))
            if tail is not None:
                self._over(stream)
            return
        if pieces:
            self.write(b"".join(pieces))
        self._queue(stream, body, tail)

    def _queue(self, stream: Stream, body: bytes, tail: HeaderFrame | None) -> None:
        if stream.pending is None:
            stream.pending = deque()
            stream.stalled_seconds = 0.0
            self._blocked[stream.id] = stream
        if body:
            stream.pending.append(memoryview(body))
            stream.pending_bytes += len(body)
            self.unsent_bytes += len(body)
        stream.tail = tail
        self.pump()

    def _over(self, stream: Stream) -> None:
        """The answer is whole; a caller who is still sending is told to stop."""
        if not stream.ended:
            self._note_reset(stream.id)
            self.write(frames.rst_stream(stream.id, Code.NO_ERROR))
        self.forget(stream)

    def pump(self) -> None:
        """Send what waits, a frame of each stream in turn, as far as windows and the transport let us."""
        progress = True
        while progress and not self.paused and not self.lost:
            progress = False
            for stream in list(self._blocked.values()):
                progress = self._send_frame(stream) or progress
                if self.paused:
                    break
            if self.send_window <= 0:
                # What needs no window was sent, too.
                break

    def pump_stream(self, stream: Stream) -> None:
        """Send what waits on one stream, whose window was opened."""
        while stream.pending is not None and not self.paused and not self.lost and self._send_frame(stream):
            pass

    def check_room(self, size_bytes: int) -> None:
        """Raise CallFailed where an answer would wait for windows beside too much that does."""
        if self.unsent_bytes + size_bytes > self.limits.unsent_bytes:
            raise CallFailed(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many answers lie unread; read those first")

    def sweep_blocked(self, elapsed_seconds: float) -> None:
        """Give up answers that their callers let nothing through of for too long."""
        for stream in list(self._blocked.values()):
            stream.stalled_seconds += elapsed_seconds
            if stream.stalled_seconds > self.limits.write_seconds:
                self.reset(stream, Code.ENHANCE_YOUR_CALM)
                stream.call.lost()

    def _send_frame(self, stream: Stream) -> bool:
        pending = stream.pending
        if pending is None:
            return False
        room = min(stream.send_window, self.send_window, self.control.frame_bytes)
        if pending and room <= 0:
            return False
        if pending:
            piece = pending[0][:room]
            size = len(piece)
            if size == len(pending[0]):
                pending.popleft()
            else:
                pending[0] = pending[0][size:]
            stream.stalled_seconds = 0.0
            stream.pending_bytes -= size
            self.unsent_bytes -= size
            stream.send_window -= size
            self.send_window -= size
            self.write(_data_head(size >> 8, size & 0xFF, DATA, 0, stream.id) + piece)
        if not pending:
            self._drained(stream)
        return True

    def _drained(self, stream: Stream) -> None:
        stream.pending = None
        del self._blocked[stream.id]
        tail = stream.tail
        if tail is not None:
            self.write(tail.ending + _u32(stream.id) + tail.block)
            self._over(stream)
        elif stream.when_drained is not None:
            stream.when_drained()

    def let_send(self, stream: Stream) -> None:
        """Give a stream's window back what was worked off."""
        self.write(frames.window_update(stream.id, stream.owed_bytes))
        stream.receive_window += stream.owed_bytes
        stream.owed_bytes = 0
