"""A hundred kill -9 of agent, bus and ledger while samples stream: each acknowledged sample is kept, and kept once."""

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.js import JetStreamContext
from servers import deliver_again_soon, until

from ergonaut.runcontext import RunContext
from ergonaut_common.testing import ServiceProcess, binary, free_port, wait_for_port

KILLS = int(os.environ.get("ERGONAUT_KILLS", "12"))
SEED = int(os.environ.get("ERGONAUT_KILLS_SEED", "2"))
"""Twelve keep the suite short; `make chaos` takes a hundred."""
PAUSE_SECONDS = (0.1, 1.6)
"""Between two kills: short enough to hit a process that is starting, long enough that every process gets to work at times."""

STREAM = "ERGONAUT_TELEMETRY"

BURN = """
import time
while True:
    until = time.process_time() + 0.02
    while time.process_time() < until: pass
    time.sleep(0.08)
"""
"""Some work in every interval; more would only be taken from those who are killed, who have to start anew."""

# The books, read when the ledger has left them: one process a folder.
BOOKS = """
import json, sys
import clickhouse_connect
books = clickhouse_connect.get_client(interface="chdb", path=sys.argv[1])
rows = books.query(
    "SELECT tenant, producer, producer_sequence, count(), sum(energy_joules) FROM power_samples FINAL "
    "GROUP BY tenant, producer, producer_sequence"
).result_rows
print(json.dumps(rows))
"""

Kept = dict[tuple[str, str, int], tuple[int, float]]
"""How many samples are in each message of a tenant's producer, and their joules."""


class Bus:
    """A nats-server that may be killed and started where it was."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.port = folder, free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        arguments = [binary("nats-server"), "-js", "-sd", str(self._folder), "-a", "127.0.0.1", "-p", str(self.port)]
        log = self._folder / "nats.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(arguments, stdout=output, stderr=output)
        wait_for_port(self.port, self._process, log)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class Stream:
    """The agent, the bus and the ledger, as processes."""

    def __init__(self, folder: Path) -> None:
        bus_folder = folder / "nats"
        bus_folder.mkdir()
        self.bus = Bus(bus_folder)
        settings = {"ERGONAUT_NATS_URL": self.bus.url}
        often = {"ERGONAUT_TELEMETRY_SAMPLE_INTERVAL_SECONDS": "0.1"}
        self.agent = ServiceProcess("telemetry", folder / "agent", settings | often)
        self.ledger = ServiceProcess("ledger", folder / "books", settings)
        self.victims = (self.bus, self.agent, self.ledger)

    @contextlib.contextmanager
    def flowing(self) -> Iterator[None]:
        try:
            for process in self.victims:
                process.start()
            yield
        finally:
            for process in reversed(self.victims):
                process.kill()


@contextlib.contextmanager
def a_run() -> Iterator[None]:
    """A program that belongs to a run, so that there is something to charge."""
    context = RunContext(run_id="run-burning", metered=True, electricity_microusd_per_kwh=200_000)
    command = [sys.executable, "-c", BURN]
    with subprocess.Popen(command, env={**os.environ, **context.to_environment()}) as program:
        try:
            yield
        finally:
            program.kill()


@pytest.mark.chaos
@pytest.mark.usefixtures("alone")
@pytest.mark.timeout(1_200)
def test_no_acknowledged_sample_is_lost_and_none_is_kept_twice(tmp_path: Path) -> None:
    numbers, stream = random.Random(SEED), Stream(tmp_path)
    struck: Counter[str] = Counter()
    with stream.flowing(), a_run():
        for _ in range(KILLS):
            time.sleep(numbers.uniform(*PAUSE_SECONDS))
            victim = numbers.choice(stream.victims)
            struck[type(victim).__name__ if isinstance(victim, Bus) else victim.name] += 1
            victim.kill()
            victim.start()
        # The agent says that it serves once its host is reported, for which the bus must be back.
        for service in (stream.agent, stream.ledger):
            until(lambda: asyncio.run(service.health()) == "SERVING", 60, f"{service.name} is back")  # noqa: B023
        last = asyncio.run(_hurry(stream.bus.url))
        # The agent goes on meanwhile, so that there may be no moment at which nothing waits for the ledger.
        until(lambda: asyncio.run(_kept_to(stream.bus.url)) >= last, 300, "the ledger has kept what the bus held")
        # Told to leave, the agent takes no more samples; what it has not sent by then it sends when it is back.
        stream.agent.terminate()
        stream.agent.exit_code()
        until(lambda: asyncio.run(_caught_up(stream.bus.url)), 300, "the ledger has kept the last samples")
        told = asyncio.run(_told(stream.bus.url))
        stream.ledger.terminate()
        stream.ledger.exit_code()
        kept = _kept(stream.ledger.folder / "data" / "ledger")

    assert len(struck) == len(stream.victims), struck
    for (tenant, producer), sequences in _numbered(told).items():
        assert sequences == list(range(1, len(sequences) + 1)), f"{producer} of {tenant} left a gap in its numbers"
    assert kept.keys() == told.keys()
    for message, (samples, joules) in told.items():
        assert kept[message] == (samples, pytest.approx(joules, rel=1e-12)), message


async def _hurry(url: str) -> int:
    """Have the ledger get soon what it held when it was killed; gives the last message that the stream holds."""
    async with _jetstream(url) as jetstream:
        await deliver_again_soon(jetstream)
        return (await jetstream.stream_info(STREAM)).state.last_seq


async def _kept_to(url: str) -> int:
    """To which message the ledger has acknowledged all."""
    async with _jetstream(url) as jetstream:
        floor = (await jetstream.consumer_info(STREAM, "ledger")).ack_floor
        return floor.stream_seq if floor else 0


async def _caught_up(url: str) -> bool:
    """Whether the ledger has acknowledged all that the stream holds; it holds something."""
    async with _jetstream(url) as jetstream:
        state = (await jetstream.stream_info(STREAM)).state
        consumer = await jetstream.consumer_info(STREAM, "ledger")
        return bool(state.messages and not consumer.num_pending and not consumer.num_ack_pending)


async def _told(url: str) -> Kept:
    """Every message of samples that the bus has acknowledged; one that was told twice counts once."""
    told: Kept = {}
    async with _jetstream(url) as jetstream:
        last = (await jetstream.stream_info(STREAM)).state.last_seq
        subscription = await jetstream.subscribe("ergonaut.v1.*.telemetry.>", stream=STREAM, ordered_consumer=True)
        sequence = 0
        while sequence < last:
            message = await subscription.next_msg(timeout=30)
            sequence = message.metadata.sequence.stream
            if ".telemetry.power.sampled." in message.subject:
                body = json.loads(message.data)
                told[body["tenant"], body["producer"], body["sequence"]] = _weight(body)
    return told


def _weight(body: Mapping[str, Any]) -> tuple[int, float]:
    samples = body["samples"]
    return len(samples), sum(sample.get("energy_joules") or 0.0 for sample in samples)


def _kept(folder: Path) -> Kept:
    done = subprocess.run([sys.executable, "-c", BOOKS, str(folder)], capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout)
    return {(tenant, producer, number): (count, joules or 0.0) for tenant, producer, number, count, joules in rows}


def _numbered(told: Kept) -> dict[tuple[str, str], list[int]]:
    """The numbers of each tenant's producers, in order."""
    numbered: dict[tuple[str, str], list[int]] = {}
    for tenant, producer, number in sorted(told):
        numbered.setdefault((tenant, producer), []).append(number)
    return numbered


@contextlib.asynccontextmanager
async def _jetstream(url: str) -> Any:
    connection = await nats.connect(url)
    try:
        yield JetStreamContext(connection, timeout=10)
    finally:
        await connection.close()
