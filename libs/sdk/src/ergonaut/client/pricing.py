"""Prices and grid intensity."""

from typing import TYPE_CHECKING

from ergonaut.api.pricing.v1 import pricing_pb2 as pb
from ergonaut.api.pricing.v1.pricing_pb2_grpc import PricingServiceStub
from ergonaut.client.connection import Connection, doing

if TYPE_CHECKING:
    from ergonaut.api.pricing.v1.pricing_pb2_grpc import PricingServiceAsyncStub


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
