"""What was used: runs, their footprints, their power over time, and what they would have used elsewhere."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from ergonaut.api.ledger.v1 import ledger_pb2 as pb
from ergonaut.api.ledger.v1.ledger_pb2_grpc import LedgerServiceStub
from ergonaut.client.connection import Connection, doing, stamp

if TYPE_CHECKING:
    from ergonaut.api.ledger.v1.ledger_pb2_grpc import LedgerServiceAsyncStub


class Ledger:
    """Questions about what was measured."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def _stub(self) -> "LedgerServiceAsyncStub":
        return LedgerServiceStub(self._connection.channel("ledger"))

    async def runs(self, limit: int = 50) -> list[pb.Run]:
        """The newest runs, newest first."""
        with doing("listing runs"):
            answer = await self._stub.ListRuns(pb.ListRunsRequest(limit=limit))
            return [*answer.runs]

    async def footprint(self, run_id: str) -> pb.GetRunFootprintResponse:
        """What a run used, and how that was measured."""
        with doing(f"asking what {run_id} used"):
            answer: pb.GetRunFootprintResponse = await self._stub.GetRunFootprint(
                pb.GetRunFootprintRequest(run_id=run_id)
            )
            return answer

    async def power_series(self, run_id: str, *, points_max: int = 0) -> list[pb.PowerPoint]:
        """A run's power over time."""
        with doing(f"asking for the power of {run_id}"):
            answer = await self._stub.GetPowerSeries(pb.GetPowerSeriesRequest(run_id=run_id, points_max=points_max))
            return [*answer.points]

    async def elsewhere(self, run_id: str) -> pb.EstimateElsewhereResponse:
        """What the same run would have used elsewhere and at other hours; an estimate."""
        with doing(f"estimating {run_id} elsewhere"):
            answer: pb.EstimateElsewhereResponse = await self._stub.EstimateElsewhere(
                pb.EstimateElsewhereRequest(run_id=run_id)
            )
            return answer

    async def usage(
        self,
        starts_at: datetime,
        ends_at: datetime,
        *,
        step: str = "",
        group_by: Sequence[str] = (),
        of: Mapping[str, str] | None = None,
    ) -> pb.GetUsageResponse:
        """What was used from one moment to before another: in steps of `minute`, `hour`, `day` or `total`, kept apart by any of
        `run`, `job`, `project`, `host`, `component`, `share`, `zone`.

        `of` narrows it to one `project`, `run_id` or `host`, or to what is of several of them. Raises Refused.
        """
        request = pb.GetUsageRequest(
            starts_at=stamp(starts_at), ends_at=stamp(ends_at), step=step, group_by=group_by, **(of or {})
        )
        with doing("asking what was used"):
            answer: pb.GetUsageResponse = await self._stub.GetUsage(request)
            return answer

    async def events(self, *, area: str = "", key: str = "", limit: int = 50) -> list[pb.Event]:
        """The newest events, newest first."""
        with doing("listing events"):
            answer = await self._stub.ListEvents(pb.ListEventsRequest(area=area, key=key, limit=limit))
            return [*answer.events]
