"""A gRPC door on our own HTTP/2 server: what `rpc.serving` is on grpcio's, at half the processor time of a call on uvloop.

For services that are called very often; `main` opens it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from ergonaut.errors import Broken, Unavailable
from ergonaut_common.auth import KeyRing
from ergonaut_common.h2.door import Add, H2Door
from ergonaut_common.h2.limits import H2Limits
from ergonaut_common.observe import get_logger

log = get_logger(__name__)


@contextlib.asynccontextmanager
async def serving(
    address: str, *, service: str, add: Add, keys: KeyRing, names: Sequence[str], limits: H2Limits | None = None
) -> AsyncIterator[int]:
    """Answer calls while the block runs; gives the port. Raises Unavailable where it is taken."""
    door = H2Door(add, keys, names, limits or H2Limits())
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        raise Broken(f"{service} cannot listen on {address!r}; tell host:port")
    try:
        server = await asyncio.get_running_loop().create_server(door, host.strip("[]") or None, int(port))
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
