"""What a process of the gateway has of the others: the entrances, who tells its metrics, and when it shall leave."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import IO, Protocol

import msgspec
from prometheus_client import REGISTRY

from ergonaut.errors import Refused
from ergonaut_common.entrance import Entrance, SharedEntrance, entrance
from ergonaut_common.lifetimes import background, stop_requested
from ergonaut_common.observe import get_logger, serving_metrics
from ergonaut_gateway import memory, tls
from ergonaut_gateway.ports import EndpointBook, ModelRegistry, PipelineBook
from ergonaut_gateway.settings import Settings
from ergonaut_gateway.workers.board import Board, Kept
from ergonaut_gateway.workers.channel import Channel, Kind
from ergonaut_gateway.workers.merging import told
from ergonaut_gateway.workers.neighbours import (
    NeighbourlyEndpointBook,
    NeighbourlyPipelineBook,
    NeighbourlyRegistry,
    Neighbours,
)
from ergonaut_gateway.workers.pulse import beat_seconds

GRACE_SECONDS = 8.0
"""After the time for requests at work, how long a worker may take to end before the system ends it: a loop that stands still
would keep the port, and with it whoever comes next."""

log = get_logger(__name__)


class Place(Protocol):
    """Where a process of the gateway works."""

    @property
    def http(self) -> Entrance:
        """Where HTTP is asked, and gRPC too."""
        ...

    @property
    def grpc(self) -> Entrance:
        """Where gRPC alone is asked."""
        ...

    @property
    def finishes(self) -> bool:
        """Whether this process does what one is enough for: finishing what processes that died left undone."""
        ...

    def registry(self, registry: ModelRegistry) -> ModelRegistry:
        """The registry by which this process sees and makes changes."""
        ...

    def pipeline_book(self, book: PipelineBook) -> PipelineBook:
        """The book of pipelines, likewise."""
        ...

    def endpoint_book(self, book: EndpointBook) -> EndpointBook:
        """The book of endpoints, likewise."""
        ...

    def opened(self, connections: Callable[[], int], overdue_seconds: Callable[[], float]) -> None:
        """Callers are taken in; `connections` says how many there are, `overdue_seconds` how long a run is at work after it was
        told to end."""
        ...

    async def leave_requested(self) -> bool:
        """Return when the process shall end; whether others serve on, so that its callers can be parted from one by one."""
        ...


class Alone:
    """One process, which is the whole gateway."""

    finishes = True

    def __init__(self, settings: Settings) -> None:
        self._tls = settings.tls
        http_tls, grpc_tls = tls.contexts(self._tls)
        self.http = entrance(settings.http_address, http_tls)
        self.grpc = entrance(settings.grpc_address, grpc_tls)

    @classmethod
    @contextlib.asynccontextmanager
    async def taken(cls, settings: Settings) -> AsyncIterator["Alone"]:
        """The place for the block, with the page of metrics. Raises Unavailable where an address is taken."""
        alone = cls(settings)
        try:
            async with serving_metrics(settings.metrics_address):
                yield alone
        finally:
            alone.http.close()
            alone.grpc.close()

    def registry(self, registry: ModelRegistry) -> ModelRegistry:
        return registry

    def pipeline_book(self, book: PipelineBook) -> PipelineBook:
        return book

    def endpoint_book(self, book: EndpointBook) -> EndpointBook:
        return book

    def opened(self, connections: Callable[[], int], overdue_seconds: Callable[[], float]) -> None:  # noqa: ARG002 - nobody else needs to know
        memory.give_back_later()

    async def leave_requested(self) -> bool:
        if self._tls is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._renew_tls)
        await stop_requested()
        return False

    def _renew_tls(self) -> None:
        """Show a certificate that was renewed to whoever comes from now on."""
        try:
            self.http.tls, self.grpc.tls = tls.contexts(self._tls)
        except Refused as error:
            log.error("certificate stays as it was", service="gateway", error=str(error))


@dataclass(frozen=True, slots=True)
class Seat:
    """What the parent gives a worker before the worker has a loop."""

    number: int
    """Which of the workers it is; its replacement has the same."""
    row: int
    """Its own on the board, as long as it lives."""
    board: Board
    http: tuple[socket.socket, str]
    grpc: tuple[socket.socket, str]
    line: socket.socket
    stack: IO[bytes]
    """Where it writes down where it stands, when it is asked to."""


class Crowd:
    """The board, seen by one worker whose connections are counted anew each time somebody comes."""

    def __init__(self, board: Board, row: int) -> None:
        self._board = board
        self._row = row
        self.connections: Callable[[], int] = lambda: 0

    def gives_way(self) -> bool:
        self._board.count(self._row, self.connections())
        return self._board.gives_way(self._row)


class WorkerPlace:
    """One of several processes."""

    def __init__(self, seat: Seat, channel: Channel, contexts: tls.Contexts) -> None:
        self._seat = seat
        self._channel = channel
        self._crowd = Crowd(seat.board, seat.row)
        self._stop = asyncio.Event()
        self._others_serve = False
        self._overdue_seconds: Callable[[], float] = lambda: 0.0
        http_tls, grpc_tls = contexts
        self.http = SharedEntrance(*seat.http, self._crowd, http_tls)
        self.grpc = SharedEntrance(*seat.grpc, self._crowd, grpc_tls)

    @classmethod
    @contextlib.asynccontextmanager
    async def taken(cls, seat: Seat, settings: Settings) -> AsyncIterator["WorkerPlace"]:
        """The place for the block, with a line to the parent."""
        contexts = tls.contexts(settings.tls)
        place = cls(seat, Channel(*await asyncio.open_unix_connection(sock=seat.line)), contexts)
        async with (
            background(place._listen(settings.stop_seconds)),
            background(place._beat(settings.stuck_seconds)),
        ):
            try:
                yield place
            finally:
                seat.board.leave(seat.row)
                place.http.close()
                place.grpc.close()

    @property
    def finishes(self) -> bool:
        return self._seat.number == 0

    def registry(self, registry: ModelRegistry) -> ModelRegistry:
        return NeighbourlyRegistry(registry, Neighbours(self._seat.board, self._seat.row))

    def pipeline_book(self, book: PipelineBook) -> PipelineBook:
        return NeighbourlyPipelineBook(book, Neighbours(self._seat.board, self._seat.row, Kept.PIPELINES))

    def endpoint_book(self, book: EndpointBook) -> EndpointBook:
        return NeighbourlyEndpointBook(book, Neighbours(self._seat.board, self._seat.row, Kept.ENDPOINTS))

    def opened(self, connections: Callable[[], int], overdue_seconds: Callable[[], float]) -> None:
        self._overdue_seconds = overdue_seconds
        self._crowd.connections = connections
        self._seat.board.enter(self._seat.row)
        self._channel.send(Kind.READY)
        memory.give_back_later()

    async def leave_requested(self) -> bool:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        await self._stop.wait()
        self._seat.board.leave(self._seat.row)
        return self._others_serve

    async def _beat(self, stuck_seconds: float) -> None:
        """Show the parent that the loop goes round, for ever; where it does not want to know, never."""
        while stuck_seconds:
            self._seat.board.beat(self._seat.row, self._overdue_seconds())
            await asyncio.sleep(beat_seconds(stuck_seconds))

    async def _listen(self, stop_seconds: float) -> None:
        """Do what the parent says, and leave when it is gone: nothing shall stay behind that nobody looks after."""
        while (said := await self._channel.next()) is not None:
            if said[0] is Kind.COUNT:
                self._channel.send(Kind.METRICS, msgspec.msgpack.encode(told(REGISTRY.collect())))
            elif said[0] is Kind.LEAVE:
                self._others_serve = True
                self._stop.set()
        # Whoever takes the gateway's place wants the ports now.
        self.http.close()
        self.grpc.close()
        # Should it come to nothing, the next signal ends the process whatever it is doing then.
        signal.alarm(int(stop_seconds + GRACE_SECONDS))
        # As a stop from without: one that has not begun to serve ends at once.
        signal.raise_signal(signal.SIGTERM)


@contextlib.asynccontextmanager
async def taken(settings: Settings, seat: Seat | None) -> AsyncIterator[Place]:
    """The place of this process for the block: a worker's, or that of the only one."""
    if seat is None:
        async with Alone.taken(settings) as alone:
            yield alone
        return
    async with WorkerPlace.taken(seat, settings) as place:
        yield place
