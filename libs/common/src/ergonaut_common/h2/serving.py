"""A gRPC door on our own HTTP/2 server: what `rpc.serving` is on grpcio's, at half the processor time of a call on uvloop.

For services that are called very often; `main` opens it.
"""

import contextlib
from collections.abc import AsyncIterator, Sequence

from ergonaut_common.auth import KeyRing
from ergonaut_common.entrance import entrance
from ergonaut_common.h2.door import Add, H2Door
from ergonaut_common.h2.limits import H2Limits
from ergonaut_common.observe import get_logger
from ergonaut_common.tls import GRPC_PROTOCOLS, Certificates, TlsFiles

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
    taken, Broken where the address is none, Refused where the files are wrong."""
    door = H2Door(add, keys, names, H2Limits())
    way_in = entrance(address, None if tls is None else Certificates(tls, GRPC_PROTOCOLS))
    await way_in.open(door)
    port = way_in.port
    log.info("door is open", service=service, address=address, port=port)
    try:
        async with door.at_work():
            try:
                yield port
            finally:
                way_in.close()
    finally:
        way_in.close()
