"""The use cases of pricing: answer what offers there are and how clean a zone will be, and tell whoever listens of changes."""

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime

from prometheus_client import Counter, Gauge

from ergonaut.errors import Unavailable
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_pricing.domain import (
    FORECAST_HOURS_DEFAULT,
    OFFER_KEYS,
    Host,
    LocalTerms,
    Offer,
    OfferQuery,
    Tables,
    ZoneForecast,
    cheapest_first,
    checked_hours,
    checked_query,
    checked_start,
    checked_zone,
    forecast,
    forecast_digest,
    intensity_key,
    newer_host,
    offer_key,
    offer_of_host,
    offer_of_text,
    offer_text,
    seconds_to_full_hour,
    tellable_zone,
    zones_in_use,
)
from ergonaut_pricing.ports import AnnouncedBook, Announcer, HostBook

WATCH_INTERVAL_SECONDS = 2.0
"""How late a watcher may hear of a change. Offers change by the hour; looking needs no queue that could overflow."""

ANNOUNCE_RETRY_SECONDS = 10.0
"""Pause after the bus was away; its own patience is 10 s already, and nothing is lost by telling later."""

log = get_logger(__name__)
_offers_known = Gauge("ergonaut_pricing_offers", "Offers known, of all tenants.")
_told = Counter("ergonaut_pricing_told_total", "Changes told, by what changed.", ["what"])


class Pricing:
    """Knows the offers and the grids."""

    def __init__(
        self,
        tables: Tables,
        terms: LocalTerms,
        *,
        hosts: HostBook,
        announced: AnnouncedBook,
        announcer: Announcer,
        clock: Clock,
    ) -> None:
        self._tables = tables
        self._terms = terms
        self._hosts = hosts
        self._announced = announced
        self._announcer = announcer
        self._clock = clock

    async def offers(self, query: OfferQuery, tenant: str) -> list[Offer]:
        """The offers that a tenant may take and that the query admits, cheapest first."""
        checked = checked_query(query)
        return cheapest_first(await self._all_offers(), checked, tenant)

    async def watch(self, query: OfferQuery, tenant: str) -> AsyncIterator[Offer]:
        """Every such offer, then each that is new or has changed, without end."""
        seen: dict[str, Offer] = {}
        while True:
            for offer in await self.offers(query, tenant):
                if seen.get(offer.offer_id) != offer:
                    seen[offer.offer_id] = offer
                    yield offer
            await self._clock.sleep(WATCH_INTERVAL_SECONDS)

    def forecast(self, zone: str, starts_at: datetime | None, hours: int) -> tuple[ZoneForecast, datetime]:
        """A zone's coming hours, and when this was said; from now on where no start is given."""
        issued_at = self._clock.now()
        first = checked_start(starts_at or issued_at)
        return forecast(self._tables, checked_zone(zone), first, checked_hours(hours)), issued_at

    async def host_reported(self, told: Host) -> None:
        """Take in what a host says of itself; its offer and its grid are told when they are new."""
        known = await self._hosts.host(told.tenant, told.name)
        newest = newer_host(known, told)
        if newest is not None:
            await self._hosts.keep(newest)
            log.info("host is on offer", tenant=told.tenant, host=told.name, zone=told.zone)
        # A report that says nothing new is told again all the same: the last attempt may have stopped half way.
        current = newest or known
        if current is not None:
            offer = offer_of_host(current, self._terms, self._tables.power)
            await self._tell_offers([offer])
            await self._tell_intensities(zones_in_use([offer]))

    async def announce(self) -> None:
        """Tell all that has changed since it was told last, and take from the market what is sold no more."""
        # Keys first: a host that reports meanwhile is then among the offers without being among the keys.
        keys = [key for key in await self._announced.keys() if key.startswith(OFFER_KEYS)]
        offers = await self._all_offers()
        await self._tell_offers(offers)
        await self._withdraw(set(keys) - {offer_key(offer) for offer in offers})
        await self._tell_intensities(zones_in_use(offers))

    async def announce_each_hour(self) -> None:
        """Announce now and at each full hour, for ever; while the bus is away, try again soon."""
        while True:
            try:
                await self.announce()
            except Unavailable as error:
                log.warning("changes will be told later", error=str(error))
                await self._clock.sleep(ANNOUNCE_RETRY_SECONDS)
                continue
            await self._clock.sleep(seconds_to_full_hour(self._clock.now()))

    async def _all_offers(self) -> list[Offer]:
        hosts = await self._hosts.all()
        offers = [*self._tables.offers, *(offer_of_host(host, self._terms, self._tables.power) for host in hosts)]
        _offers_known.set(len(offers))
        return offers

    async def _tell_offers(self, offers: Iterable[Offer]) -> None:
        for offer in offers:
            key, text = offer_key(offer), offer_text(offer)
            change = await self._change(key, text)
            if change:
                await self._announcer.offer_changed(offer, available=True, change=change)
                await self._announced.remember(key, text)
                _told.labels("offer").inc()

    async def _withdraw(self, keys: Iterable[str]) -> None:
        for key in sorted(keys):
            told = await self._announced.last(key)
            offer = offer_of_text(told.text) if told else None
            if told and offer:
                await self._announcer.offer_changed(offer, available=False, change=f"{key} {told.revision} gone")
                _told.labels("offer").inc()
            else:
                log.warning("offer is gone, and what it was can no longer be told", key=key)
            await self._announced.forget(key)

    async def _tell_intensities(self, zones: Sequence[str]) -> None:
        now = self._clock.now()
        for zone in filter(None, map(tellable_zone, zones)):
            coming = forecast(self._tables, zone, now, FORECAST_HOURS_DEFAULT)
            key, digest = intensity_key(zone), forecast_digest(coming)
            change = await self._change(key, digest)
            if change:
                await self._announcer.intensity_changed(coming, change=change)
                await self._announced.remember(key, digest)
                _told.labels("intensity").inc()

    async def _change(self, key: str, text: str) -> str:
        """A name for the change from what was told last to this text; empty where there is no change.

        The name is the same when telling is repeated after a crash, and another when the same thing is true again later.
        """
        told = await self._announced.last(key)
        if told is not None and told.text == text:
            return ""
        return f"{key} {told.revision if told else 0} {text}"
