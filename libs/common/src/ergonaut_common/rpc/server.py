"""A gRPC door: listens, is healthy while its block runs, tells what it offers, and leaves without dropping calls."""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ergonaut.channels import MESSAGE_BYTES_MAX
from ergonaut.errors import Unavailable
from ergonaut_common.auth import KeyRing
from ergonaut_common.observe import get_logger
from ergonaut_common.rpc.calls import Calls

STOP_GRACE_SECONDS = 2.0
"""How long calls may finish after a stop; streams end then, and their callers come back."""

CALLS_MAX = 1_000
"""Calls at work at once; above it callers are told to come back, rather than all becoming slow."""

PING_INTERVAL_MS_MIN = 1_000
"""Pings that come more often cost their caller the connection."""

log = get_logger(__name__)


@dataclass(slots=True)
class RpcServer:
    """A door that listens."""

    port: int
    _health: health.aio.HealthServicer
    _names: Sequence[str]

    async def set_serving(self, serving_now: bool) -> None:
        """Tell the health checks; a service that waits for something says no."""
        status = health_pb2.HealthCheckResponse.SERVING if serving_now else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *self._names):
            await self._health.set(name, status)


@contextlib.asynccontextmanager
async def serving(
    address: str,
    *,
    service: str,
    add: Callable[[aio.Server], None],
    keys: KeyRing,
    names: Sequence[str],
    healthy: bool = True,
) -> AsyncIterator[RpcServer]:
    """Answer calls while the block runs. `healthy` false begins as NOT_SERVING. Raises Unavailable where the port is taken."""
    server = aio.server(
        interceptors=[Calls(keys)],
        maximum_concurrent_rpcs=CALLS_MAX,
        options=[
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
            ("grpc.so_reuseport", 0),  # two services on one port would each get half of the calls
            # Callers ping every 10 s to notice that we died; by default that is held to be an attack while a watch is silent.
            ("grpc.http2.min_ping_interval_without_data_ms", PING_INTERVAL_MS_MIN),
            ("grpc.keepalive_permit_without_calls", 1),
        ],
    )
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    add(server)
    reflection.enable_server_reflection((*names, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise Unavailable(f"{service} cannot listen on {address}; is the port taken?") from error
    door = RpcServer(port, servicer, names)
    await door.set_serving(healthy)
    await server.start()
    log.info("door is open", service=service, address=address, port=port)
    try:
        yield door
    finally:
        await servicer.enter_graceful_shutdown()
        await server.stop(STOP_GRACE_SECONDS)
