"""The HTTP/2 door: gRPC methods by their paths, and the connections on which they are called. `serving` opens one, and the
gateway one with a faster way for its own calls."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Protocol

from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from ergonaut_common.auth import KeyRing
from ergonaut_common.h2.answers import CallFailed, failure
from ergonaut_common.h2.bodies import BodyRoom
from ergonaut_common.h2.connection import Connection
from ergonaut_common.h2.frames import Code
from ergonaut_common.h2.headers import Fields
from ergonaut_common.h2.limits import H2Limits
from ergonaut_common.h2.requests import CallHead, head_of
from ergonaut_common.h2.streams import Call, Stream
from ergonaut_common.h2.tasks import Tasks
from ergonaut_common.lifetimes import background
from ergonaut_common.observe import get_logger
from ergonaut_common.rpc.calls import Calls

SWEEP_SECONDS = 1.0
"""How often connections are looked at; their bounds are tens of seconds."""

CLOSE_SECONDS = 2.0
"""How long calls may take to end once the door closes, as on the other gRPC doors."""

log = get_logger(__name__)

Add = Callable[[Any], None]
"""Puts services on a server of grpcio's kind."""


class Opens(Protocol):
    """Begins calls of a method."""

    def open(self, stream: Stream, head: CallHead) -> Call:
        """Begin a call. Raises CallFailed."""
        ...


class Registrar:
    """Collects methods from what generated code does to a server."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Take the methods of a service."""
        self.handlers |= {f"/{service}/{name}": handler for name, handler in handlers.items()}

    def add_generic_rpc_handlers(self, _handlers: Sequence[object]) -> None:
        """Generated code tells the same methods this way too."""


class H2Door:
    """Makes the protocol of each connection that begins as HTTP/2 does."""

    def __init__(self, add: Add, keys: KeyRing, names: Sequence[str], limits: H2Limits) -> None:
        self.room = BodyRoom(limits.all_messages_bytes)
        self._limits = limits
        self._names = names
        self._health = health.aio.HealthServicer()
        registrar = Registrar()
        add(registrar)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, registrar)
        reflects = reflection.aio.ReflectionServicer((*names, health.SERVICE_NAME, reflection.SERVICE_NAME))
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflects, registrar)
        self.tasks = Tasks(Calls(keys), self.room, limits)
        self._methods: dict[str, Opens] = {
            path: self.tasks.opener(handler) for path, handler in registrar.handlers.items()
        }
        self.connections: set[Connection] = set()
        self.elsewhere: Callable[[], int] = int
        """How many connections other doors of the process hold; all count against one bound."""
        self._emptied = asyncio.Event()
        self._closing = False

    def __call__(self) -> asyncio.Protocol:
        """The protocol of one more connection."""
        connection = Connection(self, self._limits, self._left)
        self.connections.add(connection)
        if self._closing or len(self.connections) + self.elsewhere() > self._limits.connections:
            connection.refused = True
        return connection

    def head_of(self, fields: Fields) -> CallHead:
        """What a request's headers mean. Raises Malformed."""
        return head_of(fields, self._methods)

    def open(self, stream: Stream, head: CallHead) -> Call:
        """Begin a call, or refuse it."""
        refusal = head.refusal
        if refusal is None:
            try:
                return head.method.open(stream, head)  # type: ignore[no-any-return]
            except CallFailed as error:
                refusal = failure(error)
        stream.answer(None, b"", refusal)
        return REFUSED

    async def set_serving(self, serving_now: bool) -> None:
        """Tell the health checks."""
        status = health_pb2.HealthCheckResponse.SERVING if serving_now else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *self._names):
            await self._health.set(name, status)

    @contextlib.asynccontextmanager
    async def at_work(self, *, close_seconds: float = CLOSE_SECONDS) -> AsyncIterator[None]:
        """Be healthy and look after connections while the block runs; those that are left then end, in so long at most."""
        await self.set_serving(True)
        async with background(self._sweep()):
            try:
                yield
            finally:
                await self.close(within_seconds=close_seconds)

    async def let_go(self, *, within_seconds: float) -> None:
        """Let connections end: each is told, and answers what comes until its caller knows; return when none is left, or after
        this time."""
        self._closing = True
        for connection in list(self.connections):
            connection.control.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                while self.connections:
                    self._emptied.clear()
                    await self._emptied.wait()

    async def close(self, *, within_seconds: float) -> None:
        """Let connections end as `let_go` does, and cut off what is left then."""
        await self._health.enter_graceful_shutdown()
        await self.let_go(within_seconds=within_seconds)
        if self.connections:
            log.warning("connections cut off", connections=len(self.connections), waited_seconds=within_seconds)
        for connection in list(self.connections):
            connection.end(Code.NO_ERROR, "the service stopped")
            connection.abort()
        await self.tasks.close()

    async def _sweep(self) -> None:
        """Look after connections, for ever."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            for connection in list(self.connections):
                connection.control.sweep(SWEEP_SECONDS)

    def _left(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._emptied.set()


class _Refused:
    """The call of a request that was answered from its headers."""

    def data(self, payload: bytes, ended: bool) -> None:
        """Drop what comes."""

    def lost(self) -> None:
        """It was over."""

    def swept(self, elapsed_seconds: float) -> None:
        """It is over."""


REFUSED = _Refused()
