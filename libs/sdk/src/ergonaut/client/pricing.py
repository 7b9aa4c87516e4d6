"""Prices and grid intensity."""

from datetime import UTC
from typing import TYPE_CHECKING

from ergonaut.api.pricing.v1 import pricing_pb2 as pb
from ergonaut.api.pricing.v1.pricing_pb2_grpc import PricingServiceStub
from ergonaut.client.connection import Connection, doing
from ergonaut.events.pricing import Accounting, Boundary, HourIntensity, IntensityChanged, IntensityKind, Signal

if TYPE_CHECKING:
    from ergonaut.api.pricing.v1.pricing_pb2_grpc import PricingServiceAsyncStub

_KINDS = {
    pb.INTENSITY_KIND_TYPICAL: IntensityKind.TYPICAL,
    pb.INTENSITY_KIND_YEARLY: IntensityKind.YEARLY,
    pb.INTENSITY_KIND_WORLD_AVERAGE: IntensityKind.WORLD_AVERAGE,
    pb.INTENSITY_KIND_MEASURED: IntensityKind.MEASURED,
    pb.INTENSITY_KIND_FORECAST: IntensityKind.FORECAST,
}


class Prices:
    """What machine-hours cost and how clean their electricity is."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def _stub(self) -> "PricingServiceAsyncStub":
        return PricingServiceStub(self._connection.channel("pricing"))

    async def offers(self, *, providers: tuple[str, ...] = (), accelerator: str = "") -> list[pb.Offer]:
        """The offers known now, cheapest first."""
        with doing("listing offers"):
            answer = await self._stub.ListOffers(pb.ListOffersRequest(providers=providers, accelerator=accelerator))
            return [*answer.offers]

    async def forecast(self, zone: str, *, hours: int = 24) -> pb.ForecastIntensityResponse:
        """A zone's intensity hour by hour; an unknown zone gets the world's average, flagged."""
        with doing(f"asking for the intensity of {zone}"):
            answer: pb.ForecastIntensityResponse = await self._stub.ForecastIntensity(
                pb.ForecastIntensityRequest(zone=zone, hours=hours)
            )
            return answer


def told_intensity(answer: pb.ForecastIntensityResponse) -> IntensityChanged:
    """A forecast as the event that tells the same; kinds that this version does not know count as forecasts."""
    hours = tuple(
        HourIntensity(
            starts_at=hour.starts_at.ToDatetime(tzinfo=UTC),
            intensity_grams_per_kwh=hour.intensity_grams_per_kwh,
            range_fraction=hour.range_fraction,
            kind=_KINDS.get(hour.kind, IntensityKind.FORECAST),
        )
        for hour in answer.hours
    )
    return IntensityChanged(
        zone=answer.zone,
        source=answer.source,
        hours=hours,
        signal=Signal(answer.signal or Signal.AVERAGE),
        accounting=Accounting(answer.accounting or Accounting.LOCATION_BASED),
        boundary=Boundary(answer.boundary or Boundary.UNKNOWN),
    )
