"""Estimates of the same run under other offers and at other hours."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergonaut.units import carbon_grams
from ergonaut_ledger.domain.elsewhere import (
    HourOfDay,
    Measured,
    Need,
    Offer,
    method_sentence,
    other_hours,
    other_places,
    rent_usd,
)

HERE = Offer("local/h/machine/free", "local", "h", "DE", "machine", 4, 16, "", 0, 0, 150_000, 1.0, 1)
THERE = Offer("aws/fr/m1/spot", "aws", "fr", "FR", "m1", 4, 16, "", 0, 360_000, 0, 1.2, 60)
DAYS = {
    "DE": {hour: HourOfDay(300.0 + hour, "typical") for hour in range(24)},
    "FR": {hour: HourOfDay(50.0, "typical") for hour in range(24)},
}


def measured(seconds: float = 30, joules: float = 3_600, at: datetime = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)) -> Measured:  # fmt: skip  # noqa: E501
    return Measured(HERE, at, seconds, joules, HourOfDay(400.0, "measured"))


def test_another_place_has_its_own_intensity_pue_and_rent() -> None:
    own, there = other_places(measured(), Need(), [THERE], DAYS)
    assert there.offer == THERE
    assert there.carbon_grams_co2e == pytest.approx(0.001 * 50 * 1.2)
    assert there.cost_usd == pytest.approx(0.36 / 60)
    assert own.offer == HERE


def test_the_runs_own_place_is_reckoned_with_its_own_samples_intensity() -> None:
    [own] = other_places(measured(), Need(), [HERE], DAYS)
    assert own.carbon_grams_co2e == pytest.approx(0.4)
    assert own.cost_usd == pytest.approx(0.00015)
    assert own.intensity_kind == "measured"


def test_electricity_is_paid_at_the_buildings_meter_here_and_elsewhere() -> None:
    here = replace(measured(), own=replace(HERE, pue=1.2))
    there = replace(THERE, price_microusd_per_hour=0, electricity_microusd_per_kwh=300_000, pue=1.5)
    own, other = other_places(here, Need(), [there], DAYS)
    assert own.cost_usd == pytest.approx(0.001 * 1.2 * 0.15)
    assert other.cost_usd == pytest.approx(0.001 * 1.5 * 0.30)


def test_places_are_cheapest_first_then_cleanest() -> None:
    dirty = replace(THERE, offer_id="x", zone="DE")
    dear = replace(THERE, offer_id="y", price_microusd_per_hour=720_000)
    assert [place.offer.offer_id for place in other_places(measured(), Need(), [dear, dirty, THERE], DAYS)] == [
        HERE.offer_id,
        THERE.offer_id,
        "x",
        "y",
    ]


@pytest.mark.parametrize(
    ("need", "fits"),
    [
        (Need(), True),
        (Need(vcpus=5), False),
        (Need(memory_gib=17), False),
        (Need(accelerator="H100-80GB", accelerator_count=1), False),
    ],
)
def test_only_machines_that_could_carry_the_run_are_told(need: Need, fits: bool) -> None:
    assert (THERE in [place.offer for place in other_places(measured(), need, [THERE], DAYS)]) is fits


def test_an_accelerator_must_be_the_same_and_enough() -> None:
    need = Need(accelerator="H100-80GB", accelerator_count=2)
    offers = [
        replace(THERE, offer_id=f"{name}-{count}", accelerator=name, accelerator_count=count)
        for name, count in [("H100-80GB", 2), ("H100-80GB", 1), ("A100-80GB", 8)]
    ]
    found = {place.offer.offer_id for place in other_places(measured(), need, offers, DAYS)}
    assert found == {"H100-80GB-2", HERE.offer_id}


def test_an_offer_in_a_zone_that_nobody_knows_is_left_out() -> None:
    unknown = replace(THERE, zone="")
    assert [place.offer for place in other_places(measured(), Need(), [unknown], DAYS)] == [HERE]


def weighed_by(kind: str, **changes: bool) -> Measured:
    return replace(measured(), own_hour=HourOfDay(400.0, kind), **changes)


def test_each_hour_of_the_day_is_told_in_order_and_its_own_is_as_measured() -> None:
    hours = other_hours(weighed_by("typical"), DAYS)
    assert [hour.starts_at.hour for hour in hours] == list(range(24))
    assert hours[12].carbon_grams_co2e == pytest.approx(0.4)
    assert hours[3].carbon_grams_co2e == pytest.approx(0.303)


@pytest.mark.parametrize("kind", ["yearly", "world-average", "typical and yearly", "measured"])
def test_an_hour_is_held_against_hours_that_rest_on_the_same(kind: str) -> None:
    own, other = [other_hours(weighed_by(kind), DAYS)[hour] for hour in (12, 3)]
    assert (own.carbon_grams_co2e, own.intensity_kind) == (pytest.approx(0.312), "typical")
    assert (other.carbon_grams_co2e, other.intensity_kind) == (pytest.approx(0.303), "typical")


def test_hours_that_were_forecast_are_like_those_that_were_measured() -> None:
    days = {"DE": {hour: HourOfDay(300.0 + hour, "forecast") for hour in range(24)}}
    assert other_hours(weighed_by("measured"), days)[12].carbon_grams_co2e == pytest.approx(0.4)


def test_a_place_is_not_held_against_a_yearly_figure_where_the_hours_of_its_own_zone_are_known() -> None:
    own, there = other_places(weighed_by("yearly"), Need(), [THERE], DAYS)
    assert (own.carbon_grams_co2e, own.intensity_kind) == (pytest.approx(0.312), "typical")
    [own, there] = other_places(weighed_by("yearly"), Need(), [THERE], {"FR": DAYS["FR"]})
    assert (own.intensity_kind, there.intensity_kind) == ("yearly", "typical")


def test_a_figure_that_was_set_by_hand_stands_for_all_hours_and_is_no_zones() -> None:
    by_hand = weighed_by("yearly", has_own_figure=True)
    assert {hour.intensity_kind for hour in other_hours(by_hand, DAYS)} == {"yearly"}
    [own] = other_places(by_hand, Need(), [HERE], DAYS)
    assert own.carbon_grams_co2e == pytest.approx(0.4)


def test_without_a_known_day_every_hour_is_as_its_own() -> None:
    hours = other_hours(measured(), {})
    assert len(hours) == 24
    assert [hour.carbon_grams_co2e for hour in hours] == pytest.approx([0.4] * 24)


def test_an_hour_that_is_not_known_is_left_out() -> None:
    day = {hour: value for hour, value in DAYS["DE"].items() if hour != 3}
    assert 3 not in {hour.starts_at.hour for hour in other_hours(measured(), {"DE": day})}


def test_a_run_over_several_hours_is_weighed_by_its_time_in_each() -> None:
    night = other_hours(measured(seconds=3600, at=datetime(2026, 3, 1, 12, 30, tzinfo=UTC)), DAYS)[23]
    assert night.carbon_grams_co2e == pytest.approx((323 + 300) / 2 / 1000)


@given(st.floats(0, 1e8), st.floats(0, 1e6))
def test_a_flat_zone_gives_the_same_grams_at_every_hour(joules: float, seconds: float) -> None:
    flat = {"DE": {hour: HourOfDay(400.0, "yearly") for hour in range(24)}}
    for hour in other_hours(measured(seconds, joules), flat):
        assert hour.carbon_grams_co2e == pytest.approx(carbon_grams(joules, 400.0))


@given(st.floats(0, 1e7), st.integers(1, 86_400))
def test_rent_covers_the_time_by_less_than_one_increment_more(seconds: float, increment: int) -> None:
    offer = replace(THERE, billing_increment_seconds=increment, price_microusd_per_hour=3_600_000_000)
    paid_seconds = rent_usd(offer, seconds)
    assert seconds - 1e-6 <= paid_seconds < seconds + increment + 1e-6


def test_the_method_says_what_was_not_measured() -> None:
    assert "gpu0 was not measured" in method_sentence(["gpu0"])
    assert "not measured" not in method_sentence([])
