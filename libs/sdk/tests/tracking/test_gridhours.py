"""The tracker's intensity at the time of use, with `pricing` there, away, and slow to answer."""

from datetime import UTC, datetime, timedelta

import pytest

from ergonaut.carbon import Intensity, yearly_intensity
from ergonaut.errors import Unavailable
from ergonaut.events import IntensityChanged
from ergonaut.events.pricing import HourIntensity, IntensityKind
from ergonaut.metering import Place
from ergonaut.tracking.gridhours import ASK_AGAIN_SECONDS, GridHours, asker_from
from ergonaut.tracking.places import embodied_per_hour, place_intensity, pue_source_of

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def told(zone: str, first: datetime = NOON) -> IntensityChanged:
    hours = tuple(
        HourIntensity(
            starts_at=first + timedelta(hours=hour),
            intensity_grams_per_kwh=300 + hour,
            range_fraction=0.2,
            kind=IntensityKind.TYPICAL,
        )
        for hour in range(2)
    )
    return IntensityChanged(zone=zone, source="pricing", hours=hours)


def test_the_hour_of_use_counts_once_pricing_has_answered_and_the_year_before_and_after() -> None:
    hours = GridHours(yearly_intensity("DE"), told)
    assert hours.at(NOON).kind == "yearly"
    hours.wait(10)
    first, second, later = (hours.at(NOON + timedelta(hours=hour)) for hour in (0, 1, 2))
    assert [(one.grams_per_kwh, one.kind) for one in (first, second)] == [(300, "typical"), (301, "typical")]
    assert (later.grams_per_kwh, later.kind) == (381, "yearly")


def test_a_pricing_that_is_away_leaves_the_yearly_factor_and_is_asked_again_only_later() -> None:
    asked, clock = [], [0.0]

    def away(zone: str) -> IntensityChanged:
        asked.append(zone)
        raise Unavailable("nobody is there")

    hours = GridHours(yearly_intensity("DE"), away, lambda: clock[0])
    for seconds in (0.0, 1.0, ASK_AGAIN_SECONDS - 1, ASK_AGAIN_SECONDS):
        clock[0] = seconds
        assert hours.at(NOON).kind == "yearly"
        hours.wait(10)
    assert asked == ["DE", "DE"]


def test_the_hours_that_were_told_stay_when_the_next_are_told() -> None:
    clock, firsts = [0.0], iter((NOON, NOON + timedelta(hours=2)))
    hours = GridHours(yearly_intensity("DE"), lambda zone: told(zone, next(firsts)), lambda: clock[0])
    hours.at(NOON)
    hours.wait(10)
    clock[0] = ASK_AGAIN_SECONDS
    hours.at(NOON + timedelta(hours=2))
    hours.wait(10)
    late = hours.at(NOON + timedelta(hours=1, minutes=59))
    assert (late.grams_per_kwh, late.kind) == (301, "typical")


def test_the_place_of_a_host_that_nobody_set_is_found_out_once_and_then_its_hours() -> None:
    asked = []

    def place(anew: bool) -> Place:
        asked.append(anew)
        return Place("DE")

    hours = GridHours(yearly_intensity(""), told, place=place)
    assert hours.at(NOON).kind == "world-average"
    hours.wait(10)
    assert (hours.at(NOON).zone, hours.at(NOON).grams_per_kwh) == ("DE", 300)
    assert (hours.at(NOON - timedelta(days=1)).kind, asked) == ("yearly", [False])


def test_a_place_that_was_begun_to_be_found_is_there_for_the_first_sample() -> None:
    hours = GridHours(yearly_intensity(""), None, place=lambda _anew: Place("FR"))
    hours.begin()
    hours.wait(10)
    assert (hours.at(NOON).zone, hours.at(NOON).grams_per_kwh) == ("FR", 56)


def test_a_cloud_that_is_silent_at_first_is_asked_again_after_growing_pauses_and_not_for_ever() -> None:
    clock, asked, answers_at = [0.0], list[float](), 4

    def place(anew: bool) -> Place:
        asked.append(clock[0])
        assert anew == (len(asked) > 1)
        return Place("FR") if len(asked) >= answers_at else Place(may_be_told_later=True)

    hours = GridHours(yearly_intensity(""), None, lambda: clock[0], place=place)
    hours.begin()
    for second in range(100):
        clock[0] = float(second)
        hours.at(NOON)
        hours.wait(10)
    assert (hours.at(NOON).zone, asked) == ("FR", [0.0, 10.0, 30.0, 70.0])

    asked.clear()
    answers_at = 1_000
    hours = GridHours(yearly_intensity(""), None, lambda: clock[0], place=place)
    for hour in range(48):
        clock[0] = hour * 3600.0
        hours.at(NOON)
        hours.wait(10)
    assert len(asked) == 12


def test_a_host_whose_place_nobody_tells_stays_at_the_worlds_average() -> None:
    hours = GridHours(yearly_intensity(""), None, place=lambda _anew: Place())
    hours.at(NOON)
    hours.wait(10)
    assert (hours.at(NOON).kind, hours.at(NOON).zone) == ("world-average", "")


@pytest.mark.parametrize("fallback", [yearly_intensity(""), Intensity("DE", 20, "yearly", "settings")])
def test_neither_an_unknown_place_nor_a_figure_set_by_hand_is_asked_for(fallback: Intensity) -> None:
    asked: list[str] = []

    def ask(zone: str) -> IntensityChanged:
        asked.append(zone)
        raise OSError(zone)

    hours = GridHours(fallback, ask)
    hours.begin()
    assert hours.at(NOON) == fallback
    hours.wait(10)
    assert (hours.at(NOON), asked) == (fallback, [])


def test_pricing_is_asked_also_for_a_zone_that_our_own_factors_leave_out() -> None:
    fallback = yearly_intensity("XK")
    assert fallback.kind == IntensityKind.WORLD_AVERAGE.value
    hours = GridHours(fallback, told)
    hours.at(NOON)
    hours.wait(10)
    assert (hours.at(NOON).grams_per_kwh, hours.at(NOON).kind) == (300, "typical")


def test_without_the_address_of_a_pricing_nobody_is_asked() -> None:
    assert asker_from({}) is None
    assert asker_from({"ERGONAUT_PRICING_ADDRESS": "127.0.0.1:7402"}) is not None


def test_a_place_is_what_was_set_else_the_zones_year_else_the_world() -> None:
    own = place_intensity({"ERGONAUT_INTENSITY_GRAMS_PER_KWH": "20"}, "DE")
    assert (own.grams_per_kwh, own.source, own.zone) == (20, "settings", "DE")
    assert place_intensity({}, "DE").grams_per_kwh == 381
    assert place_intensity({}, "").kind == "world-average"


def test_the_machine_of_a_lease_and_one_that_was_told_of_count_and_any_other_is_not_known() -> None:
    assert embodied_per_hour({}, None) == 0
    assert embodied_per_hour({"ERGONAUT_EMBODIED_MACHINE": "laptop"}, None) == pytest.approx(280_000 / 35_064)


def test_a_pue_that_nobody_told_says_so() -> None:
    assert pue_source_of({}, None) == "not told"
    assert pue_source_of({"ERGONAUT_PUE": "1.2"}, None) == "settings"
