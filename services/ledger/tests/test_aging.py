"""Old measurements go by whole months and days, and never before they are rolled up."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from math import fsum
from pathlib import Path

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client

from ergonaut_common.clock import FakeClock
from ergonaut_ledger.adapters.aging import ClickHouseAges
from ergonaut_ledger.adapters.analysis_books import ClickHouseAnalysisBooks
from ergonaut_ledger.adapters.clickhouse import ClickHouseStore
from ergonaut_ledger.adapters.engine import Engine
from ergonaut_ledger.adapters.migrating import migrate, packaged_migrations
from ergonaut_ledger.adapters.rollups import ClickHouseRollUps, ClickHouseUsage
from ergonaut_ledger.adapters.statement_books import ClickHouseStatementBooks
from ergonaut_ledger.domain.bounds import Message
from ergonaut_ledger.domain.certificates import Period
from ergonaut_ledger.domain.footprints import ComponentSum, Coverage
from ergonaut_ledger.domain.statements import Asked
from ergonaut_ledger.domain.usage import Span, Step, UsageQuestion
from ergonaut_ledger.fakes.rolled import FakeAges
from ergonaut_ledger.ports.aging import Ages
from ergonaut_ledger.service.aging import Aging
from ergonaut_ledger.service.keeping import Keeping
from ergonaut_ledger.service.rolling import Rolling
from ergonaut_ledger.service.using import Using

from .told import RUN, T0, cpu_sample, finished, gpu_sample, message, reading, rent_sample, started

APRIL = datetime(2026, 4, 1, tzinfo=UTC)
MAY = datetime(2026, 5, 1, tzinfo=UTC)
MONTH_SECONDS = 31 * 86_400.0


@pytest.fixture
def books(
    client: Client, engine_folder: Path, executor: ThreadPoolExecutor, tenant: str
) -> Iterator[Callable[[], Engine]]:
    """An engine on a database of its own, since what goes by age goes for all tenants."""
    database = tenant.replace("-", "_")

    def connect() -> Client:
        client.command(f"CREATE DATABASE {database}")
        own = clickhouse_connect.get_client(
            interface="chdb", path=str(engine_folder), database=database, tz_mode="aware"
        )
        migrate(own, packaged_migrations())
        return own

    own = executor.submit(connect).result()
    yield lambda: Engine(own, executor)
    executor.submit(own.close).result()


@dataclass(frozen=True)
class Told:
    """What the books say of a run."""

    components: list[ComponentSum]
    coverage: Coverage
    joules_of_slices: float
    watts: list[float]


class Site:
    """The parts that live together in the process."""

    def __init__(self, engine: Engine, now: datetime) -> None:
        self.clock = FakeClock(now)
        self.ages = ClickHouseAges(engine, seconds=60)
        self.aging = Aging(self.ages, self.clock, samples_days=30, minutes_days=60)
        self.store = ClickHouseStore(engine, insert_seconds=60, query_seconds=60)
        self.analysis = ClickHouseAnalysisBooks(engine, query_seconds=60)
        self.keeping = Keeping(self.store, not_before=self.aging.not_before)
        self.rolling = Rolling(ClickHouseRollUps(engine, seconds=60), self.clock)
        self.using = Using(ClickHouseUsage(engine, query_seconds=60))

    async def told(self, tenant: str, run: str) -> Told:
        coverage = await self.store.coverage(tenant, run)
        assert coverage is not None
        slices = await self.analysis.slices(tenant, run, 50_000)
        return Told(
            components=await self.store.components(tenant, run),
            coverage=coverage,
            joules_of_slices=fsum(each.energy_joules or 0.0 for each in slices),
            watts=[point.power_watts for point in await self.store.power(tenant, run, 100)],
        )

    async def joules(self, tenant: str) -> float | None:
        span = Span(T0 - timedelta(days=40), T0 + timedelta(days=80))
        found = await self.using.usage(UsageQuestion(tenant, span, Step.TOTAL))
        return found[0].energy_joules if found else None


async def test_a_month_of_samples_goes_once_it_is_old_and_rolled_up(books: Callable[[], Engine], tenant: str) -> None:
    site = Site(books(), MAY)
    facts = [
        reading(tenant, n, cpu_sample(second), occurred_at=T0 + timedelta(seconds=second))
        for n, second in enumerate((0.0, 60.0, MONTH_SECONDS), 1)
    ]
    await site.keeping.keep([message(fact, n) for n, fact in enumerate([*facts, started(tenant)], 1)])
    await site.aging.look()
    await site.aging.look()
    assert await site.ages.months_of_samples() == [date(2026, 3, 1), date(2026, 4, 1)], "nothing is rolled up yet"
    await site.rolling.catch_up()
    await site.aging.look()
    assert await site.ages.months_of_samples() == [date(2026, 4, 1)]
    assert await site.joules(tenant) == 60.0
    kept = {event.subject.split(".")[3] for event in await site.store.events([tenant], "", "", 10)}
    assert kept == {"telemetry", "runs"}
    assert len(await site.store.events([tenant], "telemetry", "", 10)) == 1


async def test_a_sample_of_a_dropped_month_is_refused_also_after_a_restart(
    books: Callable[[], Engine], tenant: str
) -> None:
    site = Site(books(), MAY)
    await site.keeping.keep([message(reading(tenant, 1), 1)])
    await site.rolling.catch_up()
    await site.aging.look()
    again = Site(books(), MAY)
    await again.aging.start()
    [problem] = await again.keeping.keep([message(reading(tenant, 2), 2)])
    assert problem is not None
    assert "dropped by age" in problem.because
    await again.aging.look()
    assert await again.joules(tenant) == 20.0


async def test_sums_by_minute_go_later_and_those_by_hour_and_day_stay(books: Callable[[], Engine], tenant: str) -> None:
    site = Site(books(), T0 + timedelta(days=35))
    await site.keeping.keep([message(reading(tenant, 1), 1)])
    await site.rolling.catch_up()
    kept = []
    for days in (0, 0, 25, 5, 0):
        await site.clock.advance(days * 86_400)
        await site.aging.look()
        kept.append(len(await site.ages.days_of_minutes()))
    assert kept == [1, 1, 1, 1, 0]
    assert await site.joules(tenant) == 20.0


def of_a_run(tenant: str) -> list[Message]:
    """A run from March into April, every ten minutes a message, and one whose samples all are of March."""
    facts = []
    for n in range(1, 201):
        second = MONTH_SECONDS - 90_000 + n * 600
        ends_at = T0 + timedelta(seconds=second + 600)
        grams_per_kwh, pue = 300.0 + n, 1.0 + n / 1_000
        joules = n / 7
        labels = {"ended_at": ends_at, "job_id": "job-1"}
        samples = [
            cpu_sample(second, joules, carbon_grams_co2e=joules / 3.6e6 * grams_per_kwh * pue, **labels),
            gpu_sample(second).model_copy(update=labels),
            rent_sample(second, n / 900).model_copy(update=labels | {"embodied_grams_co2e": n / 11}),
        ]
        if ends_at < APRIL:
            samples.append(samples[0].model_copy(update={"run_id": "run-march"}))
        at = {"occurred_at": ends_at, "intensity_grams_per_kwh": grams_per_kwh, "pue": pue}
        facts.append(reading(tenant, n, *samples, **at))
    return [message(fact, n) for n, fact in enumerate([started(tenant), *facts], 1)]


@pytest.mark.parametrize("run", [RUN, "run-march"])
async def test_a_run_used_the_same_before_and_after_a_month_of_its_samples_was_dropped(
    books: Callable[[], Engine], tenant: str, run: str
) -> None:
    site = Site(books(), MAY + timedelta(days=20))
    await site.keeping.keep(of_a_run(tenant))
    await site.rolling.catch_up()
    before = await site.told(tenant, run)
    assert before.coverage.gaps_provable_from is None
    for stage, sealed_before in {"sealed": APRIL, "dropped": APRIL, "minutes dropped too": MAY}.items():
        await site.clock.advance(30 * 86_400 if stage == "minutes dropped too" else 0)
        await site.aging.look()
        told = await site.told(tenant, run)
        assert len(told.components) == len(before.components)
        for part, same in zip(told.components, before.components, strict=True):
            assert figures_of(part) == pytest.approx(figures_of(same), rel=1e-12), stage
        assert told.joules_of_slices == pytest.approx(before.joules_of_slices, rel=1e-12)
        assert max(told.watts) <= 200 / 7 / 600 * 1.01, "meters that follow each other add up to no peak"
        assert (told.coverage.gaps_provable_from, told.coverage.samples_missing) == (sealed_before, 0)
        covered, then = told.coverage, before.coverage
        assert (covered.job_id, covered.zone, covered.intensity_bases) == (then.job_id, then.zone, then.intensity_bases)
        # A sum has one PUE, that over its energy; where it changed within an hour, its mean intensity is off by the cross term.
        means = (covered.pue, covered.intensity_grams_per_kwh)
        assert means == pytest.approx((then.pue, then.intensity_grams_per_kwh), rel=1e-4)
    assert await site.ages.months_of_samples() == [date(2026, 4, 1)]
    assert min(await site.ages.days_of_minutes()) == date(2026, 4, 1)


async def test_the_power_of_two_producers_on_a_host_adds_up_also_once_their_samples_were_dropped(
    books: Callable[[], Engine], tenant: str
) -> None:
    site = Site(books(), MAY + timedelta(days=20))
    samples = [cpu_sample(n * 10, 100.0, ended_at=T0 + timedelta(seconds=(n + 1) * 10)) for n in range(720)]
    facts = [
        reading(tenant, n, sample, producer=producer, occurred_at=sample.ended_at)
        for producer in ("tracker-1", "tracker-2")
        for n, sample in enumerate(samples, 1)
    ]
    ended_at = samples[-1].ended_at
    run = [started(tenant), finished(tenant, occurred_at=ended_at, ended_at=ended_at)]
    await site.keeping.keep([message(fact, n) for n, fact in enumerate([*run, *facts], 1)])
    await site.rolling.catch_up()
    for days in (0, 0, 0, 30):
        assert set((await site.told(tenant, RUN)).watts) == {20.0}
        await site.clock.advance(days * 86_400)
        await site.aging.look()
    assert (await site.told(tenant, RUN)).watts == [20.0] * 3, "of hours"


def figures_of(part: ComponentSum) -> list[float]:
    """Of one component; below zero what is not known."""
    figures = [getattr(part, each.name) for each in fields(part)][3:]
    return [-1.0 if figure is None else figure for figure in figures]


async def test_messages_that_were_missing_in_a_dropped_month_are_told_of_it_still(
    books: Callable[[], Engine], tenant: str
) -> None:
    site, statements = Site(books(), MAY), ClickHouseStatementBooks(books(), query_seconds=60)
    facts = [
        reading(tenant, n, cpu_sample(n * 600.0), occurred_at=T0 + timedelta(seconds=n * 600)) for n in (1, 2, 5, 9, 10)
    ]
    await site.keeping.keep([message(fact, n) for n, fact in enumerate(facts, 1)])
    await site.rolling.catch_up()
    asked = Asked(tenant, Period(T0 - timedelta(days=1), T0 + timedelta(hours=1)))
    missing = [await statements.messages_missing(asked)]
    for _ in range(2):
        await site.aging.look()
        missing.append(await statements.messages_missing(asked))
    assert await site.ages.months_of_samples() == []
    assert missing == [5, 5, 5], "3, 4, and 6 to 8"


async def test_a_run_of_the_months_that_are_kept_is_proved_without_a_gap(
    books: Callable[[], Engine], tenant: str
) -> None:
    site = Site(books(), MAY)
    await site.keeping.keep([message(reading(tenant, 1, cpu_sample(0, run_id="run-march")), 1)])
    late = cpu_sample(MONTH_SECONDS)
    await site.keeping.keep([message(reading(tenant, 2, late, occurred_at=late.ended_at), 2)])
    await site.rolling.catch_up()
    await site.aging.look()
    await site.aging.look()
    covered = await site.store.coverage(tenant, RUN)
    assert covered is not None
    assert (covered.gaps_provable_from, covered.samples_missing) == (None, 0)


@pytest.fixture(params=["fake", "clickhouse"])
def ages(request: pytest.FixtureRequest, books: Callable[[], Engine]) -> Ages:
    """The port as the fake fills it and as ClickHouse does, of books in which nothing was kept."""
    return FakeAges() if request.param == "fake" else ClickHouseAges(books(), seconds=60)


async def test_a_seal_never_moves_back(ages: Ages) -> None:
    assert await ages.sealed_before() is None
    assert (await ages.months_of_samples(), await ages.days_of_minutes()) == ([], [])
    await ages.seal(MAY)
    await ages.seal(MAY - timedelta(days=30))
    assert await ages.sealed_before() == MAY
    assert not await ages.touched_before(MAY)


async def test_what_reached_its_age_is_sealed_at_one_look_and_dropped_at_the_next() -> None:
    ages = FakeAges(months=[date(2026, 3, 1), date(2026, 4, 1)])
    aging = Aging(ages, FakeClock(MAY + timedelta(days=1)), samples_days=30, minutes_days=60)
    await aging.look()
    assert (aging.not_before(), len(ages.months)) == (datetime(2026, 4, 1, tzinfo=UTC), 2)
    ages.touched_at = datetime(2026, 3, 9, tzinfo=UTC)
    await aging.look()
    assert len(ages.months) == 2, "a minute of it still waits to be rolled up"
    ages.touched_at = None
    await aging.look()
    assert ages.months == [date(2026, 4, 1)]
