"""What the orchestrator's tests share: a lease to hold, an archive to unpack, patience."""

import asyncio
import io
import sys
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
from temporalio.client import Client

from ergonaut.ids import new_id
from ergonaut_common.clock import SystemClock
from ergonaut_common.settings import PlatformSettings
from ergonaut_common.temporal import connect_temporal
from ergonaut_common.testing import temporal_server

sys.path.insert(0, str(Path(__file__).parent))

from engines import Engines, running_engines
from temporal_world import SOURCE, working
from worlds import FakeWorld, archive

PATIENCE_SECONDS = 60.0
"""A busy machine takes long to start a process; who waits for what comes soon waits no longer for it."""


async def until(condition: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is so; a test that waits in vain fails by name of the condition."""
    give_up_at = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while asyncio.get_running_loop().time() < give_up_at:
        so = condition()
        if so if isinstance(so, bool) else await so:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"it did not come to be within {PATIENCE_SECONDS:g} s")


def packed_checkpoint(**files: bytes) -> io.BytesIO:
    """A plain tar of these files, as a checkpoint is kept."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    packed.seek(0)
    return packed


def contents_of(packed: BinaryIO) -> dict[str, bytes]:
    """What a packed checkpoint holds."""
    with packed, tarfile.open(fileobj=packed, mode="r:") as tar:
        return {member.name: file.read() for member in tar if (file := tar.extractfile(member)) is not None}


@pytest.fixture
def leases_folder(tmp_path: Path) -> Path:
    return tmp_path / "leases"


@pytest.fixture(scope="module")
def temporal_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with temporal_server(tmp_path_factory.mktemp("temporal")) as address:
        yield address


@pytest.fixture
async def client(temporal_address: str) -> Client:
    return await connect_temporal(PlatformSettings(temporal_address=temporal_address))


@pytest.fixture
def fakes() -> FakeWorld:
    made = FakeWorld.on(SystemClock())
    made.sources.stored["default", SOURCE] = archive(model__onnx=b"model")
    return made


@pytest.fixture
async def queue(client: Client, fakes: FakeWorld) -> AsyncIterator[str]:
    name = new_id("queue")
    async with working(client, fakes, name):
        yield name


@pytest.fixture
async def engines(tmp_path: Path) -> AsyncIterator[Engines]:
    async with running_engines(tmp_path) as made:
        yield made
