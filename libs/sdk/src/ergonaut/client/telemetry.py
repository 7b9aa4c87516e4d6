"""Live meters: what the host's components draw now, and what a run has used so far."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from ergonaut.api.telemetry.v1 import telemetry_pb2 as pb
from ergonaut.api.telemetry.v1.telemetry_pb2_grpc import TelemetryServiceStub
from ergonaut.client.connection import Connection, doing
from ergonaut.client.watching import watched

if TYPE_CHECKING:
    from ergonaut.api.telemetry.v1.telemetry_pb2_grpc import TelemetryServiceAsyncStub


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

    async def watch_run(self, run_id: str) -> AsyncGenerator[pb.WatchRunResponse, None]:
        """A run's totals after every sample, until its last process is gone; an agent that restarts is waited for."""
        request = pb.WatchRunRequest(run_id=run_id)
        async with aclosing(watched(lambda: self._stub.WatchRun(request), f"watching {run_id}")) as answers:
            async for answer in answers:
                yield answer
