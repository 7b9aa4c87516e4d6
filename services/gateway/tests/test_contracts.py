"""What every registry, file store, loader and runner promises, held by the fakes and by the adapters on real engines."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from ergonaut.errors import Broken, Conflict, NotFound, Refused
from ergonaut_common.bus import Bus, open_bus
from ergonaut_common.settings import PlatformSettings
from ergonaut_gateway.adapters.files import ObjectModelFiles
from ergonaut_gateway.adapters.onnx import OnnxLoader
from ergonaut_gateway.adapters.registry import KvModelRegistry
from ergonaut_gateway.domain.models import (
    Entry,
    Fact,
    FactKind,
    Lineage,
    Model,
    ModelRecord,
    Signature,
    TensorSpec,
    Used,
    VersionState,
)
from ergonaut_gateway.fakes import FakeModelFiles, FakeModelLoader, FakeModelRegistry
from ergonaut_gateway.ports import ModelFiles, ModelLoader, ModelRegistry

from .onnx_models import doubling

RECORD = ModelRecord(
    tenant="default",
    name="digits",
    version=1,
    digest="sha256-00",
    size_bytes=7,
    file="sha256-00/file-1",
    signature=Signature((TensorSpec("x", "FP32", (-1, 3)),), (TensorSpec("y", "FP32", (-1, 3)),)),
    deployed_at=datetime(2026, 1, 1, 12, 30, 0, 250, tzinfo=UTC),
    run_id="run-1",
    lineage=Lineage(run_id="run-1", used=Used(energy_joules=0.1 + 0.2), framework="sklearn"),
)
MODEL = Model(
    tenant="default",
    name="digits",
    versions=(RECORD,),
    aliases={"champion": 1},
    version_last=1,
    changes=1,
    untold=(Fact(FactKind.DEPLOYED, RECORD.deployed_at, 1, change=1),),
)


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    async with open_bus(PlatformSettings(nats_url=nats_url), "test") as opened:
        yield opened


@pytest.fixture(params=["fake", "nats"])
async def registry(request: pytest.FixtureRequest, bus: Bus) -> ModelRegistry:
    if request.param == "fake":
        return FakeModelRegistry()
    return KvModelRegistry(await bus.key_value(f"models-{uuid4().hex}"))


@pytest.fixture(params=["fake", "nats"])
async def files(request: pytest.FixtureRequest, bus: Bus) -> ModelFiles:
    return FakeModelFiles() if request.param == "fake" else ObjectModelFiles(bus)


@pytest.fixture
def tenant() -> str:
    return f"tenant-{uuid4().hex[:8]}"


@pytest.mark.parametrize("name", ["*", ">", "a b", "..", ".", "", "é", "a.b", "x" * 9_000])
async def test_a_name_that_no_model_can_have_names_none(registry: ModelRegistry, name: str) -> None:
    assert await registry.get("default", name) is None


async def test_a_record_is_read_as_it_was_written(registry: ModelRegistry) -> None:
    assert await registry.get("default", "digits") is None
    entry = await registry.put(MODEL, revision=0)
    assert entry.model == MODEL
    assert await registry.get("default", "digits") == entry
    removed = replace(RECORD, removed_at=RECORD.deployed_at, state=VersionState.REMOVED)
    gone = await registry.put(replace(MODEL, versions=(removed,), aliases={}), revision=entry.revision)
    assert gone.revision > entry.revision
    assert await registry.get("default", "digits") == gone


async def test_a_writer_that_comes_second_is_told_and_changes_nothing(registry: ModelRegistry) -> None:
    first = await registry.put(MODEL, revision=0)
    for stale in (0, first.revision + 5):
        with pytest.raises(Conflict):
            await registry.put(replace(MODEL, version_last=9), revision=stale)
    second = await registry.put(replace(MODEL, version_last=2), revision=first.revision)
    with pytest.raises(Conflict):
        await registry.put(replace(MODEL, version_last=9), revision=first.revision)
    assert await registry.get("default", "digits") == second


async def test_all_entries_of_all_tenants_are_listed(registry: ModelRegistry) -> None:
    assert list(await registry.entries()) == []
    for tenant, name in (("a", "one"), ("a", "two"), ("b", "one")):
        await registry.put(replace(MODEL, tenant=tenant, name=name), revision=0)
    await registry.put(replace(MODEL, tenant="a", name="one", version_last=2), revision=1)
    found = {(entry.model.tenant, entry.model.name): entry.model.version_last for entry in await registry.entries()}
    assert found == {("a", "one"): 2, ("a", "two"): 1, ("b", "one"): 1}


async def test_changes_begin_with_what_is_there_follow_what_comes_and_end_in_time(registry: ModelRegistry) -> None:
    seen: list[Entry] = []

    async def watch() -> None:
        async for entry in registry.changes(seconds=3.0):
            seen.append(entry)

    first = await registry.put(MODEL, revision=0)
    watching = asyncio.create_task(watch())
    async with asyncio.timeout(30):
        while not seen:
            await asyncio.sleep(0.01)
    second = await registry.put(replace(MODEL, version_last=2), revision=first.revision)
    async with asyncio.timeout(30):
        await watching
    assert seen == [first, second]


async def test_a_file_is_fetched_as_it_was_stored_until_it_is_deleted(
    files: ModelFiles, tenant: str, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(range(256)) * 2_000)
    assert not await files.exists(tenant, "sha256-1/file-1")
    await files.store(tenant, "sha256-1/file-1", source)
    assert await files.exists(tenant, "sha256-1/file-1")
    await files.fetch(tenant, "sha256-1/file-1", target)
    assert target.read_bytes() == source.read_bytes()
    await files.delete(tenant, "sha256-1/file-1")
    await files.delete(tenant, "sha256-1/file-1")
    assert not await files.exists(tenant, "sha256-1/file-1")
    with pytest.raises(NotFound, match="sha256-1/file-1 is not kept any more"):
        await files.fetch(tenant, "sha256-1/file-1", target)


async def test_a_tenants_files_are_its_own(files: ModelFiles, tenant: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"model")
    await files.store(tenant, "sha256-1/file-1", source)
    assert not await files.exists(f"{tenant}-2", "sha256-1/file-1")


@pytest.fixture(params=["fake", "onnx"])
def loader(request: pytest.FixtureRequest) -> Iterator[ModelLoader]:
    if request.param == "fake":
        yield FakeModelLoader()
        return
    yield OnnxLoader()


def _doubling(loader: ModelLoader) -> bytes:
    return b"model a" if isinstance(loader, FakeModelLoader) else doubling()


async def test_a_loaded_model_computes_what_is_named_also_for_many_at_once(loader: ModelLoader, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(_doubling(loader))
    runner = await loader.load(path)
    path.unlink()
    assert runner.signature.inputs == (TensorSpec("x", "FP32", (-1, 3)),)
    assert runner.traits.joinable
    assert runner.traits.steady
    assert runner.traits.providers
    assert runner.traits.first_runs
    inputs = [np.full((rows, 3), rows, dtype="<f4") for rows in (1, 2, 3, 4, 0)]
    results = await asyncio.gather(
        *(asyncio.to_thread(runner.compute, {"x": tensor}, ["y"], runner.stop()) for tensor in inputs)
    )
    for tensor, result in zip(inputs, results, strict=True):
        assert list(result) == ["y"]
        np.testing.assert_array_equal(result["y"], 2 * tensor)


async def test_a_file_that_is_no_model_is_refused(loader: ModelLoader, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"hello")
    with pytest.raises(Refused, match=r"^chunk: is not an ONNX model: "):
        await loader.load(path)


async def test_an_object_store_without_room_refuses_the_file_and_keeps_nothing(
    bus: Bus, tenant: str, tmp_path: Path
) -> None:
    from nats.js.api import ObjectStoreConfig

    await bus.jetstream.create_object_store(f"models-{tenant}", ObjectStoreConfig(max_bytes=300_000))
    source = tmp_path / "source"
    source.write_bytes(b"x" * 500_000)
    kept = ObjectModelFiles(bus)
    with pytest.raises(Refused, match=r"^chunk: there is no room for the file; remove models first$"):
        await kept.store(tenant, "sha256-1/file-1", source)
    assert not await kept.exists(tenant, "sha256-1/file-1")


async def test_a_record_that_somebody_deleted_by_hand_is_no_record(bus: Bus) -> None:
    bucket = await bus.key_value(f"models-{uuid4().hex}")
    kept = KvModelRegistry(bucket)
    await kept.put(MODEL, revision=0)
    await bucket.delete("default.digits")
    assert (await kept.get("default", "digits"), await kept.entries()) == (None, [])
    assert (await kept.put(MODEL, revision=0)).model == MODEL


async def test_a_damaged_record_keeps_no_other_away_and_is_named_to_who_asks_for_it(bus: Bus) -> None:
    bucket = await bus.key_value(f"models-{uuid4().hex}")
    kept = KvModelRegistry(bucket)
    await bucket.put("default.broken", b"{")
    entry = await kept.put(MODEL, revision=0)

    assert await kept.entries() == [entry]
    assert [changed async for changed in kept.changes(seconds=0.5)] == [entry]
    with pytest.raises(Broken, match=r"default\.broken"):
        await kept.get("default", "broken")
