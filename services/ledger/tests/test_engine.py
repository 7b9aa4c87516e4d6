"""The one thread that owns ClickHouse: deadlines, a bound on who waits, and a loop that is never blocked."""

import asyncio
import time
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from ergonaut.errors import Broken, Unavailable
from ergonaut_ledger.adapters.clickhouse import ClickHouseStore
from ergonaut_ledger.adapters.engine import CALLS_WAITING_MAX, Engine
from ergonaut_ledger.domain.rows import Batch

from .told import RUN, batch_of, cpu_sample, reading

ENDLESS = "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1"


async def test_a_question_that_takes_too_long_is_given_up_and_the_thread_is_free_again(engine: Engine) -> None:
    with pytest.raises(Unavailable, match="asking"):
        await engine.ask(ENDLESS, {}, what="asking", seconds=0.3)
    assert await engine.ask("SELECT 1 AS one", {}, what="asking", seconds=60) == [{"one": 1}]


async def test_a_question_that_is_wrong_is_our_bug(engine: Engine) -> None:
    with pytest.raises(Broken, match="UNKNOWN_TABLE"):
        await engine.ask("SELECT * FROM nothing", {}, what="asking", seconds=60)


async def test_more_callers_than_the_bound_are_sent_away(engine: Engine) -> None:
    def slow(_: Client) -> None:
        time.sleep(0.02)

    calls = [engine.do(slow, what="waiting", seconds=60) for _ in range(CALLS_WAITING_MAX + 5)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(result, Unavailable) for result in results) == 5


async def test_the_loop_goes_on_while_the_engine_works(engine: Engine) -> None:
    question = asyncio.create_task(engine.ask(ENDLESS, {}, what="asking", seconds=0.5))
    turns = 0
    while not question.done():
        await asyncio.sleep(0.005)
        turns += 1
    assert isinstance(question.exception(), Unavailable)
    # A hundred where the machine is idle; a loop that stands still meanwhile turns once or twice.
    assert turns > 5


async def test_bound_values_are_never_sql(engine: Engine) -> None:
    evil: Any = "x' OR 1=1 --"
    [row] = await engine.ask("SELECT {t:String} AS t", {"t": evil}, what="asking", seconds=60)
    assert row["t"] == evil


async def test_sums_are_right_over_a_long_run_with_many_parts(engine: Engine, tenant: str) -> None:
    store = ClickHouseStore(engine, insert_seconds=60, query_seconds=60)
    for first in range(1, 2001, 100):
        whole = Batch()
        for number in range(first, first + 100):
            whole.add(batch_of(reading(tenant, number, cpu_sample(number, 0.1)), first=number))
        await store.keep(whole)
    [cpu] = await store.components(tenant, RUN)
    assert cpu.energy_joules == pytest.approx(200.0, rel=1e-14)
