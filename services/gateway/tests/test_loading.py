"""Models loaded at a start: several at once within bounds, and why those are not ready that could not be loaded."""

import asyncio
from pathlib import Path

import pytest

from ergonaut.errors import Refused, Unavailable
from ergonaut_gateway.fakes import FakeModelLoader, FakeRunner
from ergonaut_gateway.protocol.repository import indexed
from ergonaut_gateway.service.loading import MEMORY_PER_FILE_BYTE, LoadLimits, LoadRoom

from .conftest import Gateway, Gateways


class Gated(FakeModelLoader):
    """Loads when it may, and knows how many are being loaded."""

    def __init__(self) -> None:
        self.loading = 0
        self.gate = asyncio.Event()
        self.begun: list[bytes] = []

    async def load(self, path: Path) -> FakeRunner:
        self.begun.append(await asyncio.to_thread(path.read_bytes))
        self.loading += 1
        await self.gate.wait()
        self.loading -= 1
        return await super().load(path)


class Choosy(FakeModelLoader):
    """Loads nothing whose content it was told not to."""

    def __init__(self) -> None:
        self.refuses: set[bytes] = set()

    async def load(self, path: Path) -> FakeRunner:
        if await asyncio.to_thread(path.read_bytes) in self.refuses:
            raise Refused("the disk is full", field="chunk")
        return await super().load(path)


async def until(loader: Gated, loading: int) -> None:
    async with asyncio.timeout(30):
        while loader.loading != loading:
            await asyncio.sleep(0.005)


async def restarted(gateways: Gateways, loader: FakeModelLoader, *contents: bytes) -> Gateway:
    """Another gateway, of which some models were deployed by one that is gone."""
    before = gateways.another(models_max=100)
    for at, content in enumerate(contents):
        await before.deploy(content, f"model-{at}")
    return gateways.another(loader, models_max=100)


async def test_as_many_models_are_loaded_at_once_as_may_and_the_largest_first(gateways: Gateways) -> None:
    loader = Gated()
    gateway = await restarted(gateways, loader, b"model", b"model larger", b"model large")
    loading = asyncio.create_task(gateway.catalogue.load_all(LoadLimits(models=2)))
    await until(loader, 2)
    assert sorted(loader.begun) == [b"model large", b"model larger"]
    loader.gate.set()
    await loading
    assert [len(gateway.catalogue.models("default")), len(loader.begun)] == [3, 3]
    assert gateway.catalogue.find("default", "model-0")


async def test_models_whose_memory_is_not_there_are_loaded_one_after_the_other(gateways: Gateways) -> None:
    loader = Gated()
    gateway = await restarted(gateways, loader, b"model of 16 byte", b"model of 16 bite")
    limits = LoadLimits(models=8, memory_bytes=MEMORY_PER_FILE_BYTE * 20)
    loading = asyncio.create_task(gateway.catalogue.load_all(limits))
    await until(loader, 1)
    loader.gate.set()
    await loading
    assert len(loader.begun) == 2


async def test_a_model_that_is_larger_than_all_memory_is_loaded_alone() -> None:
    room = LoadRoom(LoadLimits(models=8, memory_bytes=10))
    async with room.taken(1_000):
        waiting = asyncio.ensure_future(room.taken(1).__aenter__())
        await asyncio.sleep(0)
        assert not waiting.done()
    await asyncio.wait_for(waiting, 5)


async def test_one_model_that_cannot_be_loaded_keeps_no_other_away_and_says_why(gateways: Gateways) -> None:
    loader = Choosy()
    gateway = await restarted(gateways, loader, b"model a", b"model b")
    loader.refuses = {b"model a"}
    await gateway.catalogue.load_all(LoadLimits(models=4))
    with pytest.raises(Unavailable, match=r"^model model-0 could not be loaded: chunk: the disk is full; it is tried"):
        gateway.catalogue.find("default", "model-0")
    assert [(each["name"], each["state"], each["reason"]) for each in index(gateway)] == [
        ("model-0", "UNAVAILABLE", "could not be loaded: chunk: the disk is full; it is tried again"),
        ("model-1", "READY", ""),
    ]
    loader.refuses = set()
    await gateway.catalogue.load_all()
    assert [each["state"] for each in index(gateway)] == ["READY", "READY"]


async def test_a_newer_version_that_cannot_be_loaded_is_told_though_the_one_before_serves(gateways: Gateways) -> None:
    loader = Choosy()
    one, two = gateways.another(), gateways.another(loader)
    await one.deploy(b"model a")
    await two.catalogue.load_all()
    loader.refuses = {b"model b"}
    record = await one.deploy(b"model b")
    await two.catalogue.load_all()
    assert two.catalogue.find("default", "digits").record.version == 1
    assert two.predictions.problem(record) == "could not be loaded: chunk: the disk is full; it is tried again"
    assert one.predictions.problem(record) == ""


def index(gateway: Gateway) -> list[dict[str, str]]:
    return indexed(gateway.catalogue, {}, "default", only_ready=False)
