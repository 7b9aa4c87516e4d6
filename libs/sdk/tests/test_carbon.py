"""The rules of grams and dollars, by hand-computed cases and by properties."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergonaut.carbon import (
    Embodied,
    electricity_usd,
    embodied_from,
    embodied_grams,
    hourly_intensity,
    operational_grams,
    own_intensity,
    rent_usd,
    sci_grams,
    with_newly_told,
    yearly_factor,
    yearly_intensity,
)
from ergonaut.carbon.embodied import SECONDS_PER_YEAR, estimated_server
from ergonaut.carbon.factors import COUNTRY_FOR_PART_RANGE, shipped_factors
from ergonaut.errors import Refused
from ergonaut.events import IntensityChanged
from ergonaut.events.pricing import Accounting, Boundary, HourIntensity, IntensityKind, Signal

joules = st.floats(0, 1e12)
pues = st.floats(1, 3)
grams = st.floats(1, 2000)


@given(parts=st.lists(joules, min_size=1, max_size=20), pue=pues, intensity=grams)
def test_the_grams_of_parts_add_up_to_the_grams_of_their_sum(parts: list[float], pue: float, intensity: float) -> None:
    apart = sum(operational_grams(part, pue=pue, intensity_grams_per_kwh=intensity) or 0 for part in parts)
    together = operational_grams(sum(parts), pue=pue, intensity_grams_per_kwh=intensity)
    assert apart == pytest.approx(together, rel=1e-9, abs=1e-12)


@given(energy=joules, factor=st.floats(0, 100), pue=pues, price=st.floats(0, 10))
def test_twice_the_energy_costs_twice_the_dollars(energy: float, factor: float, pue: float, price: float) -> None:
    once = electricity_usd(energy, pue=pue, price_usd_per_kwh=price)
    times = electricity_usd(energy * factor, pue=pue, price_usd_per_kwh=price)
    assert once is not None
    assert times == pytest.approx(once * factor, rel=1e-9, abs=1e-12)


def test_a_kilowatt_hour_by_hand() -> None:
    assert operational_grams(3.6e6, pue=1.2, intensity_grams_per_kwh=381) == pytest.approx(457.2)
    assert electricity_usd(3.6e6, pue=1.2, price_usd_per_kwh=0.30) == pytest.approx(0.36)


def test_what_was_not_measured_or_has_no_price_has_no_grams_and_no_dollars() -> None:
    assert operational_grams(None, pue=1.0, intensity_grams_per_kwh=381) is None
    assert electricity_usd(None, pue=1.0, price_usd_per_kwh=0.3) is None
    assert electricity_usd(1.0, pue=1.0, price_usd_per_kwh=None) is None


def test_a_clock_that_went_backwards_costs_neither_rent_nor_embodied_carbon() -> None:
    assert rent_usd(1.0, -5) == 0
    assert embodied_grams(Embodied(1e6), -5) == 0


def test_a_machine_that_is_reserved_for_its_whole_life_is_charged_all_of_its_making() -> None:
    machine = Embodied(1_500_000, lifespan_years=5)
    assert embodied_grams(machine, 5 * SECONDS_PER_YEAR) == pytest.approx(1_500_000)


@given(share=st.floats(0, 1), seconds=st.floats(0, 1e9))
def test_shares_of_a_machine_add_up_to_the_machine(share: float, seconds: float) -> None:
    mine, theirs = Embodied(1e6, share=share), Embodied(1e6, share=1 - share)
    whole = embodied_grams(Embodied(1e6), seconds)
    assert embodied_grams(mine, seconds) + embodied_grams(theirs, seconds) == pytest.approx(whole, rel=1e-9, abs=1e-9)


def test_an_hour_of_half_a_server_by_hand() -> None:
    # 1,461 kg over four years of 365.25 days are 35,064 hours: 41.67 g an hour, and half of that for half of the machine.
    environment = {
        "ERGONAUT_EMBODIED_GRAMS_CO2E": "1461000",
        "ERGONAUT_EMBODIED_LIFESPAN_YEARS": "4",
        "ERGONAUT_EMBODIED_SHARE": "0.5",
    }
    machine = embodied_from(environment)
    assert machine is not None
    assert machine.grams_co2e_per_hour == pytest.approx(1_461_000 / 35_064 / 2)


def test_what_making_a_machine_emitted_is_not_known_until_somebody_says_it() -> None:
    assert embodied_from({"ERGONAUT_EMBODIED_LIFESPAN_YEARS": "3"}, memory_gib=64) is None


def test_an_estimate_says_that_it_is_one_and_how_far_it_may_be_off() -> None:
    server = embodied_from({"ERGONAUT_EMBODIED_MACHINE": "server"}, memory_gib=100, accelerators={"H100-80GB": 2})
    assert server is not None
    assert server.total_grams_co2e == pytest.approx(1_000_000 + 100 * 1_388 + 2 * 164_000)
    expected = (0.5 * 1_138_800 + 0.7 * 328_000) / 1_466_800
    assert server.range_fraction == pytest.approx(expected)
    assert "estimate" in server.source


def test_an_accelerator_that_is_not_in_the_table_counts_as_any() -> None:
    assert estimated_server(0, {"X9000": 1}).total_grams_co2e == 1_150_000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ERGONAUT_EMBODIED_GRAMS_CO2E", "heavy"),
        ("ERGONAUT_EMBODIED_GRAMS_CO2E", "-1"),
        ("ERGONAUT_EMBODIED_GRAMS_CO2E", "nan"),
        ("ERGONAUT_EMBODIED_LIFESPAN_YEARS", "0"),
        ("ERGONAUT_EMBODIED_SHARE", "1.1"),
        ("ERGONAUT_EMBODIED_MACHINE", "toaster"),
    ],
)
def test_nonsense_about_a_machine_is_refused_by_its_variable(name: str, value: str) -> None:
    with pytest.raises(Refused, match=f"^{name}: "):
        embodied_from({name: value})


def test_a_score_needs_hardware_and_units() -> None:
    assert sci_grams(900, 100, 1_000) == pytest.approx(1.0)
    assert sci_grams(900, None, 1_000) is None
    assert sci_grams(900, 100, 0) is None


def test_every_factor_has_a_year_a_licence_a_source_and_a_boundary() -> None:
    factors = shipped_factors().values()
    assert len(factors) > 270
    assert all(zone == zone.upper() for zone in shipped_factors())
    assert all(2009 <= factor.year <= 2025 and factor.licence and factor.source for factor in factors)
    assert {factor.boundary for factor in factors} == {Boundary.LIFE_CYCLE, Boundary.DIRECT}
    assert all(0 < factor.intensity_grams_per_kwh < 2000 for factor in factors)


@pytest.mark.parametrize(
    ("zone", "found"), [("de", "DE"), ("US-CAL-CISO", "US-CA"), ("US_TX", "US-TX"), ("CA-AB", "CA-AB"), ("UK", "GB")]
)
def test_a_zone_is_found_in_any_case_and_under_its_other_names(zone: str, found: str) -> None:
    factor = yearly_factor(zone)
    assert factor is not None
    assert (factor.zone, factor.stands_for) == (found, "")


def test_a_part_of_a_country_takes_the_countrys_factor_says_so_and_is_trusted_less() -> None:
    factor = yearly_factor("SE-SE3")
    assert factor is not None
    assert (factor.zone, factor.range_fraction) == ("SE", COUNTRY_FOR_PART_RANGE)
    assert "SE-SE3 is not in the table" in factor.citation


@pytest.mark.parametrize("zone", ["", "WORLD", "ATLANTIS", "WORLD-1", "X", "🜨"])
def test_an_unknown_place_is_the_worlds_average_and_never_a_clean_guess(zone: str) -> None:
    intensity = yearly_intensity(zone)
    assert (intensity.grams_per_kwh, intensity.kind) == (475.0, "world-average")
    assert intensity.source.startswith("the world's average, since ")


def test_the_hour_that_pricing_told_of_is_taken_with_all_it_rests_on() -> None:
    start = datetime(2026, 3, 1, 12, tzinfo=UTC)
    told = IntensityChanged(
        zone="DE",
        source="supplier",
        hours=(
            HourIntensity(
                starts_at=start, intensity_grams_per_kwh=300, range_fraction=0.1, kind=IntensityKind.MEASURED
            ),
        ),
        signal=Signal.MARGINAL,
        accounting=Accounting.MARKET_BASED,
        boundary=Boundary.DIRECT,
    )
    taken = hourly_intensity([told], start + timedelta(minutes=59))
    assert taken is not None
    assert (taken.grams_per_kwh, taken.kind, taken.source) == (300, "measured", "supplier")
    assert (taken.signal, taken.accounting, taken.boundary) == (
        Signal.MARGINAL,
        Accounting.MARKET_BASED,
        Boundary.DIRECT,
    )
    assert hourly_intensity([told], start + timedelta(hours=1)) is None
    assert hourly_intensity([], start) is None


def test_a_figure_of_ones_own_says_by_which_method_and_an_unknown_one_is_refused() -> None:
    own = own_intensity({"ERGONAUT_INTENSITY_BOUNDARY": "life-cycle"}, "DE", 20)
    assert (own.signal, own.accounting, own.boundary) == (
        Signal.AVERAGE,
        Accounting.LOCATION_BASED,
        Boundary.LIFE_CYCLE,
    )
    with pytest.raises(Refused, match=r"^ERGONAUT_INTENSITY_SIGNAL: 'green' is none of average, marginal"):
        own_intensity({"ERGONAUT_INTENSITY_SIGNAL": "green"}, "DE", 20)


def test_of_what_was_told_before_the_two_hours_before_the_new_ones_stay_under_their_own_source() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)

    def told(first: int, source: str) -> IntensityChanged:
        hours = tuple(
            HourIntensity(
                starts_at=start + timedelta(hours=first + hour),
                intensity_grams_per_kwh=100 + first,
                range_fraction=0.1,
                kind=IntensityKind.TYPICAL,
            )
            for hour in range(24)
        )
        return IntensityChanged(zone="DE", source=source, hours=hours)

    known: tuple[IntensityChanged, ...] = ()
    for first in range(6):
        known = with_newly_told(known, told(first, f"told at {first}"))
    assert [len(one.hours) for one in known] == [24, 1, 1]
    found = [hourly_intensity(known, start + timedelta(hours=hour)) for hour in (2, 3, 4, 5)]
    assert [one and one.source for one in found] == [None, "told at 3", "told at 4", "told at 5"]
