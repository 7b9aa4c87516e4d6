"""Recommendations: each has a saving, a basis and a range, and none is made on a guess."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ergonaut_ledger.domain.elsewhere import Elsewhere, Need, Offer
from ergonaut_ledger.domain.footprints import ComponentSum, Coverage, Footprint, RunRecord
from ergonaut_ledger.domain.recommending import (
    HostShares,
    IdleAccelerator,
    Recommendation,
    RunFacts,
    cap_power,
    move_hour,
    move_region,
    ranked,
    recommendations_for,
    right_size,
    smaller_precision,
    stop_idle,
)

from .told import T0

KWH = 3.6e6
METERS = (0.3 * KWH + 0.1 * KWH) / (3 * KWH)
"""What the meters of the run below may be off by."""


def offer(offer_id: str = "aws/eu-central-1/big/on-demand", **changes: Any) -> Offer:
    provider, region, machine_type, _ = offer_id.split("/")
    values: dict[str, Any] = {
        "offer_id": offer_id, "provider": provider, "region": region, "zone": "DE", "machine_type": machine_type,
        "vcpus": 32, "memory_gib": 64, "accelerator": "", "accelerator_count": 0, "price_microusd_per_hour": 1_600_000,
        "electricity_microusd_per_kwh": 0, "pue": 1.2, "billing_increment_seconds": 1,
    }  # fmt: skip
    return Offer(**(values | changes))


def place(of: Offer, usd: float, grams: float, hour: int | None = None, off_by: float | None = 0.1) -> Elsewhere:
    starts_at = T0 if hour is None else T0.replace(hour=hour)
    return Elsewhere(of, starts_at, usd, grams, "typical", off_by)


def facts(gpu_joules: float | None = 2 * KWH, **changes: Any) -> RunFacts:
    run = RunRecord(
        "run-1",
        "job-1",
        "digits",
        "succeeded",
        T0,
        T0 + timedelta(hours=2),
        zone="DE",
        price_microusd_per_hour=1_600_000,
    )
    parts = (
        ComponentSum("cpu", "model", "", 0.3, KWH, 400.0, 0.2, 7200),
        ComponentSum("gpu0", "counter" if gpu_joules else "not-measured", "", 0.05, gpu_joules, None, None, 7200),
    )
    coverage = Coverage("job-1", "DE", T0, T0 + timedelta(hours=2), 1.2, 400.0, ("typical: table",), 0)
    values: dict[str, Any] = {"footprint": Footprint(run, parts, coverage), "own_offer": offer()}
    return RunFacts(**(values | changes))


def with_metrics(of: RunFacts, **metrics: float) -> RunFacts:
    return replace(of, footprint=replace(of.footprint, run=replace(of.run, metrics=metrics)))


def hours(**grams: float) -> list[Elsewhere]:
    usual = {f"h{hour}": 100.0 for hour in range(24)} | grams
    return [place(offer(), 1.0, usual[f"h{hour}"], hour) for hour in range(24)]


def test_a_cleaner_hour_is_named_with_what_it_saves() -> None:
    found = move_hour(facts(hours=hours(h3=60.0, h14=80.0)))
    assert found is not None
    assert "03:30 UTC instead of 12:30" in found.sentence
    assert (found.saving_grams_co2e, found.saving_fraction, found.saving_usd) == (40.0, pytest.approx(0.4), 0.0)
    assert found.range_fraction == pytest.approx((100 * 0.1 + 60 * 0.1) / 40 + METERS)


def test_a_saving_smaller_than_what_intensities_are_off_by_is_told_as_possibly_none() -> None:
    doubtful = move_hour(facts(hours=hours(h3=90.0)))
    assert doubtful is not None
    assert doubtful.range_fraction == pytest.approx((100 * 0.1 + 90 * 0.1) / 10 + METERS)
    assert "there may be nothing to save" in doubtful.basis
    unknown = move_hour(facts(hours=[replace(hour, intensity_range_fraction=None) for hour in hours(h3=60.0)]))
    assert unknown is not None
    assert (unknown.range_fraction, "no range" in unknown.basis) == (None, True)


def test_a_deadline_leaves_only_the_hours_that_make_it() -> None:
    within = move_hour(facts(hours=hours(h3=60.0, h14=80.0), deadline=T0 + timedelta(hours=4)))
    assert within is not None
    assert (within.saving_grams_co2e, "14:30" in within.sentence) == (20.0, True)
    assert move_hour(facts(hours=hours(h3=60.0), deadline=T0 + timedelta(hours=4))) is None


def test_hours_that_hardly_differ_are_no_advice() -> None:
    assert move_hour(facts(hours=hours(h3=96.0))) is None
    assert move_hour(facts(hours=[])) is None


def test_an_hour_on_another_basis_is_no_ground_for_advice() -> None:
    unlike = [replace(hour, intensity_kind="yearly") if hour.starts_at == T0 else hour for hour in hours(h3=60.0)]
    assert move_hour(facts(hours=unlike)) is None
    alike = move_hour(facts(hours=hours(h3=60.0)))
    assert alike is not None
    assert "typical for both" in alike.basis


def test_a_place_is_not_held_against_a_yearly_figure() -> None:
    own, there = place(offer(), 3.2, 1000.0), place(offer("aws/ca-east-1/big/on-demand"), 3.0, 100.0)
    yearly = replace(own, intensity_kind="yearly")
    assert move_region(facts(places=[yearly, there])) is None
    assert move_region(facts(places=[yearly, replace(there, intensity_kind="yearly")])) is not None
    told = move_region(facts(places=[replace(own, intensity_kind="measured"), there]))
    assert told is not None
    assert "typical there against measured here" in told.basis


def test_another_region_must_be_neither_dearer_nor_dirtier() -> None:
    own = place(offer(), 3.2, 1000.0)
    dear = place(offer("aws/eu-north-1/big/on-demand"), 3.3, 50.0)
    dirty = place(offer("aws/ap-south-1/big/on-demand"), 1.0, 2000.0)
    good = place(offer("aws/ca-east-1/big/on-demand"), 3.0, 100.0)
    found = move_region(facts(places=[own, dear, dirty, good]))
    assert found is not None
    assert "ca-east-1" in found.sentence
    assert (found.saving_usd, found.saving_grams_co2e) == (pytest.approx(0.2), 900.0)
    assert found.range_fraction == pytest.approx((1000 * 0.1 + 100 * 0.1) / 900 + METERS)
    assert move_region(facts(places=[own, dear, dirty])) is None
    assert move_region(facts(places=[good])) is None


def test_a_region_that_saves_dollars_has_the_range_of_its_dollars() -> None:
    own = place(offer(electricity_microusd_per_kwh=200_000), 3.6, 1000.0)
    cheap = place(offer("aws/ca-east-1/big/on-demand"), 1.2, 990.0)
    found = move_region(facts(places=[own, cheap], own_offer=own.offer))
    assert found is not None
    assert (found.saving_fraction, found.range_fraction) == (
        pytest.approx(2 / 3),
        pytest.approx(0.6 * 1.2 * METERS / 2.4),
    )


def test_a_power_cap_is_for_a_known_board_that_draws_near_its_limit() -> None:
    busy = facts(accelerator="A100-40GB", busy_watts={"gpu0": 350.0}, own_offer=offer(price_microusd_per_hour=0))
    found = cap_power(busy)
    assert found is not None
    assert found.saving_joules == pytest.approx(2 * KWH * 0.137)
    assert found.saving_grams_co2e == pytest.approx(2 * 0.137 * 400 * 1.2)
    assert (found.range_fraction, "240 W" in found.sentence, "NAACL" in found.basis) == (1.0, True, True)
    assert cap_power(replace(busy, busy_watts={"gpu0": 150.0})) is None
    assert cap_power(replace(busy, busy_watts={"gpu0": 290.0})) is None, "a card of 300 W may draw this, too"
    assert cap_power(replace(busy, accelerator="unheard-of")) is None


def test_a_power_cap_that_costs_more_rent_than_it_saves_is_no_advice() -> None:
    assert cap_power(facts(accelerator="A100-40GB", busy_watts={"gpu0": 350.0})) is None


def test_without_a_measured_accelerator_there_is_no_advice_on_it() -> None:
    guessed = with_metrics(facts(None, accelerator="A100-40GB", busy_watts={"gpu0": 350.0}), precision_bits=32.0)
    assert (cap_power(guessed), smaller_precision(guessed)) == (None, None)


def test_smaller_precision_is_for_runs_that_told_that_theirs_is_full() -> None:
    told = smaller_precision(with_metrics(facts(), precision_bits=32.0))
    assert told is not None
    assert told.saving_joules == pytest.approx(2 * KWH / 3)
    assert (told.range_fraction, told.saving_usd) == (1.0, None), "rent has electricity in it"
    by_the_kwh = facts(own_offer=offer(electricity_microusd_per_kwh=300_000))
    paid = smaller_precision(with_metrics(by_the_kwh, precision_bits=32.0))
    assert paid is not None
    assert paid.saving_usd == pytest.approx(0.2 * 1.2), "the building's meter is paid"
    assert smaller_precision(with_metrics(facts(), precision_bits=16.0)) is None
    assert smaller_precision(facts()) is None


def test_a_mostly_idle_machine_is_answered_with_a_smaller_one_that_fits() -> None:
    small = offer("aws/eu-central-1/small/on-demand", vcpus=8, memory_gib=16, price_microusd_per_hour=400_000)
    tiny = offer("aws/eu-central-1/tiny/on-demand", vcpus=1, memory_gib=16, price_microusd_per_hour=50_000)
    lean = offer("aws/eu-central-1/lean/on-demand", vcpus=8, memory_gib=4, price_microusd_per_hour=100_000)
    spot = offer("aws/eu-central-1/small/spot", vcpus=8, memory_gib=16, price_microusd_per_hour=90_000)
    idle = facts(
        None,
        need=Need(vcpus=32, memory_gib=16),
        offers=[offer(), small, tiny, lean, spot],
        shares=HostShares(run_joules=10.0, others_joules=0.0, idle_joules=90.0),
    )
    found = right_size(idle)
    assert found is not None
    assert "small with 8 vCPUs" in found.sentence
    assert (found.saving_usd, found.saving_fraction) == (pytest.approx(2.4), pytest.approx(0.75))
    assert (found.saving_joules, found.saving_grams_co2e) == (None, None)
    assert right_size(replace(idle, shares=HostShares(60.0, 0.0, 40.0))) is None
    assert right_size(replace(idle, footprint=facts().footprint)) is None, (
        "it used an accelerator that no smaller one has"
    )
    assert right_size(replace(idle, shares=None)) is None
    assert right_size(replace(idle, need=None)) is None


def test_an_accelerator_idle_most_of_the_time_is_named_with_what_was_measured() -> None:
    idle = IdleAccelerator("host-1", "gpu0", 60 * 3600.0, 72 * 3600.0, 4 * KWH, 1600.0, None, 0.05)
    found = stop_idle(idle)
    assert found is not None
    assert "60 of 72 hours" in found.sentence
    assert (found.saving_joules, found.saving_grams_co2e, found.saving_usd) == (4 * KWH, 1600.0, None)
    assert stop_idle(replace(idle, idle_seconds=30 * 3600.0)) is None
    assert stop_idle(replace(idle, energy_joules=0.0)) is None


def test_the_largest_saving_comes_first_and_the_list_is_bounded() -> None:
    def saving(kind: str, subject: str, **figures: float) -> Recommendation:
        return Recommendation(kind, subject, "do it", "measured", 0.5, **figures)

    found = [
        saving("move-hour", "run-1", saving_grams_co2e=1_000.0),
        saving("right-size", "run-2", saving_usd=5.0),
        saving("stop-idle", "host-1", saving_joules=10 * KWH),
    ]
    assert [each.kind for each in ranked(found, {}, 10)] == ["right-size", "stop-idle", "move-hour"]
    assert len(ranked(found, {}, 2)) == 2


def test_runs_of_one_name_are_one_job_whose_savings_are_added() -> None:
    found = [
        Recommendation(
            "move-hour", f"run-{n}", f"at {n}", "measured", 0.1 * n, saving_grams_co2e=10.0 * n, saving_usd=None
        )
        for n in (1, 2, 3)
    ]
    first, second = ranked(found, {"run-1": "digits", "run-2": "digits", "run-3": "other"}, 10)
    assert {first.subject, second.subject} == {"digits", "run-3"}
    digits = next(each for each in (first, second) if each.subject == "digits")
    assert (digits.saving_grams_co2e, digits.saving_usd, digits.sentence) == (30.0, None, "at 2")
    assert "2 runs" in digits.basis


def test_every_recommendation_says_on_what_it_rests() -> None:
    whole = with_metrics(
        facts(
            hours=hours(h3=60.0), accelerator="A100-40GB", busy_watts={"gpu0": 350.0},
            own_offer=offer(price_microusd_per_hour=0),
        ),
        precision_bits=32.0,
    )  # fmt: skip
    found = recommendations_for(whole)
    assert {each.kind for each in found} == {"move-hour", "cap-power", "smaller-precision"}
    assert all(each.basis and each.sentence.endswith(".") and 0 < each.saving_fraction <= 1 for each in found)
