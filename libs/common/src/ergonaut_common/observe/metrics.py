"""The /metrics endpoint that Prometheus scrapes; services make plain prometheus_client objects."""

import contextlib
from collections.abc import AsyncIterator

from prometheus_client import start_http_server

from ergonaut.errors import Unavailable


@contextlib.asynccontextmanager
async def serving_metrics(address: str) -> AsyncIterator[int]:
    """Serve this process's metrics while the block runs; gives the port. Raises Unavailable."""
    host, _, port = address.rpartition(":")
    try:
        server, thread = start_http_server(int(port), addr=host)
    except (OSError, ValueError) as error:
        raise Unavailable(f"metrics cannot be served on {address!r}: {error}; is the port taken?") from error
    try:
        yield int(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=2)
