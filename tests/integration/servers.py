"""Starts the real system, as a person would, in a folder of its own and on free ports; used by the integration tests."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client as NatsConnection
from nats.js import JetStreamContext

from ergonaut.client import Connection
from ergonaut.local import Addresses, Home
from ergonaut_common.testing_commands import ergonaut_command, started_command

COMMAND_TIMEOUT_SECONDS = 180

AGAIN_AFTER_SECONDS = 3.0
"""Long enough for the ledger to keep a batch on a busy machine; else it comes twice, which changes nothing."""


class Installation:
    """A running system, its command line and its processes."""

    def __init__(self, path: Path) -> None:
        self.home = Home(path)
        self.environment = {**os.environ, "ERGONAUT_HOME": str(path), "NO_COLOR": "1", "COLUMNS": "200"}

    @property
    def addresses(self) -> Addresses:
        return self.home.addresses()

    @property
    def key(self) -> str:
        return self.home.client_key()

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.key}"),)

    def connection(self) -> Connection:
        """For the client."""
        addresses = self.addresses
        return Connection(addresses.services, self.key, gateway_http=addresses.gateway_http)

    def cli(self, *arguments: str, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run `ergonaut ARGUMENTS`; fails the test when it ends with another code than expected."""
        # What starts and stops the system is started as people start it.
        run = started_command if arguments[0] in ("up", "down") else ergonaut_command
        done = run(*arguments, env=self.environment, timeout=COMMAND_TIMEOUT_SECONDS)
        assert expect is None or done.returncode == expect, (
            f"ergonaut {' '.join(arguments)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done

    def cli_json(self, *arguments: str, expect: int | None = 0) -> Any:
        """What `ergonaut ARGUMENTS --json` prints."""
        return json.loads(self.cli(*arguments, "--json", expect=expect).stdout)

    def parts(self) -> dict[str, dict[str, Any]]:
        """How each part is, by name."""
        return {part["name"]: part for part in self.cli_json("status", expect=None)}

    def kill(self, part: str) -> None:
        """kill -9 one part, then wait until the supervisor has brought it back and all is healthy."""
        before = self.parts()[part]
        os.kill(before["pid"], signal.SIGKILL)
        until(lambda: self._is_back(part, before["restarts"]), 60, f"{part} is back after kill -9")

    def _is_back(self, part: str, restarts: int) -> bool:
        now = self.parts()
        return now[part]["restarts"] > restarts and all(one["health"] == "healthy" for one in now.values())


@contextmanager
def installation(path: Path) -> Iterator[Installation]:
    """A system that runs while the block does; its logs are shown when the block fails."""
    system = Installation(path)
    try:
        system.cli("up")
        yield system
    except BaseException:
        for log in sorted(system.home.logs.glob("*.log")):
            print(f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-25:]))
        raise
    finally:
        system.cli("down", expect=None)


def until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait for something to become true."""
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, f"waited {seconds:g} s in vain: {what}"
        time.sleep(0.2)


def write_job(folder: Path, script: str, **fields: Any) -> Path:
    """A job folder with one Python script."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "work.py").write_text(script)
    job = {"name": "story", "command": ["python", "work.py"], "duration_seconds_expected": 5} | fields
    (folder / "job.yaml").write_text(json.dumps(job))
    return folder


def accounted(system: Installation, run_id: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The report of a run that has ended, and its samples on the bus, once the ledger has kept them all."""
    found: list[Any] = []

    def is_all_kept() -> bool:
        samples = asyncio.run(acknowledged_samples(system, run_id))
        report = system.cli_json("report", run_id)
        # The agent may tell of the run's last moments after its end.
        still = len(asyncio.run(acknowledged_samples(system, run_id)))
        found[:] = [report, samples]
        return report["ended_at"] is not None and report["samples"] == len(samples) == still > 0

    until(is_all_kept, 60, f"the ledger has all samples of {run_id}")
    report, samples = found
    return report, samples


async def acknowledged_samples(system: Installation, run_id: str) -> list[dict[str, Any]]:
    """Every sample of the run that JetStream acknowledged, each once however often it was told."""
    async with connected(system) as connection:
        return await _samples(connection.jetstream(), run_id)


async def _samples(jetstream: JetStreamContext, run_id: str) -> list[dict[str, Any]]:
    last = (await jetstream.stream_info("ERGONAUT_TELEMETRY")).state.last_seq
    subscription = await jetstream.subscribe("ergonaut.v1.default.telemetry.>", ordered_consumer=True)
    batches: dict[str, list[dict[str, Any]]] = {}
    sequence = 0
    # The agent goes on telling of the host, so the end is what was there when the reading began.
    while sequence < last:
        message = await subscription.next_msg(timeout=30)
        sequence = message.metadata.sequence.stream
        told = json.loads(message.data)
        batches[told["event_id"]] = [item for item in told.get("samples", ()) if item["run_id"] == run_id]
    return [item for batch in batches.values() for item in batch]


async def deliver_again_soon(jetstream: JetStreamContext) -> None:
    """Have samples that a killed ledger held come again within seconds, so that no test waits half a minute for that."""
    known = await jetstream.consumer_info("ERGONAUT_TELEMETRY", "ledger")
    await jetstream.add_consumer("ERGONAUT_TELEMETRY", known.config.evolve(ack_wait=AGAIN_AFTER_SECONDS))


@asynccontextmanager
async def connected(system: Installation) -> AsyncIterator[NatsConnection]:
    """The system's bus, as its services see it."""
    password = (system.home.secrets / "nats-services.password").read_text().strip()
    connection = await nats.connect(f"nats://{system.addresses.nats}", user="services", password=password)
    try:
        yield connection
    finally:
        await connection.close()
