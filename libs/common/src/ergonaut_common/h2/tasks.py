"""Calls of handlers that were written for grpcio's asyncio server: each runs as a task, with what such handlers expect."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
from grpc import aio

from ergonaut_common.h2.answers import ANSWER, OK, CallFailed, Trailers, failure, failure_of
from ergonaut_common.h2.bodies import BodyRoom
from ergonaut_common.h2.limits import H2Limits
from ergonaut_common.h2.messages import Inbox, framed
from ergonaut_common.h2.requests import CallHead
from ergonaut_common.h2.streams import Call, Stream
from ergonaut_common.observe import get_logger
from ergonaut_common.rpc.calls import Calls

log = get_logger(__name__)


class HandlerDetails(grpc.HandlerCallDetails):
    """What interceptors are told of a call."""

    def __init__(self, head: CallHead) -> None:
        self.method = head.path
        self.invocation_metadata = tuple(head.fields.items())


class Tasks:
    """What all such calls of a door share."""

    def __init__(self, calls: Calls, room: BodyRoom, limits: H2Limits) -> None:
        self.calls = calls
        self.room = room
        self.limits = limits
        self.running: set[asyncio.Task[None]] = set()

    def opener(self, handler: Any) -> "Opening":
        """What begins calls of a handler."""
        return Opening(self, handler)

    async def close(self) -> None:
        """Cancel what runs still."""
        for task in self.running:
            task.cancel()
        await asyncio.gather(*self.running, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Opening:
    """Begins calls of one method."""

    shared: Tasks
    handler: Any

    def open(self, stream: Stream, head: CallHead) -> Call:
        """Begin a call."""
        if len(self.shared.running) >= self.shared.limits.calls:
            raise CallFailed(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls are at work; ask again")
        call = TaskCall(self.shared, self.handler, stream, head)
        task = asyncio.get_running_loop().create_task(call.run())
        call.task = task
        self.shared.running.add(task)
        task.add_done_callback(self.shared.running.discard)
        return call


class TaskCall:
    """One call, and the context that its handler is given."""

    task: asyncio.Task[None]

    def __init__(self, shared: Tasks, handler: Any, stream: Stream, head: CallHead) -> None:
        self._shared = shared
        self._handler = handler
        self._stream = stream
        self._head = head
        self._inbox = Inbox(head.encoding, shared.limits.message_bytes, shared.room)
        self._unconsumed_bytes = 0
        self._ended = False
        self._wrong: CallFailed | None = None
        self._news = asyncio.Event()
        self._drained = asyncio.Event()
        self._begun = False
        self._failed: CallFailed | None = None
        self._until: asyncio.Timeout | None = None
        stream.when_drained = self._drained.set

    # What the stream calls.

    def data(self, payload: bytes, *, ended: bool) -> None:
        """More of the request came."""
        try:
            self._inbox.add(payload)
        except CallFailed as error:
            self._wrong = error
        self._ended = self._ended or ended
        self._unconsumed_bytes += len(payload)
        self._let_send()
        self._news.set()

    def lost(self) -> None:
        """The caller wants no more answers."""
        self.task.cancel()

    def swept(self, elapsed_seconds: float) -> None:
        """Nothing: what is waited for has deadlines of its own."""

    # What the door calls.

    async def run(self) -> None:
        """Answer, whatever happens."""
        try:
            async with asyncio.timeout(self._head.timeout_seconds) as self._until:
                await self._answer()
            self._finish()
        except TimeoutError:
            self._fail(CallFailed(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed before the answer was there"))
        except aio.AbortError:
            assert self._failed is not None, "only `abort` raises this"
            self._fail(self._failed)
        except asyncio.CancelledError as error:
            self._fail(failure_of(error))
        except Exception as error:
            if not isinstance(error, CallFailed):
                log.exception("call failed", method=self._head.path)
            self._fail(failure_of(error))
        finally:
            self._inbox.close()

    async def _answer(self) -> None:
        details = HandlerDetails(self._head)
        handler: Any = await self._shared.calls.intercept_service(self._found, details)
        request: Any = self._requests() if handler.request_streaming else await self._only_request()
        if not handler.response_streaming:
            answer = handler.stream_unary if handler.request_streaming else handler.unary_unary
            await self.write(await answer(request, self))
            return
        answers = handler.stream_stream if handler.request_streaming else handler.unary_stream
        given = answers(request, self)
        if not hasattr(given, "__aiter__"):
            await given
            return
        # Closed here where the call is given up, not whenever its memory is.
        async with aclosing(given):
            async for response in given:
                await self.write(response)

    async def _found(self, _details: Any) -> Any:
        return self._handler

    def _finish(self) -> None:
        head = None if self._begun else ANSWER[self._head.answer_encoding]
        self._stream.answer(head, b"", OK)

    def _fail(self, failed: CallFailed) -> None:
        self._stream.answer(None, b"", failure(failed, begun=self._begun))

    # The messages.

    async def _next(self) -> bytes | None:
        while (taken := self._inbox.take()) is None:
            if self._wrong is not None:
                raise self._wrong
            if self._ended:
                self._inbox.check_empty()
                return None
            self._news.clear()
            await self._news.wait()
        marked, message = taken
        self._let_send()
        unpack = self._inbox.unpacking(marked, message)
        return message if unpack is None else await asyncio.to_thread(unpack)

    def _let_send(self) -> None:
        """Have more sent once what came is taken, but for the begin of a message, whose rest must come."""
        if self._unconsumed_bytes and not self._inbox.ready:
            self._stream.consumed(self._unconsumed_bytes)
            self._unconsumed_bytes = 0

    def _read(self, message: bytes) -> Any:
        try:
            return self._handler.request_deserializer(message)
        except Exception as error:
            words = f"the message is not what {self._head.path} takes"
            raise CallFailed(grpc.StatusCode.INVALID_ARGUMENT, words) from error

    async def _only_request(self) -> Any:
        body_seconds = self._shared.limits.body_seconds
        try:
            async with asyncio.timeout(body_seconds) as limit:
                return await self._single()
        except TimeoutError as error:
            if not limit.expired():
                raise
            words = f"the request did not arrive within {body_seconds:g} s"
            raise CallFailed(grpc.StatusCode.DEADLINE_EXCEEDED, words) from error

    async def _single(self) -> Any:
        message = await self._next()
        if message is None:
            raise CallFailed(grpc.StatusCode.UNIMPLEMENTED, f"{self._head.path} takes one message, none was sent")
        if await self._next() is not None:
            raise CallFailed(grpc.StatusCode.UNIMPLEMENTED, f"{self._head.path} takes one message, more were sent")
        return self._read(message)

    async def _requests(self) -> AsyncIterator[Any]:
        try:
            while (message := await self._next()) is not None:
                yield self._read(message)
        except CallFailed as error:
            # What surrounds handlers knows how calls are aborted, but not our errors.
            self._failed = error
            raise aio.AbortError from error

    # What handlers call, as grpc.aio.ServicerContext has it.

    async def write(self, response: Any) -> None:
        """Send a message, and wait while the caller reads too slowly."""
        encoding = self._head.answer_encoding
        message = self._handler.response_serializer(response)
        body = framed(message, encoding, bytes_max=self._shared.limits.message_bytes)
        self._stream.connection.check_room(len(body))
        head = None if self._begun else ANSWER[encoding]
        self._begun = True
        self._stream.answer(head, body, None)
        while self._stream.pending is not None and not self._stream.closed:
            self._drained.clear()
            await self._drained.wait()

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Trailers = ()) -> NoReturn:
        """End the call with a status."""
        self._failed = CallFailed(code, details, trailing_metadata)
        raise aio.AbortError

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """The call's headers."""
        return tuple(self._head.fields.items())

    def time_remaining(self) -> float | None:
        """Seconds until the deadline, None where there is none."""
        when = self._until.when() if self._until is not None else None
        return None if when is None else max(0.0, when - asyncio.get_running_loop().time())
