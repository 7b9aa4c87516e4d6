"""What a joule weighs and costs by place and hour, and what each figure says of itself."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from ergonaut.carbon import Intensity, yearly_intensity
from ergonaut.events import IntensityChanged
from ergonaut.events.pricing import Accounting, Boundary, HourIntensity, IntensityKind, Signal
from ergonaut_common.bus import open_bus
from ergonaut_common.clock import FakeClock
from ergonaut_common.settings import PlatformSettings
from ergonaut_gateway.adapters.grid import ZONES_MAX, GridHours, following_hours
from ergonaut_gateway.domain.electricity import Electricity, Place
from ergonaut_gateway.service.places import Places

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
KWH = 3_600_000.0
TOLD = Intensity("FR", 40.0, "measured", "the grid", range_fraction=0.1)
HOST = Electricity(Intensity("DE", 300.0, "measured", "the grid", range_fraction=0.2), 1.5, "settings", 0.2)


def intensity_told(zone: str, *grams: float, minutes: float = 0.0, **more: object) -> IntensityChanged:
    """So many grams in the hours from noon on, told so many minutes after noon."""
    hours = tuple(
        HourIntensity(
            starts_at=NOON + timedelta(hours=at),
            intensity_grams_per_kwh=each,
            range_fraction=0.1,
            kind=IntensityKind.MEASURED,
        )
        for at, each in enumerate(grams)
    )
    occurred_at = NOON + timedelta(minutes=minutes)
    return IntensityChanged(zone=zone, source="the grid", hours=hours, occurred_at=occurred_at, **more)  # type: ignore[arg-type]


# By the hour.


async def test_each_hour_of_a_zone_has_its_own_figure_however_the_zone_is_written() -> None:
    clock = FakeClock(NOON)
    hours = GridHours(clock)
    await hours.hear(intensity_told("US-CAL-CISO", 10, 20, boundary=Boundary.DIRECT))
    now = hours.now("us_cal_ciso")
    assert now is not None
    assert (now.grams_per_kwh, now.kind, now.range_fraction, now.boundary) == (10, "measured", 0.1, Boundary.DIRECT)
    await clock.advance(3600)
    later = hours.now("US-CAL-CISO")
    assert later is not None
    assert later.grams_per_kwh == 20
    await clock.advance(3600)
    assert hours.now("US-CAL-CISO") is None, "nobody told of this hour"
    assert hours.now("FR") is None


async def test_what_is_told_twice_late_or_by_a_tenant_changes_nothing() -> None:
    hours = GridHours(FakeClock(NOON))
    await hours.hear(intensity_told("FR", 10, minutes=5))
    for event in (intensity_told("FR", 99), intensity_told("FR", 98, minutes=9, tenant="somebody")):
        await hours.hear(event)
    now = hours.now("FR")
    assert now is not None
    assert now.grams_per_kwh == 10
    await hours.hear(intensity_told("FR", 30, minutes=6))
    newer = hours.now("FR")
    assert newer is not None
    assert newer.grams_per_kwh == 30


async def test_zones_without_end_do_not_fill_the_memory() -> None:
    hours = GridHours(FakeClock(NOON))
    for number in range(ZONES_MAX + 5):
        await hours.hear(intensity_told(f"Z{number}", 10))
    assert hours.now("Z0") is not None
    assert hours.now(f"Z{ZONES_MAX}") is None


async def test_hours_that_pricing_told_before_and_tells_now_are_known(nats_url: str) -> None:
    zones = [f"Z{uuid4().hex[:8].upper()}" for _ in range(2)]
    clock = FakeClock(NOON)

    async def known(zone: str) -> float:
        async with asyncio.timeout(20):
            while (now := hours.now(zone)) is None:
                await asyncio.sleep(0.01)
        return now.grams_per_kwh

    async with open_bus(PlatformSettings(nats_url=nats_url), "test") as bus:
        await bus.ensure_streams("pricing")
        await bus.publish(intensity_told(zones[0], 10))
        async with following_hours(bus, clock) as hours:
            assert await known(zones[0]) == 10
            await bus.publish(intensity_told(zones[1], 20))
            assert await known(zones[1]) == 20


# By the place.


def places(told: Intensity | None = TOLD, host: Electricity | None = HOST) -> Callable[[Place], Electricity]:
    return Places(lambda zone: told if told is not None and zone == told.zone else None, lambda: host).electricity


def test_a_zone_has_the_hours_figure_where_it_is_told_else_the_years() -> None:
    assert places()(Place("FR")) == Electricity(TOLD)
    assert places(told=None)(Place("FR")).intensity == yearly_intensity("FR")
    assert places(told=None)(Place("FR")).intensity.kind == "yearly"


def test_a_place_that_nobody_named_weighs_as_the_worlds_average_and_says_so() -> None:
    found = places()(Place()).intensity
    assert (found.grams_per_kwh, found.kind) == (475, "world-average")
    assert "nobody has set a zone" in found.source


def test_an_operators_own_figure_goes_before_all_others() -> None:
    for here in (False, True):
        found = places()(Place("FR", 5.0, here=here))
        assert (found.intensity.grams_per_kwh, found.intensity.source) == (5.0, "the file of routes")
    assert found.usd_per_kwh == 0.2, "of this host the price is known all the same"


@pytest.mark.parametrize("told", [{"signal": Signal.MARGINAL}, {"accounting": Accounting.MARKET_BASED}])
def test_figures_of_another_kind_are_not_added_to_those_of_ours(told: dict[str, Signal | Accounting]) -> None:
    other = Intensity("FR", 1.0, "measured", "a contract", **told)  # type: ignore[arg-type]
    assert places(other)(Place("FR")).intensity == yearly_intensity("FR")
    here = places(None, Electricity(other, 1.5, "settings", 0.2))(Place(here=True))
    assert here.intensity == yearly_intensity("FR")
    assert (here.pue, here.usd_per_kwh) == (1.5, 0.2), "building and price are this host's"


def test_what_runs_here_draws_what_this_host_draws_as_long_as_that_is_told() -> None:
    assert places()(Place(here=True)) is HOST
    assert places(host=None)(Place("FR", here=True)) == Electricity(TOLD)
    assert places(host=None)(Place(here=True)).intensity.kind == "world-average"
    assert places()(Place("FR")).usd_per_kwh is None, "nobody knows what elsewhere pays"


def test_grams_are_within_the_range_of_joules_and_of_the_intensity_and_count_the_building() -> None:
    assert HOST.grams((KWH, KWH / 2, 2 * KWH)) == pytest.approx((450.0, 180.0, 1080.0))
    unknown = Electricity(Intensity("", 100.0, "yearly", "settings"))
    assert unknown.grams((KWH, KWH / 2, 2 * KWH)) == pytest.approx((100.0, 50.0, 200.0))


def test_dollars_are_of_the_hosts_price_and_building_or_not_known() -> None:
    assert HOST.usd((KWH, KWH / 2, 2 * KWH)) == pytest.approx((0.3, 0.15, 0.6))
    assert Electricity(TOLD).usd((KWH, KWH, KWH)) is None
