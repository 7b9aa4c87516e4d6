"""Replicas of the gateway as jobs of the whole system: kept, found by announcements, replaced when killed, gone when stopped."""

import contextlib
import json
import os
import signal
import subprocess
from datetime import UTC, datetime
from typing import Any

import nats
import psutil
from servers import Installation, until

from ergonaut.cli.output import EXIT_UNAVAILABLE
from ergonaut.gateways import ANNOUNCEMENTS, SUBJECT, GatewayAnnounced

REPLICA_PATIENCE_SECONDS = 90
"""A replica is placed, leased and started within seconds; a machine that runs other tests takes longer."""


def serving(system: Installation) -> dict[str, dict[str, Any]]:
    """The replicas that serve, by job. Who knows of them may have been killed just now, and answer late."""
    asked: list[subprocess.CompletedProcess[str]] = []

    def is_answered() -> bool:
        asked.append(system.cli("replicas", "show", "edge", "--json", expect=None))
        return asked[-1].returncode != EXIT_UNAVAILABLE

    until(is_answered, REPLICA_PATIENCE_SECONDS, "somebody tells of the replicas")
    assert asked[-1].returncode == 0, asked[-1].stderr
    told = json.loads(asked[-1].stdout)
    return {each["job_id"]: each for each in told.get("replicas", []) if each["state"] == "serving"}


def processes(system: Installation) -> dict[str, psutil.Process]:
    """The gateways below the system's leases, by job."""
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            is_ours = process.cwd().startswith(str(system.home.data / "leases"))
            if is_ours and "ergonaut_gateway" in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found[process.environ()["ERGONAUT_GATEWAY_REPLICA"]] = process
    return found


async def heard(system: Installation, seconds: float = 2.5) -> dict[str, GatewayAnnounced]:
    """Who announces itself on NATS, by name."""
    secrets = system.home.secrets
    key = (secrets / "service.key").read_text().strip()
    password = (secrets / "nats-services.password").read_text().strip()
    connection = await nats.connect(f"nats://{system.addresses.nats}", user="services", password=password)
    found: dict[str, GatewayAnnounced] = {}
    subscription = await connection.subscribe(SUBJECT)
    with contextlib.suppress(nats.errors.TimeoutError):
        while len(found) < 10:
            message = await subscription.next_msg(timeout=seconds)
            told = ANNOUNCEMENTS.unsealed(message.data, key, datetime.now(UTC))
            if told.process in {each.process for each in found.values()}:
                break
            found[told.replica] = told
    await connection.close()
    return found


async def test_replicas_are_kept_found_replaced_when_killed_and_gone_when_stopped(fragile: Installation) -> None:
    fragile.cli("replicas", "set", "edge", "--min", "2", "--max", "2")
    until(lambda: len(serving(fragile)) == 2, REPLICA_PATIENCE_SECONDS, "two replicas serve")
    first = serving(fragile)
    announced = await heard(fragile)
    assert {job_id: announced[job_id].address for job_id in first} == {
        job_id: each["address"] for job_id, each in first.items()
    }
    running = processes(fragile)
    assert running.keys() == first.keys()
    jobs = {job["job_id"]: job for job in fragile.cli_json("jobs")}
    assert {jobs[job_id]["state"] for job_id in first} == {"JOB_STATE_RUNNING"}, jobs
    secrets = {path.read_text().strip() for path in fragile.home.secrets.iterdir() if path.suffix != ".json"}
    for process in running.values():
        told = " ".join(process.cmdline())
        assert not any(secret in told for secret in secrets)
        assert not secrets & set(process.environ().values())

    victim = next(iter(running))
    os.kill(running[victim].pid, signal.SIGKILL)
    until(lambda: len(serving(fragile).keys() - {victim}) == 2, REPLICA_PATIENCE_SECONDS, "the killed one is replaced")
    assert len(processes(fragile)) == 2

    kept = serving(fragile)
    fragile.kill("orchestrator")
    until(lambda: serving(fragile).keys() == kept.keys(), REPLICA_PATIENCE_SECONDS, "the same replicas serve on")
    assert processes(fragile).keys() == kept.keys()

    fragile.cli("replicas", "set", "edge", "--min", "0", "--max", "0")
    until(lambda: not processes(fragile), REPLICA_PATIENCE_SECONDS, "no replica is left of a set of none")
    fragile.cli("replicas", "set", "edge", "--min", "1", "--max", "1")
    until(lambda: len(serving(fragile)) == 1, REPLICA_PATIENCE_SECONDS, "one replica serves again")
    fragile.cli("down")
    assert processes(fragile) == {}, "what is taken down leaves nothing behind"
    fragile.cli("up")
    until(lambda: len(serving(fragile)) == 1, REPLICA_PATIENCE_SECONDS, "after a restart the replica serves again")
    fragile.cli("replicas", "stop", "edge")
    assert processes(fragile) == {}
    assert fragile.cli_json("replicas", "list") == []
    leases = fragile.home.data / "leases"
    until(lambda: not [*leases.glob("[!.]*")], REPLICA_PATIENCE_SECONDS, "every lease is given back")
