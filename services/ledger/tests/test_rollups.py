"""Roll-ups say what the samples say: over repeats, late comers, any order, and wherever a roll was cut off."""

import math
import random
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from ergonaut.events.telemetry import Share
from ergonaut_common.clock import FakeClock
from ergonaut_ledger.adapters.clickhouse import ClickHouseStore
from ergonaut_ledger.adapters.engine import Engine
from ergonaut_ledger.adapters.rollups import ClickHouseRollUps, ClickHouseUsage, roll
from ergonaut_ledger.domain.bounds import Message
from ergonaut_ledger.domain.rolling import Touch, portions
from ergonaut_ledger.domain.usage import LABELS, Span, Step, Usage, UsageQuestion
from ergonaut_ledger.fakes.rolled import FakeRollUps
from ergonaut_ledger.fakes.store import FakeStore, FakeUsageBooks
from ergonaut_ledger.service.rolling import Rolling
from ergonaut_ledger.service.using import Using

from .told import T0, batch, cpu_sample, gpu_sample, message, reading, rent_sample

DAY = timedelta(days=1)
MIDNIGHT = T0.replace(hour=0, minute=0)
SPAN = Span(MIDNIGHT, MIDNIGHT + 3 * DAY)
FIGURES = ("energy_joules", "energy_joules_range", "carbon_grams_co2e", "embodied_grams_co2e", "cost_usd")


@pytest.fixture
def store(engine: Engine) -> ClickHouseStore:
    return ClickHouseStore(engine, insert_seconds=60, query_seconds=60)


@pytest.fixture
def using(engine: Engine) -> Using:
    return Using(ClickHouseUsage(engine, query_seconds=60))


def rolling(engine: Engine, now: datetime) -> Rolling:
    return Rolling(ClickHouseRollUps(engine, seconds=60), FakeClock(now))


def told(tenant: str, chance: random.Random, count: int) -> list[Message]:
    """Messages over two and a half days, of three hosts, some with figures unknown."""
    messages = []
    for number in range(1, count + 1):
        second = chance.uniform(0, 2.5 * 86_400)
        run = f"run-{chance.randrange(4)}"
        labels = {"run_id": run, "job_id": run.replace("run", "job"), "project": f"project-{run[-1]}"}
        mine = [
            cpu_sample(second, chance.uniform(0, 40), **labels),
            gpu_sample(second).model_copy(update=labels),
            rent_sample(second, chance.random()).model_copy(update=labels | {"embodied_grams_co2e": chance.random()}),
            cpu_sample(second, chance.uniform(0, 9), share=Share.IDLE, run_id="", range_fraction=None),
        ]
        host = f"host-{chance.randrange(3)}"
        fact = reading(
            tenant, number, *mine, host=host, producer=f"agent-{host}", zone=chance.choice(("DE", "FR")), pue=1.5
        )
        messages.append(message(fact, number))
    return messages


async def by_fake(question: UsageQuestion, messages: Sequence[Message]) -> list[Usage]:
    """The fake's answer, which is held to the same."""
    store = FakeStore()
    await store.keep(batch(*messages))
    return [*await Using(FakeUsageBooks(store)).usage(question)]


async def by_samples(engine: Engine, question: UsageQuestion) -> list[Usage]:
    """The same answer from the samples alone, summed here by nothing that roll-ups are made of."""
    rows = await engine.ask(
        "SELECT * FROM power_samples FINAL WHERE tenant = {tenant:String}",
        {"tenant": question.tenant},
        what="reading samples",
        seconds=60,
    )
    groups: dict[tuple[Any, ...], list[Any]] = defaultdict(list)
    columns = {"run": "run_id", "job": "job_id"}
    width = {"minute": 60, "hour": 3600, "day": 86_400}.get(question.step)
    for row in rows:
        at = row["started_at"]
        wanted = all(getattr(question, name) in ("", row[name]) for name in ("project", "run_id", "host"))
        if wanted and question.span.starts_at <= at < question.span.ends_at:
            since = (at - MIDNIGHT) % timedelta(seconds=width) if width else at - question.span.starts_at
            labels = tuple(row[columns.get(label, label)] for label in question.group_by)
            groups[at - since, labels].append(row)
    return [
        Usage(at, dict(zip(question.group_by, labels, strict=True)), **_sums(groups[at, labels]))
        for at, labels in sorted(groups)
    ]


def _sums(rows: list[Any]) -> dict[str, Any]:
    for row in rows:
        known = row["energy_joules"] is not None and row["range_fraction"] is not None
        row["energy_joules_range"] = row["energy_joules"] * row["range_fraction"] if known else None
    figures = {name: [row[name] for row in rows if row[name] is not None] for name in FIGURES}
    return {name: math.fsum(found) if found else None for name, found in figures.items()} | {"samples": len(rows)}


def assert_alike(found: Any, expected: list[Usage]) -> None:
    assert [(each.starts_at, each.labels, each.samples) for each in found] == [
        (each.starts_at, each.labels, each.samples) for each in expected
    ]
    for figure in FIGURES:
        for one, other in zip(found, expected, strict=True):
            want = getattr(other, figure)
            assert getattr(one, figure) == (want if want is None else pytest.approx(want, rel=1e-12)), figure


def questions(tenant: str, chance: random.Random) -> list[UsageQuestion]:
    ragged = Span(
        MIDNIGHT + timedelta(seconds=chance.uniform(0, 9e4)), MIDNIGHT + timedelta(seconds=chance.uniform(1e5, 2.6e5))
    )
    return [
        UsageQuestion(tenant, SPAN, Step.TOTAL),
        UsageQuestion(tenant, SPAN, Step.DAY, ("run", "component")),
        UsageQuestion(tenant, SPAN, Step.HOUR, ("share",), host="host-1"),
        UsageQuestion(tenant, SPAN, Step.MINUTE, (), project="project-1"),
        UsageQuestion(tenant, ragged, Step.DAY, LABELS, run_id="run-2"),
        UsageQuestion(tenant, ragged, Step.TOTAL, ("zone", "host")),
    ]


@pytest.mark.parametrize("seed", range(6))
async def test_roll_ups_say_what_the_samples_say_at_every_moment(
    store: ClickHouseStore, engine: Engine, using: Using, tenant: str, seed: int
) -> None:
    chance = random.Random(seed)
    messages = told(tenant, chance, 60)
    late = chance.sample(messages, 15)
    early = [each for each in messages if each not in late]
    for chunk in (early, chance.sample(early, 20), late, [*late, *early[:5]]):
        chance.shuffle(chunk)
        cut = chance.randrange(1, len(chunk))
        for part in (chunk[:cut], chunk[cut:]):
            await store.keep(batch(*part))
            if chance.random() < 0.6:
                # Sometimes the last day is not over yet.
                await rolling(engine, MIDNIGHT + chance.choice((1.5, 2.2, 9)) * DAY).catch_up()
            for question in chance.sample(questions(tenant, chance), 3):
                assert_alike(await using.usage(question), await by_samples(engine, question))
    await rolling(engine, MIDNIGHT + 9 * DAY).catch_up()
    for question in questions(tenant, chance):
        assert_alike(await using.usage(question), await by_samples(engine, question))
        assert_alike(await by_fake(question, messages), await by_samples(engine, question))
    books = ClickHouseUsage(engine, query_seconds=60)
    assert await books.touched_minutes(tenant, SPAN.starts_at, SPAN.ends_at) == []


class _CutOff(Exception):
    """The process was killed here."""


class _Killed:
    """A client of which the n-th statement is the last that is carried out."""

    def __init__(self, client: Client, statements: int) -> None:
        self._client = client
        self._left = statements

    def query(self, *arguments: Any, **named: Any) -> None:
        if not self._left:
            raise _CutOff
        self._left -= 1
        self._client.query(*arguments, **named)


@pytest.mark.parametrize("statements", range(5))
async def test_a_roll_that_is_killed_after_any_statement_changes_no_answer(
    store: ClickHouseStore, engine: Engine, client: Client, executor: ThreadPoolExecutor, tenant: str, statements: int
) -> None:
    using = Using(ClickHouseUsage(engine, query_seconds=60))
    chance = random.Random(statements)
    await store.keep(batch(*told(tenant, chance, 20)))
    touches = [touch for touch in await ClickHouseRollUps(engine, seconds=60).touched(10_000) if touch.tenant == tenant]
    for portion in portions(touches, MIDNIGHT + 9 * DAY):
        killed: Any = _Killed(client, statements)
        try:
            executor.submit(roll, killed, portion).result()
        except _CutOff:
            assert statements < 4
    for question in questions(tenant, chance):
        assert_alike(await using.usage(question), await by_samples(engine, question))
    await store.keep(batch(*told(tenant, random.Random(99), 5)))
    await rolling(engine, MIDNIGHT + 9 * DAY).catch_up()
    for question in questions(tenant, chance):
        assert_alike(await using.usage(question), await by_samples(engine, question))


async def test_once_rolled_up_a_month_is_answered_without_its_samples(
    store: ClickHouseStore, engine: Engine, using: Using, tenant: str
) -> None:
    await store.keep(batch(*told(tenant, random.Random(1), 30)))
    await rolling(engine, MIDNIGHT + 9 * DAY).catch_up()
    question = UsageQuestion(tenant, SPAN, Step.DAY, ("host",))
    before = await using.usage(question)
    delete = "ALTER TABLE power_samples DELETE WHERE tenant = {tenant:String} SETTINGS mutations_sync = 2"
    await engine.do(lambda client: client.query(delete, parameters={"tenant": tenant}), what="deleting", seconds=60)
    assert_alike(await using.usage(question), [*before])
    assert before


async def test_a_minute_that_is_being_filled_waits_until_it_rests_or_for_a_minute() -> None:
    minutes, clock = FakeRollUps(), FakeClock(T0)
    rolling, filled = Rolling(minutes, clock), T0 - timedelta(minutes=9)
    rolled_at = []
    for second in range(80):
        if second % 2 == 0 and second < 70:
            minutes.touches.append(Touch("a", filled, f"touch-{second}"))
        before = len(minutes.rolled)
        await rolling.look()
        rolled_at += [second] * (len(minutes.rolled) - before)
        await clock.advance(1)
    assert rolled_at == [60, 71]


def test_a_minute_waits_until_it_has_ended_and_one_of_the_future_until_it_has_come() -> None:
    now = datetime(2026, 3, 1, 12, 30, 30, tzinfo=UTC)
    minutes = [now.replace(minute=minute, second=0) for minute in (28, 29, 30, 59)]
    found = portions([Touch("a", minute, str(minute)) for minute in minutes], now)
    assert [portion.minutes for portion in found] == [tuple(minutes[:2])]
