"""What calls notice of a peer that is gone without a word."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ergonaut.channels import open_channel
from ergonaut_common.auth import KeyRing
from ergonaut_common.rpc import serving
from ergonaut_common.testing import key_ring_file


class Line:
    """Carries bytes between a caller and a server, until it is cut: then nothing comes through, and nobody is told."""

    def __init__(self, port: int) -> None:
        self.server_port = port
        self.is_cut = False

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self.server_port)
        try:
            await asyncio.gather(self._pass(reader, to_server), self._pass(from_server, writer))
        finally:
            writer.close()
            to_server.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(4096):
            if not self.is_cut:
                writer.write(piece)


@asynccontextmanager
async def carried(port: int) -> AsyncIterator[tuple[Line, int]]:
    line = Line(port)
    server = await asyncio.start_server(line.carry, "127.0.0.1", 0)
    yield line, server.sockets[0].getsockname()[1]
    server.close()


async def test_a_watch_over_a_line_that_was_cut_ends_within_seconds(tmp_path: Path) -> None:
    path, _ = key_ring_file(tmp_path, ("default",))
    async with (
        serving("127.0.0.1:0", service="test", add=lambda _: None, keys=KeyRing.load(path), names=[]) as server,
        carried(server.port) as (line, port),
        open_channel(f"127.0.0.1:{port}", dict, agent="test") as opened,
    ):
        watch = health_pb2_grpc.HealthStub(opened).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        line.is_cut = True
        # A ping every ten seconds, three seconds for its answer; grpcio by itself takes over a minute.
        with pytest.raises(grpc.RpcError) as ended:
            async with asyncio.timeout(40):
                await watch.read()
    assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
