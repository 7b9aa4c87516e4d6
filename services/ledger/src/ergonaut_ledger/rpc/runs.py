"""The door LedgerService: runs, their footprints and power, and the events that were kept."""

from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from ergonaut.api.ledger.v1 import ledger_pb2 as pb
from ergonaut.api.ledger.v1.ledger_pb2_grpc import LedgerServiceServicer
from ergonaut.errors import Refused
from ergonaut.events import STREAMS
from ergonaut.ids import NAME_RULE, is_name
from ergonaut_common.rpc import caller
from ergonaut_ledger.domain.elsewhere import Elsewhere
from ergonaut_ledger.domain.footprints import ComponentSum, RunRecord, paused_seconds
from ergonaut_ledger.domain.usage import Span, Usage, UsageQuestion, checked_labels, checked_step
from ergonaut_ledger.rpc.translating import moment, run_id_of, timestamp, within
from ergonaut_ledger.service import Reporting, Using

ROWS_MAX, ROWS_DEFAULT = 1_000, 50
POINTS_MIN, POINTS_MAX, POINTS_DEFAULT = 10, 10_000, 600

BODIES_BYTES_MAX = 3 * 1024 * 1024
"""Bodies in one answer, since a plain gRPC client takes messages of 4 MiB; older events that do not fit are left out."""


_USAGE_FIELDS = {"run": "run_id", "job": "job_id"}
"""Where a label's field has another name."""


class LedgerDoor(LedgerServiceServicer):
    """Answers what was used."""

    def __init__(self, reporting: Reporting, using: Using) -> None:
        self._reporting = reporting
        self._using = using

    async def ListRuns(self, request: pb.ListRunsRequest, context: Any) -> pb.ListRunsResponse:
        limit = within("limit", request.limit or ROWS_DEFAULT, 1, ROWS_MAX)
        runs = await self._reporting.runs(caller().tenant, limit)
        return pb.ListRunsResponse(runs=[_run(run) for run in runs])

    async def GetRunFootprint(self, request: pb.GetRunFootprintRequest, context: Any) -> pb.GetRunFootprintResponse:
        footprint = await self._reporting.footprint(caller().tenant, run_id_of(request.run_id))
        coverage = footprint.coverage
        return pb.GetRunFootprintResponse(
            run=_run(footprint.run),
            components=[_component(part) for part in footprint.components],
            energy_joules=footprint.energy_joules,
            energy_joules_range=footprint.energy_joules_range,
            carbon_grams_co2e=footprint.carbon_grams_co2e,
            cost_usd=footprint.cost_usd,
            intensity_grams_per_kwh=coverage.intensity_grams_per_kwh if coverage else 0,
            intensity_sources=coverage.intensity_sources if coverage else (),
            samples=footprint.samples,
            samples_missing=coverage.samples_missing if coverage else 0,
            embodied_grams_co2e=footprint.embodied_grams_co2e,
            intensity_bases=coverage.intensity_bases if coverage else (),
            electricity_usd=footprint.electricity_usd,
            rent_usd=footprint.rent_usd,
            gaps_provable_from=_optional(coverage.gaps_provable_from) if coverage else None,
        )

    async def GetPowerSeries(self, request: pb.GetPowerSeriesRequest, context: Any) -> pb.GetPowerSeriesResponse:
        points_max = within("points_max", request.points_max or POINTS_DEFAULT, POINTS_MIN, POINTS_MAX)
        points = await self._reporting.power(caller().tenant, run_id_of(request.run_id), points_max)
        return pb.GetPowerSeriesResponse(
            points=[
                pb.PowerPoint(
                    starts_at=timestamp(point.starts_at), component=point.component, power_watts=point.power_watts
                )
                for point in points
            ]
        )

    async def EstimateElsewhere(
        self, request: pb.EstimateElsewhereRequest, context: Any
    ) -> pb.EstimateElsewhereResponse:
        estimates = await self._reporting.elsewhere(caller().tenant, run_id_of(request.run_id))
        return pb.EstimateElsewhereResponse(
            places=[_elsewhere(place) for place in estimates.places],
            hours=[_elsewhere(hour) for hour in estimates.hours],
            method=estimates.method,
        )

    async def GetUsage(self, request: pb.GetUsageRequest, context: Any) -> pb.GetUsageResponse:
        span = Span(moment("starts_at", request.starts_at), moment("ends_at", request.ends_at))
        step = checked_step(request.step, span)
        for field in ("run_id", "host"):
            if getattr(request, field) and not is_name(getattr(request, field)):
                raise Refused(f"must be {NAME_RULE}", field=field)
        question = UsageQuestion(
            tenant=caller().tenant,
            span=span,
            step=step,
            group_by=checked_labels(request.group_by),
            project=request.project,
            run_id=request.run_id,
            host=request.host,
        )
        found = await self._using.usage(question)
        return pb.GetUsageResponse(usage=[_usage(each) for each in found], step=step.value)

    async def ListEvents(self, request: pb.ListEventsRequest, context: Any) -> pb.ListEventsResponse:
        limit = within("limit", request.limit or ROWS_DEFAULT, 1, ROWS_MAX)
        if request.area and request.area not in STREAMS:
            raise Refused(f"unknown area {request.area!r}; known are {', '.join(STREAMS)}", field="area")
        if request.key and not is_name(request.key):
            raise Refused(f"must be {NAME_RULE}", field="key")
        events = await self._reporting.events(caller().tenant, request.area, request.key, limit)
        response, room = pb.ListEventsResponse(), BODIES_BYTES_MAX
        for event in events:
            room -= len(event.body.encode())
            if room < 0:
                break
            response.events.add(
                event_id=event.event_id,
                subject=event.subject,
                occurred_at=timestamp(event.occurred_at),
                body=event.body,
            )
        return response


def _usage(usage: Usage) -> pb.Usage:
    labels = {_USAGE_FIELDS.get(label, label): value for label, value in usage.labels.items()}
    return pb.Usage(
        starts_at=timestamp(usage.starts_at),
        energy_joules=usage.energy_joules,
        energy_joules_range=usage.energy_joules_range,
        carbon_grams_co2e=usage.carbon_grams_co2e,
        embodied_grams_co2e=usage.embodied_grams_co2e,
        cost_usd=usage.cost_usd,
        samples=usage.samples,
        **labels,
    )


def _optional(at: datetime | None) -> Timestamp | None:
    return timestamp(at) if at else None


def _run(run: RunRecord) -> pb.Run:
    return pb.Run(
        run_id=run.run_id,
        job_id=run.job_id,
        name=run.name,
        state=run.state,
        started_at=timestamp(run.started_at),
        ended_at=_optional(run.ended_at),
        provider=run.provider,
        region=run.region,
        machine_type=run.machine_type,
        zone=run.zone,
        metrics=run.metrics,
        project=run.project,
        paused_seconds=paused_seconds(run),
    )


def _component(part: ComponentSum) -> pb.ComponentFootprint:
    return pb.ComponentFootprint(
        component=part.component,
        method=part.method,
        source=part.source,
        range_fraction=part.range_fraction,
        energy_joules=part.energy_joules,
        carbon_grams_co2e=part.carbon_grams_co2e,
        cost_usd=part.cost_usd,
        samples=part.samples,
        embodied_grams_co2e=part.embodied_grams_co2e,
    )


def _elsewhere(place: Elsewhere) -> pb.Elsewhere:
    return pb.Elsewhere(
        offer_id=place.offer.offer_id,
        provider=place.offer.provider,
        region=place.offer.region,
        machine_type=place.offer.machine_type,
        zone=place.offer.zone,
        starts_at=timestamp(place.starts_at),
        cost_usd=place.cost_usd,
        carbon_grams_co2e=place.carbon_grams_co2e,
        intensity_kind=place.intensity_kind,
    )
