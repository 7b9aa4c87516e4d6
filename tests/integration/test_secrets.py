"""No secret of the installation is in a log, an event, an argument, or the environment of a job."""

import asyncio
from pathlib import Path

import psutil
import pytest
from servers import Installation, write_job

from ergonaut.client import AsyncClient

TELL_ENVIRONMENT = "import os; print(dict(os.environ), file=open('environment.txt', 'w'))"


@pytest.fixture
def secrets(system: Installation) -> list[str]:
    found = [path.read_text().strip() for path in system.home.secrets.iterdir() if path.suffix in (".key", ".password")]
    assert len(found) == 5
    return found


def test_a_job_sees_no_secret_and_no_address_of_the_platform(
    system: Installation, secrets: list[str], tmp_path: Path
) -> None:
    folder = write_job(tmp_path / "job", TELL_ENVIRONMENT, artifacts=["environment.txt"])
    status = system.cli_json("submit", str(folder))
    system.cli("fetch", status["artifacts"][0], "--to", str(tmp_path))
    environment = (tmp_path / "environment.txt").read_text()
    assert status["run_id"] in environment
    assert not [secret for secret in secrets if secret in environment]
    assert system.addresses.nats not in environment
    assert str(system.home.secrets) not in environment


def test_no_secret_is_in_a_log_or_in_an_argument(system: Installation, secrets: list[str]) -> None:
    told = "".join(path.read_text(errors="replace") for path in system.home.logs.iterdir())
    arguments = " ".join(" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
    assert "service starts" in told
    assert "ergonaut_scheduler" in arguments
    assert not [secret for secret in secrets if secret in told or secret in arguments]


def test_no_secret_is_in_an_event(system: Installation, secrets: list[str]) -> None:
    async def bodies() -> str:
        async with AsyncClient(system.connection()) as client:
            return "".join(event.body for event in await client.ledger.events(limit=1000))

    told = asyncio.run(bodies())
    assert told
    assert not [secret for secret in secrets if secret in told]
