"""What a connection's sides tell each other about the connection itself: settings, pings, windows, and its end."""

from struct import Struct
from typing import TYPE_CHECKING

from ergonaut_common.h2 import frames
from ergonaut_common.h2.frames import (
    ACK,
    GOAWAY,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    STREAM_MASK,
    WINDOW_MAX,
    WINDOW_UPDATE,
    Code,
    ConnectionBroken,
    Setting,
    StreamBroken,
)
from ergonaut_common.h2.limits import Budget

if TYPE_CHECKING:
    from ergonaut_common.h2.sending import Sending

_setting = Struct(">HI")
_u32 = Struct(">I")

PRIORITY_BYTES = 5
LAST_WORDS = b"drained!"
"""The ping after which no caller can be about to begin a stream that it does not know to be refused."""

STILL_THERE = b"is-there"
"""The ping that asks whether a silent caller lives."""


class Control:
    """The state of one connection beside its streams."""

    def __init__(self, connection: "Sending") -> None:
        self._connection = connection
        limits = connection.limits
        self.frame_bytes = frames.FRAME_BYTES_MIN
        """The largest frame that the caller takes."""
        self.initial_window = frames.WINDOW_DEFAULT
        """What may be sent ahead on a new stream."""
        self.introduced = False
        """Whether the caller's settings came."""
        self.draining = False
        self.refuses_streams = False
        self.closing = False
        """Whether the connection ends with its last stream."""
        self.ended = False
        self.heard = True
        """Whether anything came since the last sweep."""
        self.waits_for_headers = False
        self._silent_seconds = 0.0
        self._unread_seconds = 0.0
        self._asked = False
        self._budget = Budget(limits.control_burst, limits.control_per_second)
        self._resets = Budget(limits.resets_burst, limits.resets_per_second)

    def frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Take in a frame that carries neither headers nor data. Raises ConnectionBroken, StreamBroken."""
        if kind == WINDOW_UPDATE:
            self._window_update(stream_id, payload)
        elif kind == RST_STREAM:
            self._rst_stream(stream_id, payload)
        elif kind == PUSH_PROMISE:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, "a caller cannot push")
        else:
            self.spend()
            if kind == SETTINGS:
                self._settings(flags, stream_id, payload)
            elif kind == PING:
                self._ping(flags, stream_id, payload)
            elif kind == PRIORITY:
                self._priority(stream_id, payload)
            elif kind == GOAWAY:
                self._goaway(stream_id, payload)

    def spend(self) -> None:
        """Count a frame that moves nothing forward. Raises ConnectionBroken where there are too many."""
        if not self._budget.spend():
            raise ConnectionBroken(Code.ENHANCE_YOUR_CALM, "too many frames without data")

    def spend_reset(self) -> None:
        """Count a stream that ended early. Raises ConnectionBroken where there are too many."""
        if not self._resets.spend():
            raise ConnectionBroken(Code.ENHANCE_YOUR_CALM, "too many streams are given up")

    def check_not_idle(self, stream_id: int) -> None:
        """Raise ConnectionBroken for a frame on a stream that was never begun."""
        if stream_id > self._connection.last_id or not stream_id & 1:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, f"stream {stream_id} was never begun")

    def without_priority(self, payload: bytes, stream_id: int) -> bytes:
        """The header block behind a priority, which is checked and, as RFC 9113 has it, not followed."""
        if len(payload) < PRIORITY_BYTES:
            raise ConnectionBroken(Code.FRAME_SIZE_ERROR, "there is no room for the priority")
        if _u32.unpack_from(payload)[0] & STREAM_MASK == stream_id:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, "a stream depends on itself")
        return payload[PRIORITY_BYTES:]

    def drain(self) -> None:
        """Begin the end: announce it, and after a ping's round trip take no new streams."""
        if not self.draining and not self.ended:
            self.draining = True
            self._connection.write(
                frames.goaway(WINDOW_MAX, Code.NO_ERROR, "the service stops") + frames.frame(PING, 0, 0, LAST_WORDS)
            )

    def sweep(self, elapsed_seconds: float) -> None:
        """End what is silent, unread or half-begun for too long."""
        connection, limits = self._connection, self._connection.limits
        self._unread_seconds = self._unread_seconds + elapsed_seconds if connection.paused else 0.0
        if self.heard:
            self._silent_seconds, self._asked, self.heard = 0.0, False, False
        else:
            self._silent_seconds += elapsed_seconds
        silent = self._silent_seconds
        connection.sweep_blocked(elapsed_seconds)
        for stream in list(connection.streams.values()):
            stream.call.swept(elapsed_seconds)
        if self._unread_seconds > limits.write_seconds or self.ended:
            connection.abort()
        elif (not self.introduced or self.waits_for_headers) and silent > limits.begin_seconds:
            connection.end(Code.ENHANCE_YOUR_CALM, "what was begun did not come whole in time")
        elif not connection.streams:
            if silent > limits.idle_seconds:
                connection.end(Code.NO_ERROR, "nothing was asked for long")
        elif silent > 2 * limits.silent_seconds:
            connection.abort()
        elif silent > limits.silent_seconds and not self._asked:
            self._asked = True
            connection.write(frames.frame(PING, 0, 0, STILL_THERE))

    def _settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, "SETTINGS belong to no stream")
        if len(payload) % _setting.size or (flags & ACK and payload):
            raise ConnectionBroken(Code.FRAME_SIZE_ERROR, "SETTINGS have another length")
        if flags & ACK:
            if not self.introduced:
                raise ConnectionBroken(Code.PROTOCOL_ERROR, "the first SETTINGS only acknowledge")
            return
        for key, value in _setting.iter_unpack(payload):
            self._set(key, value)
        self.introduced = True
        self._connection.write(frames.frame(SETTINGS, ACK, 0))
        self._connection.pump()

    def _set(self, key: int, value: int) -> None:
        if key == Setting.INITIAL_WINDOW_SIZE:
            if value > WINDOW_MAX:
                raise ConnectionBroken(Code.FLOW_CONTROL_ERROR, "a window is larger than 2^31-1")
            change, self.initial_window = value - self.initial_window, value
            for stream in self._connection.streams.values():
                stream.send_window += change
                if stream.send_window > WINDOW_MAX:
                    raise ConnectionBroken(Code.FLOW_CONTROL_ERROR, "a window is larger than 2^31-1")
        elif key == Setting.MAX_FRAME_SIZE:
            if not frames.FRAME_BYTES_MIN <= value <= frames.FRAME_BYTES_MAX:
                raise ConnectionBroken(Code.PROTOCOL_ERROR, f"frames cannot have {value} bytes")
            self.frame_bytes = value
        elif key == Setting.ENABLE_PUSH and value > 1:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")

    def _ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, "PING belongs to no stream")
        if len(payload) != 8:
            raise ConnectionBroken(Code.FRAME_SIZE_ERROR, "PING has another length")
        if not flags & ACK:
            self._connection.write(frames.frame(PING, ACK, 0, payload))
        elif payload == LAST_WORDS and self.draining:
            self.refuses_streams = self.closing = True
            self._connection.write(frames.goaway(self._connection.last_id, Code.NO_ERROR, "the service stops"))

    def _priority(self, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, "PRIORITY belongs to a stream")
        if len(payload) != PRIORITY_BYTES:
            raise StreamBroken(Code.FRAME_SIZE_ERROR, "PRIORITY has another length")
        self.without_priority(payload, stream_id)

    def _goaway(self, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, "GOAWAY belongs to no stream")
        if len(payload) < 8:
            raise ConnectionBroken(Code.FRAME_SIZE_ERROR, "GOAWAY is too short")
        # The caller takes no pushes, which there are none of; its own calls are answered, then the connection ends.
        self.closing = True

    def _rst_stream(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionBroken(Code.FRAME_SIZE_ERROR, "RST_STREAM has another length")
        self.check_not_idle(stream_id)
        self.spend_reset()
        stream = self._connection.streams.get(stream_id)
        if stream is not None:
            self._connection.forget(stream)
            stream.call.lost()

    def _window_update(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionBroken(Code.FRAME_SIZE_ERROR, "WINDOW_UPDATE has another length")
        more = _u32.unpack(payload)[0] & STREAM_MASK
        connection = self._connection
        if not stream_id:
            if not more:
                raise ConnectionBroken(Code.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
            connection.send_window += more
            if connection.send_window > WINDOW_MAX:
                raise ConnectionBroken(Code.FLOW_CONTROL_ERROR, "a window is larger than 2^31-1")
            # Streams wait for the connection's window only where it was shut; looking at all of them costs.
            if connection.send_window <= more:
                self._check_crumb(more, waiting=connection.unsent_bytes > 0)
                connection.pump()
            return
        self.check_not_idle(stream_id)
        stream = connection.streams.get(stream_id)
        if stream is None:
            self.spend()
            return
        if not more:
            raise StreamBroken(Code.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
        stream.send_window += more
        if stream.send_window > WINDOW_MAX:
            raise StreamBroken(Code.FLOW_CONTROL_ERROR, "a window is larger than 2^31-1")
        if stream.pending is not None:
            self._check_crumb(more, waiting=True)
            connection.pump_stream(stream)

    def _check_crumb(self, more_bytes: int, *, waiting: bool) -> None:
        """Count a window that is opened by next to nothing while something waits for it, so that each byte becomes a frame."""
        if waiting and more_bytes < self._connection.limits.window_step_bytes:
            self.spend()
