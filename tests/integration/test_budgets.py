"""A budget ends or pauses a real job in time: its use stays within bounds of the limit, and its state says why."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import Installation, acknowledged_samples, until, write_job

from ergonaut.api.ledger.v1 import budgets_pb2
from ergonaut.api.scheduling.v1 import scheduling_pb2 as pb
from ergonaut.budgets import BudgetSpec
from ergonaut.client import Client
from ergonaut.jobfile import load_job

SPIN = "import time\nwhile time.process_time() < 300: pass"
"""Far longer than any budget here lets it."""

GOES_ON = """
import os, pathlib, time
begun = pathlib.Path(os.environ["ERGONAUT_CHECKPOINT_FOLDER"]) / "begun"
if not begun.exists():
    begun.write_text("1")
    while time.process_time() < 300: pass
"""
"""Spins until it is interrupted; when it goes on with its checkpoint, it is done."""

LIMIT_JOULES = 45.0
"""Enough seconds for an interval to be a small part of it, and few enough not to wait for."""

PATIENCE_SECONDS = 150.0


@pytest.fixture
def client(system: Installation) -> Iterator[Client]:
    with contextlib.closing(Client(system.connection())) as opened:
        yield opened


def submitted(client: Client, folder: Path) -> str:
    spec, files = load_job(folder)
    return client.jobs.submit(spec, files)


def run_samples(system: Installation, run_id: str) -> list[dict[str, Any]]:
    return [item for item in asyncio.run(acknowledged_samples(system, run_id)) if item.get("energy_joules")]


def energy_joules(samples: list[dict[str, Any]]) -> float:
    return float(sum(item["energy_joules"] for item in samples))


def joules_of_a_second(samples: list[dict[str, Any]]) -> float:
    """The most that was used in one interval, all components together."""
    by_end: dict[str, float] = {}
    for item in samples:
        by_end[item["ended_at"]] = by_end.get(item["ended_at"], 0.0) + item["energy_joules"]
    return max(by_end.values())


def project_limit(budget_id: str, project: str, action: str) -> BudgetSpec:
    """A budget of a few joules for all that a project does."""
    return BudgetSpec(
        budget_id=budget_id,
        scope="project",
        scope_key=project,
        metric="energy_joules",
        limit=LIMIT_JOULES,
        action=action,
    )


def test_a_jobs_own_limit_ends_it_within_two_intervals(system: Installation, client: Client, tmp_path: Path) -> None:
    budget = {"energy_joules": LIMIT_JOULES, "action": "stop"}
    job_id = submitted(client, write_job(tmp_path / "job", SPIN, budget=budget, duration_seconds_expected=1))
    *_, last = client.jobs.watch(job_id)
    assert last.state == pb.JOB_STATE_CANCELLED
    assert f"budget {job_id}-energy is used up" in last.because
    samples = run_samples(system, last.run_id)
    assert LIMIT_JOULES * 0.99 <= energy_joules(samples) <= LIMIT_JOULES + 2 * joules_of_a_second(samples)


def test_a_project_is_paused_and_goes_on_when_its_budget_is_raised(
    system: Installation, client: Client, tmp_path: Path
) -> None:
    cap = project_limit("vision-cap", "vision", "pause")
    client.budgets.set(cap)
    folder = write_job(tmp_path / "job", GOES_ON, project="vision", duration_seconds_expected=1)
    job_id = submitted(client, folder)
    until(lambda: client.jobs.get(job_id).state == pb.JOB_STATE_PAUSED, PATIENCE_SECONDS, "the job is paused")
    paused = client.budgets.get("vision-cap")
    assert (paused.state, [*paused.paused_job_ids]) == ("exceeded", [job_id])
    assert paused.used >= LIMIT_JOULES * 0.99
    assert paused.used <= LIMIT_JOULES + 2 * joules_of_a_second(run_samples(system, client.jobs.get(job_id).run_id))

    raised: budgets_pb2.BudgetStanding = client.budgets.set(cap.model_copy(update={"limit": 10 * LIMIT_JOULES}))
    assert raised.state == "within"
    *_, last = client.jobs.watch(job_id)
    assert last.state == pb.JOB_STATE_SUCCEEDED, last.because
    assert not client.budgets.get("vision-cap").paused_job_ids
    told = [event.subject.split(".")[4:6] for event in client.ledger.events(area="ledger", key="vision-cap")]
    assert ["budget", "exceeded"] in told
    assert ["budget", "renewed"] in told
    client.budgets.remove("vision-cap")


def test_a_budget_stops_a_tracked_program_and_what_would_start_when_it_is_used_up(
    system: Installation, client: Client, tmp_path: Path
) -> None:
    limit = project_limit("notebooks", "notebooks", "stop")
    client.budgets.set(limit)
    first = tracked(system)
    assert "asked to stop: budget notebooks is used up" in first.stderr
    assert client.budgets.get("notebooks").used >= LIMIT_JOULES * 0.99
    later = tracked(system)
    assert (first.returncode, later.returncode) == (79, 79), (first.stderr, later.stderr)
    job_id = submitted(client, write_job(tmp_path / "job", "pass", project="notebooks"))
    *_, last = client.jobs.watch(job_id)
    assert last.state == pb.JOB_STATE_REFUSED
    assert "budget notebooks is used up" in last.because
    client.budgets.remove("notebooks")


def tracked(system: Installation) -> "subprocess.CompletedProcess[str]":
    """A program that a person runs beside the system, with their own user of its bus."""
    bus = {
        "ERGONAUT_NATS_URL": f"nats://{system.addresses.nats}",
        "ERGONAUT_NATS_USER": "default",
        "ERGONAUT_NATS_PASSWORD_FILE": str(system.home.secrets / "nats-default.password"),
        "ERGONAUT_PROJECT": "notebooks",
    }
    command = [sys.executable, "-m", "ergonaut", "track", "--", sys.executable, "-c", SPIN]
    return subprocess.run(
        command,
        env=system.environment | bus,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def test_the_command_line_shows_how_a_budget_stands(system: Installation) -> None:
    system.cli("budget", "set", "fleet", "5kWh", "--window", "month", "--action", "tell")
    table = system.cli("budget", "list").stdout
    assert "fleet" in table
    assert "5 kWh" in table
    [standing] = [each for each in system.cli_json("budget", "list") if each["budget"]["budget_id"] == "fleet"]
    assert standing["state"] == "within"
    system.cli("budget", "remove", "fleet")
    assert system.cli("budget", "show", "fleet", expect=66).stderr.startswith("error: ")
