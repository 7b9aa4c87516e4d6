"""The gRPC door TelemetryService: what the meters are, and live totals of the host and of the caller's runs."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from grpc import aio

from ergonaut.api.telemetry.v1 import telemetry_pb2 as pb
from ergonaut.api.telemetry.v1 import telemetry_pb2_grpc as pb_grpc
from ergonaut.errors import Refused
from ergonaut.events.telemetry import Method
from ergonaut.ids import NAME_RULE, is_name
from ergonaut_common.rpc import caller
from ergonaut_telemetry.domain import ComponentTotal, HostTotals, RunTotals, Terms
from ergonaut_telemetry.service import Watching

Context = aio.ServicerContext[Any, Any]
SERVICE_NAME = pb.DESCRIPTOR.services_by_name["TelemetryService"].full_name

_METHODS = {
    Method.COUNTER: pb.METHOD_COUNTER,
    Method.POWER_SAMPLES: pb.METHOD_POWER_SAMPLES,
    Method.MODEL: pb.METHOD_MODEL,
    Method.NOT_MEASURED: pb.METHOD_NOT_MEASURED,
}


class TelemetryDoor(pb_grpc.TelemetryServiceServicer):
    """Answers from what the sampling has shown."""

    def __init__(self, watching: Watching, terms: Callable[[], Terms]) -> None:
        self._watching = watching
        self._terms = terms

    async def DescribeHost(self, request: pb.DescribeHostRequest, context: Context) -> pb.DescribeHostResponse:
        components = _components(self._watching.newest_host().components)
        terms = self._terms()
        return pb.DescribeHostResponse(host=terms.host, components=components, zone=terms.zone)

    async def WatchRun(self, request: pb.WatchRunRequest, context: Context) -> AsyncIterator[pb.WatchRunResponse]:
        if not is_name(request.run_id):
            raise Refused(f"{request.run_id!r} names no run; it must be {NAME_RULE}", field="run_id")
        async for totals in self._watching.run(caller().tenant, request.run_id):
            yield _run(totals)

    async def WatchHost(self, request: pb.WatchHostRequest, context: Context) -> AsyncIterator[pb.WatchHostResponse]:
        async for totals in self._watching.host():
            yield _host(totals)


def door(watching: Watching, terms: Callable[[], Terms]) -> Callable[[aio.Server], None]:
    """Adds the service to a server; `terms` tells those that hold now."""

    def add(server: aio.Server) -> None:
        pb_grpc.add_TelemetryServiceServicer_to_server(TelemetryDoor(watching, terms), server)

    return add


def _run(totals: RunTotals) -> pb.WatchRunResponse:
    response = pb.WatchRunResponse(
        run_id=totals.run_id,
        components=_components(totals.components),
        energy_joules=totals.energy_joules,
        carbon_grams_co2e=totals.carbon_grams_co2e,
        cost_usd=totals.cost_usd,
        intensity_grams_per_kwh=totals.intensity_grams_per_kwh,
        intensity_source=totals.intensity_source,
    )
    response.sampled_at.FromDatetime(totals.sampled_at)
    return response


def _host(totals: HostTotals) -> pb.WatchHostResponse:
    response = pb.WatchHostResponse(components=_components(totals.components))
    response.sampled_at.FromDatetime(totals.sampled_at)
    return response


def _components(totals: tuple[ComponentTotal, ...]) -> list[pb.ComponentReading]:
    return [
        pb.ComponentReading(
            component=total.component,
            method=_METHODS[total.method],
            source=total.source,
            range_fraction=total.range_fraction,
            power_watts=total.power_watts,
            energy_joules=total.energy_joules,
        )
        for total in totals
    ]
