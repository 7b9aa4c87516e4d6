"""A gRPC door on our own HTTP/2 server: what `rpc.serving` is on grpcio's, at half the processor time of a call on uvloop.

For services that are called very often; `main` opens it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

from ergonaut.errors import Broken, Unavailable
from ergonaut_common.auth import KeyRing
from ergonaut_common.h2.door import Add, H2Door
from ergonaut_common.h2.limits import H2Limits
from ergonaut_common.observe import get_logger
from ergonaut_common.tls import GRPC_PROTOCOLS, Agreeing, TlsFiles, server_context

AGREED_SECONDS = 10.0
"""How long a caller may take to agree on TLS; it takes two trips of the network."""

log = get_logger(__name__)


@contextlib.asynccontextmanager
async def serving(
    address: str,
    *,
    service: str,
    add: Add,
    keys: KeyRing,
    names: Sequence[str],
    tls: TlsFiles | None = None,
) -> AsyncIterator[int]:
    """Answer calls while the block runs, by TLS where files of it are given; gives the port. Raises Unavailable where it is
    taken, Refused where the files are wrong."""
    door = H2Door(add, keys, names, H2Limits())
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        raise Broken(f"{service} cannot listen on {address!r}; tell host:port")
    loop, secure = asyncio.get_running_loop(), dict[str, Any]()
    factory: Callable[[], asyncio.Protocol] = door
    if tls is not None:
        factory = partial(Agreeing, door)
        secure = {"ssl": server_context(tls, GRPC_PROTOCOLS), "ssl_handshake_timeout": AGREED_SECONDS}
    try:
        server = await loop.create_server(factory, host.strip("[]") or None, int(port), **secure)
    except OSError as error:
        raise Unavailable(f"{service} cannot listen on {address}; is the port taken?") from error
    taken = int(server.sockets[0].getsockname()[1])
    log.info("door is open", service=service, address=address, port=taken)
    try:
        async with door.at_work():
            try:
                yield taken
            finally:
                server.close()
    finally:
        server.close()
