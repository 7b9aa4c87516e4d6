"""A run that was paused for three hours held no machine meanwhile: nothing of that time is its own."""

from datetime import timedelta
from typing import Any

import pytest

from ergonaut.events import JobSubmitted, PowerSample, RunPaused
from ergonaut.events.telemetry import Share
from ergonaut.jobs import JobSpec, Resources
from ergonaut_common.clock import FakeClock
from ergonaut_ledger.fakes.analysis import FakeAnalysisBooks
from ergonaut_ledger.fakes.store import FakeStore
from ergonaut_ledger.service import Reporting
from ergonaut_ledger.service.analysing import Analysing

from .told import RUN, T0, batch_of, cpu_sample, day, finished, offer, reading, started

OWN, SMALLER = "aws/eu-1/big/on-demand", "aws/eu-1/small/on-demand"
USD_PER_SECOND = 0.36 / 3600
PAUSED_SECONDS = 3 * 3600.0
ACTIVE_SECONDS = 60.0
"""Half of it before the pause, half of it after."""


def idle_sample(second: float, joules: float, seconds: float = 1.0) -> PowerSample:
    ended_at = T0 + timedelta(seconds=second + seconds)
    return cpu_sample(second, joules, share=Share.IDLE, run_id="", ended_at=ended_at)


async def keep_a_paused_run(store: FakeStore, idle_watts: float) -> None:
    active = [*range(30), *(int(PAUSED_SECONDS) + 30 + second for second in range(30))]
    samples = [(cpu_sample(second, 20.0), idle_sample(second, idle_watts)) for second in active]
    meanwhile = idle_sample(30, 10.0 * PAUSED_SECONDS, PAUSED_SECONDS)
    paused_at = T0 + timedelta(seconds=30)
    resumed_at = paused_at + timedelta(seconds=PAUSED_SECONDS)
    own: dict[str, Any] = {
        "job_id": "job-1", "offer_id": OWN, "provider": "aws", "region": "eu-1", "machine_type": "big",
        "price_microusd_per_hour": 360_000, "electricity_microusd_per_kwh": 0,
    }  # fmt: skip
    spec = JobSpec(name="d", command=("true",), duration_seconds_expected=60, resources=Resources(memory_gib=4))
    await store.keep(
        batch_of(
            JobSubmitted(tenant="t", job_id="job-1", job=spec),
            started("t", **own),
            RunPaused(tenant="t", run_id=RUN, occurred_at=paused_at, because="budget", ended_at=paused_at),
            started("t", event_id="again", occurred_at=resumed_at, **(own | {"started_at": resumed_at})),
            *(reading("t", n, *each) for n, each in enumerate([*samples, (meanwhile,)], 1)),
            finished("t", ended_at=resumed_at + timedelta(seconds=30)),
            offer("t", OWN, zone="DE", vcpus=8, price_microusd_per_hour=360_000, billing_increment_seconds=1),
            offer("t", SMALLER, zone="DE", vcpus=4, price_microusd_per_hour=90_000, billing_increment_seconds=1),
            day("public", "DE", 388),
        )
    )


async def test_rent_elsewhere_is_for_the_time_in_which_the_run_ran() -> None:
    store = FakeStore()
    await keep_a_paused_run(store, idle_watts=5.0)
    estimates = await Reporting(store).elsewhere("t", RUN)
    cost_usd = {place.offer.offer_id: place.cost_usd for place in estimates.places}
    assert cost_usd[OWN] == pytest.approx(ACTIVE_SECONDS * USD_PER_SECOND)
    hours_usd = [hour.cost_usd for hour in estimates.hours]
    assert hours_usd == pytest.approx([ACTIVE_SECONDS * USD_PER_SECOND] * 24)


async def test_what_the_machine_did_meanwhile_does_not_make_the_run_too_small_for_it() -> None:
    store = FakeStore()
    await keep_a_paused_run(store, idle_watts=5.0)
    analysing = Analysing(store, FakeAnalysisBooks(store), FakeClock(T0 + timedelta(days=1)))
    assert "right-size" not in {each.kind for each in await analysing.recommendations("t", RUN, 30, 10)}


async def test_a_smaller_machine_saves_the_rent_of_the_time_in_which_the_run_ran() -> None:
    store = FakeStore()
    await keep_a_paused_run(store, idle_watts=80.0)
    analysing = Analysing(store, FakeAnalysisBooks(store), FakeClock(T0 + timedelta(days=1)))
    found = {each.kind: each for each in await analysing.recommendations("t", RUN, 30, 10)}
    assert found["right-size"].saving_usd == pytest.approx(ACTIVE_SECONDS * USD_PER_SECOND * 0.75)
