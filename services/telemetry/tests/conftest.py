"""What the tests of the agent share: a host that does what it is told, runs on it, and the spool in both kinds."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ergonaut.events import IntensityChanged
from ergonaut.events.pricing import HourIntensity, IntensityKind
from ergonaut.runcontext import RunContext
from ergonaut_telemetry.adapters.sqlite_spool import open_spool
from ergonaut_telemetry.domain import Terms
from ergonaut_telemetry.fakes import FakeMeters, FakeSpool
from ergonaut_telemetry.ports import Spool
from ergonaut_telemetry.service import Sampling

SMALL_SPOOL_BYTES = 1024 * 1024
SMALL_SPOOL_EVENTS = 300

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def terms() -> Terms:
    return Terms(host="host-1", producer="agent-fake")


@pytest.fixture
def run_1() -> RunContext:
    return RunContext(run_id="run-1", job_id="job-1", metered=True)


@pytest.fixture
def run_of_other() -> RunContext:
    return RunContext(run_id="run-2", tenant="other", metered=True)


@pytest.fixture
def make_intensity() -> Callable[..., IntensityChanged]:
    def make(zone: str = "DE", grams: float = 300.0, told_at: datetime = NOON) -> IntensityChanged:
        """The zone's intensity for the first day of 2026: `grams` in the first hour, one more in each later one."""
        hours = tuple(
            HourIntensity(
                starts_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hour),
                intensity_grams_per_kwh=grams + hour,
                range_fraction=0.2,
                kind=IntensityKind.TYPICAL,
            )
            for hour in range(24)
        )
        return IntensityChanged(zone=zone, source="a table", hours=hours, occurred_at=told_at)

    return make


@pytest.fixture
def meters() -> FakeMeters:
    return FakeMeters()


@pytest.fixture
def spool() -> FakeSpool:
    return FakeSpool()


@pytest.fixture
def sampling(meters: FakeMeters, spool: FakeSpool, terms: Terms) -> Sampling:
    return Sampling(meters, spool, terms)


@pytest.fixture(params=["fake", "sqlite"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Spool]]:
    """Opens a small spool; called again, it is the same spool after a restart of the agent."""
    with ExitStack() as stack:
        fake = FakeSpool(events_max=SMALL_SPOOL_EVENTS)

        def opened() -> Spool:
            if request.param == "fake":
                return fake
            stack.close()
            return stack.enter_context(open_spool(tmp_path / "spool.db", bytes_max=SMALL_SPOOL_BYTES, boot_id="boot-1"))

        yield opened
