"""Scope 2 by both methods, certificates and SCI: cases reckoned by hand, and what must hold for any."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergonaut.errors import Conflict, Refused
from ergonaut_ledger.domain.certificates import (
    Certificate,
    Period,
    checked_certificate,
    checked_period,
    concerning,
    recorded,
    voided,
)
from ergonaut_ledger.domain.compliance import (
    Basis,
    Compliance,
    GridDay,
    Hardware,
    ResidualFactor,
    Use,
    compliance_of,
)
from ergonaut_ledger.domain.compliance_notes import weaknesses

MARCH = Period(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))
YEAR = Period(datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
KWH = 3.6e6
GERMAN = Basis("DE", "yearly", "https://example.com/de (2023, life-cycle, CC BY 4.0)", boundary="life-cycle")
SUPPLIER = Basis("DE", "yearly", "own figure: label (2025, life-cycle, own)", accounting="market-based")
NO_HARDWARE = Hardware(None, 1, 0)


def day(number: int, kwh: float, grams_per_kwh: float = 400.0, basis: Basis = GERMAN) -> GridDay:
    return GridDay(MARCH.starts_at + timedelta(days=number - 1), basis, kwh * KWH, kwh * KWH * 0.1, kwh * grams_per_kwh)


def certificate(kwh: float, **changes: object) -> Certificate:
    values: dict[str, object] = {
        "certificate_id": "go-1",
        "kind": "renewable",
        "registry": "GO",
        "zone": "DE",
        "period": MARCH,
        "energy_kwh": kwh,
    }
    return Certificate(**(values | changes))  # type: ignore[arg-type]


def report(*days: GridDay, certificates: tuple[Certificate, ...] = (), **changes: object) -> Compliance:
    values: dict[str, object] = {
        "days": days,
        "certificates": certificates,
        "residual": {},
        "hardware": NO_HARDWARE,
        "functional_unit": "",
        "functional_units": 1.0,
    }
    return compliance_of(MARCH, Use(**(values | changes)))  # type: ignore[arg-type]


def test_without_certificates_both_methods_tell_the_same_and_say_so() -> None:
    told = report(day(1, 10), day(2, 5))
    assert told.energy_kwh == pytest.approx(15)
    assert told.energy_kwh_range == pytest.approx(1.5)
    assert told.scope2_location_grams_co2e == pytest.approx(6_000)
    assert told.scope2_market_grams_co2e == pytest.approx(6_000)
    assert told.market_by_location_joules == pytest.approx(15 * KWH)


def test_certificates_lower_the_market_based_figure_alone() -> None:
    told = report(day(1, 10), day(2, 5), certificates=(certificate(6, intensity_grams_per_kwh=10),))
    assert told.certified_kwh == pytest.approx(6)
    assert told.scope2_location_grams_co2e == pytest.approx(6_000)
    assert told.scope2_market_grams_co2e == pytest.approx(9 * 400 + 6 * 10)


def test_certificates_cover_no_more_than_was_used() -> None:
    told = report(day(1, 10), certificates=(certificate(8), certificate(8, certificate_id="go-2")))
    assert told.certified_kwh == pytest.approx(10)
    assert told.scope2_market_grams_co2e == pytest.approx(0)


def test_a_certificate_of_another_market_or_another_time_covers_nothing() -> None:
    french = certificate(10, zone="FR")
    april = certificate(10, certificate_id="go-2", period=Period(MARCH.ends_at, MARCH.ends_at + timedelta(days=30)))
    late = certificate(10, certificate_id="go-3", period=Period(MARCH.starts_at + timedelta(days=20), MARCH.ends_at))
    told = report(day(1, 10), certificates=(french, april, late))
    assert told.certified_kwh == 0


def test_a_countrys_certificate_serves_its_parts_and_not_the_other_way_round() -> None:
    assert certificate(1, zone="SE").serves("se-se3")
    assert not certificate(1, zone="SE-SE3").serves("SE")
    assert not certificate(1, zone="S").serves("SE")


def test_a_certificate_serves_a_zone_by_whichever_name_it_goes() -> None:
    assert certificate(1, zone="US-CA").serves("US-CAL-CISO")
    assert certificate(1, zone="UK").serves("GB")
    assert certificate(1, zone="SE").serves("SE_SE3")


def test_projects_share_a_certificate_by_their_energy_and_together_claim_it_once() -> None:
    everything = (day(1, 30), day(2, 10, basis=GERMAN))
    vision, speech = (day(1, 12),), (day(1, 18), day(2, 10))
    told = [
        report(*days, certificates=(certificate(20, intensity_grams_per_kwh=10),), tenant_days=everything)
        for days in (vision, speech)
    ]
    whole = report(*everything, certificates=(certificate(20, intensity_grams_per_kwh=10),))
    assert [one.certified_kwh for one in told] == [pytest.approx(6), pytest.approx(14)]
    assert whole.certified_kwh == pytest.approx(20)
    market = sum(one.scope2_market_grams_co2e for one in told)
    assert market == pytest.approx(whole.scope2_market_grams_co2e) == pytest.approx(20 * 400 + 20 * 10)


def test_certificates_of_several_zones_and_times_each_cover_their_own() -> None:
    french = Basis("FR", "yearly", "https://example.com/fr (2023, life-cycle, CC BY 4.0)", boundary="life-cycle")
    first_half = Period(MARCH.starts_at, MARCH.starts_at + timedelta(days=15))
    told = report(
        day(1, 10),
        day(20, 10),
        day(1, 10, 50.0, french),
        certificates=(
            certificate(15, period=first_half),
            certificate(4, certificate_id="go-2"),
            certificate(3, certificate_id="go-3", zone="FR", period=YEAR, intensity_grams_per_kwh=5),
        ),
    )
    # 10 kWh of the first half are covered by its own paper, of which 5 are left over; 4 of the second by the month's; and in
    # France the 31 days' part of 3 kWh.
    french_kwh = 3 * 31 / 365
    assert told.certified_kwh == pytest.approx(10 + 4 + french_kwh)
    assert told.scope2_market_grams_co2e == pytest.approx(6 * 400 + (10 - french_kwh) * 50 + french_kwh * 5)
    assert told.scope2_location_grams_co2e == pytest.approx(20 * 400 + 10 * 50)


def test_a_certificate_of_a_year_serves_each_months_report_by_its_part_and_never_twice() -> None:
    yearly = certificate(365, period=YEAR)
    parts = []
    for month in range(1, 13):
        ends = datetime(2027, 1, 1, tzinfo=UTC) if month == 12 else datetime(2026, month + 1, 1, tzinfo=UTC)
        parts.append(yearly.part_of(Period(datetime(2026, month, 1, tzinfo=UTC), ends)))
    assert sum(parts) == pytest.approx(1)
    assert report(day(1, 1_000), certificates=(yearly,)).certified_kwh == pytest.approx(31)


def test_a_suppliers_figure_counts_in_the_market_based_total_and_the_zones_year_in_the_location_based_one() -> None:
    told = report(day(1, 10, 35.0, SUPPLIER), certificates=(certificate(10),))
    assert told.scope2_market_grams_co2e == pytest.approx(350)
    assert told.scope2_location_grams_co2e == pytest.approx(10 * 381)
    assert told.certified_kwh == 0
    assert {(one.basis.accounting, one.year) for one in told.factors} == {
        ("location-based", 2023),
        ("market-based", 2025),
    }


def test_a_marginal_figure_enters_neither_total() -> None:
    marginal = Basis("DE", "forecast", "model", signal="marginal")
    told = report(day(1, 10, 900.0, marginal))
    assert told.scope2_location_grams_co2e == pytest.approx(3_810)
    assert told.scope2_market_grams_co2e == pytest.approx(3_810)


def test_what_is_claimed_by_nobody_takes_the_residual_mix_where_it_is_known() -> None:
    residual = {"DE": ResidualFactor("DE", 700, 2024, "AIB")}
    told = report(day(1, 10), certificates=(certificate(4),), residual=residual)
    assert told.scope2_market_grams_co2e == pytest.approx(6 * 700)
    assert told.market_by_location_joules == 0
    part = Basis("DE-LU", "yearly", GERMAN.source)
    assert report(day(1, 10, basis=part), residual=residual).scope2_market_grams_co2e == pytest.approx(7_000)


def test_offsets_are_told_apart_and_subtracted_from_nothing() -> None:
    offset = Certificate("gs-1", "offset", "Gold Standard", "", MARCH, offset_grams_co2e=5_000)
    told = report(day(1, 10), certificates=(offset,))
    assert told.offset_grams_co2e == pytest.approx(5_000)
    assert (told.scope2_location_grams_co2e, told.scope2_market_grams_co2e) == (4_000, 4_000)


def test_the_score_is_location_based_plus_embodied_for_each_unit() -> None:
    hardware = Hardware(1_000, 1, 1)
    told = report(
        day(1, 10), hardware=hardware, functional_unit="tokens", functional_units=500, certificates=(certificate(10),)
    )
    assert told.sci_grams_co2e == pytest.approx((4_000 + 1_000) / 500)
    assert report(day(1, 10), functional_units=500).sci_grams_co2e is None
    assert report(day(1, 10), hardware=hardware, functional_units=0).sci_grams_co2e is None


def test_a_factor_is_told_with_its_source_year_and_the_energy_it_was_applied_to() -> None:
    (factor,) = report(day(1, 10, 300), day(2, 30, 500)).factors
    assert factor.intensity_grams_per_kwh == pytest.approx(450)
    assert (factor.year, factor.basis, factor.energy_joules) == (2023, GERMAN, pytest.approx(40 * KWH))


def test_what_weakens_the_figures_is_said() -> None:
    world = Basis("", "world-average", "IEA (2018, direct, fact)", boundary="direct")
    use = Use((day(1, 3), day(1, 1, 475, world)), (), {}, Hardware(5.0, 3, 1), "tokens", 10)
    words = " ".join(weaknesses(use, compliance_of(MARCH, use)))
    assert "25 % of the energy was used in unknown zones" in words
    assert "25 % of the energy is weighed by direct emissions only" in words
    assert "known for 1 of 3 hosts" in words
    assert "counts all its tokens" in words


def test_a_contract_in_an_unknown_zone_is_told_to_be_weighed_by_the_worlds_average() -> None:
    nowhere = Basis("", "yearly", "settings", accounting="market-based")
    use = Use((day(1, 3), day(2, 1, 5, nowhere)), (), {}, NO_HARDWARE, "", 1)
    words = " ".join(weaknesses(use, compliance_of(MARCH, use)))
    assert "25 % of the energy was used in unknown zones" in words


@given(
    kwhs=st.lists(st.floats(0, 1e6), min_size=1, max_size=10),
    bought=st.lists(st.floats(0.001, 1e6), max_size=5),
    clean=st.floats(0, 100),
)
def test_certificates_never_cover_more_than_was_used_nor_raise_the_total(
    kwhs: list[float], bought: list[float], clean: float
) -> None:
    days = tuple(day(number, kwh) for number, kwh in enumerate(kwhs, 1))
    papers = tuple(
        certificate(kwh, certificate_id=f"go-{number}", intensity_grams_per_kwh=clean)
        for number, kwh in enumerate(bought)
    )
    told = report(*days, certificates=papers)
    assert told.certified_kwh <= min(sum(kwhs), sum(bought)) * (1 + 1e-9) + 1e-9
    expected = (sum(kwhs) - told.certified_kwh) * 400 + told.certified_kwh * clean
    assert told.scope2_market_grams_co2e == pytest.approx(expected, rel=1e-6, abs=1e-3)
    assert told.scope2_location_grams_co2e == pytest.approx(sum(kwhs) * 400, rel=1e-9)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"certificate_id": ""}, "certificate_id"),
        ({"certificate_id": "a\nb"}, "certificate_id"),
        ({"registry": " "}, "registry"),
        ({"kind": "green"}, "kind"),
        ({"period": Period(MARCH.ends_at, MARCH.starts_at)}, "period"),
        ({"energy_kwh": -1}, "energy_kwh"),
        ({"energy_kwh": 0}, "energy_kwh"),
        ({"energy_kwh": float("inf")}, "energy_kwh"),
        ({"cost_usd": float("nan")}, "cost_usd"),
        ({"zone": ""}, "zone"),
        ({"offset_grams_co2e": 5}, "offset_grams_co2e"),
        ({"kind": "offset"}, "offset_grams_co2e"),
        ({"kind": "offset", "offset_grams_co2e": 5}, "energy_kwh"),
        ({"kind": "offset", "offset_grams_co2e": 5, "energy_kwh": 0}, "zone"),
    ],
)
def test_a_certificate_that_cannot_be_meant_is_refused_by_its_field(changes: dict[str, object], field: str) -> None:
    with pytest.raises(Refused) as refusal:
        checked_certificate(certificate(10, **changes))
    assert refusal.value.field == field


@pytest.mark.parametrize(
    "period",
    [
        Period(MARCH.starts_at, MARCH.starts_at),
        Period(YEAR.starts_at, YEAR.ends_at + timedelta(days=2)),
        Period(datetime(1990, 1, 1, tzinfo=UTC), datetime(1990, 2, 1, tzinfo=UTC)),
    ],
)
def test_a_period_that_no_report_can_have_is_refused(period: Period) -> None:
    with pytest.raises(Refused, match=r"^period: "):
        checked_period(period)


def test_the_same_certificate_again_changes_nothing_and_another_under_its_id_is_a_conflict() -> None:
    known = certificate(10, principal="ann")
    assert recorded(None, known) == known
    assert recorded(known, certificate(10, principal="bob")) is None
    with pytest.raises(Conflict, match="other figures"):
        recorded(known, certificate(11))


def test_a_voided_certificate_stays_on_record_counts_nowhere_and_does_not_come_back() -> None:
    out = voided(certificate(10), "ann")
    assert out is not None
    assert (out.voided, out.version, out.principal) == (True, 2, "ann")
    assert voided(out, "bob") is None
    assert concerning([out], MARCH) == []
    with pytest.raises(Conflict, match="taken out"):
        recorded(out, certificate(10))
