"""Offers and forecasts from the service `pricing`, by gRPC."""

from collections.abc import Sequence
from datetime import UTC

import grpc
from grpc import aio

from ergonaut.api.pricing.v1 import pricing_pb2 as pb
from ergonaut.api.pricing.v1 import pricing_pb2_grpc as pb_grpc
from ergonaut.errors import Broken
from ergonaut.events import PUBLIC_TENANT
from ergonaut_common.rpc import error_of, for_tenant
from ergonaut_scheduler.domain import Forecast, Offer

TIMEOUT_SECONDS = 5.0
"""Both questions are answered from memory; a service that takes longer is in trouble, and the plan says so."""

_PUBLIC = for_tenant(PUBLIC_TENANT)  # intensities belong to nobody


class PricingOfferBook:
    """Fills `OfferBook`."""

    def __init__(self, channel: aio.Channel) -> None:
        self._stub = pb_grpc.PricingServiceStub(channel)

    async def newest(self, tenant: str) -> Sequence[Offer]:
        request, metadata = pb.ListOffersRequest(), for_tenant(tenant)
        try:
            answer = await self._stub.ListOffers(request, timeout=TIMEOUT_SECONDS, metadata=metadata)
        except grpc.RpcError as error:
            raise error_of(error, doing="asking the pricing service for offers") from error
        return [_offer(message) for message in answer.offers]


class PricingIntensityForecast:
    """Fills `IntensityForecast`."""

    def __init__(self, channel: aio.Channel) -> None:
        self._stub = pb_grpc.PricingServiceStub(channel)

    async def of_zone(self, zone: str, hours: int) -> Forecast:
        request = pb.ForecastIntensityRequest(zone=zone, hours=hours)
        try:
            answer = await self._stub.ForecastIntensity(request, timeout=TIMEOUT_SECONDS, metadata=_PUBLIC)
        except grpc.RpcError as error:
            raise error_of(error, doing=f"asking the pricing service for the intensity of zone {zone!r}") from error
        if not answer.hours:
            raise Broken(f"the pricing service forecast no hour for zone {zone!r}")
        starts_at = answer.hours[0].starts_at.ToDatetime(tzinfo=UTC)
        return Forecast.of(starts_at, tuple(hour.intensity_grams_per_kwh for hour in answer.hours))


def _offer(message: pb.Offer) -> Offer:
    return Offer(
        offer_id=message.offer_id,
        provider=message.provider,
        region=message.region,
        zone=message.zone,
        machine_type=message.machine_type,
        vcpus=message.vcpus,
        memory_gib=message.memory_gib,
        power_watts_expected=message.power_watts_expected,
        accelerator=message.accelerator,
        accelerator_count=message.accelerator_count,
        price_microusd_per_hour=message.price_microusd_per_hour,
        electricity_microusd_per_kwh=message.electricity_microusd_per_kwh,
        pue=message.pue or 1.0,
        billing_increment_seconds=message.billing_increment_seconds or 1,
    )
