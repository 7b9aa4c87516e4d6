"""The door AnalysisService: efficiency, recommendations, anomalies."""

from collections.abc import Callable
from typing import Any

from grpc import aio

from ergonaut.api.ledger.v1 import analysis_pb2 as pb
from ergonaut.api.ledger.v1.analysis_pb2_grpc import AnalysisServiceServicer, add_AnalysisServiceServicer_to_server
from ergonaut_common.rpc import caller
from ergonaut_ledger.domain.anomalies import Anomaly
from ergonaut_ledger.domain.efficiency import PhaseFootprint, UnitFootprint
from ergonaut_ledger.domain.recommending import Recommendation
from ergonaut_ledger.rpc.translating import run_id_of, timestamp, within
from ergonaut_ledger.service.analysing import Analysing

ROWS_MAX, ROWS_DEFAULT = 1_000, 50
DAYS_MAX, RECOMMENDATION_DAYS, ANOMALY_DAYS = 366, 30, 7
STEP_MIN, STEP_MAX = -(2**63), 2**63 - 1
"""The numbers of phases that an answer can hold; an event may tell any, and one beyond is told as none."""


class AnalysisDoor(AnalysisServiceServicer):
    """Answers what could be better."""

    def __init__(self, analysing: Analysing) -> None:
        self._analysing = analysing

    async def GetEfficiency(self, request: pb.GetEfficiencyRequest, context: Any) -> pb.GetEfficiencyResponse:
        told = await self._analysing.efficiency(caller().tenant, run_id_of(request.run_id))
        return pb.GetEfficiencyResponse(
            phases=[_phase(phase) for phase in told.phases],
            units=[_unit(unit) for unit in told.units],
            phases_omitted=told.phases_omitted,
        )

    async def ListRecommendations(
        self, request: pb.ListRecommendationsRequest, context: Any
    ) -> pb.ListRecommendationsResponse:
        days = within("days", request.days or RECOMMENDATION_DAYS, 1, DAYS_MAX)
        limit = within("limit", request.limit or ROWS_DEFAULT, 1, ROWS_MAX)
        run_id = run_id_of(request.run_id) if request.run_id else ""
        told = await self._analysing.recommendations(caller().tenant, run_id, days, limit)
        return pb.ListRecommendationsResponse(recommendations=[_recommendation(each) for each in told])

    async def ListAnomalies(self, request: pb.ListAnomaliesRequest, context: Any) -> pb.ListAnomaliesResponse:
        days = within("days", request.days or ANOMALY_DAYS, 1, DAYS_MAX)
        limit = within("limit", request.limit or ROWS_DEFAULT, 1, ROWS_MAX)
        run_id = run_id_of(request.run_id) if request.run_id else ""
        told = await self._analysing.anomalies(caller().tenant, run_id, days, limit)
        return pb.ListAnomaliesResponse(anomalies=[_anomaly(each) for each in told])


def analysis_door(analysing: Analysing) -> Callable[[aio.Server], None]:
    """What puts the service on a server."""

    def add(server: aio.Server) -> None:
        add_AnalysisServiceServicer_to_server(AnalysisDoor(analysing), server)

    return add


def _phase(phase: PhaseFootprint) -> pb.PhaseFootprint:
    step = phase.span.step
    return pb.PhaseFootprint(
        phase=phase.span.phase,
        step=step if step is None or STEP_MIN <= step <= STEP_MAX else None,
        started_at=timestamp(phase.span.started_at),
        ended_at=timestamp(phase.span.ended_at),
        energy_joules=phase.energy_joules,
        energy_joules_range=phase.energy_joules_range,
        carbon_grams_co2e=phase.carbon_grams_co2e,
        cost_usd=phase.cost_usd,
        metrics=phase.span.metrics,
    )


def _unit(unit: UnitFootprint) -> pb.UnitFootprint:
    return pb.UnitFootprint(
        unit=unit.unit,
        count=unit.count,
        energy_joules=unit.energy_joules,
        carbon_grams_co2e=unit.carbon_grams_co2e,
        cost_usd=unit.cost_usd,
        sci_grams_co2e=unit.sci_grams_co2e,
        range_fraction=unit.range_fraction,
    )


def _recommendation(each: Recommendation) -> pb.Recommendation:
    return pb.Recommendation(
        kind=each.kind,
        subject=each.subject,
        sentence=each.sentence,
        saving_usd=each.saving_usd,
        saving_grams_co2e=each.saving_grams_co2e,
        saving_joules=each.saving_joules,
        saving_fraction=each.saving_fraction,
        basis=each.basis,
        range_fraction=each.range_fraction,
    )


def _anomaly(each: Anomaly) -> pb.Anomaly:
    return pb.Anomaly(
        anomaly_id=each.anomaly_id,
        kind=each.kind,
        run_id=each.subject.run_id,
        host=each.subject.host,
        component=each.subject.component,
        started_at=timestamp(each.started_at),
        ended_at=timestamp(each.ended_at),
        value=each.value,
        expected=each.expected,
        unit=each.unit,
        because=each.because,
    )
