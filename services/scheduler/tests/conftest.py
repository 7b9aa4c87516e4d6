"""What the tests of the scheduler share: offers and jobs made by hand, and the service on its fakes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ergonaut.jobs import JobSpec
from ergonaut_common.clock import FakeClock
from ergonaut_common.testing import nats_server
from ergonaut_scheduler.domain import Forecast, Offer
from ergonaut_scheduler.fakes import (
    FakeAnnouncer,
    FakeArtifactStore,
    FakeIntensityForecast,
    FakeJobBook,
    FakeOfferBook,
    FakeSourceStore,
    FakeWorkflows,
)
from ergonaut_scheduler.service import Rules, Scheduling, World

NOW = datetime(2026, 3, 2, 10, 20, tzinfo=UTC)
HOUR = NOW.replace(minute=0)

LOCAL = Offer(
    offer_id="local/desk/machine/free", provider="local", region="desk", zone="DE", machine_type="machine",
    vcpus=4, memory_gib=16, power_watts_expected=80, electricity_microusd_per_kwh=300_000,
)  # fmt: skip
CLOUD = Offer(
    offer_id="aws/eu-north-1/m7i.2xlarge/on-demand", provider="aws", region="eu-north-1", zone="SE",
    machine_type="m7i.2xlarge", vcpus=8, memory_gib=32, power_watts_expected=60, price_microusd_per_hour=400_000,
    pue=1.2, billing_increment_seconds=60,
)  # fmt: skip
DIRTY_NOW_CLEAN_LATER = Forecast.of(HOUR, (400.0, 400.0, 100.0, 300.0) + (400.0,) * 20)
CLEAN = Forecast.of(HOUR, (20.0,) * 24)


@pytest.fixture
def make_offer() -> Callable[..., Offer]:
    return lambda **changes: replace(LOCAL, **changes)


@pytest.fixture
def make_job() -> Callable[..., JobSpec]:
    base = {"name": "digits", "command": ("python", "train.py"), "duration_seconds_expected": 30}
    return lambda **changes: JobSpec.model_validate(base | changes)


class Surroundings:
    """The fakes around the service; `restarted` is a new process over the same memory of the world."""

    def __init__(self) -> None:
        self.offers = FakeOfferBook([LOCAL, CLOUD])
        self.intensity = FakeIntensityForecast(CLEAN, {"DE": DIRTY_NOW_CLEAN_LATER})
        self.jobs = FakeJobBook()
        self.sources = FakeSourceStore()
        self.artifacts = FakeArtifactStore()
        self.workflows = FakeWorkflows()
        self.announcer = FakeAnnouncer()
        self.clock = FakeClock(NOW)
        self.scheduling = self.restarted()

    def restarted(self) -> Scheduling:
        world = World(
            offers=self.offers,
            intensity=self.intensity,
            jobs=self.jobs,
            sources=self.sources,
            artifacts=self.artifacts,
            workflows=self.workflows,
            announcer=self.announcer,
            clock=self.clock,
        )
        self.scheduling = Scheduling(world, Rules(frozenset({"local"})))
        return self.scheduling


@pytest.fixture
def around() -> Surroundings:
    return Surroundings()


@pytest.fixture
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with nats_server(tmp_path_factory.mktemp("nats")) as url:
        yield url
