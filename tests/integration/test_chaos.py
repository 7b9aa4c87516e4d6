"""kill -9 of every process in turn while a job runs: it finishes once, is accounted for once, and nothing is lost."""

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import nats
import pytest
from servers import Installation, installation, until, write_job

VICTIMS = ("nats", "temporal", "telemetry", "pricing", "scheduler", "orchestrator", "ledger", "gateway", "vectors")

WORK = """
import os, sys, time
import ergonaut

with open(sys.argv[1], "a") as ran:
    ran.write(f"{os.getpid()}\\n")
with ergonaut.track() as run:
    step = 0
    while not os.path.exists(sys.argv[2]):
        step += 1
        with run.phase("step", step):
            stop_at = time.monotonic() + 0.5
            while time.monotonic() < stop_at:
                pass
    run.metric("steps", step)
"""


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A system of its own, since it is not treated well."""
    with installation(tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.mark.chaos
def test_a_job_survives_kill_9_of_every_process_in_turn(fragile: Installation, tmp_path: Path) -> None:
    ran, stop = tmp_path / "ran", tmp_path / "stop"
    command = ["python", "work.py", str(ran), str(stop)]
    folder = write_job(tmp_path / "job", WORK, command=command, duration_seconds_expected=120)
    finished: dict[str, Any] = {}
    watching = threading.Thread(
        target=lambda: finished.update(fragile.cli_json("submit", str(folder), "--job-id", "survivor"))
    )
    watching.start()
    until(lambda: ran.exists(), 60, "the job's program runs")
    for victim in VICTIMS:
        fragile.kill(victim)
    stop.touch()
    watching.join(timeout=90)

    assert finished.get("state") == "JOB_STATE_SUCCEEDED", finished
    assert len(ran.read_text().split()) == 1, "the program was started once"
    run_id = finished["run_id"]
    until(lambda: fragile.cli_json("report", run_id)["ended_at"], 30, "the ledger has heard of the end")
    report = fragile.cli_json("report", run_id)
    told = _events(fragile, run_id)
    assert sorted(set(told)) == ["runs.run.finished", "runs.run.progressed", "runs.run.started"]
    assert (told.count("runs.run.started"), told.count("runs.run.finished")) == (1, 1)
    assert report["samples_missing"] == 0
    acknowledged = asyncio.run(_acknowledged(fragile, run_id))
    assert report["samples"] == len(acknowledged)
    assert report["energy_joules"] == pytest.approx(sum(item["energy_joules"] or 0 for item in acknowledged))
    assert _covered_seconds(acknowledged) == pytest.approx(report["duration_seconds"], abs=4)


def _events(system: Installation, run_id: str) -> list[str]:
    """Types of the events that the ledger keeps of a run."""

    async def ask() -> list[str]:
        from ergonaut.client import AsyncClient

        async with AsyncClient(system.connection()) as client:
            events = await client.ledger.events(area="runs", key=run_id, limit=1000)
        return [".".join(event.subject.split(".")[3:6]) for event in events]

    return asyncio.run(ask())


async def _acknowledged(system: Installation, run_id: str) -> list[dict[str, Any]]:
    """Every sample of the run that JetStream acknowledged, each once however often it was told."""
    password = (system.home.secrets / "nats-services.password").read_text().strip()
    connection = await nats.connect(f"nats://{system.addresses.nats}", user="services", password=password)
    jetstream = connection.jetstream()
    last = (await jetstream.stream_info("ERGONAUT_TELEMETRY")).state.last_seq
    subscription = await jetstream.subscribe("ergonaut.v1.default.telemetry.>", ordered_consumer=True)
    batches: dict[str, list[dict[str, Any]]] = {}
    sequence = 0
    # The agent goes on telling of the host, so the end is what was there when the reading began.
    while sequence < last:
        message = await subscription.next_msg(timeout=10)
        sequence = message.metadata.sequence.stream
        told = json.loads(message.data)
        batches[told["event_id"]] = [item for item in told.get("samples", ()) if item["run_id"] == run_id]
    await connection.close()
    return [item for batch in batches.values() for item in batch]


def _covered_seconds(samples: list[dict[str, Any]]) -> float:
    spans = [(item["started_at"], item["ended_at"]) for item in samples if item["component"] == "cpu"]
    return sum((_time(ended) - _time(started)).total_seconds() for started, ended in spans)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
