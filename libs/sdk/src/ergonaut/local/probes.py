"""How a part of the system is asked whether it is well: services and Temporal by grpc.health.v1, NATS by its greeting."""

import json
import socket

from ergonaut.local.home import Home
from ergonaut.local.parts import Part

PROBE_TIMEOUT_SECONDS = 1.0
"""A part that takes longer to say that it is well is not."""

GREETING_BYTES_MAX = 16 * 1024


def health_of(part: Part) -> str:
    """`healthy`, or what is wrong."""
    host, _, port = part.address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=PROBE_TIMEOUT_SECONDS) as connection:
            if part.speaks == "nats":
                return _nats_health(connection)
    except OSError:
        return "starting"
    return _grpc_health(part)


def is_on_offer(home: Home) -> bool:
    """Whether jobs can be placed on this machine: the agent has told of it, and pricing has made an offer of that."""
    import grpc

    from ergonaut.api.pricing.v1.pricing_pb2 import ListOffersRequest
    from ergonaut.api.pricing.v1.pricing_pb2_grpc import PricingServiceStub

    with grpc.insecure_channel(home.addresses().services["pricing"]) as channel:
        try:
            answer = PricingServiceStub(channel).ListOffers(
                ListOffersRequest(providers=["local"]),
                timeout=PROBE_TIMEOUT_SECONDS,
                metadata=(("authorization", f"Bearer {home.client_key()}"),),
            )
        except grpc.RpcError:
            return False
    return len(answer.offers) > 0


def _nats_health(connection: socket.socket) -> str:
    """A NATS server greets whoever connects with `INFO {...}`, which tells whether JetStream is on."""
    greeting = connection.recv(GREETING_BYTES_MAX).removeprefix(b"INFO ").partition(b"\r\n")[0]
    try:
        told = json.loads(greeting)
    except ValueError:
        return "not a NATS server"
    return "healthy" if told.get("jetstream") else "without JetStream"


def _grpc_health(part: Part) -> str:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(part.address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=part.health_service), timeout=PROBE_TIMEOUT_SECONDS
            )
        except grpc.RpcError:
            return "starting"
    return "healthy" if answer.status == health_pb2.HealthCheckResponse.SERVING else "waiting for other parts"
