"""The rules of pricing, by tables and by properties."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergonaut.carbon import yearly_factor
from ergonaut.errors import Refused
from ergonaut.events.pricing import IntensityKind, Market
from ergonaut.units import MicroUsd, Watts
from ergonaut_pricing.adapters.tables import load_tables
from ergonaut_pricing.domain import (
    DayShape,
    Host,
    LocalTerms,
    Offer,
    OfferQuery,
    PowerModel,
    Tables,
    cheapest_first,
    checked_hours,
    checked_query,
    forecast,
    newer_host,
    offer_of_host,
    offer_of_text,
    offer_text,
    seconds_to_full_hour,
    tellable_zone,
)

TABLES = load_tables()
seconds = st.integers(1_577_836_800, 2_051_222_400)
moments = seconds.map(lambda second: datetime.fromtimestamp(second, UTC))
known_zones = st.sampled_from(sorted(set(TABLES.zones) - {"WORLD"}))


@given(zone=known_zones, starts_at=moments)
def test_any_24_hours_of_a_zone_average_to_its_yearly_factor(zone: str, starts_at: datetime) -> None:
    told = forecast(TABLES, zone, starts_at, 24)
    mean = sum(hour.intensity_grams_per_kwh for hour in told.hours) / 24
    assert mean == pytest.approx(TABLES.zones[zone].intensity_grams_per_kwh, rel=1e-6)
    bent = bool(TABLES.zones[zone].shape)
    assert {hour.kind for hour in told.hours} == {IntensityKind.TYPICAL if bent else IntensityKind.YEARLY}
    assert told.boundary == TABLES.zones[zone].boundary


@given(zone=known_zones, starts_at=moments, hours=st.integers(1, 168))
def test_a_forecast_has_as_many_full_hours_as_asked_one_after_another(
    zone: str, starts_at: datetime, hours: int
) -> None:
    told = forecast(TABLES, zone, starts_at, hours).hours
    assert len(told) == hours
    assert told[0].starts_at <= starts_at < told[0].starts_at + timedelta(hours=1)
    assert all(later.starts_at - earlier.starts_at == timedelta(hours=1) for earlier, later in pairwise(told))
    assert all(hour.intensity_grams_per_kwh > 0 for hour in told)


@given(zone=st.text(max_size=20).filter(lambda zone: yearly_factor(zone) is None), starts_at=moments)
def test_an_unknown_zone_gets_the_worlds_average_and_says_so(zone: str, starts_at: datetime) -> None:
    told = forecast(TABLES, zone, starts_at, 3)
    assert [hour.intensity_grams_per_kwh for hour in told.hours] == [475, 475, 475]
    assert {hour.kind for hour in told.hours} == {IntensityKind.WORLD_AVERAGE}
    assert told.source.startswith("world average")
    assert told.zone == zone


def test_a_part_of_a_country_takes_the_countrys_factor_says_so_and_is_trusted_less() -> None:
    told = forecast(TABLES, "SE-SE3", datetime(2026, 1, 1, tzinfo=UTC), 24)
    assert sum(hour.intensity_grams_per_kwh for hour in told.hours) / 24 == pytest.approx(41)
    # That of a part of a country, 1.0, and that of the typical day.
    assert [hour.range_fraction for hour in told.hours] == [pytest.approx(1.4)] * 24
    assert "that of SE as a whole" in told.source
    assert told.zone == "SE-SE3"


def test_a_day_is_bent_by_solar_time_not_by_utc(small: Tables) -> None:
    # Sweden's solar time is an hour ahead: its 12th hour, when the swing begins, is 11:00 UTC.
    told = forecast(small, "se", datetime(2026, 1, 1, 10, 59, tzinfo=UTC), 2)
    assert [hour.intensity_grams_per_kwh for hour in told.hours] == [20, 60]


def test_a_start_in_another_time_zone_is_the_same_hour(small: Tables) -> None:
    tokyo = datetime(2026, 1, 1, 19, 59, tzinfo=timezone(timedelta(hours=9)))
    assert forecast(small, "SE", tokyo, 1) == forecast(small, "SE", datetime(2026, 1, 1, 10, tzinfo=UTC), 1)


def test_half_an_hour_between_two_hours_is_half_of_each() -> None:
    shape = DayShape("steps", tuple([1.0, 2.0] * 12), 0.1)
    assert [shape.at(0.5), shape.at(23.5), shape.at(-0.75)] == [1.5, 1.5, pytest.approx(1.75)]


@pytest.mark.parametrize(("asked", "told"), [(0, 24), (1, 1), (168, 168)])
def test_no_hours_stand_for_a_day_and_a_week_is_the_most(asked: int, told: int) -> None:
    assert checked_hours(asked) == told


@pytest.mark.parametrize("hours", [169, 10_000, -1])
def test_more_than_a_week_is_refused_by_its_field(hours: int) -> None:
    with pytest.raises(Refused) as refusal:
        checked_hours(hours)
    assert refusal.value.field == "hours"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        (OfferQuery(providers=frozenset({"acme"})), "providers"),
        (OfferQuery(vcpus_min=-1), "vcpus_min"),
        (OfferQuery(vcpus_min=float("nan")), "vcpus_min"),
        (OfferQuery(memory_gib_min=float("inf")), "memory_gib_min"),
    ],
)
def test_a_query_that_cannot_be_meant_is_refused_by_its_field(query: OfferQuery, field: str) -> None:
    with pytest.raises(Refused) as refusal:
        checked_query(query)
    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("query", "admitted"),
    [
        (OfferQuery(), True),
        (OfferQuery(providers=frozenset({"aws", "gcp"})), True),
        (OfferQuery(providers=frozenset({"gcp"})), False),
        (OfferQuery(vcpus_min=16, memory_gib_min=64), True),
        (OfferQuery(vcpus_min=16.5), False),
        (OfferQuery(memory_gib_min=64.1), False),
        (OfferQuery(accelerator="h100-80gb", accelerator_count_min=2), True),
        (OfferQuery(accelerator="H100"), False),
        (OfferQuery(accelerator_count_min=3), False),
    ],
)
def test_a_query_admits_what_has_all_that_is_asked(
    make_offer: Callable[..., Offer], query: OfferQuery, admitted: bool
) -> None:
    offer = make_offer(vcpus=16, memory_gib=64, accelerator="H100-80GB", accelerator_count=2)
    assert query.admits(offer) is admitted


@given(least=st.floats(0, 300), accelerators=st.integers(0, 8))
def test_offers_come_cheapest_first_and_none_that_fits_is_left_out(least: float, accelerators: int) -> None:
    query = OfferQuery(vcpus_min=least, accelerator_count_min=accelerators)
    listed = cheapest_first(TABLES.offers, query, "default")
    prices = [offer.full_hour_microusd for offer in listed]
    assert prices == sorted(prices)
    assert {offer.offer_id for offer in listed} == {
        offer.offer_id for offer in TABLES.offers if offer.vcpus >= least and offer.accelerator_count >= accelerators
    }


def test_electricity_that_is_paid_on_top_counts_when_offers_are_compared(make_offer: Callable[..., Offer]) -> None:
    free = make_offer(
        provider="local",
        price_microusd_per_hour=MicroUsd(0),
        electricity_microusd_per_kwh=MicroUsd(200_000),
        power_watts_expected=Watts(500),
        pue=1.5,
    )
    assert free.full_hour_microusd == 150_000
    cheap, dear = make_offer(price_microusd_per_hour=MicroUsd(149_999)), make_offer(region="eu-west-3")
    assert cheapest_first([dear, free, cheap], OfferQuery(), "default") == [cheap, free, dear]


def test_a_tenant_sees_list_prices_and_its_own_machines_only(make_offer: Callable[..., Offer]) -> None:
    public, mine, theirs = make_offer(), make_offer(tenant="a"), make_offer(tenant="b")
    assert cheapest_first([public, mine, theirs], OfferQuery(), "a") == [public, mine]


def test_a_machine_of_ours_has_no_rent_but_its_electricity(desk: Host) -> None:
    model = PowerModel(4, 0.5, {"H100-80GB": 700}, 300)
    host = replace(desk, accelerator="H100-80GB", accelerator_count=2)
    offer = offer_of_host(host, LocalTerms(MicroUsd(150_000), 1.1), model)
    assert offer.offer_id == "local/desk/machine/free"
    assert offer.market == Market.FREE
    assert (offer.price_microusd_per_hour, offer.electricity_microusd_per_kwh) == (0, 150_000)
    assert offer.power_watts_expected == 4 * 4 + 16 * 0.5 + 2 * 700
    assert (offer.tenant, offer.zone, offer.pue) == ("default", "SE", 1.1)
    assert "not measured" in offer.source


def test_an_accelerator_that_nobody_knows_is_taken_to_draw_some_power() -> None:
    model = PowerModel(1, 1, {}, 300)
    assert model.watts(vcpus=1, memory_gib=1, accelerator="X9000", accelerator_count=2) == 602


def test_a_report_counts_when_it_is_newer_and_says_something_new(desk: Host) -> None:
    later = desk.reported_at + timedelta(seconds=1)
    bigger = replace(desk, vcpus=8, reported_at=later)
    assert newer_host(None, desk) == desk
    assert newer_host(desk, bigger) == bigger
    assert newer_host(bigger, desk) is None
    assert newer_host(desk, replace(desk, reported_at=later)) is None


def test_an_offer_is_the_same_after_it_was_remembered(shipped: Tables) -> None:
    assert [offer_of_text(offer_text(offer)) for offer in shipped.offers] == list(shipped.offers)


def test_an_offer_that_another_version_remembered_is_not_made_up(make_offer: Callable[..., Offer]) -> None:
    assert offer_of_text(offer_text(make_offer()).replace('"vcpus"', '"cores"')) is None


@pytest.mark.parametrize(
    ("zone", "told"), [("US-CA", "US-CA"), ("BR_S", "BR_S"), ("", ""), ("moon base!", ""), ("a.b", "")]
)
def test_a_zone_is_told_when_it_can_stand_in_a_subject(zone: str, told: str) -> None:
    assert tellable_zone(zone) == told


@given(moment=moments)
def test_after_the_wait_it_is_a_full_hour(moment: datetime) -> None:
    wait = seconds_to_full_hour(moment)
    then = moment + timedelta(seconds=wait)
    assert 0 < wait <= 3600
    assert abs((then - then.replace(minute=0, second=0, microsecond=0)).total_seconds()) < 1e-3
