"""A tracker that has a bus leaves word for the host's agent while its run goes on, and only then."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ergonaut
from ergonaut.metering.tracked import FOLDER, ProcessName, TrackedRun
from ergonaut_common.bus import open_bus
from ergonaut_common.settings import PlatformSettings
from ergonaut_common.testing import nats_server

from .programs import start

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="trackers leave word on Linux only")


@pytest.fixture
def bus_url(tmp_path: Path) -> Iterator[str]:
    with nats_server(tmp_path / "nats") as url:
        asyncio.run(make_streams(url))
        yield url


async def make_streams(url: str) -> None:
    async with open_bus(PlatformSettings(nats_url=url), "test") as bus:
        await bus.ensure_streams("telemetry", "runs")


def word_of(pid: int) -> Path:
    process = ProcessName.of(pid)
    assert process is not None
    return FOLDER / process.file_name


def test_word_lies_there_while_the_run_goes_on(home: Path, bus_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERGONAUT_NATS_URL", bus_url)
    word = word_of(os.getpid())
    with ergonaut.track(project="digits") as run:
        told = TrackedRun.from_json(word.read_bytes())
        assert told is not None
        assert (told.run_id, told.tenant, told.project, told.bus) == (
            run.run_id,
            "default",
            "digits",
            bus_url.removeprefix("nats://"),
        )
        assert told.tracker == ProcessName.of(os.getpid())
    assert not word.exists()


def test_without_a_bus_the_agent_is_told_nothing(home: Path) -> None:
    with ergonaut.track():
        assert not word_of(os.getpid()).exists()


def test_a_signal_that_ends_the_program_takes_the_word_back(home: Path, bus_url: str) -> None:
    program = """
with ergonaut.track():
    print("on", flush=True)
    time.sleep(60)
"""
    with start(program, home, {"ERGONAUT_NATS_URL": bus_url}) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        word = word_of(process.pid)
        assert word.exists()
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    assert not word.exists()


COMMAND = """
import os, time
from ergonaut.metering.tracked import FOLDER, ProcessName
word, until = FOLDER / ProcessName.of(os.getpid()).file_name, time.monotonic() + 20
while not word.exists() and time.monotonic() < until: time.sleep(0.01)
print(word if word.exists() else "")
"""


def test_word_of_a_tracked_command_is_about_the_command(home: Path, bus_url: str) -> None:
    program = f"""
from ergonaut.tracking.command import track_command
track_command([sys.executable, "-c", {COMMAND!r}], {{}})
"""
    with start(program, home, {"ERGONAUT_NATS_URL": bus_url}) as process:
        output, errors = process.communicate()
    assert output.startswith(str(FOLDER)), errors
    assert not Path(output.strip()).exists()
