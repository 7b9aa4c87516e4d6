"""The sockets on which callers come: one of this process alone, or one that several processes share. Our own
servers open them.

A shared one is one listening socket in all of them, not one each by SO_REUSEPORT: a connection that nobody has taken yet outlives
any of the processes, and whoever is idle takes it. Doors open an entrance, and close it to take nobody more.

With TLS a caller is a connection of its door only once both sides have agreed; until then it is ours to bound.
"""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol, cast

from ergonaut.errors import Broken, Unavailable
from ergonaut_common.observe import get_logger
from ergonaut_common.tls import Context

BACKLOG = 512
"""Connections that the kernel holds for us while the loop is busy."""

GIVE_WAY_SECONDS = 0.002
"""How long a process with more connections than another leaves a new one to that; long for one that is idle, short for the
caller. After it, whoever comes first takes it, so that one that is stuck keeps nobody waiting."""

BEGINNING_MAX = 256
"""Callers of TLS who are taken in and have not agreed yet; each takes a file descriptor and some kB. The first to come are the
first to go, who have had the most time."""

HANDSHAKE_SECONDS = 10.0
"""How long they may take, as for a request's headers: some round trips on the worst of links."""

FAREWELL_SECONDS = 2.0
"""How long we wait for a caller to say goodbye in TLS after we have; few do."""

FAILURES_TOLD_SECONDS = 60.0
"""Of callers that came to nothing one line is logged in so long, with how many there were: anybody can make them."""

PAUSE_SECONDS = 1.0
"""How long nobody is taken in after the system refused it, which is for want of file descriptors."""

PORT_MAX = 65_535

Factory = Callable[[], asyncio.Protocol]

log = get_logger(__name__)


class Crowd(Protocol):
    """The connections of all processes that share an entrance, by number."""

    def gives_way(self) -> bool:
        """Whether another one has fewer connections."""
        ...


class Entrance:
    """A socket that has its address. Callers are refused until it is opened."""

    def __init__(self, listener: socket.socket, address: str) -> None:
        self._listener = listener
        self.address = address
        self.tls: Context | None = None
        """By what callers are taken in; another one is for those who come from then on."""
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port, also where any was asked for."""
        return int(self._listener.getsockname()[1])

    async def open(self, factory: Factory) -> None:
        """Take in callers, each by a protocol of its own. Raises Unavailable where another listens here."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(factory, sock=self._listener, backlog=BACKLOG)
        except OSError as error:
            raise _taken(self.address, error) from error

    def close(self) -> None:
        """Take in nobody more; connections that are there stay."""
        if self._server is not None:
            self._server.close()
        self._listener.close()


class SharedEntrance(Entrance):
    """A socket that other processes take callers from, too. Each connection is one process's from then on."""

    def __init__(self, listener: socket.socket, address: str, crowd: Crowd, tls: Context | None = None) -> None:
        super().__init__(listener, address)
        self.tls = tls
        self._crowd = crowd
        self._factory: Factory | None = None
        self._beginning: dict[asyncio.Task[object], None] = {}
        self._failed = 0
        self._tell_at_seconds = 0.0
        self._pause: asyncio.TimerHandle | None = None

    async def open(self, factory: Factory) -> None:
        self._factory = factory
        self._listener.settimeout(0)
        try:
            # The first to be ready makes it listen; for the others this changes nothing.
            self._listener.listen(BACKLOG)
        except OSError as error:
            raise _taken(self.address, error) from error
        self._watch(self._come)

    def close(self) -> None:
        if self._factory is not None:
            self._factory = None
            self._unwatch()
        super().close()

    def _watch(self, callback: Callable[[], None]) -> None:
        self._pause = None
        asyncio.get_running_loop().add_reader(self._listener.fileno(), callback)

    def _unwatch(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        asyncio.get_running_loop().remove_reader(self._listener.fileno())

    def _after(self, seconds: float, callback: Callable[[], None]) -> None:
        self._unwatch()
        self._pause = asyncio.get_running_loop().call_later(seconds, self._watch, callback)

    def _come(self) -> None:
        """Somebody is there: let a process that has fewer take him first."""
        if self._crowd.gives_way():
            self._after(GIVE_WAY_SECONDS, self._take)
        else:
            self._take()

    def _take(self) -> None:
        """Take one caller, if no other process was faster. One a turn, so that a burst is shared."""
        factory = self._factory
        assert factory is not None, "it is watched while it is open only"
        loop = asyncio.get_running_loop()
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            connection = None
        except OSError as error:
            log.error("caller not taken in", address=self.address, error=str(error))
            self._after(PAUSE_SECONDS, self._come)
            return
        if connection is not None:
            connection.settimeout(0)
            if len(self._beginning) >= BEGINNING_MAX:
                next(iter(self._beginning)).cancel()
            task: asyncio.Task[object] = loop.create_task(self._begin(loop, factory, connection))
            self._beginning[task] = None
            task.add_done_callback(self._begun)
        self._watch(self._come)

    def _begin(
        self, loop: asyncio.AbstractEventLoop, factory: Factory, connection: socket.socket
    ) -> Coroutine[Any, Any, object]:
        if self.tls is None:
            return loop.connect_accepted_socket(factory, connection)
        return loop.connect_accepted_socket(
            partial(_Agreeing, factory),
            connection,
            ssl=self.tls(),
            ssl_handshake_timeout=HANDSHAKE_SECONDS,
            ssl_shutdown_timeout=FAREWELL_SECONDS,
        )

    def _begun(self, task: "asyncio.Task[object]") -> None:
        self._beginning.pop(task, None)
        error = asyncio.CancelledError("others came") if task.cancelled() else task.exception()
        if error is None:
            return
        self._failed += 1
        now = asyncio.get_running_loop().time()
        if now >= self._tell_at_seconds:
            log.warning("connections not begun", address=self.address, connections=self._failed, error=str(error))
            self._failed, self._tell_at_seconds = 0, now + FAILURES_TOLD_SECONDS


class _Nobody:
    """The crowd of a process that shares with none."""

    def gives_way(self) -> bool:
        return False


class _Agreeing(asyncio.Protocol):
    """Stands for a caller until TLS is agreed upon: doors count their connections from when they make them, and whoever does
    not speak TLS never becomes one."""

    def __init__(self, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        self._factory = factory

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand the connection to its door."""
        protocol = self._factory()
        cast("asyncio.Transport", transport).set_protocol(protocol)
        protocol.connection_made(transport)


def entrance(address: str, tls: Context | None = None) -> Entrance:
    """An entrance of this process alone. Raises Unavailable where the address is taken, Broken where it is none."""
    return Entrance(bound(address), address) if tls is None else SharedEntrance(bound(address), address, _Nobody(), tls)


def bound(address: str) -> socket.socket:
    """A socket that has an address, and does not listen yet. Raises Unavailable where it is taken, Broken where it is none."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or int(port) > PORT_MAX:
        raise Broken(f"cannot listen on {address!r}; tell host:port, such as 127.0.0.1:7400")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        # Connections of an earlier process that are still closing do not keep us from the port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host.strip("[]"), int(port)))
    except OSError as error:
        listener.close()
        raise _taken(address, error) from error
    return listener


def _taken(address: str, error: OSError) -> Unavailable:
    return Unavailable(f"cannot listen on {address}; is the port taken, or the host another machine? {error}")
