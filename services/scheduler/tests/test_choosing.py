"""What is chosen and how it is explained: tables for the words, properties for the choice."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ergonaut.jobs import Budget, JobSpec, Objective, Plan, Resources
from ergonaut_scheduler.domain import Forecast, Offer, Supply, plan
from ergonaut_scheduler.domain.weighing import weigh

NOW = datetime(2026, 3, 2, 10, 20, tzinfo=UTC)
HOUR = NOW.replace(minute=0)
Make = Callable[..., Offer]
MakeJob = Callable[..., JobSpec]

GREENER_AT_NOON = Forecast.of(HOUR, (400.0, 380.0, 100.0) + (400.0,) * 21)


def planned(spec: JobSpec, *offers: Offer, connected: tuple[str, ...] = ("local", "aws"), rows: int = 12) -> Plan:
    forecasts = {"DE": GREENER_AT_NOON, "SE": Forecast.of(HOUR, (20.0,) * 24)}
    return plan(spec, Supply(offers, forecasts, frozenset(connected)), NOW, rows)


@pytest.fixture
def cheap(make_offer: Make) -> Offer:
    return make_offer(offer_id="local/desk/machine/free")


@pytest.fixture
def clean(make_offer: Make) -> Offer:
    return make_offer(offer_id="aws/se/m7i/on-demand", provider="aws", zone="SE", price_microusd_per_hour=400_000)


@pytest.mark.parametrize(
    ("objective", "choice", "because"),
    [
        ("cheapest", ("local/desk/machine/free", NOW), "the cheapest, at $0.00005, of the 96 candidates"),
        ("greenest", ("aws/se/m7i/on-demand", NOW), "the greenest, at 0.00333 g CO2e, of the 96 candidates"),
        ("fastest", ("local/desk/machine/free", NOW), "the earliest to end of the 96 candidates"),
        ("balanced", ("local/desk/machine/free", HOUR + timedelta(hours=2)), "the best balance of dollars, grams and"),
    ],
)
def test_each_objective_chooses_by_its_own_measure_and_says_so(
    cheap: Offer, clean: Offer, make_job: MakeJob, objective: str, choice: tuple, because: str
) -> None:
    chosen = planned(make_job(objective=objective), cheap, clean).chosen
    assert chosen is not None
    assert (chosen.offer_id, chosen.starts_at) == choice
    assert chosen.because.startswith(because)


def test_a_tiny_gain_in_grams_does_not_make_a_balanced_job_wait(make_offer: Make, make_job: MakeJob) -> None:
    forecast = Forecast.of(HOUR, (400.0, 399.0))
    spec = make_job(deadline=NOW + timedelta(hours=1))
    chosen = plan(spec, Supply([make_offer()], {"DE": forecast}, frozenset({"local"})), NOW, 12).chosen
    assert chosen is not None
    assert chosen.starts_at == NOW


def test_the_only_candidate_that_keeps_every_limit_is_called_so(
    cheap: Offer, make_offer: Make, make_job: MakeJob
) -> None:
    spec = make_job(deadline=NOW + timedelta(minutes=10))
    alone, beside_another = planned(spec, cheap), planned(spec, cheap, make_offer(offer_id="gcp/a/b/c", provider="gcp"))
    assert alone.chosen is not None
    assert alone.chosen.because == "the only candidate there was, and it keeps every limit"
    assert beside_another.chosen is not None
    assert beside_another.chosen.because == "the only one of 2 candidates that keeps every limit"


def test_alternatives_are_told_one_an_offer_best_first_each_against_the_choice(
    cheap: Offer, clean: Offer, make_offer: Make, make_job: MakeJob
) -> None:
    gone = make_offer(offer_id="gcp/de/n2/spot", provider="gcp", price_microusd_per_hour=10)
    small = make_offer(offer_id="local/tiny/machine/free", vcpus=0.5)
    told = planned(make_job(objective="cheapest"), gone, small, cheap, clean)
    rows = [(row.offer_id, row.feasible, row.because) for row in told.alternatives]
    assert rows == [
        ("local/desk/machine/free", True, "5 % fewer grams, ends 40 min later"),
        ("aws/se/m7i/on-demand", True, "67.7x the dollars, 95 % fewer grams"),
        (
            "gcp/de/n2/spot",
            False,
            "gcp is not connected (ERGONAUT_SCHEDULER_PROVIDERS)",
        ),
        ("local/tiny/machine/free", False, "has 0.5 of the 1 vCPUs wanted"),
    ]


def test_no_more_alternatives_are_told_than_asked_for(cheap: Offer, clean: Offer, make_job: MakeJob) -> None:
    assert len(planned(make_job(), cheap, clean, rows=1).alternatives) == 1


def test_equal_candidates_say_that_the_name_decided(make_offer: Make, make_job: MakeJob) -> None:
    twins = [make_offer(offer_id=f"local/{name}/machine/free") for name in ("b", "a")]
    told = planned(make_job(objective="fastest", deadline=NOW + timedelta(minutes=5)), *twins)
    assert told.chosen is not None
    assert told.chosen.offer_id == "local/a/machine/free"
    assert told.alternatives[0].because == "the same figures; the tie went to the first by name"


@pytest.mark.parametrize(
    ("changes", "begins", "holds"),
    [
        ({"deadline": NOW + timedelta(seconds=20)}, "deadline: ", "local/desk/machine/free: ends 10 s after"),
        ({"budget": {"cost_usd": 0.00001}}, "budget.cost_usd: ", "expected $0.00005 is over the budget of $0.00001"),
        ({"resources": {"memory_gib": 64}}, "resources.memory_gib: ", "has 16 of the 64 GiB"),
        ({"providers": ("gcp",)}, "providers: ", "gcp is not connected"),
        ({"providers": ("hetzner",)}, "providers: ", "the job allows only hetzner"),
    ],
)
def test_a_refusal_names_the_field_and_the_nearest_miss(
    cheap: Offer, make_offer: Make, make_job: MakeJob, changes: dict, begins: str, holds: str
) -> None:
    gone = make_offer(offer_id="gcp/de/n2/spot", provider="gcp", price_microusd_per_hour=10, memory_gib=32)
    told = planned(make_job(**changes), cheap, gone)
    assert told.chosen is None
    assert told.refused_because.startswith(begins)
    assert holds in told.refused_because
    assert {row.offer_id for row in told.alternatives} == {"local/desk/machine/free", "gcp/de/n2/spot"}


def test_a_refusal_tells_what_would_do_if_only_it_were_connected(
    cheap: Offer, make_offer: Make, make_job: MakeJob
) -> None:
    large = make_offer(offer_id="gcp/de/n2/spot", provider="gcp", memory_gib=64, price_microusd_per_hour=3_600_000)
    told = planned(make_job(resources={"memory_gib": 64}), cheap, large)
    assert "gcp/de/n2/spot would do for $0.03" in told.refused_because
    assert "gcp is not connected" in told.refused_because


def test_a_job_is_refused_where_there_is_no_offer_at_all(make_job: MakeJob) -> None:
    assert planned(make_job()).refused_because.startswith("providers: there is no offer at all")


ZONES = ("DE", "SE", "")
offers = st.builds(
    Offer,
    offer_id=st.sampled_from([f"p/r/t{number}/free" for number in range(40)]),
    provider=st.sampled_from(["local", "aws", "gcp"]),
    region=st.just("r"),
    zone=st.sampled_from(ZONES),
    machine_type=st.just("t"),
    vcpus=st.sampled_from([1.0, 4.0, 16.0]),
    memory_gib=st.sampled_from([2.0, 64.0]),
    power_watts_expected=st.floats(5, 5000),
    price_microusd_per_hour=st.sampled_from([0, 50_000, 4_000_000]),
    electricity_microusd_per_kwh=st.sampled_from([0, 300_000]),
    pue=st.floats(1, 2),
    billing_increment_seconds=st.sampled_from([1, 60, 3600]),
)
jobs = st.builds(
    JobSpec,
    name=st.just("job"),
    command=st.just(("true",)),
    resources=st.builds(Resources, vcpus=st.sampled_from([1.0, 8.0]), memory_gib=st.sampled_from([1.0, 32.0])),
    duration_seconds_expected=st.floats(1, 100_000),
    objective=st.sampled_from(Objective),
    deadline=st.none() | st.integers(60, 200_000).map(lambda seconds: NOW + timedelta(seconds=seconds)),
    budget=st.builds(
        Budget, cost_usd=st.none() | st.floats(0.001, 10), carbon_grams_co2e=st.none() | st.floats(0.1, 10_000)
    ),
    providers=st.sampled_from([(), ("local",), ("aws", "gcp")]),
)
forecasts = st.lists(st.floats(1, 1000), min_size=1, max_size=60).map(lambda hours: Forecast.of(HOUR, tuple(hours)))
supplies = st.builds(
    Supply,
    st.lists(offers, max_size=12, unique_by=lambda offer: offer.offer_id),
    st.fixed_dictionaries(dict.fromkeys(ZONES, forecasts)),
    st.sampled_from([frozenset({"local"}), frozenset({"local", "aws"})]),
)


@settings(max_examples=150, deadline=None)
@given(jobs, supplies)
def test_a_choice_never_breaks_a_limit(spec: JobSpec, supply: Supply) -> None:
    told = plan(spec, supply, NOW, 12)
    chosen = told.chosen
    if chosen is None:
        assert told.refused_because
        assert all(candidate.obstacles for candidate in weigh(spec, supply, NOW))
        return
    offer = next(offer for offer in supply.offers if offer.offer_id == chosen.offer_id)
    assert offer.provider in supply.connected
    assert not spec.providers or offer.provider in spec.providers
    assert (offer.vcpus >= spec.resources.vcpus, offer.memory_gib >= spec.resources.memory_gib) == (True, True)
    assert chosen.starts_at >= NOW
    assert (
        spec.deadline is None or chosen.starts_at + timedelta(seconds=spec.duration_seconds_expected) <= spec.deadline
    )
    assert spec.budget.cost_usd is None or chosen.cost_usd_expected <= spec.budget.cost_usd
    limit = spec.budget.carbon_grams_co2e
    assert limit is None or chosen.carbon_grams_co2e_expected <= limit


@settings(max_examples=100, deadline=None)
@given(jobs, supplies, st.randoms(use_true_random=False))
def test_equal_inputs_give_an_equal_plan_in_whatever_order_offers_come(
    spec: JobSpec, supply: Supply, chance: random.Random
) -> None:
    shuffled = chance.sample(list(supply.offers), len(supply.offers))
    assert plan(spec, supply, NOW, 12) == plan(spec, Supply(shuffled, supply.forecasts, supply.connected), NOW, 12)


@settings(max_examples=100, deadline=None)
@given(jobs, supplies)
def test_nothing_that_keeps_every_limit_is_better_than_the_choice(spec: JobSpec, supply: Supply) -> None:
    chosen = plan(spec, supply, NOW, 12).chosen
    feasible = [candidate for candidate in weigh(spec, supply, NOW) if candidate.feasible]
    assert (chosen is None) == (not feasible)
    if chosen is None or spec.objective is Objective.BALANCED:
        return
    best = {
        Objective.CHEAPEST: min(candidate.cost_usd for candidate in feasible),
        Objective.GREENEST: min(candidate.carbon_grams for candidate in feasible),
        Objective.FASTEST: min((candidate.ends_at - NOW).total_seconds() for candidate in feasible),
    }[spec.objective]
    assert chosen.score == pytest.approx(best, rel=1e-6)
