"""The use cases on their fakes: what is told, when, and what a restart or an outage changes."""

import asyncio
import contextlib
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ergonaut.errors import Refused, Unavailable
from ergonaut.units import MicroUsd
from ergonaut_pricing.domain import Host, OfferQuery
from ergonaut_pricing.service import ANNOUNCE_RETRY_SECONDS, WATCH_INTERVAL_SECONDS


async def test_at_the_start_every_offer_and_every_zone_in_use_is_told(world: Any) -> None:
    await world.pricing.announce()
    assert [offer for offer, available in world.announcer.offers if available] == list(world.tables.offers)
    (told,) = world.announcer.forecasts
    assert (told.zone, len(told.hours)) == ("SE", 24)


async def test_a_restart_tells_nothing_that_was_told_already(world: Any) -> None:
    await world.pricing.announce()
    told = len(world.announcer.offers), len(world.announcer.forecasts)
    await world.restarted().announce()
    assert (len(world.announcer.offers), len(world.announcer.forecasts)) == told


async def test_after_a_restart_with_another_price_only_that_offer_is_told(world: Any) -> None:
    await world.pricing.announce()
    world.announcer.offers.clear()
    first, second = world.tables.offers
    dearer = replace(first, price_microusd_per_hour=MicroUsd(500_000))
    await world.restarted(replace(world.tables, offers=(dearer, second))).announce()
    assert world.announcer.offers == [(dearer, True)]


async def test_a_price_that_returns_to_what_it_was_is_told_again(world: Any) -> None:
    first, second = world.tables.offers
    other = replace(world.tables, offers=(replace(first, vcpus=9), second))
    for tables in (world.tables, other, world.tables):
        await world.restarted(tables).announce()
    assert [offer.vcpus for offer, _ in world.announcer.offers if offer.market == first.market] == [8, 9, 8]


async def test_an_offer_that_left_the_tables_is_taken_from_the_market_once(world: Any) -> None:
    await world.pricing.announce()
    world.announcer.offers.clear()
    gone, kept = world.tables.offers
    pricing = world.restarted(replace(world.tables, offers=(kept,)))
    await pricing.announce()
    await pricing.announce()
    assert world.announcer.offers == [(gone, False)]


async def test_a_telling_that_was_cut_off_before_it_was_remembered_is_told_once(world: Any) -> None:
    remember = world.announced.remember

    async def die(key: str, text: str) -> None:
        raise Unavailable("killed")

    world.announced.remember = die
    with pytest.raises(Unavailable):
        await world.pricing.announce()
    world.announced.remember = remember
    await world.restarted().announce()
    assert [offer for offer, _ in world.announcer.offers] == list(world.tables.offers)


async def test_each_full_hour_tells_the_hours_that_are_next_and_no_offer_again(world: Any) -> None:
    task = asyncio.create_task(world.pricing.announce_each_hour())
    await world.clock.advance(0)
    assert len(world.announcer.forecasts) == 1
    await world.clock.advance(39 * 60)
    assert len(world.announcer.forecasts) == 1
    await world.clock.advance(61)
    await world.clock.advance(3600)
    await _stop(task)
    starts = [told.hours[0].starts_at.hour for told in world.announcer.forecasts]
    assert starts == [10, 11, 12]
    assert len(world.announcer.offers) == 2


async def test_while_the_bus_is_away_telling_is_tried_again_soon(world: Any) -> None:
    world.announcer.failing = Unavailable("NATS is away")
    task = asyncio.create_task(world.pricing.announce_each_hour())
    await world.clock.advance(ANNOUNCE_RETRY_SECONDS * 2)
    assert not world.announcer.offers
    world.announcer.failing = None
    await world.clock.advance(ANNOUNCE_RETRY_SECONDS)
    await _stop(task)
    assert len(world.announcer.offers) == 2


async def test_a_host_that_reports_is_on_offer_to_its_tenant_also_after_a_restart(world: Any, desk: Host) -> None:
    await world.pricing.host_reported(desk)
    pricing = world.restarted()
    assert [offer.offer_id for offer in await pricing.offers(OfferQuery(frozenset({"local"})), "default")] == [
        "local/desk/machine/free"
    ]
    assert await pricing.offers(OfferQuery(frozenset({"local"})), "another") == []


async def test_a_host_in_a_new_zone_has_its_grid_told_at_once(world: Any, desk: Host) -> None:
    await world.pricing.announce()
    await world.pricing.host_reported(replace(desk, zone="FR"))
    assert [told.zone for told in world.announcer.forecasts] == ["SE", "FR"]


async def test_a_host_without_a_zone_is_on_offer_and_no_grid_is_told_for_it(world: Any, desk: Host) -> None:
    await world.pricing.host_reported(replace(desk, zone=""))
    assert [offer.region for offer, _ in world.announcer.offers] == ["desk"]
    assert world.announcer.forecasts == []


async def test_the_same_report_twice_and_an_old_one_late_change_nothing(world: Any, desk: Host) -> None:
    bigger = replace(desk, vcpus=8, reported_at=desk.reported_at + timedelta(minutes=1))
    for report in (desk, bigger, bigger, desk):
        await world.pricing.host_reported(report)
    assert [offer.vcpus for offer, _ in world.announcer.offers] == [4, 8]
    assert (await world.hosts.all()) == [bigger]


async def test_a_report_whose_telling_failed_is_told_when_it_is_delivered_again(world: Any, desk: Host) -> None:
    world.announcer.failing = Unavailable("NATS is away")
    with pytest.raises(Unavailable):
        await world.pricing.host_reported(desk)
    world.announcer.failing = None
    await world.pricing.host_reported(desk)
    assert [offer.region for offer, _ in world.announcer.offers] == ["desk"]


async def test_a_watcher_sees_all_offers_and_then_each_new_one(world: Any, desk: Host) -> None:
    seen: list[str] = []

    async def watch() -> None:
        async for offer in world.pricing.watch(OfferQuery(), "default"):
            seen.append(offer.offer_id)

    task = asyncio.create_task(watch())
    await world.clock.advance(WATCH_INTERVAL_SECONDS * 3)
    assert len(seen) == 2
    await world.pricing.host_reported(desk)
    await world.clock.advance(WATCH_INTERVAL_SECONDS)
    await _stop(task)
    assert seen[2:] == ["local/desk/machine/free"]


def test_a_forecast_without_a_start_begins_now_and_says_when_it_was_made(world: Any) -> None:
    told, issued_at = world.pricing.forecast("SE", None, 0)
    assert issued_at == world.clock.now()
    assert (told.hours[0].starts_at, len(told.hours)) == (issued_at.replace(minute=0), 24)


@pytest.mark.parametrize(("zone", "year", "field"), [("Z" * 64, 2026, "zone"), ("SE", 9999, "starts_at")])
def test_a_forecast_that_cannot_be_meant_is_refused_by_its_field(world: Any, zone: str, year: int, field: str) -> None:
    with pytest.raises(Refused) as refusal:
        world.pricing.forecast(zone, world.clock.now().replace(year=year), 1)
    assert refusal.value.field == field


async def _stop(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
