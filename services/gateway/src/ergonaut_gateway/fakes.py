"""Every port in memory, for tests and for trying things without NATS; contract tests hold them to what the adapters do."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ergonaut.errors import Conflict, NotFound, Refused, Unavailable
from ergonaut.events import Event
from ergonaut_gateway.domain.models import Entry, ModelRecord, Signature, TensorSpec
from ergonaut_gateway.domain.tensors import Tensor

DOUBLING = Signature(inputs=(TensorSpec("x", "FP32", (-1, 3)),), outputs=(TensorSpec("y", "FP32", (-1, 3)),))
"""What a fake model takes and gives; it doubles."""


class FakeModelRegistry:
    """A `ModelRegistry` in memory."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], Entry] = {}
        self._revision = 0
        self._changed = asyncio.Condition()

    async def get(self, tenant: str, name: str) -> Entry | None:
        return self._entries.get((tenant, name))

    async def put(self, record: ModelRecord, *, revision: int) -> Entry:
        key = (record.tenant, record.name)
        current = self._entries.get(key)
        if (current.revision if current else 0) != revision:
            raise Conflict(f"model {record.name} was changed by another")
        async with self._changed:
            self._revision += 1
            self._entries[key] = Entry(record, self._revision)
            self._changed.notify_all()
        return self._entries[key]

    async def entries(self) -> Sequence[Entry]:
        return sorted(self._entries.values(), key=lambda entry: entry.revision)

    async def changes(self, *, seconds: float) -> AsyncIterator[Entry]:
        seen = 0
        end_at = asyncio.get_running_loop().time() + seconds
        while True:
            for entry in await self.entries():
                if entry.revision > seen:
                    seen = entry.revision
                    yield entry
            if not await self._next_change(seen, end_at):
                return

    async def _next_change(self, seen: int, end_at: float) -> bool:
        try:
            async with asyncio.timeout_at(end_at), self._changed:
                await self._changed.wait_for(lambda: self._revision > seen)
        except TimeoutError:
            return False
        return True


class FakeModelFiles:
    """A `ModelFiles` in memory."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], bytes] = {}

    async def store(self, tenant: str, file: str, source: Path) -> None:
        self.kept[tenant, file] = await asyncio.to_thread(source.read_bytes)

    async def exists(self, tenant: str, file: str) -> bool:
        return (tenant, file) in self.kept

    async def fetch(self, tenant: str, file: str, target: Path) -> None:
        if (tenant, file) not in self.kept:
            raise NotFound(f"the model file {file} is not kept any more; deploy the model anew")
        await asyncio.to_thread(target.write_bytes, self.kept[tenant, file])

    async def delete(self, tenant: str, file: str) -> None:
        self.kept.pop((tenant, file), None)


class FakeRunner:
    """A `Runner` that doubles; while `busy`, it has no room."""

    def __init__(self) -> None:
        self.signature = DOUBLING
        self.busy = False

    async def run(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> dict[str, Tensor]:
        if self.busy:
            raise Unavailable("1 requests are at work or waiting, which is the most; ask again")
        return {name: np.multiply(inputs["x"], 2) for name in outputs}


class FakeModelLoader:
    """A `ModelLoader` that takes any file that begins with `model`."""

    async def load(self, path: Path) -> FakeRunner:
        if not (await asyncio.to_thread(path.read_bytes)).startswith(b"model"):
            raise Refused("is not an ONNX model: it does not begin as one", field="chunk")
        return FakeRunner()


class FakeAnnouncer:
    """An `Announcer` that remembers; while `away`, nobody can be told."""

    def __init__(self) -> None:
        self.told: list[Event] = []
        self.away = False

    async def publish(self, event: Event) -> None:
        if self.away:
            raise Unavailable("publishing: NATS did not answer")
        if all(known.event_id != event.event_id for known in self.told):
            self.told.append(event)
