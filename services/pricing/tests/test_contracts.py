"""The same promises, kept by the fakes and by the adapters on a real NATS."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from nats.js.client import JetStreamContext

from ergonaut.events import IntensityChanged, OfferChanged
from ergonaut_common.bus import Bus, open_bus
from ergonaut_common.settings import PlatformSettings
from ergonaut_pricing.adapters.announcer import BusAnnouncer
from ergonaut_pricing.adapters.buckets import KeyValueAnnouncedBook, KeyValueHostBook
from ergonaut_pricing.domain import Host, Tables, forecast
from ergonaut_pricing.fakes import FakeAnnouncedBook, FakeHostBook
from ergonaut_pricing.ports import AnnouncedBook, HostBook


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    async with open_bus(PlatformSettings(nats_url=nats_url), "pricing") as opened:
        await opened.ensure_streams("pricing")
        yield opened


@pytest.fixture(params=["fake", "real"])
async def announced(request: pytest.FixtureRequest) -> AsyncIterator[AnnouncedBook]:
    if request.param == "fake":
        yield FakeAnnouncedBook()
        return
    async with open_bus(PlatformSettings(nats_url=request.getfixturevalue("nats_url")), "pricing") as opened:
        yield KeyValueAnnouncedBook(await opened.key_value("pricing-announced"))


@pytest.fixture(params=["fake", "real"])
async def hosts(request: pytest.FixtureRequest) -> AsyncIterator[HostBook]:
    if request.param == "fake":
        yield FakeHostBook()
        return
    async with open_bus(PlatformSettings(nats_url=request.getfixturevalue("nats_url")), "pricing") as opened:
        yield KeyValueHostBook(await opened.key_value("pricing-hosts"))


async def test_what_was_told_is_remembered_with_a_revision_that_grows(announced: AnnouncedBook) -> None:
    assert await announced.last("offer.public.a") is None
    assert list(await announced.keys()) == []
    await announced.remember("offer.public.a", "one")
    first = await announced.last("offer.public.a")
    await announced.remember("offer.public.a", "two")
    second = await announced.last("offer.public.a")
    assert first is not None
    assert second is not None
    assert (first.text, second.text) == ("one", "two")
    assert second.revision > first.revision


async def test_what_is_forgotten_is_gone_and_may_be_forgotten_twice(announced: AnnouncedBook) -> None:
    await announced.remember("offer.public.a", "one")
    await announced.remember("intensity.us-ca", "two")
    await announced.forget("offer.public.a")
    await announced.forget("offer.public.a")
    assert await announced.last("offer.public.a") is None
    assert list(await announced.keys()) == ["intensity.us-ca"]


async def test_hosts_are_kept_by_tenant_and_name_and_the_newest_counts(hosts: HostBook, desk: Host) -> None:
    assert await hosts.host("default", "desk") is None
    assert list(await hosts.all()) == []
    others = replace(desk, tenant="other")
    bigger = replace(desk, vcpus=8)
    for host in (desk, others, bigger):
        await hosts.keep(host)
    assert await hosts.host("default", "desk") == bigger
    assert list(await hosts.all()) == [bigger, others]


async def test_a_damaged_host_hides_no_other_and_is_replaced_by_its_next_report(bus: Bus, desk: Host) -> None:
    bucket = await bus.key_value("pricing-hosts")
    book = KeyValueHostBook(bucket)
    await book.keep(desk)
    await bucket.put("default.attic", b'{"tenant": "default"}')
    assert list(await book.all()) == [desk]
    assert await book.host("default", "attic") is None
    attic = replace(desk, name="attic")
    await book.keep(attic)
    assert list(await book.all()) == [attic, desk]


async def test_changes_arrive_as_events_and_once_however_often_they_are_told(
    bus: Bus, small: Tables, desk: Host
) -> None:
    announcer = BusAnnouncer(bus)
    offer = small.offers[0]
    told = forecast(small, "SE", desk.reported_at, 2)
    for _ in range(2):
        await announcer.offer_changed(offer, available=True, change="first")
        await announcer.intensity_changed(told, change="first")
    await announcer.offer_changed(offer, available=False, change="gone")
    messages = await _all_messages(bus.jetstream)
    assert len(messages) == 3
    changed = OfferChanged.model_validate_json(messages[0].data)
    intensity = IntensityChanged.model_validate_json(messages[1].data)
    gone = OfferChanged.model_validate_json(messages[2].data)
    assert (changed.offer_id, changed.price_microusd_per_hour, changed.available) == (offer.offer_id, 400_000, True)
    assert [hour.intensity_grams_per_kwh for hour in intensity.hours] == [20, 60]
    assert (gone.offer_id, gone.available) == (offer.offer_id, False)


async def _all_messages(jetstream: JetStreamContext) -> list[Any]:
    count = (await jetstream.stream_info("ERGONAUT_PRICING")).state.messages
    return [await jetstream.get_msg("ERGONAUT_PRICING", seq) for seq in range(1, count + 1)]
