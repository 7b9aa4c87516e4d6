"""What is kept of models: records of the form of before are read, and who holds which file is noted by compare-and-set."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.kv import KeyValue

from ergonaut.errors import Conflict
from ergonaut.events import ModelDeployed, ModelRemoved
from ergonaut_common.bus import Bus, open_bus
from ergonaut_common.settings import PlatformSettings
from ergonaut_gateway.adapters.registry import KvFileNotes, KvModelRegistry
from ergonaut_gateway.domain.changes import events_of
from ergonaut_gateway.domain.files import Hold, KeptFile
from ergonaut_gateway.domain.models import Model, VersionState
from ergonaut_gateway.fakes import FakeFileNotes
from ergonaut_gateway.ports import FileNotes

KEPT = KeptFile(
    "default", "sha256-1", "sha256-1/file-1", (Hold("digits", "deployment-1", datetime(2026, 1, 1, tzinfo=UTC)),)
)
OF_ONE_VERSION = (
    b'{"tenant":"default","name":"digits","version":3,"digest":"sha256-1","size_bytes":7,"file":"sha256-1/file-1",'
    b'"signature":{"inputs":[{"name":"x","datatype":"FP32","shape":[-1,3]}],"outputs":[]},'
    b'"deployed_at":"2026-01-01T12:00:00Z","run_id":"run-1","removed_at":REMOVED_AT,"announced":ANNOUNCED}'
)


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    async with open_bus(PlatformSettings(nats_url=nats_url), "test") as opened:
        yield opened


@pytest.fixture(params=["fake", "nats"])
async def notes(request: pytest.FixtureRequest, bus: Bus) -> FileNotes:
    if request.param == "fake":
        return FakeFileNotes()
    return KvFileNotes(await bus.key_value(f"files-{uuid4().hex}"))


async def test_a_note_is_read_as_it_was_written_until_it_is_dropped(notes: FileNotes) -> None:
    assert (await notes.get("default", "sha256-1"), list(await notes.entries())) == (None, [])
    entry = await notes.put(KEPT, revision=0)
    assert await notes.get("default", "sha256-1") == entry
    assert list(await notes.entries()) == [entry]
    await notes.drop(entry)
    assert (await notes.get("default", "sha256-1"), list(await notes.entries())) == (None, [])
    assert (await notes.put(KEPT, revision=0)).kept == KEPT


async def test_a_note_that_was_changed_is_neither_replaced_nor_dropped(notes: FileNotes) -> None:
    first = await notes.put(KEPT, revision=0)
    second = await notes.put(replace(KEPT, holds=()), revision=first.revision)
    with pytest.raises(Conflict):
        await notes.drop(first)
    for stale in (0, first.revision):
        with pytest.raises(Conflict):
            await notes.put(KEPT, revision=stale)
    assert await notes.get("default", "sha256-1") == second


@pytest.mark.parametrize(
    ("removed_at", "announced", "state", "told"),
    [
        (b"null", b"true", VersionState.READY, []),
        (b"null", b"false", VersionState.READY, [ModelDeployed]),
        (b'"2026-01-02T12:00:00Z"', b"false", VersionState.REMOVED, [ModelRemoved]),
    ],
)
async def test_a_record_of_one_version_is_read_as_a_model_with_that_version(
    bus: Bus, removed_at: bytes, announced: bytes, state: VersionState, told: list[type]
) -> None:
    bucket = await bus.key_value(f"models-{uuid4().hex}")
    await bucket.put(
        "default.digits", OF_ONE_VERSION.replace(b"REMOVED_AT", removed_at).replace(b"ANNOUNCED", announced)
    )
    registry = KvModelRegistry(bucket)
    entry = await registry.get("default", "digits")
    assert entry is not None
    assert list(await registry.entries()) == [entry]
    (record,) = entry.model.versions
    assert (record.version, record.file, record.run_id, record.state) == (3, "sha256-1/file-1", "run-1", state)
    assert record.lineage.run_id == "run-1"
    assert [type(event) for event in events_of(entry.model)] == told
    assert entry.model.version_last == 3
    again = await registry.put(entry.model, revision=entry.revision)
    assert await registry.get("default", "digits") == again


async def test_changes_are_followed_though_nats_was_away_when_that_began(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = await bus.key_value(f"models-{uuid4().hex}")
    registry = KvModelRegistry(bucket)
    entry = await registry.put(Model("default", "digits"), revision=0)
    asked = 0

    async def watch(*arguments: Any, **named: Any) -> KeyValue.KeyWatcher:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise NatsTimeoutError
        return await KeyValue.watch(bucket, *arguments, **named)

    monkeypatch.setattr(bucket, "watch", watch)
    async with aclosing(registry.changes(seconds=30)) as changes:
        assert await anext(changes) == entry
    assert asked == 3
