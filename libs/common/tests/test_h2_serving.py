"""The door on our own HTTP/2 server, asked by grpcio as any caller's program would; its protocol is tried in the gateway."""

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ergonaut.errors import Broken, Unavailable
from ergonaut_common.auth import KeyRing
from ergonaut_common.h2 import serving
from ergonaut_common.testing import free_port


def opened(address: str):
    return serving(address, service="tried", add=lambda _server: None, keys=KeyRing(), names=["tried"])


async def is_healthy(port: int) -> bool:
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="tried"))
        return answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_it_is_healthy_on_the_port_that_it_tells():
    async with opened("127.0.0.1:0") as port:
        assert await is_healthy(port)


async def test_a_method_that_is_not_there_is_told_by_its_name():
    async with opened("127.0.0.1:0") as port, aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(aio.AioRpcError) as told:
            await channel.unary_unary("/tried.Service/Nothing")(b"")
        assert told.value.code() == grpc.StatusCode.UNIMPLEMENTED
        assert "/tried.Service/Nothing" in str(told.value.details())


async def test_a_port_that_is_taken_and_an_address_that_is_none_are_told():
    address = f"127.0.0.1:{free_port()}"
    async with opened(address) as port:
        assert await is_healthy(port)
        with pytest.raises(Unavailable, match=f"{address}; is the port taken"):
            async with opened(address):
                pass
    with pytest.raises(Broken, match="tell host:port"):
        async with opened("localhost"):
            pass
