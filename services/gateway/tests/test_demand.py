"""How many replicas will be wanted: what past weeks took, what today takes, and what several gateways make of it together."""

import math
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.registry import CollectorRegistry

from ergonaut.errors import Conflict
from ergonaut_common.bus import Bus, open_bus
from ergonaut_common.clock import FakeClock
from ergonaut_common.settings import PlatformSettings
from ergonaut_gateway.adapters.demand import KvDemandBook
from ergonaut_gateway.domain.demand import (
    NOTHING_YET,
    SLOT,
    SLOTS,
    Habit,
    History,
    Report,
    begin_of,
    cores_expected,
    cores_of,
    replicas_wanted,
    slot_of,
)
from ergonaut_gateway.fakes import FakeDemandBook
from ergonaut_gateway.ports import DemandBook
from ergonaut_gateway.service.demand import LOOK_SECONDS, Demand, Planning

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
CORES = st.floats(0, 64, allow_nan=False)
TIMES = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the zone follows


def office_weeks(weeks: int, *, busy: float = 4.0, calm: float = 0.1) -> History:
    """Weeks in which Monday from 9 to 17 is busy."""
    history = NOTHING_YET
    for quarter in range(weeks * SLOTS):
        at = MONDAY + quarter * SLOT
        history = history.learned(at, busy if at.weekday() == 0 and 9 <= at.hour < 17 else calm)
    return history


def test_the_morning_s_rush_is_planned_for_before_it_comes() -> None:
    history, monday = office_weeks(3), MONDAY + timedelta(weeks=3)
    early, soon = monday + timedelta(hours=8, minutes=20), monday + timedelta(hours=8, minutes=50)
    assert cores_expected(history, early, 0.1, QUARTER) == pytest.approx(0.1, abs=0.01)
    assert cores_expected(history, soon, 0.1, QUARTER) == pytest.approx(4.0, abs=0.01)


def test_a_day_busier_than_such_days_were_is_expected_to_stay_so() -> None:
    history, ten = office_weeks(3), MONDAY + timedelta(weeks=3, hours=10)
    assert cores_expected(history, ten, 6.0, QUARTER) == pytest.approx(6.0)
    assert cores_expected(history, ten - timedelta(minutes=70), 0.2, timedelta(minutes=30)) == pytest.approx(8.0)


def test_weeks_that_differ_are_planned_for_with_room() -> None:
    habit = Habit(2.0)
    for cores in (4.0, 1.0, 3.0, 2.0, 5.0):
        habit = habit.learned(cores)
    assert habit.planned_cores > habit.cores + 1


def test_without_a_past_what_is_used_now_is_what_is_expected() -> None:
    assert cores_expected(NOTHING_YET, MONDAY, 2.5, QUARTER) == 2.5


def test_a_quarter_of_an_hour_is_learned_once_however_often_it_is_told() -> None:
    once = NOTHING_YET.learned(MONDAY, 1.0)
    assert once.learned(MONDAY, 9.0) is once


@given(TIMES)
def test_each_time_lies_in_its_quarter_of_an_hour_and_in_one_of_the_week(at: datetime) -> None:
    assert begin_of(at) <= at < begin_of(at) + SLOT
    assert 0 <= slot_of(at) < SLOTS
    assert slot_of(at) == slot_of(at + timedelta(weeks=1))


@given(st.lists(CORES, min_size=1, max_size=20), CORES, st.integers(0, 24 * 60))
def test_never_less_is_expected_than_is_used_now_and_no_figure_runs_away(
    past: list[float], now: float, lead_minutes: int
) -> None:
    history = NOTHING_YET
    for week, cores in enumerate(past):
        history = history.learned(MONDAY + timedelta(weeks=week), cores)
    expected = cores_expected(history, MONDAY + timedelta(weeks=30), now, timedelta(minutes=lead_minutes))
    assert now <= expected < 64 * 5
    assert replicas_wanted(expected, 1.2) >= max(1, math.floor(expected / 1.2))


class Site:
    """Gateways that share a book and a clock, each with so many CPU-seconds used."""

    def __init__(self) -> None:
        self.clock = FakeClock(MONDAY)
        self.book = FakeDemandBook()
        self.used = [0.0, 0.0]
        planning = Planning(lead_seconds=900, cores_per_replica=1.2)
        self.gateways = [
            Demand(self.book, self.clock, planning, gateway=f"g-{at}", process_seconds=lambda at=at: self.used[at])
            for at in range(2)
        ]

    async def pass_time(self, minutes: float, *cores: float) -> None:
        """Let the gateways use so many cores for so long, looking as often as they do."""
        for _ in range(int(minutes * 60 / LOOK_SECONDS)):
            await self.clock.advance(LOOK_SECONDS)
            for at, each in enumerate(cores):
                self.used[at] += each * LOOK_SECONDS
            for gateway in self.gateways:
                await gateway.look()


async def test_all_gateways_tell_what_all_use_together() -> None:
    site = Site()
    await site.pass_time(2, 1.0, 0.5)
    assert [gateway.cores_now for gateway in site.gateways] == [pytest.approx(1.5), pytest.approx(1.5)]
    page = CollectorRegistry()
    page.register(site.gateways[0])
    assert "ergonaut_gateway_replicas_wanted 2.0" in generate_latest(page).decode()


async def test_a_quarter_of_an_hour_of_all_gateways_is_learned_once() -> None:
    site = Site()
    await site.pass_time(17, 1.0, 0.5)
    history, revision = await site.book.history()
    assert revision == 1
    assert history.habits[slot_of(MONDAY)].cores == pytest.approx(1.5)


async def test_a_gateway_that_is_gone_counts_no_longer() -> None:
    site = Site()
    await site.pass_time(2, 1.0, 0.5)
    site.gateways.pop()
    await site.pass_time(2, 1.0)
    assert site.gateways[0].cores_now == pytest.approx(1.0)


REPORT = Report("g-1", MONDAY, 1.5, MONDAY - SLOT, 0.5)


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    async with open_bus(PlatformSettings(nats_url=nats_url), "test") as opened:
        yield opened


@pytest.fixture(params=["fake", "nats"])
async def book(request: pytest.FixtureRequest, bus: Bus) -> DemandBook:
    return FakeDemandBook() if request.param == "fake" else KvDemandBook(await bus.key_value(f"demand-{uuid4().hex}"))


async def test_the_newest_report_of_each_gateway_is_kept_and_old_ones_are_forgotten(book: DemandBook) -> None:
    await book.tell(REPORT)
    newer = replace(REPORT, at=MONDAY + QUARTER, cores=2.0)
    await book.tell(newer)
    await book.tell(replace(REPORT, gateway="g-2"))
    assert {report.gateway: report.cores for report in await book.reports(since=MONDAY)} == {"g-1": 2.0, "g-2": 1.5}
    assert list(await book.reports(since=MONDAY + QUARTER)) == [newer]
    assert list(await book.reports(since=MONDAY)) == [newer]


async def test_what_was_learned_is_read_as_it_was_kept_and_the_second_writer_is_told(book: DemandBook) -> None:
    assert await book.history() == (NOTHING_YET, 0)
    learned = NOTHING_YET.learned(MONDAY, 1.5)
    await book.keep_history(learned, revision=0)
    kept, revision = await book.history()
    assert kept == learned
    with pytest.raises(Conflict):
        await book.keep_history(NOTHING_YET, revision=0)
    await book.keep_history(kept.learned(MONDAY + SLOT, 2.0), revision=revision)
    assert len((await book.history())[0].habits) == 2


def test_only_reports_of_the_same_quarter_of_an_hour_are_added_up() -> None:
    late = replace(REPORT, gateway="g-2", before_begins_at=MONDAY)
    assert cores_of([REPORT, late], MONDAY - SLOT) == 0.5
