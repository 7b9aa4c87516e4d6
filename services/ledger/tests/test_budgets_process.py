"""Budgets in the whole process on a real NATS: killed between deciding and telling, it tells each thing, and the same thing."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from grpc import aio
from nats.js.errors import NotFoundError

from ergonaut.api.ledger.v1 import budgets_pb2 as pb
from ergonaut.api.ledger.v1.budgets_pb2_grpc import BudgetServiceStub
from ergonaut_common.bus import Bus, open_bus
from ergonaut_common.settings import PlatformSettings
from ergonaut_common.testing import LOOKING_OFTEN, ServiceProcess, nats_server
from ergonaut_ledger.domain.budgets.deciding import TELL_AGAIN_SECONDS
from ergonaut_ledger.listeners import AREAS
from ergonaut_ledger.rpc import SERVICE_NAMES

from .hurried import deliver_again_soon
from .told import cpu_sample, started
from .told import reading as power_reading

pytestmark = pytest.mark.integration

PATIENCE_SECONDS = 90.0
"""A busy machine is slow."""

KILLS = 2
"""Each costs some seconds."""


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[Bus]:
    with nats_server(tmp_path / "nats") as url:
        async with open_bus(PlatformSettings(nats_url=url), "test") as opened:
            await opened.ensure_streams(*AREAS)
            await deliver_again_soon(opened)
            yield opened


@pytest.fixture
def process(bus: Bus, tmp_path: Path) -> ServiceProcess:
    url = str(bus.connection.connected_url.geturl()) if bus.connection.connected_url else ""
    return ServiceProcess("ledger", tmp_path, {"ERGONAUT_NATS_URL": url}, patience_seconds=PATIENCE_SECONDS)


async def ask(process: ServiceProcess, method: str, request: Any) -> Any:
    async with aio.insecure_channel(process.address, options=LOOKING_OFTEN) as channel:
        return await getattr(BudgetServiceStub(channel), method)(
            request, metadata=process.metadata(), timeout=PATIENCE_SECONDS, wait_for_ready=True
        )


async def tellings(bus: Bus) -> list[dict[str, Any]]:
    """Every event of a budget's use on the stream, in order, as often as it was stored."""
    try:
        state = (await bus.jetstream.stream_info("ERGONAUT_LEDGER")).state
    except NotFoundError:
        return []
    messages = [
        await bus.jetstream.get_msg("ERGONAUT_LEDGER", seq=number)
        for number in range(max(state.first_seq, 1), state.last_seq + 1)
    ]
    return [json.loads(message.data or b"") | {"subject": message.subject} for message in messages]


async def until_told(bus: Bus, verb: str, budget_id: str) -> None:
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not [told for told in await tellings(bus) if told["subject"].endswith(f".{verb}.{budget_id}")]:
        assert time.monotonic() < give_up_at, f"{verb} {budget_id} was never told"
        await asyncio.sleep(0.02)


@pytest.mark.timeout(300)
async def test_killed_at_any_moment_it_tells_each_thing_once(process: ServiceProcess, bus: Bus) -> None:
    chaos = random.Random(3)
    now = datetime.now(UTC)
    await bus.publish(started("default", "run-1", job_id="job-1", occurred_at=now, started_at=now))
    number = 0
    for round_number in range(KILLS):
        budget_id, limit = f"b-{round_number}", 100.0 * (round_number + 1)
        budget = pb.Budget(budget_id=budget_id, scope="tenant", metric="energy_joules", limit=limit, action="pause")
        with process.running():
            await process.wait_healthy(SERVICE_NAMES[0])
            await ask(process, "SetBudget", pb.SetBudgetRequest(budget=budget))
            for _ in range(10):
                number += 1
                end = now + timedelta(seconds=number)
                sample = cpu_sample(
                    0, 10.0, run_id="run-1", job_id="job-1", started_at=end - timedelta(1e-5), ended_at=end
                )
                await bus.publish(power_reading("default", number, sample, occurred_at=end))
            # The kill falls somewhere between keeping the samples and remembering that the end was told.
            await asyncio.sleep(chaos.random() * 0.6)
            process.kill()
        with process.running():
            await until_told(bus, "exceeded", budget_id)
            standing = (await ask(process, "GetBudget", pb.GetBudgetRequest(budget_id=budget_id))).standing
            assert (standing.state, standing.used, [*standing.paused_job_ids]) == ("exceeded", limit, ["job-1"])
    told = await tellings(bus)
    ids = [event["event_id"] for event in told]
    assert len(ids) == len(set(ids))
    exceeded = [event for event in told if ".exceeded." in event["subject"]]
    assert {(*event["job_ids"], *event["run_ids"]) for event in exceeded} == {("job-1", "run-1")}
    for number in range(KILLS):
        first, *again = [event["occurred_at"] for event in exceeded if event["budget_id"] == f"b-{number}"]
        # Nobody stops the run here, so it is told again that it goes on, but no sooner than is promised.
        for before, after in pairwise([first, *again]):
            apart = datetime.fromisoformat(after) - datetime.fromisoformat(before)
            assert apart >= timedelta(seconds=TELL_AGAIN_SECONDS[0])
