"""The life of a service's process, seen from outside: exit codes, clear words, a stop that is heeded."""

import asyncio
import json
import os
import signal
import subprocess
import sys

import pytest

from ergonaut_common.lifetimes import background

HEAD = """
import asyncio
from ergonaut.errors import Unavailable
from ergonaut_common.lifetimes import background, run_service, stop_requested
from ergonaut_common.settings import DoorSettings

class Settings(DoorSettings):
    model_config = {"env_prefix": "ERGONAUT_TEST_"}

async def main(platform):
"""


def life(body: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    script = HEAD + "".join(f"    {line}\n" for line in body.splitlines()) + "\nrun_service('test', main)\n"
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | environment,
    )


def test_a_service_that_has_done_its_work_ends_with_0_and_says_so() -> None:
    done = life("pass")
    assert done.returncode == 0
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["service starts", "service stopped"]


def test_what_a_service_has_loaded_is_not_searched_for_garbage() -> None:
    done = life("import gc\nassert gc.get_freeze_count() > len(gc.get_objects())")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_service_heeds_a_stop(number: signal.Signals) -> None:
    done = life(
        f"import os\nasyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), {int(number)})\n"
        "await stop_requested()"
    )
    assert (done.returncode, "service stopped" in done.stderr) == (0, True)


@pytest.mark.parametrize(
    ("environment", "named"),
    [({"ERGONAUT_LOG_LEVEL": "LOUD"}, "log_level"), ({}, "grpc_address")],
)
def test_bad_settings_are_named_and_a_person_must_look(environment: dict[str, str], named: str) -> None:
    done = life("Settings()", **environment)
    assert done.returncode == 78
    assert f"test: setting {named}" in done.stderr
    assert "Traceback" not in done.stderr


def test_data_that_is_damaged_is_no_bad_setting() -> None:
    done = life("from ergonaut.keys import KeyRecord\nKeyRecord.model_validate({'id': 'hunter2' * 9})")
    assert done.returncode == 1


@pytest.mark.parametrize(
    "body",
    [
        "raise Unavailable('NATS is away')",
        "async def work(): raise Unavailable('NATS is away')\nasync with background(work()): await asyncio.sleep(60)",
    ],
)
def test_a_failure_is_one_line_and_the_supervisor_may_try_again(body: str) -> None:
    done = life(body)
    assert done.returncode == 1
    last = json.loads(done.stderr.splitlines()[-1])
    assert (last["event"], last["error"]) == ("service failed", "NATS is away")


def test_a_secret_file_that_is_missing_is_named() -> None:
    done = life("platform.nats_password()", ERGONAUT_NATS_PASSWORD_FILE="/nowhere/password")
    assert done.returncode == 1
    assert "ERGONAUT_NATS_PASSWORD_FILE: /nowhere/password cannot be read" in done.stderr


async def test_work_that_swallows_a_cancellation_is_stopped_all_the_same() -> None:
    swallowed = 0

    async def work() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if swallowed:
                    raise
                swallowed += 1

    async with asyncio.timeout(30), background(work()):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert swallowed == 1
