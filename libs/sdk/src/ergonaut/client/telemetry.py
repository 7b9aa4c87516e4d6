"""Live meters: what the host's components draw now, and what a run has used so far."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc

from ergonaut.api.telemetry.v1 import telemetry_pb2 as pb
from ergonaut.api.telemetry.v1.telemetry_pb2_grpc import TelemetryServiceStub
from ergonaut.client.connection import Connection, doing

if TYPE_CHECKING:
    from ergonaut.api.telemetry.v1.telemetry_pb2_grpc import TelemetryServiceAsyncStub

REWATCH_PAUSE_SECONDS = 0.5


class Meters:
    """The meters of a host."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def _stub(self) -> "TelemetryServiceAsyncStub":
        return TelemetryServiceStub(self._connection.channel("telemetry"))

    async def host(self) -> pb.DescribeHostResponse:
        """Which meters the host has, and how each component is measured."""
        with doing("asking for the host's meters"):
            answer: pb.DescribeHostResponse = await self._stub.DescribeHost(pb.DescribeHostRequest())
            return answer

    async def watch_run(self, run_id: str) -> AsyncIterator[pb.WatchRunResponse]:
        """A run's totals after every sample, until its last process is gone; an agent that restarts is waited for."""
        while True:
            try:
                watched = self._stub.WatchRun(pb.WatchRunRequest(run_id=run_id))
                async for answer in watched:
                    yield answer
                return
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    with doing(f"watching {run_id}"):
                        raise
            await asyncio.sleep(REWATCH_PAUSE_SECONDS)
