"""ModelInfer, the call that comes by the thousands a second: answered by callback, without a task."""

import asyncio
import time
from typing import TYPE_CHECKING

import grpc
from google.protobuf.message import DecodeError

from ergonaut.api.openinference.v2 import open_inference_pb2 as pb
from ergonaut.errors import ErgonautError, Unavailable
from ergonaut_common.h2.answers import ANSWER, OK, CallFailed, failure, failure_of
from ergonaut_common.h2.bodies import BodyRoom
from ergonaut_common.h2.limits import H2Limits
from ergonaut_common.h2.messages import Inbox, Unpack, framed
from ergonaut_common.h2.requests import CallHead
from ergonaut_common.h2.streams import Call, Stream
from ergonaut_common.observe import SpanEnd, get_logger, opened_span
from ergonaut_common.rpc.calls import counted
from ergonaut_gateway.domain.inference import InferenceAnswer
from ergonaut_gateway.http.callers import Callers
from ergonaut_gateway.open_inference import refusal_of
from ergonaut_gateway.protocol.grpc_wire import GrpcTerms, decode_request, encode_answer, tell
from ergonaut_gateway.service.footprint import ASKING, YES, Footprint, metered, traced
from ergonaut_gateway.service.plans import Cancellable
from ergonaut_gateway.service.predictions import Predictions, Wish

if TYPE_CHECKING:
    from prometheus_client import Counter

PATH = "/inference.GRPCInferenceService/ModelInfer"

UNPACKED_INLINE_BYTES = 4 * 1024
"""Messages up to here are unpacked at once, which takes at most some milliseconds; larger ones in a thread."""

log = get_logger(__name__)
_read = pb.ModelInferRequest.FromString


class Inferring:
    """What all ModelInfer calls of a door share."""

    def __init__(self, predictions: Predictions, callers: Callers, room: BodyRoom, limits: H2Limits) -> None:
        self.predictions = predictions
        self.callers = callers
        self.room = room
        self.message_bytes = limits.message_bytes
        self.body_seconds = limits.body_seconds
        self.loop = asyncio.get_running_loop()
        self._counters: dict[grpc.StatusCode, Counter] = {}

    def open(self, stream: Stream, head: CallHead) -> Call:
        """Begin a call."""
        return InferCall(self, stream, head)

    def count(self, code: grpc.StatusCode) -> None:
        """Count a call that ended so."""
        counter = self._counters.get(code)
        if counter is None:
            counter = self._counters[code] = counted(PATH, code)
        counter.inc()

    def log_unforeseen(self, error: Exception) -> None:
        """Tell the operator what the caller must not be told."""
        log.error("call failed", method=PATH, exc_info=error)


class InferCall:
    """One call."""

    __slots__ = ("_deadline_seconds", "_footprint", "_head", "_inbox", "_message", "_over", "_shared", "_silent_seconds", "_span",
                 "_stream", "_terms", "_ticket", "_timer")  # fmt: skip

    def __init__(self, shared: Inferring, stream: Stream, head: CallHead) -> None:
        self._shared = shared
        self._stream = stream
        self._head = head
        self._inbox: Inbox | None = None
        self._message: tuple[bool, bytes] | None = None
        self._over = False
        self._silent_seconds = 0.0
        self._span: SpanEnd | None = None
        self._footprint: Footprint | None = None
        self._terms: GrpcTerms | None = None
        self._ticket: Cancellable | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline_seconds: float | None = None
        if head.timeout_seconds is not None:
            # The loop's clock, read anew: uvloop's own reading is as old as its turn.
            self._deadline_seconds = time.monotonic() + head.timeout_seconds

    def data(self, payload: bytes, *, ended: bool) -> None:
        """More of the request came."""
        if self._over:
            return
        try:
            if ended and self._inbox is None and payload[:1] == b"\0":
                size = int.from_bytes(payload[1:5], "big")
                if size == len(payload) - 5 and size <= self._shared.message_bytes:
                    self._begin(payload[5:])
                    return
            self._gather(payload, ended=ended)
        except Exception as error:
            self._fail(error)

    def lost(self) -> None:
        """The caller wants no answer."""
        if not self._over:
            self._end(grpc.StatusCode.CANCELLED)
            if self._ticket is not None:
                self._ticket.cancel()

    def swept(self, elapsed_seconds: float) -> None:
        """A request of which nothing came yet has no timer of its own, which would cost all others one."""
        if self._inbox is not None or self._ticket is not None or self._over:
            return
        self._silent_seconds += elapsed_seconds
        if self._silent_seconds > self._shared.body_seconds:
            self._expire(_late(self._shared.body_seconds))

    def _gather(self, payload: bytes, *, ended: bool) -> None:
        if self._inbox is None:
            # Asked before more is taken in than one frame.
            self._shared.callers.of(self._head.fields)
            self._inbox = Inbox(self._head.encoding, self._shared.message_bytes, self._shared.room)
            self._expire_in_time(self._shared.body_seconds)
        inbox = self._inbox
        inbox.add(payload)
        while (whole := inbox.take(keep_held=True)) is not None:
            if self._message is not None:
                raise CallFailed(grpc.StatusCode.UNIMPLEMENTED, "ModelInfer takes one message, more were sent")
            self._message = whole
        self._stream.consumed(len(payload))
        if not ended:
            return
        inbox.check_empty()
        if self._message is None:
            raise CallFailed(grpc.StatusCode.UNIMPLEMENTED, "ModelInfer takes one message, none was sent")
        marked, message = self._message
        self._message = None
        unpack = inbox.unpacking(marked, message)
        if unpack is None:
            self._begin(message)
        elif len(message) <= UNPACKED_INLINE_BYTES:
            self._begin(unpack())
        else:
            done = self._shared.loop.run_in_executor(None, unpack)
            done.add_done_callback(lambda unpacked: self._unpacked(unpacked.result))

    def _unpacked(self, result: Unpack) -> None:
        if self._over:
            return
        try:
            self._begin(result())
        except Exception as error:
            self._fail(error)

    def _begin(self, message: bytes) -> None:
        shared, head = self._shared, self._head
        tenant = shared.callers.of(head.fields).tenant
        try:
            request = _read(message)
        except DecodeError as error:
            raise CallFailed(grpc.StatusCode.INVALID_ARGUMENT, "the message is no ModelInferRequest") from error
        wanted, terms = decode_request(request)
        self._terms = terms
        deadline_seconds = self._deadline_seconds
        if terms.timeout_seconds is not None:
            asked = time.monotonic() + terms.timeout_seconds
            deadline_seconds = asked if deadline_seconds is None else min(asked, deadline_seconds)
        name, version = request.model_name, request.model_version
        wish = Wish(tenant, name, version, deadline_seconds, terms.priority, terms.parameters, head.forwarded)
        if terms.energy or head.fields.get(ASKING) in YES:
            wanted, self._footprint = metered(wanted, shared.predictions.energy)
        span = self._span = opened_span("infer", head.fields, model=wish.model)
        if span is not None and span.context is not None:
            wanted = traced(wanted, span.context)
        ticket = shared.predictions.submit(wish, wanted, self._done)
        if not self._over:
            self._ticket = ticket
            self._expire_in_time()

    def _done(self, outcome: InferenceAnswer | BaseException) -> None:
        if self._over:
            return
        if isinstance(outcome, BaseException):
            self._fail(outcome)
            return
        terms = self._terms
        assert terms is not None, "what was submitted has terms"
        try:
            encoding = self._head.answer_encoding
            answer = encode_answer(outcome, raw=terms.raw)
            if self._footprint is not None:
                tell(answer, self._footprint())
            message = answer.SerializeToString()
            body = framed(message, encoding, bytes_max=self._shared.message_bytes)
            if len(body) > self._stream.send_window:
                self._stream.connection.check_room(len(body))
        except Exception as error:
            self._fail(error)
            return
        self._end(grpc.StatusCode.OK)
        self._stream.answer(ANSWER[encoding], body, OK)

    def _expire_in_time(self, within_seconds: float | None = None) -> None:
        """End the call at its deadline, or when a request has not come within this time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        when, words = self._deadline_seconds, "the deadline passed before the answer was there"
        if within_seconds is not None and (when is None or time.monotonic() + within_seconds < when):
            when, words = time.monotonic() + within_seconds, _late(within_seconds)
        if when is not None:
            self._timer = self._shared.loop.call_at(when, self._expire, words)

    def _expire(self, words: str) -> None:
        if not self._over:
            self._fail(CallFailed(grpc.StatusCode.DEADLINE_EXCEEDED, words))
            if self._ticket is not None:
                self._ticket.cancel()

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, Exception) and not isinstance(error, (ErgonautError, CallFailed)):
            self._shared.log_unforeseen(error)
        failed = CallFailed(*refusal_of(error)) if isinstance(error, Unavailable) else failure_of(error)
        span = self._span
        self._span = None
        self._end(failed.code)
        if span is not None:
            span(error)
        if self._stream.closed:
            return
        self._stream.answer(None, b"", failure(failed))

    def _end(self, code: grpc.StatusCode) -> None:
        """Let go of everything."""
        self._over = True
        self._shared.count(code)
        if self._timer is not None:
            self._timer.cancel()
        if self._inbox is not None:
            self._inbox.close()
        self._message = None
        if self._span is not None:
            self._span(None)


def _late(seconds: float) -> str:
    return f"the request did not arrive within {seconds:g} s"
