"""What the measurements say beyond sums: efficiency, recommendations, anomalies."""

from typing import TYPE_CHECKING

from ergonaut.api.ledger.v1 import analysis_pb2 as pb
from ergonaut.api.ledger.v1.analysis_pb2_grpc import AnalysisServiceStub
from ergonaut.client.connection import Connection, doing

if TYPE_CHECKING:
    from ergonaut.api.ledger.v1.analysis_pb2_grpc import AnalysisServiceAsyncStub


class Analysis:
    """Questions whose answers are drawn from measurements; each answer says on what it rests."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def _stub(self) -> "AnalysisServiceAsyncStub":
        return AnalysisServiceStub(self._connection.channel("ledger"))

    async def efficiency(self, run_id: str) -> pb.GetEfficiencyResponse:
        """What a run used by phase and by unit of its work."""
        with doing(f"asking how efficient {run_id} was"):
            answer: pb.GetEfficiencyResponse = await self._stub.GetEfficiency(pb.GetEfficiencyRequest(run_id=run_id))
            return answer

    async def recommendations(self, run_id: str = "", *, days: int = 0, limit: int = 0) -> list[pb.Recommendation]:
        """What could be done to use less, largest saving first; for one run, or for those of the last days."""
        with doing("asking what would save"):
            request = pb.ListRecommendationsRequest(run_id=run_id, days=days, limit=limit)
            return [*(await self._stub.ListRecommendations(request)).recommendations]

    async def anomalies(self, run_id: str = "", *, days: int = 0, limit: int = 0) -> list[pb.Anomaly]:
        """Figures that are far from what they used to be, newest first; for one run, or for all of the last days."""
        with doing("asking for anomalies"):
            request = pb.ListAnomaliesRequest(run_id=run_id, days=days, limit=limit)
            return [*(await self._stub.ListAnomalies(request)).anomalies]
