"""kill -9 of every process in turn while a job runs: it finishes once, is accounted for once, and nothing is lost."""

import asyncio
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from servers import Installation, acknowledged_samples, connected, deliver_again_soon, until, write_job

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
    asyncio.run(_hurry(fragile))
    for victim in VICTIMS:
        fragile.kill(victim)
    stop.touch()
    watching.join(timeout=90)

    assert finished.get("state") == "JOB_STATE_SUCCEEDED", finished
    assert len(ran.read_text().split()) == 1, "the program was started once"
    run_id = finished["run_id"]
    until(lambda: fragile.cli_json("report", run_id)["ended_at"], 30, "the ledger has heard of the end")
    acknowledged = asyncio.run(acknowledged_samples(fragile, run_id))
    # What a killed ledger held comes again after some seconds, and the end of the run may well be known before.
    until(lambda: fragile.cli_json("report", run_id)["samples"] >= len(acknowledged), 90, "the ledger has caught up")
    report = fragile.cli_json("report", run_id)
    told = _events(fragile, run_id)
    kinds = ["runs.phase.finished", "runs.run.finished", "runs.run.progressed", "runs.run.started"]
    assert sorted(set(told)) == kinds
    assert (told.count("runs.run.started"), told.count("runs.run.finished")) == (1, 1)
    acknowledged = asyncio.run(acknowledged_samples(fragile, run_id))
    assert (report["samples"], report["samples_missing"]) == (len(acknowledged), 0)
    assert report["energy_joules"] == pytest.approx(sum(item.get("energy_joules") or 0 for item in acknowledged))
    assert _covered_seconds(acknowledged) == pytest.approx(report["duration_seconds"], abs=4)


async def _hurry(system: Installation) -> None:
    async with connected(system) as connection:
        await deliver_again_soon(connection.jetstream())


def _events(system: Installation, run_id: str) -> list[str]:
    """Types of the events that the ledger keeps of a run."""

    async def ask() -> list[str]:
        from ergonaut.client import AsyncClient

        async with AsyncClient(system.connection()) as client:
            events = await client.ledger.events(area="runs", key=run_id, limit=1000)
        return [".".join(event.subject.split(".")[3:6]) for event in events]

    return asyncio.run(ask())


def _covered_seconds(samples: list[dict[str, Any]]) -> float:
    spans = [(item["started_at"], item["ended_at"]) for item in samples if item["component"] == "cpu"]
    return sum((_time(ended) - _time(started)).total_seconds() for started, ended in spans)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
