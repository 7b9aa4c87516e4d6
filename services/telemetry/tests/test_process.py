"""The agent as a process of its own, with a real NATS: settings from the environment, kills, outages, a quick end."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import nats
import pytest
from grpc import aio

from ergonaut.api.telemetry.v1 import telemetry_pb2 as pb
from ergonaut.api.telemetry.v1.telemetry_pb2_grpc import TelemetryServiceStub
from ergonaut.events import PowerSampled
from ergonaut.runcontext import RunContext
from ergonaut_common.testing import ServiceProcess, free_port, nats_server

pytestmark = pytest.mark.integration

PATIENCE_SECONDS = 40.0
"""How long the tests wait for what should take a second or two; other work may keep the machine busy."""


def agent_in(folder: Path, nats_url: str) -> ServiceProcess:
    """An agent whose place on the disk is a folder."""
    settings = {
        "ERGONAUT_NATS_URL": nats_url,
        "ERGONAUT_TELEMETRY_HOST": "host-1",
        "ERGONAUT_TELEMETRY_SAMPLE_INTERVAL_SECONDS": "0.2",
    }
    return ServiceProcess("telemetry", folder, settings, patience_seconds=PATIENCE_SECONDS)


async def serves(agent: ServiceProcess) -> bool:
    return await agent.health() == "SERVING"


@contextmanager
def busy_run(run_id: str) -> Iterator[None]:
    """A program of a run that works until the block ends."""
    environment = {**os.environ, **RunContext(run_id=run_id, metered=True).to_environment()}
    with subprocess.Popen([sys.executable, "-c", "while True: pass"], env=environment) as program:
        try:
            yield
        finally:
            program.kill()


async def until(true: Callable[[], Any], what: str) -> None:
    """Wait until something holds; says what, where it never does."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while True:
        result = true()
        if await result if asyncio.iscoroutine(result) else result:
            return
        assert time.monotonic() < give_up_at, f"waited in vain: {what}"
        await asyncio.sleep(0.05)


async def read_to_end(watch: Any) -> None:
    """Read what is left of a stream; gRPC tells how it ended only to who has read all of it."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await watch.read() is not aio.EOF:
            pass


async def timed_stop(agent: ServiceProcess) -> tuple[int, float]:
    """Its exit code, and how many seconds it took to leave."""
    asked_at = time.monotonic()
    return await agent.stopped(), time.monotonic() - asked_at


@pytest.fixture
def nats_url(tmp_path: Path) -> Iterator[str]:
    with nats_server(tmp_path / "nats") as url:
        yield url


class Ear:
    """Hears what agents tell, each message once a delivery."""

    def __init__(self) -> None:
        self.events: list[PowerSampled] = []
        self.reports: list[dict[str, Any]] = []

    async def hear(self, message: Any) -> None:
        if ".host.reported." in message.subject:
            self.reports.append(json.loads(message.data))
        else:
            self.events.append(PowerSampled.model_validate_json(message.data))

    def has_run(self, run_id: str) -> bool:
        return any(sample.run_id == run_id for event in self.events for sample in event.samples)


@pytest.fixture
async def ear(nats_url: str) -> AsyncIterator[Ear]:
    connection = await nats.connect(nats_url)
    listener = Ear()
    await connection.subscribe("ergonaut.v1.*.telemetry.>", cb=listener.hear)
    yield listener
    await connection.close()


async def test_an_agent_reports_its_host_meters_a_run_and_leaves_within_two_seconds(
    tmp_path: Path, nats_url: str, ear: Ear
) -> None:
    agent = agent_in(tmp_path, nats_url)
    with agent.running(), busy_run("run-1"):
        await until(lambda: serves(agent), "the agent is healthy")
        async with aio.insecure_channel(agent.address) as channel:
            stub = TelemetryServiceStub(channel)
            watch = stub.WatchRun(pb.WatchRunRequest(run_id="run-1"), metadata=agent.metadata())
            async with asyncio.timeout(PATIENCE_SECONDS):
                while (await watch.read()).energy_joules <= 0:
                    pass
            await until(lambda: ear.has_run("run-1"), "the run's samples are on the bus")
            code, took_seconds = await timed_stop(agent)
            with pytest.raises(aio.AioRpcError) as ended:
                await read_to_end(watch)

    assert code == 0
    # Once more, and once more, where a busy machine was slow.
    for _ in range(2):
        if took_seconds >= 2:
            with agent.running(), busy_run("run-1"):
                await until(lambda: serves(agent), "the agent is healthy again")
                code, took_seconds = await timed_stop(agent)
    assert took_seconds < 2
    assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
    assert ear.reports[0]["host"] == "host-1"
    assert {part["component"] for part in ear.reports[0]["components"]} >= {"cpu", "dram"}


async def test_a_killed_agent_leaves_no_gap_in_numbers_or_time(tmp_path: Path, nats_url: str, ear: Ear) -> None:
    agent = agent_in(tmp_path, nats_url)
    with busy_run("run-1"):
        for life in range(3):
            heard = len(ear.events)
            with agent.running():
                await until(lambda: len(ear.events) >= heard + 3, f"samples of life {life + 1}")  # noqa: B023
    # Runs of other tests on this host, of other tenants or at other sites, are told in events of their own for the same time.
    events = {event.sequence: event for event in ear.events if event.tenant == "default"}
    samples = [sample for event in events.values() for sample in event.samples]
    intervals = sorted({(sample.started_at, sample.ended_at) for sample in samples if sample.component == "cpu"})

    assert sorted(events) == list(range(1, len(events) + 1))
    assert len({event.producer for event in ear.events}) == 1
    gaps = [abs((start - end).total_seconds()) for (_, end), (start, _) in pairwise(intervals)]
    assert max(gaps) < 0.05


async def test_an_agent_meters_without_a_bus_and_tells_all_when_it_is_back(tmp_path: Path) -> None:
    port = free_port()
    agent = agent_in(tmp_path, f"nats://127.0.0.1:{port}")
    with agent.running():
        await until((tmp_path / "data/telemetry/spool.db").exists, "the spool is there")
        # Some samples' time.
        await asyncio.sleep(1)
        assert not await serves(agent)
        with nats_server(tmp_path / "nats", port):
            await until(lambda: serves(agent), "the agent is healthy once the bus is there")
            connection = await nats.connect(f"nats://127.0.0.1:{port}")
            subscription = await connection.jetstream().subscribe("ergonaut.v1.*.telemetry.power.sampled.>")
            async with asyncio.timeout(PATIENCE_SECONDS):
                first = PowerSampled.model_validate_json((await subscription.next_msg(PATIENCE_SECONDS)).data)
            await until(lambda: holds(connection, 4), "what was metered meanwhile is told")
            await connection.close()

    assert first.sequence == 1


async def holds(connection: Any, messages: int) -> bool:
    return bool((await connection.jetstream().stream_info("ERGONAUT_TELEMETRY")).state.messages >= messages)


@pytest.mark.parametrize(
    ("name", "value"),
    [("SAMPLE_INTERVAL_SECONDS", "0"), ("PUE", "0.5"), ("HOST", "Not A Name"), ("ZONE", "a b")],
)
def test_a_bad_setting_is_named_and_ends_the_agent_at_once(tmp_path: Path, name: str, value: str) -> None:
    agent = ServiceProcess("telemetry", tmp_path, {f"ERGONAUT_TELEMETRY_{name}": value})
    with agent.running():
        assert agent.exit_code() == 78
    assert name.lower() in agent.log.read_text().lower()
