"""What a job would use where and when: figures that one can check by hand."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ergonaut.jobs import JobSpec
from ergonaut_scheduler.domain import CANDIDATES_MAX, STARTS_MAX, Forecast, Offer, Supply
from ergonaut_scheduler.domain.weighing import possible_starts, rent_usd, weigh

NOW = datetime(2026, 3, 2, 10, 20, tzinfo=UTC)
HOUR = NOW.replace(minute=0)
LEVEL = Forecast.of(HOUR, (360.0,) * 24)
Make = Callable[..., Offer]
MakeJob = Callable[..., JobSpec]


def supply(*offers: Offer, forecast: Forecast = LEVEL) -> Supply:
    return Supply(offers, {offer.zone: forecast for offer in offers}, frozenset({"local", "aws"}))


def test_a_job_may_start_now_and_at_each_full_hour_that_keeps_its_deadline(make_job: MakeJob) -> None:
    spec = make_job(duration_seconds_expected=1800, deadline=HOUR + timedelta(hours=3, minutes=30))
    assert possible_starts(spec, NOW) == [NOW, *(HOUR + timedelta(hours=hours) for hours in (1, 2, 3))]


def test_a_job_whose_deadline_cannot_be_kept_is_still_weighed_for_now(make_job: MakeJob) -> None:
    assert possible_starts(make_job(deadline=NOW + timedelta(seconds=10)), NOW) == [NOW]


def test_a_job_without_a_deadline_has_two_days_of_starts(make_job: MakeJob) -> None:
    assert len(possible_starts(make_job(), NOW)) == STARTS_MAX


def test_energy_is_the_job_s_share_of_the_machine_times_its_duration_and_pue(
    make_offer: Make, make_job: MakeJob
) -> None:
    offer = make_offer(vcpus=8, power_watts_expected=100, pue=1.5)
    first = weigh(make_job(resources={"vcpus": 2}, duration_seconds_expected=60), supply(offer), NOW)[0]
    assert first.energy_joules == pytest.approx(100 * 2 / 8 * 1.5 * 60)


def test_an_accelerator_s_share_counts_where_it_is_larger(make_offer: Make, make_job: MakeJob) -> None:
    offer = make_offer(vcpus=64, power_watts_expected=4000, accelerator="H100-80GB", accelerator_count=8)
    wanted = {"vcpus": 1, "accelerator": "H100-80GB", "accelerator_count": 2}
    first = weigh(make_job(resources=wanted, duration_seconds_expected=1), supply(offer), NOW)[0]
    assert first.energy_joules == pytest.approx(1000)


@pytest.mark.parametrize(
    ("duration_seconds", "increment_seconds", "paid_hours"),
    [(30, 3600, 1), (3600, 3600, 1), (3601, 3600, 2), (30, 60, 1 / 60), (90, 1, 90 / 3600), (0.1, 1, 1 / 3600)],
)
def test_an_increment_that_was_begun_is_paid_whole(
    make_offer: Make, duration_seconds: float, increment_seconds: int, paid_hours: float
) -> None:
    offer = make_offer(price_microusd_per_hour=2_000_000, billing_increment_seconds=increment_seconds)
    assert rent_usd(offer, duration_seconds) == pytest.approx(2 * paid_hours)


def test_electricity_is_paid_on_top_of_the_rent(make_offer: Make, make_job: MakeJob) -> None:
    offer = make_offer(
        vcpus=1, power_watts_expected=1000, electricity_microusd_per_kwh=300_000, price_microusd_per_hour=1_000_000
    )
    first = weigh(make_job(duration_seconds_expected=3600), supply(offer), NOW)[0]
    assert first.cost_usd == pytest.approx(1.0 + 0.3)


def test_grams_are_summed_hour_by_hour(make_offer: Make, make_job: MakeJob) -> None:
    offer = make_offer(vcpus=1, power_watts_expected=1000)
    forecast = Forecast.of(HOUR, (300.0, 600.0, 900.0))
    first = weigh(make_job(duration_seconds_expected=5400), supply(offer, forecast=forecast), NOW)[0]
    # 10:20 to 11:50: 40 minutes at 300 and 50 at 600 grams per kWh, at one kilowatt.
    assert first.carbon_grams == pytest.approx(300 * 40 / 60 + 600 * 50 / 60)


@pytest.mark.parametrize(
    ("begin_hours", "end_hours", "grams"), [(0, 24, 276), (24, 48, 276), (47, 49, 23), (25.5, 26, 0.5), (-2, 0, 0)]
)
def test_after_the_last_hour_that_is_known_the_last_day_repeats(
    begin_hours: float, end_hours: float, grams: float
) -> None:
    forecast = Forecast.of(HOUR, tuple(float(hour) for hour in range(24)))
    begin, end = HOUR + timedelta(hours=begin_hours), HOUR + timedelta(hours=end_hours)
    assert forecast.grams_hours_per_kwh(begin, end) == pytest.approx(grams)


@pytest.mark.parametrize(
    ("offer_changes", "job_changes", "field", "because"),
    [
        ({"provider": "gcp"}, {}, "providers", "gcp is not connected"),
        ({}, {"providers": ("aws",)}, "providers", "the job allows only aws"),
        ({"vcpus": 2}, {"resources": {"vcpus": 4}}, "resources.vcpus", "has 2 of the 4 vCPUs wanted"),
        ({}, {"resources": {"memory_gib": 64}}, "resources.memory_gib", "has 16 of the 64 GiB of memory wanted"),
        (
            {},
            {"resources": {"accelerator": "H100-80GB", "accelerator_count": 1}},
            "resources.accelerator",
            "has no accelerator, not H100-80GB",
        ),
        (
            {"accelerator": "H100-80GB", "accelerator_count": 1},
            {"resources": {"accelerator": "H100-80GB", "accelerator_count": 4}},
            "resources.accelerator_count",
            "has 1 of the 4 H100-80GB wanted",
        ),
        (
            {},
            {"deadline": NOW + timedelta(minutes=6), "duration_seconds_expected": 1200},
            "deadline",
            "ends 14 min after the deadline",
        ),
        (
            {"price_microusd_per_hour": 120_000, "billing_increment_seconds": 3600, "electricity_microusd_per_kwh": 0},
            {"budget": {"cost_usd": 0.05}},
            "budget.cost_usd",
            "expected $0.12 is over the budget of $0.05",
        ),
        (
            {"vcpus": 1, "power_watts_expected": 1000},
            {"budget": {"carbon_grams_co2e": 10}, "duration_seconds_expected": 3600},
            "budget.carbon_grams_co2e",
            "expected 360 g CO2e is over the budget of 10 g CO2e",
        ),
        (
            {"vcpus": 1, "power_watts_expected": 1000},
            {"budget": {"energy_joules": 900}, "duration_seconds_expected": 1},
            "budget.energy_joules",
            "expected 1,000 J is over the budget of 900 J",
        ),
    ],
)
def test_what_stands_in_a_candidate_s_way_is_told_with_its_field(
    make_offer: Make, make_job: MakeJob, offer_changes: dict, job_changes: dict, field: str, because: str
) -> None:
    first = weigh(make_job(**job_changes), supply(make_offer(**offer_changes)), NOW)[0]
    assert [obstacle.field for obstacle in first.obstacles] == [field]
    assert first.obstacles[0].because.startswith(because)


def test_a_limit_that_is_just_met_is_kept(make_offer: Make, make_job: MakeJob) -> None:
    spec = make_job(deadline=NOW + timedelta(seconds=30), resources={"vcpus": 4, "memory_gib": 16})
    assert weigh(spec, supply(make_offer()), NOW)[0].feasible


def test_an_offer_that_can_never_carry_the_job_is_weighed_once(make_offer: Make, make_job: MakeJob) -> None:
    weighed = weigh(make_job(), supply(make_offer(), make_offer(offer_id="gcp/x/y/spot", provider="gcp")), NOW)
    assert len(weighed) == STARTS_MAX + 1


@pytest.mark.parametrize("count", [200, 5_000, 6_000])
def test_no_more_candidates_are_weighed_than_the_bound(make_offer: Make, make_job: MakeJob, count: int) -> None:
    offers = [replace(make_offer(), offer_id=f"local/desk-{number}/machine/free") for number in range(count)]
    weighed = weigh(make_job(), supply(*offers), NOW)
    assert CANDIDATES_MAX - count <= len(weighed) <= CANDIDATES_MAX
    assert {candidate.starts_at for candidate in weighed} >= {NOW}
