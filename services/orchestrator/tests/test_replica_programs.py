"""What is started for a replica, and for nothing else: the platform's gateway with the paths of the platform's keys."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import until
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ApplicationError
from worlds import FakeWorld, archive_of, attempt, job, lease, program

from ergonaut.errors import Refused
from ergonaut.ids import new_id
from ergonaut.jobs import source_digest
from ergonaut.workflows import RUN_JOB, RunJobInput
from ergonaut_common.settings import PlatformSettings
from ergonaut_orchestrator.adapters.gateway_program import gateway_program
from ergonaut_orchestrator.adapters.local import LocalLimits, LocalProvider
from ergonaut_orchestrator.domain import Attempt, LeaseState, StopReason
from ergonaut_orchestrator.domain.replicas import GatewayProgram, check_replica, replica_program
from ergonaut_orchestrator.service import Bounds, Running

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
GATEWAY = GatewayProgram(
    ("python", "-m", "gateway"), {"ERGONAUT_SERVICE_KEY_FILE": "/k", "ERGONAUT_GATEWAY_WORKERS": "1"}
)


def replica(**environment: str) -> Attempt:
    made = attempt(job("sh", "-c", "steal", environment=environment), NOW, job_id="edge-replica-1")
    return Attempt(made.lease, 1, made.job, made.placement, made.stop_at, replica_of="edge")


def test_the_program_of_a_replica_is_the_gateway_whatever_its_job_says() -> None:
    made = replica_program(replica(), GATEWAY)
    assert made.command == ("python", "-m", "gateway")
    assert made.environment["ERGONAUT_SERVICE_KEY_FILE"] == "/k"
    assert made.environment["ERGONAUT_GATEWAY_REPLICA"] == "edge-replica-1"
    assert made.context.job_id == "edge-replica-1"


def test_a_replica_has_settings_of_gateways_alone() -> None:
    wished = {
        "ERGONAUT_GATEWAY_WORKERS": "3",
        "ERGONAUT_GATEWAY_GRPC_ADDRESS": "0.0.0.0:1",
        "ERGONAUT_KEYS_FILE": "/tmp/mine",
        "LD_PRELOAD": "/tmp/mine.so",
        "PYTHONPATH": "/tmp",
    }
    made = replica_program(replica(**wished), GATEWAY).environment
    assert made["ERGONAUT_GATEWAY_WORKERS"] == "3"
    assert not made.keys() & (wished.keys() - {"ERGONAUT_GATEWAY_WORKERS"})


def test_a_replica_may_take_as_long_to_end_as_its_requests_may_take() -> None:
    assert replica_program(replica(ERGONAUT_GATEWAY_STOP_SECONDS="60"), GATEWAY).stop_grace_seconds == 70
    assert replica_program(replica(), GATEWAY).stop_grace_seconds == 20


def test_without_a_gateway_there_is_no_replica() -> None:
    with pytest.raises(Refused, match="install ergonaut-gateway"):
        replica_program(replica(), None)


@pytest.mark.parametrize("parent_id", ["", "serving/other/edge", "serving/default/mine", "job/default/edge"])
def test_only_the_workflow_of_a_set_makes_a_job_its_replica(parent_id: str) -> None:
    request = RunJobInput(job=job("true"), replica_of="edge")
    with pytest.raises(Refused, match="a set of replicas alone"):
        check_replica(request, parent_id=parent_id)
    check_replica(request, parent_id="serving/default/edge")


def test_a_replica_brings_no_files_that_could_stand_for_the_gateways() -> None:
    request = RunJobInput(job=job("true", source=source_digest(b"")), replica_of="edge")
    with pytest.raises(Refused, match="has no files"):
        check_replica(request, parent_id="serving/default/edge")


async def test_a_job_that_calls_itself_a_replica_fails_at_once_and_starts_nothing(
    client: Client, queue: str, fakes: FakeWorld
) -> None:
    given: dict[str, Any] = {"job": json.loads(job("true").model_dump_json()), "replica_of": "edge"}
    with pytest.raises(WorkflowFailureError) as failed:
        await client.execute_workflow(RUN_JOB, given, id=f"job/default/{new_id('job')}", task_queue=queue)
    assert isinstance(failed.value.cause, ApplicationError)
    assert "replica_of: is for the workflow of a set of replicas alone" in failed.value.cause.message
    assert (fakes.provider.starts, fakes.placing.asked) == (0, [])


async def test_other_jobs_get_nothing_of_the_platforms(fakes: FakeWorld) -> None:
    plain = attempt(job("true"), NOW)
    await fakes.provider.provision(plain.lease, None)
    await Running(fakes.world, Bounds()).start(plain)
    [started] = fakes.provider.programs()
    assert (started.command, started.environment, started.stop_grace_seconds) == (("true",), {}, None)


def test_the_gateway_is_told_what_the_orchestrator_was_told_and_secrets_as_whole_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    platform = PlatformSettings(nats_url="nats://10.0.0.1:4222", service_key_file=Path("s/service.key"))
    environment = {
        "ERGONAUT_GATEWAY_WORKERS": "2",
        "ERGONAUT_GATEWAY_GRPC_ADDRESS": "127.0.0.1:7405",
        "ERGONAUT_GATEWAY_ADDRESS": "127.0.0.1:7405",
        "ERGONAUT_GATEWAY_REPLICA": "the-first",
        "ERGONAUT_GATEWAY_SIGNATURE_KEYS": "a.pem, b.pem",
        "ERGONAUT_ORCHESTRATOR_NICE": "5",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    made = gateway_program(platform, environment, host="127.0.0.1")
    assert made is not None
    assert made.command[1:] == ("-I", "-m", "ergonaut_gateway")
    told = made.environment
    assert told["ERGONAUT_SERVICE_KEY_FILE"] == str(tmp_path / "s" / "service.key")
    assert told["ERGONAUT_NATS_URL"] == "nats://10.0.0.1:4222"
    assert told["ERGONAUT_GATEWAY_WORKERS"] == "2"
    assert told["ERGONAUT_GATEWAY_GRPC_ADDRESS"] == told["ERGONAUT_GATEWAY_ADVERTISED_ADDRESS"] == "127.0.0.1:0"
    assert told["ERGONAUT_GATEWAY_SIGNATURE_KEYS"] == f"{tmp_path / 'a.pem'},{tmp_path / 'b.pem'}"
    assert "ERGONAUT_KEYS_FILE" not in told
    assert not {"AWS_SECRET_ACCESS_KEY", "ERGONAUT_ORCHESTRATOR_NICE", "ERGONAUT_GATEWAY_REPLICA"} & told.keys()


SLOW_TO_END = """
import signal, time
def leave(*_):
    time.sleep(1.5)
    open("ended", "w").close()
    raise SystemExit(0)
signal.signal(signal.SIGTERM, leave)
open("ready", "w").close()
while True:
    time.sleep(1)
"""


@pytest.fixture
async def provider(leases_folder: Path) -> AsyncIterator[LocalProvider]:
    made = LocalProvider(leases_folder, "host", LocalLimits(stop_grace_seconds=0.2, lease_ttl_seconds=60))
    yield made
    for held in await made.held():
        await made.tear_down(held.lease_id)


async def test_a_machine_is_given_back_when_its_program_has_had_its_grace(
    provider: LocalProvider, leases_folder: Path, tmp_path: Path
) -> None:
    ours = lease()
    script = SLOW_TO_END.replace('"ended"', repr(str(tmp_path / "ended")))
    await provider.provision(ours, archive_of({"program.py": script.encode()}))
    made = program("python", "program.py", run_id=ours.run_id)
    await provider.start(ours.lease_id, type(made)(made.command, made.environment, made.context, 20.0))
    await until((leases_folder / ours.lease_id / "job" / "ready").exists)
    await provider.tear_down(ours.lease_id)
    assert (tmp_path / "ended").exists()
    assert (await provider.observe(ours.lease_id)).state is LeaseState.ABSENT


@pytest.mark.parametrize(
    ("reason", "exit_code"), [(StopReason.CANCELLED, 0), (StopReason.PREEMPTED, None)], ids=["asked", "taken down"]
)
async def test_a_program_has_its_own_grace_when_it_is_asked_to_end_but_not_when_the_platform_is_taken_down(
    provider: LocalProvider, leases_folder: Path, reason: StopReason, exit_code: int | None
) -> None:
    ours = lease()
    await provider.provision(ours, archive_of({"program.py": SLOW_TO_END.encode()}))
    made = program("python", "program.py", run_id=ours.run_id)
    await provider.start(ours.lease_id, type(made)(made.command, made.environment, made.context, 20.0))
    await until((leases_folder / ours.lease_id / "job" / "ready").exists)
    await provider.ask_to_stop(ours.lease_id, reason)
    while (seen := await provider.observe(ours.lease_id)).state is LeaseState.RUNNING:
        await asyncio.sleep(0.05)
    assert (seen.exit_code, seen.stopped_for) == (exit_code, reason)
