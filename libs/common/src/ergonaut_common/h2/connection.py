"""One HTTP/2 connection (RFC 9113) as a protocol of the event loop: bytes become frames, frames become calls, answers leave.

Nothing here waits: what takes too long is noticed by the door's sweep, which calls `sweep`.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, cast

from ergonaut_common.h2 import frames
from ergonaut_common.h2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEAD,
    HEAD_BYTES,
    HEADERS,
    PADDED,
    PREFACE,
    PRIORITISED,
    STREAM_MASK,
    Code,
    ConnectionBroken,
    Setting,
    StreamBroken,
)
from ergonaut_common.h2.headers import Fields, HeaderBlocks, Malformed
from ergonaut_common.h2.limits import H2Limits
from ergonaut_common.h2.sending import Sending
from ergonaut_common.h2.streams import Call, Stream

WRITE_BUFFER_BYTES = 256 * 1024
"""Answers that may lie unread before no more is written, nor read."""


class Head(Protocol):
    """What calls are begun from."""

    @property
    def content_length(self) -> int:
        """-1 where it is not told."""
        ...


class Opener(Protocol):
    """Begins calls; the connection knows no more of what it carries."""

    def head_of(self, fields: Fields) -> Head:
        """What a request's headers mean. Raises Malformed."""
        ...

    def open(self, stream: Stream, head: Any) -> Call:
        """Begin a call."""
        ...


class Connection(Sending, asyncio.Protocol):
    """One connection."""

    def __init__(self, opener: Opener, limits: H2Limits, left: Callable[["Connection"], object]) -> None:
        super().__init__(limits)
        self._opener = opener
        self._left = left
        self._heads: HeaderBlocks[Any] = HeaderBlocks(opener.head_of, header_bytes_max=limits.header_bytes)
        self._known = self._heads.known
        self._unparsed = bytearray()
        self._needed_bytes = len(PREFACE)
        self._begun = False
        self._block: bytearray | None = None
        self._block_stream = 0
        self._block_flags = 0
        self._continuations = 0
        self._receive_window = limits.connection_window_bytes
        self.refused = False
        """Whether there are too many connections, or the door closes."""

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say what we take."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        limits = self.limits
        ours = frames.settings(
            {
                Setting.MAX_CONCURRENT_STREAMS: limits.streams,
                Setting.INITIAL_WINDOW_SIZE: limits.stream_window_bytes,
                Setting.MAX_FRAME_SIZE: limits.frame_bytes,
                Setting.MAX_HEADER_LIST_SIZE: limits.header_bytes,
            }
        )
        more = limits.connection_window_bytes - frames.WINDOW_DEFAULT
        self.write(ours + (frames.window_update(0, more) if more > 0 else b""))
        if self.refused:
            # Told by number alone: none of the caller's streams was looked at, so it may ask elsewhere or later.
            self.end(Code.NO_ERROR, "too many connections are open; ask again")

    def connection_lost(self, _error: Exception | None) -> None:
        """Tell the calls that nobody waits for their answers."""
        self.lost = True
        self._left(self)
        self._unparsed.clear()
        for stream in list(self.streams.values()):
            self.forget(stream)
            stream.call.lost()

    def eof_received(self) -> bool:
        """A caller that sends no more gets no more either: nothing could be done about flow control."""
        return False

    def data_received(self, data: bytes) -> None:
        """Parse what came; answers that are there at once leave in one piece."""
        self.control.heard = True
        if self._unparsed:
            self._unparsed += data
            if len(self._unparsed) < self._needed_bytes:
                return
            data = bytes(self._unparsed)
            self._unparsed.clear()
        out: list[bytes] = []
        self._out = out
        try:
            at = self._parse(data)
            if at < len(data) and not self.lost:
                self._unparsed += memoryview(data)[at:]
        except ConnectionBroken as error:
            self.end(error.code, str(error))
        finally:
            self._out = None
        if out and not self.lost:
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))
        if self.control.closing and not self.streams:
            self._transport.close()

    def pause_writing(self) -> None:
        """The caller reads more slowly than answers come: take in nothing more that would have to be answered."""
        self.paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """It has caught up."""
        self.paused = False
        if not self.lost and not self._transport.is_closing():
            self._transport.resume_reading()
        self.pump()

    # Reading.

    def _parse(self, data: bytes) -> int:
        """Take in whole frames; gives where the first that is not whole begins."""
        at, end = 0, len(data)
        if not self._begun:
            at = self._preface(data)
        unpack, largest = HEAD.unpack_from, self.limits.frame_bytes
        while not self.lost and not self.control.ended:
            if end - at < HEAD_BYTES:
                self._needed_bytes = HEAD_BYTES if self._begun else len(PREFACE)
                break
            high, low, kind, flags, stream_id = unpack(data, at)
            size = (high << 8) | low
            if size > largest:
                raise ConnectionBroken(Code.FRAME_SIZE_ERROR, f"a frame has {size} bytes, at most {largest} are taken")
            begin = at + HEAD_BYTES
            if end - begin < size:
                self._needed_bytes = HEAD_BYTES + size
                break
            at = begin + size
            self._frame(kind, flags, stream_id & STREAM_MASK, data[begin:at])
        return at

    def _preface(self, data: bytes) -> int:
        if data[: len(PREFACE)] != PREFACE[: len(data)]:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, "this is not HTTP/2")
        if len(data) < len(PREFACE):
            return 0
        self._begun = True
        return len(PREFACE)

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is not None and (kind != CONTINUATION or stream_id != self._block_stream):
            raise ConnectionBroken(Code.PROTOCOL_ERROR, "a header block was not continued")
        if not self.control.introduced and kind != frames.SETTINGS:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        try:
            if kind == DATA:
                self._data(flags, stream_id, payload)
            elif kind == HEADERS:
                self._headers(flags, stream_id, payload)
            elif kind == CONTINUATION:
                self._continuation(flags, stream_id, payload)
            else:
                self.control.frame(kind, flags, stream_id, payload)
        except StreamBroken as error:
            self._break(stream_id, error.code)

    def _headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if flags & (PADDED | PRIORITISED):
            payload = frames.without_padding(payload, flags)
            if flags & PRIORITISED:
                payload = self.control.without_priority(payload, stream_id)
        if not stream_id & 1:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, f"a caller cannot begin stream {stream_id}")
        if flags & END_HEADERS:
            self._block_whole(stream_id, flags, payload)
            return
        self._block = bytearray(payload)
        self._block_stream, self._block_flags, self._continuations = stream_id, flags, 0
        self.control.waits_for_headers = True
        self._check_block()

    def _continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is None:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, "there is no header block to continue")
        self._block += payload
        self._continuations += 1
        self._check_block()
        if flags & END_HEADERS:
            block, self._block = bytes(self._block), None
            self.control.waits_for_headers = False
            self._block_whole(stream_id, self._block_flags, block)

    def _check_block(self) -> None:
        block = self._block or b""
        if len(block) > self.limits.header_bytes or self._continuations > self.limits.continuations:
            raise ConnectionBroken(Code.ENHANCE_YOUR_CALM, "a header block is too long")

    def _block_whole(self, stream_id: int, flags: int, block: bytes) -> None:
        if stream_id <= self.last_id:
            self._trailers(stream_id, flags, block)
            return
        self.last_id = stream_id
        try:
            head = self._known.get(block) or self._heads.read(block)
        except Malformed:
            self.control.spend_reset()
            self.write(frames.rst_stream(stream_id, Code.PROTOCOL_ERROR))
            self._note_reset(stream_id)
            return
        if len(self.streams) >= self.limits.streams or self.control.refuses_streams:
            self.write(frames.rst_stream(stream_id, Code.REFUSED_STREAM))
            self._note_reset(stream_id)
            return
        stream = Stream(
            self,
            stream_id,
            send_window=self.control.initial_window,
            receive_window=self.limits.stream_window_bytes,
        )
        stream.expected_bytes = head.content_length
        self.streams[stream_id] = stream
        stream.call = self._opener.open(stream, head)
        if flags & END_STREAM and not stream.closed:
            self._ended(stream, b"")

    def _trailers(self, stream_id: int, flags: int, block: bytes) -> None:
        stream = self.streams.get(stream_id)
        try:
            self._heads.read_trailers(block)
        except Malformed as error:
            raise StreamBroken(Code.PROTOCOL_ERROR, str(error)) from error
        if stream is None:
            self._check_reset(stream_id)
        elif stream.ended:
            raise StreamBroken(Code.STREAM_CLOSED, "headers after the end")
        elif not flags & END_STREAM:
            raise StreamBroken(Code.PROTOCOL_ERROR, "trailers that do not end the stream")
        else:
            self._ended(stream, b"")

    def _data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        self._receive_window -= size
        if self._receive_window < 0:
            raise ConnectionBroken(Code.FLOW_CONTROL_ERROR, "more came than the connection's window has room for")
        if 2 * self._receive_window < self.limits.connection_window_bytes:
            self.write(frames.window_update(0, self.limits.connection_window_bytes - self._receive_window))
            self._receive_window = self.limits.connection_window_bytes
        if flags & PADDED:
            payload = frames.without_padding(payload, flags)
        stream = self.streams.get(stream_id)
        if stream is None:
            self.control.check_not_idle(stream_id)
            self._check_reset(stream_id)
            return
        if stream.ended:
            raise StreamBroken(Code.STREAM_CLOSED, "data after the end")
        stream.receive_window -= size
        if stream.receive_window < 0:
            raise StreamBroken(Code.FLOW_CONTROL_ERROR, "more came than the stream's window has room for")
        if size != len(payload):
            stream.owed_bytes += size - len(payload)
        if flags & END_STREAM:
            self._ended(stream, payload)
            return
        if not payload:
            self.control.spend()
        if stream.expected_bytes >= 0:
            self._count(stream, payload)
        stream.call.data(payload, ended=False)

    def _ended(self, stream: Stream, payload: bytes) -> None:
        if stream.expected_bytes >= 0:
            self._count(stream, payload)
            if stream.expected_bytes:
                raise StreamBroken(Code.PROTOCOL_ERROR, "the body is shorter than content-length")
        stream.ended = True
        stream.call.data(payload, ended=True)

    def _count(self, stream: Stream, payload: bytes) -> None:
        stream.expected_bytes -= len(payload)
        if stream.expected_bytes < 0:
            raise StreamBroken(Code.PROTOCOL_ERROR, "the body is longer than content-length")

    def _check_reset(self, stream_id: int) -> None:
        """What still comes on a stream that we ended first is dropped; on any other it is an error."""
        self.control.spend()
        if stream_id not in self._reset_ids:
            raise ConnectionBroken(Code.STREAM_CLOSED, f"stream {stream_id} is closed")

    def _break(self, stream_id: int, code: Code) -> None:
        """End a stream on which a rule was broken."""
        self.control.spend_reset()
        stream = self.streams.get(stream_id)
        if stream is not None:
            self.reset(stream, code)
            stream.call.lost()
        else:
            self._note_reset(stream_id)
            self.write(frames.rst_stream(stream_id, code))
