"""Files that runs kept, from the JetStream object store a tenant into which the orchestrator puts them."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator
from typing import IO

from nats.js.errors import NotFoundError

from ergonaut.errors import NotFound, Unavailable
from ergonaut_common.bus import Bus
from ergonaut_common.bus.connection import until_answered

PIECE_BYTES = 1024 * 1024

FETCH_TIMEOUT_SECONDS = 120.0
"""The largest object of one machine comes in less; nats-py itself would wait for ever where NATS dies meanwhile."""


class ObjectArtifactStore:
    """Fills `ArtifactStore`."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def pieces(self, tenant: str, name: str) -> AsyncGenerator[bytes, None]:
        # On disk and whole first: its digest is known to be right only at the end, and it may be larger than memory allows.
        with tempfile.TemporaryFile() as file:
            await self._fetch(tenant, name, file)
            file.seek(0)
            while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
                yield piece

    async def _fetch(self, tenant: str, name: str, file: IO[bytes]) -> None:
        store = await self._bus.object_store(f"artifacts-{tenant}")

        async def get() -> bool:
            file.seek(0)
            file.truncate()
            try:
                await store.get(name, writeinto=file)  # type: ignore[arg-type]
            except NotFoundError:
                return False
            return True

        try:
            async with asyncio.timeout(FETCH_TIMEOUT_SECONDS):
                found = await until_answered(get, what=f"fetching the file {name}")
        except TimeoutError as error:
            raise Unavailable(f"fetching the file {name}: NATS went away meanwhile") from error
        if not found:
            raise NotFound(f"no run kept a file {name!r}; `ergonaut watch JOB` tells those that were kept")
