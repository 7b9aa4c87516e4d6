"""Tells changes on the bus, as the events of the contract."""

from typing import Protocol

from ergonaut.events import Event, IntensityChanged, OfferChanged
from ergonaut.events.pricing import HourIntensity
from ergonaut.ids import derived_id
from ergonaut_pricing.domain import Offer, ZoneForecast


class Publisher(Protocol):
    """The one thing that is needed of the bus."""

    async def publish(self, event: Event) -> None:
        """Tell a fact, once however often it is told."""
        ...


class BusAnnouncer:
    """The announcer that talks to NATS."""

    def __init__(self, bus: Publisher) -> None:
        self._bus = bus

    async def offer_changed(self, offer: Offer, *, available: bool, change: str) -> None:
        await self._bus.publish(
            OfferChanged(
                event_id=derived_id("event", "offer", change),
                tenant=offer.tenant,
                offer_id=offer.offer_id,
                provider=offer.provider,
                region=offer.region,
                zone=offer.zone,
                machine_type=offer.machine_type,
                market=offer.market,
                vcpus=offer.vcpus,
                memory_gib=offer.memory_gib,
                accelerator=offer.accelerator,
                accelerator_count=offer.accelerator_count,
                price_microusd_per_hour=offer.price_microusd_per_hour,
                electricity_microusd_per_kwh=offer.electricity_microusd_per_kwh,
                power_watts_expected=offer.power_watts_expected,
                pue=offer.pue,
                billing_increment_seconds=offer.billing_increment_seconds,
                noted_at=offer.noted_at,
                source=offer.source,
                available=available,
            )
        )

    async def intensity_changed(self, forecast: ZoneForecast, *, change: str) -> None:
        hours = tuple(
            HourIntensity(
                starts_at=hour.starts_at,
                intensity_grams_per_kwh=hour.intensity_grams_per_kwh,
                range_fraction=hour.range_fraction,
                kind=hour.kind,
            )
            for hour in forecast.hours
        )
        await self._bus.publish(
            IntensityChanged(
                event_id=derived_id("event", "intensity", change),
                zone=forecast.zone,
                source=forecast.source,
                hours=hours,
                signal=forecast.signal,
                accounting=forecast.accounting,
                boundary=forecast.boundary,
            )
        )
