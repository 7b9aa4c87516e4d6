"""What the tests of all services stand on: a service that never comes up is told with its own last words."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from ergonaut_common import testing
from ergonaut_common.testing import ServiceProcess, free_port


async def test_a_service_that_dies_at_its_start_is_told_at_once_with_the_end_of_its_log(tmp_path: Path) -> None:
    service = ServiceProcess("missing", tmp_path, {})
    started_at = time.monotonic()
    with service.running(), pytest.raises(TimeoutError, match=r"missing has ended.*No module named ergonaut_missing"):
        await service.wait_healthy()
    assert time.monotonic() - started_at < service.patience_seconds
    assert service.exit_code() == 1


async def test_nobody_who_listens_is_a_silent_service(tmp_path: Path) -> None:
    assert await ServiceProcess("missing", tmp_path, {}).health() == "SILENT"


def test_settings_come_before_what_is_set_here_and_the_machine_s_own_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ERGONAUT_NATS_URL", "nats://the-machine-s-own")
    monkeypatch.setenv("LANGUAGE_OF_MACHINE", "fr")
    service = ServiceProcess("missing", tmp_path, {"ERGONAUT_MISSING_GRPC_ADDRESS": "127.0.0.1:1"})
    assert service.address == "127.0.0.1:1"
    assert "ERGONAUT_NATS_URL" not in service.environment
    assert service.environment["LANGUAGE_OF_MACHINE"] == "fr"
    assert ServiceProcess("missing", tmp_path, {}, inherited={}).environment.keys().isdisjoint({"LANGUAGE_OF_MACHINE"})


def test_a_port_is_given_once_also_while_nothing_listens_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    few = range(testing._PORTS.start, testing._PORTS.start + 200)
    monkeypatch.setattr(testing, "_PORTS", few)
    given = [free_port() for _ in range(20)]
    drawing = f"""
from ergonaut_common import testing
testing._PORTS = {few}
print(*(testing.free_port() for _ in range(20)))
"""
    others = subprocess.run([sys.executable, "-c", drawing], capture_output=True, text=True, check=True).stdout
    assert len({*given, *map(int, others.split())}) == 40
