"""What the tests of pricing share: the shipped tables, one made by hand, and the service on its fakes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ergonaut.events.base import PUBLIC_TENANT
from ergonaut.events.pricing import Boundary, Market
from ergonaut.units import GramsPerKwh, MicroUsd, Watts
from ergonaut_common.clock import FakeClock
from ergonaut_common.testing import nats_server
from ergonaut_pricing.adapters.tables import load_tables
from ergonaut_pricing.domain import DayShape, Host, LocalTerms, Offer, PowerModel, Tables, ZoneFactor
from ergonaut_pricing.fakes import FakeAnnouncedBook, FakeAnnouncer, FakeHostBook
from ergonaut_pricing.service import Pricing

NOW = datetime(2026, 3, 2, 10, 20, tzinfo=UTC)


@pytest.fixture(scope="session")
def shipped() -> Tables:
    return load_tables()


@pytest.fixture
def make_offer() -> Callable[..., Offer]:
    base = Offer(
        tenant=PUBLIC_TENANT,
        provider="aws",
        region="eu-north-1",
        zone="SE",
        machine_type="m7i.2xlarge",
        market=Market.ON_DEMAND,
        vcpus=8,
        memory_gib=32,
        accelerator="",
        accelerator_count=0,
        price_microusd_per_hour=MicroUsd(400_000),
        electricity_microusd_per_kwh=MicroUsd(0),
        power_watts_expected=Watts(40),
        pue=1.2,
        billing_increment_seconds=60,
        noted_at=datetime(2026, 1, 1, tzinfo=UTC),
        source="https://example.com/prices",
    )
    return lambda **changes: replace(base, **changes)


@pytest.fixture
def small(make_offer: Callable[..., Offer]) -> Tables:
    """Two offers in a zone whose day swings, one zone that is the world."""
    swinging = tuple([0.5] * 12 + [1.5] * 12)
    zones = {
        "SE": ZoneFactor(
            "SE",
            GramsPerKwh(40),
            2023,
            Boundary.LIFE_CYCLE,
            0.05,
            "CC BY 4.0",
            "https://example.com/se",
            shape="swing",
            solar_offset_hours=1,
        ),
        "WORLD": ZoneFactor("WORLD", GramsPerKwh(475), 2018, Boundary.DIRECT, 1.0, "fact", "https://example.com/world"),
    }
    offers = (
        make_offer(),
        make_offer(market=Market.SPOT, price_microusd_per_hour=MicroUsd(100_000)),
    )
    return Tables(
        offers, zones, {"swing": DayShape("swing", swinging, 0.3)}, PowerModel(4, 0.5, {"H100-80GB": 700}, 300)
    )


@pytest.fixture
def desk() -> Host:
    return Host(
        tenant="default",
        name="desk",
        zone="SE",
        vcpus=4,
        memory_gib=16,
        accelerator="",
        accelerator_count=0,
        reported_at=NOW,
    )


class World:
    """The service and the fakes around it; `restarted` is a new process over the same memory of the world."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.announcer = FakeAnnouncer()
        self.announced = FakeAnnouncedBook()
        self.hosts = FakeHostBook()
        self.clock = FakeClock(NOW)
        self.pricing = self.restarted()

    def restarted(self, tables: Tables | None = None) -> Pricing:
        self.pricing = Pricing(
            tables or self.tables,
            LocalTerms(MicroUsd(200_000), 1.0),
            hosts=self.hosts,
            announced=self.announced,
            announcer=self.announcer,
            clock=self.clock,
        )
        return self.pricing


@pytest.fixture
def world(small: Tables) -> World:
    return World(small)


@pytest.fixture
def nats_url(tmp_path: Path) -> Iterator[str]:
    with nats_server(tmp_path / "nats") as url:
        yield url
