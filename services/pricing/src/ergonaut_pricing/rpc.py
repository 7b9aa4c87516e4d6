"""The gRPC door: `PricingService`. Translates, and refuses what cannot be meant."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio

from ergonaut.api.pricing.v1 import pricing_pb2 as pb
from ergonaut.api.pricing.v1 import pricing_pb2_grpc as pb_grpc
from ergonaut.errors import Refused
from ergonaut.events.pricing import IntensityKind, Market
from ergonaut_common.rpc import caller
from ergonaut_pricing.domain import HourForecast, Offer, OfferQuery
from ergonaut_pricing.service import Pricing

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["PricingService"].full_name

_MARKETS = {
    Market.ON_DEMAND: pb.MARKET_ON_DEMAND,
    Market.SPOT: pb.MARKET_SPOT,
    Market.FREE: pb.MARKET_FREE,
}
_KINDS = {
    IntensityKind.TYPICAL: pb.INTENSITY_KIND_TYPICAL,
    IntensityKind.YEARLY: pb.INTENSITY_KIND_YEARLY,
    IntensityKind.WORLD_AVERAGE: pb.INTENSITY_KIND_WORLD_AVERAGE,
    IntensityKind.MEASURED: pb.INTENSITY_KIND_MEASURED,
    IntensityKind.FORECAST: pb.INTENSITY_KIND_FORECAST,
}


class PricingDoor(pb_grpc.PricingServiceServicer):
    """Answers `PricingService`."""

    def __init__(self, pricing: Pricing) -> None:
        self._pricing = pricing

    async def ListOffers(
        self, request: pb.ListOffersRequest, context: aio.ServicerContext[pb.ListOffersRequest, pb.ListOffersResponse]
    ) -> pb.ListOffersResponse:
        query = OfferQuery(
            providers=frozenset(request.providers),
            vcpus_min=request.vcpus_min,
            memory_gib_min=request.memory_gib_min,
            accelerator=request.accelerator,
            accelerator_count_min=request.accelerator_count_min,
        )
        offers = await self._pricing.offers(query, caller().tenant)
        return pb.ListOffersResponse(offers=[_offer(offer) for offer in offers])

    async def WatchOffers(
        self,
        request: pb.WatchOffersRequest,
        context: aio.ServicerContext[pb.WatchOffersRequest, pb.WatchOffersResponse],
    ) -> AsyncIterator[pb.WatchOffersResponse]:
        query = OfferQuery(providers=frozenset(request.providers))
        async for offer in self._pricing.watch(query, caller().tenant):
            yield pb.WatchOffersResponse(offer=_offer(offer))

    async def ForecastIntensity(
        self,
        request: pb.ForecastIntensityRequest,
        context: aio.ServicerContext[pb.ForecastIntensityRequest, pb.ForecastIntensityResponse],
    ) -> pb.ForecastIntensityResponse:
        starts_at = _moment(request.starts_at, "starts_at") if request.HasField("starts_at") else None
        told, issued_at = self._pricing.forecast(request.zone, starts_at, request.hours)
        return pb.ForecastIntensityResponse(
            zone=told.zone,
            hours=[_hour(hour) for hour in told.hours],
            source=told.source,
            issued_at=_timestamp(issued_at),
            signal=told.signal.value,
            accounting=told.accounting.value,
            boundary=told.boundary.value,
        )


def door(pricing: Pricing) -> Callable[[aio.Server], None]:
    """What puts the door into a gRPC server."""
    return lambda server: pb_grpc.add_PricingServiceServicer_to_server(PricingDoor(pricing), server)


def _moment(timestamp: Timestamp, field: str) -> datetime:
    try:
        return timestamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise Refused("is no time between the years 1 and 9999", field=field) from error


def _timestamp(moment: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


def _offer(offer: Offer) -> pb.Offer:
    return pb.Offer(
        offer_id=offer.offer_id,
        provider=offer.provider,
        region=offer.region,
        zone=offer.zone,
        machine_type=offer.machine_type,
        market=_MARKETS[offer.market],
        vcpus=offer.vcpus,
        memory_gib=offer.memory_gib,
        accelerator=offer.accelerator,
        accelerator_count=offer.accelerator_count,
        price_microusd_per_hour=offer.price_microusd_per_hour,
        electricity_microusd_per_kwh=offer.electricity_microusd_per_kwh,
        power_watts_expected=offer.power_watts_expected,
        pue=offer.pue,
        billing_increment_seconds=offer.billing_increment_seconds,
        noted_at=_timestamp(offer.noted_at),
        source=offer.source,
    )


def _hour(hour: HourForecast) -> pb.HourIntensity:
    return pb.HourIntensity(
        starts_at=_timestamp(hour.starts_at),
        intensity_grams_per_kwh=hour.intensity_grams_per_kwh,
        range_fraction=hour.range_fraction,
        kind=_KINDS[hour.kind],
    )
