"""One connection of a caller: its bytes are read as requests, each is handed to the router, answers leave in order.

Nothing here waits: what takes too long is noticed by the server's sweep, which looks at `deadline_seconds` and calls `expire`.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import cast

from ergonaut.errors import ErgonautError, Refused, Unavailable
from ergonaut_common.h2.bodies import BodyRoom, unpacked
from ergonaut_gateway.http import heads
from ergonaut_gateway.http.answers import answer_error, answer_json
from ergonaut_gateway.http.exchange import PeerGone, Request
from ergonaut_gateway.http.hanging_up import CAN_TELL_HUNG_UP, has_hung_up
from ergonaut_gateway.http.limits import HttpLimits
from ergonaut_gateway.http.reading import BODY, HEAD, IDLE, Reader
from ergonaut_gateway.http.router import Router
from ergonaut_gateway.http.turns import JOINED_BYTES, Turn

PIPELINED_MAX = 32
"""Requests of one connection that are worked on at once; more are read when answers have left."""

SLICE_BYTES = 8 * 1024
"""How much is parsed at a time, so that a packet of very many tiny requests is not taken in at once."""

UNPACKED_INLINE_BYTES = 4 * 1024
"""Bodies up to here are unpacked at once, which takes at most some milliseconds; larger ones in a thread."""

SPARED_SECONDS = 5.0
"""Callers that were silent for less are likely to send their next request just now, so they need not give way to others."""

LINGER_SECONDS = 5.0
"""How long more is read and dropped after a refusal, so that a caller who is still sending comes to read it."""

HUNG_UP_SECONDS = 0.25
"""How often it is looked whether a caller who sends no more has hung up; his system says so within a round trip."""

CALLER_GONE = 499
"""The status of answers that nobody reads; nginx counts them under it."""

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""How a connection of HTTP/2 begins."""


class Door:
    """What all connections of one listening socket share."""

    def __init__(
        self, router: Router, limits: HttpLimits, h2_factory: Callable[[], asyncio.Protocol] | None = None
    ) -> None:
        self.router = router
        self.limits = limits
        self.h2_factory = h2_factory
        self.room = BodyRoom(limits.all_bodies_bytes)
        self.connections: set[Connection] = set()
        self.elsewhere: Callable[[], int] = int
        """How many connections other doors of the process hold; all count against one bound."""
        self.draining = False
        self.date = b""
        """The header line with the date, kept current by the server."""
        self._emptied = asyncio.Event()

    def left(self, connection: "Connection") -> None:
        """A connection is there no longer."""
        self.connections.discard(connection)
        if not self.connections:
            self._emptied.set()

    def has_room(self) -> bool:
        """Whether one more connection fits; the one that has been silent for longest gives way."""
        if len(self.connections) + self.elsewhere() < self.limits.connections:
            return True
        silent = [each for each in self.connections if each.silent_seconds >= SPARED_SECONDS]
        if not silent:
            return False
        longest = max(silent, key=lambda each: each.silent_seconds)
        self.left(longest)
        longest.drain()
        return True

    async def emptied(self) -> None:
        """Wait until there is no connection."""
        while self.connections:
            self._emptied.clear()
            await self._emptied.wait()


class Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._reader = Reader(self, door.limits, door.room)
        self._turns: deque[Turn] = deque()
        self._fresh = True
        self._crowded = False
        self._unparsed: bytes | memoryview = b""
        self._parsing = False
        self._reading = True
        self._lost = False
        self._sends_no_more = False
        self._writing_paused = False
        self._progress: asyncio.Future[None] | None = None
        self.deadline_seconds = math.inf
        """When `expire` shall be called, on the loop's clock."""

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; at most twice as many callers as fit are kept, the second half only to be told to come back."""
        self._transport = cast("asyncio.Transport", transport)
        connections = self._door.connections
        self._crowded = not self._door.has_room()
        if len(connections) >= 2 * self._door.limits.connections:
            self._transport.abort()
        connections.add(self)
        self._expect_within(self._door.limits.head_seconds)

    def connection_lost(self, _: Exception | None) -> None:
        """Tell everybody that the caller has gone."""
        self._lost = True
        self.deadline_seconds = math.inf
        self._door.left(self)
        self._reader.close()
        self._unparsed = b""
        self._drop_turns()

    def eof_received(self) -> bool:
        """Whether a caller that sends no more shall have its answers. One that has hung up looks the same, but cannot take an
        interim answer, which its system tells us; until then its requests go on. Where none can be sent it is taken as gone."""
        turns, reader = self._turns, self._reader
        if not turns or self._unparsed or reader.state != IDLE or reader.deaf or not CAN_TELL_HUNG_UP:
            return False
        if not self._transport.can_write_eof():
            # In TLS nobody ends one way alone.
            return False
        if turns[0].over or turns[0].version != "1.1":
            return False
        self._sends_no_more = True
        turns[-1].stays = False
        self._transport.write(heads.PROCESSING)
        self._expect_within(HUNG_UP_SECONDS)
        return True

    def data_received(self, data: bytes) -> None:
        """Parse what came, as far as there is room for more requests."""
        reader = self._reader
        if reader.deaf:
            return
        if self._fresh and not (data := self._without_preface(data)):
            return
        if not (self._turns or self._unparsed or self._writing_paused) and (request := reader.whole(data)) is not None:
            self.took(request)
            self._set_deadline()
            return
        self._unparsed = b"".join((self._unparsed, data)) if self._unparsed else data
        self._parse()

    def pause_writing(self) -> None:
        """The caller reads more slowly than answers come."""
        self._writing_paused = True
        self._expect_within(self._door.limits.write_seconds)
        self._adjust_reading()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._writing_paused = False
        self._reader.changed = True
        self._progress_made()
        self._parse()

    # What the server calls.

    @property
    def silent_seconds(self) -> float:
        """For how long there has been no request; 0 while there is one."""
        if self._turns or self._reader.state != IDLE or self._reader.deaf or self._writing_paused:
            return 0.0
        limits = self._door.limits
        allowed_seconds = limits.head_seconds if self._fresh else limits.idle_seconds
        return self._loop.time() - self.deadline_seconds + allowed_seconds

    def expire(self) -> None:
        """The deadline has passed."""
        self.deadline_seconds = math.inf
        state = self._reader.state
        if self._writing_paused or self._reader.deaf:
            self._transport.abort()
        elif self._sends_no_more:
            if has_hung_up(self._transport):
                self._transport.abort()
            self._expect_within(HUNG_UP_SECONDS)
        elif state == IDLE:
            self._transport.close()
        else:
            limits = self._door.limits
            what, seconds = ("request", limits.head_seconds) if state == HEAD else ("body", limits.body_seconds)
            self._reader.refuse(Refused(f"did not arrive within {seconds:g} s", field=what))

    def drain(self) -> None:
        """End the connection once the requests that are here are answered."""
        if not self._turns and self._reader.state == IDLE:
            self._transport.close()

    # What turns call.

    @property
    def date(self) -> bytes:
        return self._door.date

    def closes_after(self, turn: Turn) -> bool:
        return self._door.draining and self._reader.state == IDLE and bool(self._turns) and self._turns[-1] is turn

    def release(self, size_bytes: int) -> None:
        self._door.room.release(size_bytes)

    def progressed(self, turn: Turn) -> None:
        """Write what is ready of the first turn, and of those behind it when it is over."""
        turns = self._turns
        if not turns or turns[0] is not turn:
            return
        while turns:
            first = turns[0]
            if first.pieces:
                self._write(first.pieces)
                first.pieces = []
            if not first.whole:
                break
            turns.popleft()
            if not first.stays:
                self._finish()
                return
        if self._progress is not None:
            self._progress_made()
        if not self._parsing:
            self._after_answers()

    def flows(self, turn: Turn) -> bool:
        if turn.gone or self._lost:
            raise PeerGone
        return not self._writing_paused and bool(self._turns) and self._turns[0] is turn

    async def progress(self) -> None:
        if self._progress is None:
            self._progress = self._loop.create_future()
        # Shielded, since others may wait for the same.
        await asyncio.shield(self._progress)

    def abort(self) -> None:
        self._transport.abort()

    # What the reader calls.

    def took(self, request: Request) -> None:
        """Have a request answered."""
        turn = self._next_turn(request)
        if self._crowded:
            turn.stays = False
            answer_error(turn, Unavailable("too many connections are open; ask again"))
            return
        encoding = request.headers.get("content-encoding")
        if encoding is None or encoding == "identity":
            self._door.router.handle(turn)
        else:
            self._unpack(turn, encoding.lower())

    def admits(self, request: Request) -> bool:
        turn = self._next_turn(request)
        turn.stays = False
        # Should it be refused, more may come that must be dropped before the connection is closed.
        self._reader.deaf = True
        if not self._door.router.admit(turn):
            return False
        self._reader.deaf = False
        self._turns.remove(turn)
        return True

    def refused(self, request: Request, error: ErgonautError | None, status: int, sentence: str) -> None:
        turn = self._next_turn(request)
        if error is not None:
            answer_error(turn, error)
        else:
            answer_json(turn, {"error": sentence}, status=status)

    # Reading.

    def _without_preface(self, data: bytes) -> bytes:
        """What there is to parse of a connection's first bytes; none while it may become HTTP/2, or has."""
        data = b"".join((self._unparsed, data))
        self._unparsed = b""
        factory = self._door.h2_factory
        if factory is None or data[: len(PREFACE)] != PREFACE[: len(data)]:
            self._fresh = False
            return data
        if len(data) < len(PREFACE):
            self._unparsed = data
            return b""
        # It counts where it is from now on, and no longer here.
        self._door.left(self)
        protocol = factory()
        self.deadline_seconds = math.inf
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(data)
        return b""

    def _parse(self) -> None:
        if self._parsing or self._lost:
            return
        self._parsing = True
        reader = self._reader
        try:
            while self._unparsed and not reader.deaf and not self._full():
                # A body that is on its way may be as large as it is; it is no further request.
                size_bytes = max(SLICE_BYTES, reader.missing_bytes)
                if len(self._unparsed) <= size_bytes:
                    piece, self._unparsed = self._unparsed, b""
                else:
                    whole = memoryview(self._unparsed)
                    piece, self._unparsed = whole[:size_bytes], whole[size_bytes:]
                reader.feed(piece)
        finally:
            self._parsing = False
        if reader.deaf:
            self._unparsed = b""
        self._adjust_reading()
        self._set_deadline()
        if reader.owes_continue:
            self._offer_to_continue()

    def _full(self) -> bool:
        return len(self._turns) >= PIPELINED_MAX or self._writing_paused

    def _adjust_reading(self) -> None:
        """Take in more bytes only where there is room for what they may hold."""
        wanted = self._reader.deaf or not (self._unparsed or self._full())
        if wanted == self._reading or self._lost or self._transport.is_closing():
            return
        self._reading = wanted
        if wanted:
            self._transport.resume_reading()
            return
        self._transport.pause_reading()
        if not self._writing_paused:
            # It is not the caller who is late now.
            self.deadline_seconds = math.inf
        self._reader.changed = True

    def _after_answers(self) -> None:
        """Answers have left: there may be room for more requests, or nothing to do at all."""
        if not self._turns and self._reader.state == IDLE:
            if self._door.draining:
                self._transport.close()
                return
            self._reader.changed = True
        if self._unparsed or not self._reading:
            self._parse()
            return
        self._set_deadline()
        if self._reader.owes_continue:
            self._offer_to_continue()

    def _offer_to_continue(self) -> None:
        """Ask for the body that the caller holds back, once it cannot be taken for an answer to a request before it."""
        reader = self._reader
        if not self._turns and reader.state == BODY and not reader.deaf:
            reader.owes_continue = False
            self._transport.write(heads.CONTINUE)

    def _next_turn(self, request: Request) -> Turn:
        reader = self._reader
        turn = Turn(self, request, version=reader.version, stays=reader.stays, held_bytes=reader.held_bytes)
        reader.held_bytes = 0
        self._turns.append(turn)
        return turn

    def _unpack(self, turn: Turn, encoding: str) -> None:
        packed = cast("bytes", turn.request.body)
        limit_bytes = self._door.limits.body_bytes
        if len(packed) > UNPACKED_INLINE_BYTES:
            work = self._loop.run_in_executor(None, lambda: unpacked(packed, encoding, size_bytes_max=limit_bytes))
            work.add_done_callback(lambda done: self._unpacked(turn, done.result))
            return
        self._unpacked(turn, lambda: unpacked(packed, encoding, size_bytes_max=limit_bytes))

    def _unpacked(self, turn: Turn, result: Callable[[], bytes]) -> None:
        try:
            body = result()
            self._door.room.hold(len(body))
        except ErgonautError as error:
            answer_error(turn, error)
            return
        turn.held_bytes += len(body)
        turn.request.body = body
        if turn.gone:
            turn.answer(CALLER_GONE, b"")
        else:
            self._door.router.handle(turn)

    # Writing and ending.

    def _write(self, pieces: list[bytes]) -> None:
        if len(pieces) == 1:
            self._transport.write(pieces[0])
        elif sum(map(len, pieces)) <= JOINED_BYTES:
            self._transport.write(b"".join(pieces))
        else:
            self._transport.writelines(pieces)

    def _finish(self) -> None:
        """Close after the last answer; where more is still being sent, drop it for a while so that the answer is read."""
        self._drop_turns()
        if not self._reader.deaf:
            self._reader.deaf = True
            self._transport.close()
            return
        self._expect_within(LINGER_SECONDS)
        self._adjust_reading()
        if not self._transport.is_closing() and self._transport.can_write_eof():
            self._transport.write_eof()

    def _drop_turns(self) -> None:
        turns, self._turns = self._turns, deque()
        self._progress_made()
        for turn in turns:
            turn.lose()

    def _progress_made(self) -> None:
        progress, self._progress = self._progress, None
        if progress is not None and not progress.done():
            progress.set_result(None)

    # Waiting.

    def _expect_within(self, seconds: float) -> None:
        self.deadline_seconds = self._loop.time() + seconds

    def _set_deadline(self) -> None:
        """Give what is waited for its time, where that has changed."""
        reader = self._reader
        if not reader.changed or reader.deaf or self._lost or self._writing_paused or not self._reading:
            return
        reader.changed = False
        limits = self._door.limits
        if reader.state == HEAD:
            self._expect_within(limits.head_seconds)
        elif reader.state == BODY:
            self._expect_within(limits.body_seconds)
        elif self._turns:
            self.deadline_seconds = math.inf
        else:
            self._expect_within(limits.idle_seconds)
