"""What the book of budgets and the sums promise, over the fakes, a real NATS and embedded ClickHouse."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ergonaut.budgets import BudgetMetric, BudgetScope, BudgetSpec
from ergonaut.events import RunPaused
from ergonaut.events.telemetry import Share
from ergonaut_common.bus import open_bus
from ergonaut_common.clock import FakeClock
from ergonaut_common.settings import PlatformSettings
from ergonaut_common.testing import nats_server
from ergonaut_ledger.adapters.budget_book import BUCKET, KeyValueBudgetBook
from ergonaut_ledger.adapters.budget_sums import ClickHouseBudgetSums
from ergonaut_ledger.adapters.clickhouse import ClickHouseStore
from ergonaut_ledger.adapters.rollups import ClickHouseRollUps
from ergonaut_ledger.domain.budgets import (
    BEGINNING,
    Asked,
    BudgetRecord,
    Question,
    RunUnderWay,
    Seen,
    decided,
    made,
    total,
)
from ergonaut_ledger.domain.rows import Batch
from ergonaut_ledger.fakes.budgets import FakeBudgetBook, FakeBudgetSums
from ergonaut_ledger.fakes.store import FakeStore
from ergonaut_ledger.ports import BudgetBook, BudgetSums, Store, StoredBudget
from ergonaut_ledger.service.rolling import Rolling

from .told import RUN, T0, batch, batch_of, cpu_sample, finished, gpu_sample, message, reading, rent_sample, started


@pytest.fixture(params=["fake", pytest.param("nats", marks=pytest.mark.integration)])
async def book(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BudgetBook]:
    if request.param == "fake":
        yield FakeBudgetBook()
        return
    with nats_server(tmp_path / "nats") as url:
        async with open_bus(PlatformSettings(nats_url=url), "test") as bus:
            yield KeyValueBudgetBook(await bus.key_value(BUCKET))


def record(budget_id: str = "b", tenant: str = "t") -> BudgetRecord:
    budget = BudgetSpec(
        budget_id=budget_id, scope="tenant", metric="cost_usd", limit=5.0, action="pause", ends_at=T0 + timedelta(9)
    )
    told = made(tenant, budget, T0, "ada")
    seen = Seen(at=T0, used=5.0, newest_ended_at=T0)
    return decided(told, seen, [RunUnderWay("run-1", "job-1", T0), RunUnderWay("run-2", "", T0)])


async def test_a_record_comes_back_as_it_was_kept(book: BudgetBook) -> None:
    kept = await book.keep(StoredBudget(record()))
    assert kept is not None
    found = await book.find("t", "b")
    assert found == kept
    assert found.record == record()
    assert [untold.event for untold in found.record.untold] == [untold.event for untold in record().untold]
    assert await book.find("t", "other") is None
    assert await book.find("other", "b") is None


async def test_only_a_change_of_the_newest_revision_is_kept(book: BudgetBook) -> None:
    first = await book.keep(StoredBudget(record()))
    assert first is not None
    assert await book.keep(StoredBudget(record())) is None
    second = await book.keep(replace(first, record=replace(first.record, untold=())))
    assert second is not None
    assert await book.keep(first) is None
    assert await book.find("t", "b") == second


async def test_of_many_who_change_at_once_one_succeeds(book: BudgetBook) -> None:
    first = await book.keep(StoredBudget(record()))
    assert first is not None
    changes = [replace(first, record=replace(first.record, epoch=n)) for n in range(1, 9)]
    kept = [one for one in await asyncio.gather(*map(book.keep, changes)) if one]
    assert len(kept) == 1
    assert await book.find("t", "b") == kept[0]


async def test_a_forgotten_budget_is_gone_and_may_be_made_again(book: BudgetBook) -> None:
    first = await book.keep(StoredBudget(record()))
    assert first is not None
    second = await book.keep(replace(first, record=replace(first.record, epoch=1)))
    assert second is not None
    await book.forget(first)
    assert await book.find("t", "b") == second
    await book.forget(second)
    assert await book.find("t", "b") is None
    assert await book.everything() == []
    assert await book.keep(StoredBudget(record())) is not None


async def test_everything_is_every_tenants_in_order(book: BudgetBook) -> None:
    for tenant, budget_id in (("t-2", "a"), ("t-1", "b"), ("t-1", "a")):
        await book.keep(StoredBudget(record(budget_id, tenant)))
    found = [(stored.record.tenant, stored.record.budget_id) for stored in await book.everything()]
    assert found == [("t-1", "a"), ("t-1", "b"), ("t-2", "a")]


@pytest.fixture
def sums(store: Store) -> BudgetSums:
    if isinstance(store, FakeStore):
        return FakeBudgetSums(store)
    assert isinstance(store, ClickHouseStore)
    return ClickHouseBudgetSums(store.engine, query_seconds=60)


def question(tenant: str, scope: str = "tenant", key: str = "") -> Question:
    return Question(tenant, BudgetScope(scope), key, BEGINNING, T0 + timedelta(days=365))


def asked(**changes: object) -> Asked:
    whole = Asked(
        hours_from=None,
        minutes_from=T0 - timedelta(days=1),
        recent_after=T0,
        recent_until=T0 + timedelta(hours=2),
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


async def test_sums_are_of_what_runs_used_by_minute(sums: BudgetSums, store: Store, tenant: str) -> None:
    idle = cpu_sample(0, 99.0, share=Share.IDLE, run_id="")
    readings = [
        reading(tenant, n, cpu_sample(n - 1, 2.0), gpu_sample(n - 1), rent_sample(n - 1), idle) for n in range(1, 91)
    ]
    await store.keep(batch_of(*readings))
    answer = await sums.answer(question(tenant), asked(recent_after=T0 + timedelta(seconds=80)))
    assert [chunk.starts_at for chunk in answer.minutes] == [T0, T0 + timedelta(minutes=1)]
    first, second = (chunk.use for chunk in answer.minutes)
    assert (first.energy_joules, second.energy_joules) == (120.0, 60.0)
    assert first.energy_joules_range == pytest.approx(36.0)
    assert first.cost_usd == pytest.approx(60 * (2.0 / 3.6e6 * 0.15 + 0.0001))
    assert first.carbon_grams_co2e == pytest.approx(120.0 / 3.6e6 * 400)
    assert answer.hours == []


async def test_the_pace_is_of_the_samples_that_ended_lately(sums: BudgetSums, store: Store, tenant: str) -> None:
    readings = [reading(tenant, n, cpu_sample(n - 1, 2.0 if n <= 85 else 7.0)) for n in range(1, 91)]
    await store.keep(batch_of(*readings))
    pace = (await sums.answer(question(tenant), asked(recent_after=T0 + timedelta(seconds=85)))).pace
    assert pace.per_second(BudgetMetric.ENERGY_JOULES) == pytest.approx(7.0)
    assert (pace.newest_ended_at, pace.interval_seconds) == (T0 + timedelta(seconds=90), 1.0)
    until = asked(recent_after=T0 + timedelta(seconds=75), recent_until=T0 + timedelta(seconds=85))
    pace = (await sums.answer(question(tenant), until)).pace
    assert pace.per_second(BudgetMetric.ENERGY_JOULES) == pytest.approx(2.0)
    assert pace.newest_ended_at == T0 + timedelta(seconds=85)
    assert (await sums.answer(question(tenant), asked(recent_after=T0 + timedelta(hours=1)))).pace.interval_seconds == 0


async def test_hours_are_asked_up_to_the_minutes(sums: BudgetSums, store: Store, tenant: str) -> None:
    moments = [T0 - timedelta(hours=3), T0 - timedelta(hours=2, minutes=1), T0 - timedelta(minutes=1), T0]
    samples = [cpu_sample(0, 1.0, started_at=at, ended_at=at + timedelta(seconds=1)) for at in moments]
    await store.keep(batch_of(*(reading(tenant, n, sample) for n, sample in enumerate(samples, 1))))
    answer = await sums.answer(question(tenant), asked(hours_from=T0 - timedelta(hours=9), minutes_from=T0))
    assert [chunk.starts_at for chunk in answer.hours] == [
        T0.replace(minute=0) - timedelta(hours=3),
        T0.replace(minute=0) - timedelta(hours=2),
        T0.replace(minute=0),
    ]
    assert [chunk.starts_at for chunk in answer.minutes] == [T0]


@pytest.mark.parametrize("scope", [("tenant", ""), ("job", "job-1"), ("project", "vision"), ("run", RUN)])
async def test_a_long_window_is_the_sum_of_its_samples_whether_rolled_up_or_not(
    sums: BudgetSums, store: Store, tenant: str, scope: tuple[str, str]
) -> None:
    def kept(n: int, at: datetime) -> Batch:
        mine = {"job_id": "job-1", "project": "vision", "started_at": at, "ended_at": at + timedelta(seconds=1)}
        told = reading(
            tenant, n, cpu_sample(0, float(n), **mine), rent_sample(0, 0.5).model_copy(update=mine), occurred_at=at
        )
        return batch_of(told, first=n)

    moments = [T0 - timedelta(hours=7 * n, minutes=n) for n in range(1, 30)]
    for n, at in enumerate(moments, 1):
        await store.keep(kept(n, at))
    if isinstance(store, ClickHouseStore):
        await Rolling(ClickHouseRollUps(store.engine, seconds=60), FakeClock(T0 + timedelta(days=1))).catch_up()
    # One minute of an hour that is rolled up by now is touched again.
    await store.keep(kept(30, moments[4] + timedelta(seconds=2)))
    since = moments[-3] + timedelta(seconds=30)
    answer = await sums.answer(question(tenant, *scope), asked(hours_from=since, minutes_from=T0))
    whole = total(chunk.use for chunk in answer.hours)
    assert whole.energy_joules == pytest.approx(sum(range(1, 27)) + 30)
    assert whole.energy_joules_range == pytest.approx(0.3 * whole.energy_joules)
    assert whole.carbon_grams_co2e_range == pytest.approx(0.3 * whole.carbon_grams_co2e)
    assert whole.cost_usd == pytest.approx(whole.energy_joules / 3.6e6 * 0.15 + 27 * 0.5)
    starts = [chunk.starts_at for chunk in answer.hours]
    assert len(set(starts)) == len(starts)


async def test_what_is_told_again_is_summed_once(sums: BudgetSums, store: Store, tenant: str) -> None:
    fact = reading(tenant, 1)
    await store.keep(batch(message(fact, 10)))
    await store.keep(batch(message(fact, 9_000), message(reading(tenant, 2), 11)))
    [minute] = (await sums.answer(question(tenant), asked())).minutes
    assert minute.use.energy_joules == 40.0


async def test_sums_are_of_the_scope_and_the_time_that_are_asked_for(
    sums: BudgetSums, store: Store, tenant: str
) -> None:
    mine = cpu_sample(0, 2.0, job_id="job-1", project="vision")
    other = cpu_sample(0, 5.0, run_id="run-2", job_id="job-2", project="speech")
    await store.keep(batch_of(reading(tenant, 1, mine, other), reading(f"{tenant}-x", 1, mine)))
    for scope, key, joules in (
        ("run", "run-1", 2.0),
        ("job", "job-2", 5.0),
        ("project", "vision", 2.0),
        ("tenant", "", 7.0),
    ):
        [minute] = (await sums.answer(question(tenant, scope, key), asked())).minutes
        assert minute.use.energy_joules == joules
    cut = replace(question(tenant), until=T0)
    assert (await sums.answer(cut, asked())).minutes == []


async def test_runs_under_way_are_those_that_started_and_have_not_ended(
    sums: BudgetSums, store: Store, tenant: str
) -> None:
    def at(minutes: int) -> dict[str, object]:
        moment = T0 + timedelta(minutes=minutes)
        return {"occurred_at": moment, "started_at": moment}

    paused_at = T0 + timedelta(minutes=5)
    pauses = [
        RunPaused(
            tenant=tenant, event_id=f"p-{run}", run_id=run, because="b", ended_at=paused_at, occurred_at=paused_at
        )
        for run in ("run-paused", "run-resumed")
    ]
    await store.keep(
        batch_of(
            started(tenant, "run-1", job_id="job-1", project="vision", **at(1)),
            started(tenant, "run-2", **at(2)),
            started(tenant, "run-ended", **at(3)),
            finished(tenant, "run-ended"),
            started(tenant, "run-paused", **at(4)),
            started(tenant, "run-resumed", **at(4)),
            *pauses,
            started(tenant, "run-resumed", event_id="again", **at(6)),
            started(f"{tenant}-x", "run-3", **at(1)),
        )
    )
    everything = await sums.runs_under_way(question(tenant), T0, 10)
    assert [run.run_id for run in everything] == ["run-resumed", "run-2", "run-1"]
    assert everything[0].started_at == T0 + timedelta(minutes=6)
    assert [run.run_id for run in await sums.runs_under_way(question(tenant), T0, 2)] == ["run-resumed", "run-2"]
    assert await sums.runs_under_way(question(tenant, "job", "job-1"), T0, 9) == [everything[2]]
    assert await sums.runs_under_way(question(tenant, "project", "vision"), T0, 9) == [everything[2]]
    assert await sums.runs_under_way(question(tenant, "run", "run-2"), T0, 9) == [everything[1]]
    assert await sums.runs_under_way(question(tenant), T0 + timedelta(hours=1), 9) == []
