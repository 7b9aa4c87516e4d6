"""Room on disk for model files on their way in or out; a file of 512 MiB shall not be held in memory to be hashed and loaded."""

import asyncio
import contextlib
import hashlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from ergonaut.errors import Refused, Unavailable

CHUNK_BYTES_MAX = 1024 * 1024
"""The largest piece of a file in one message, as the contract says."""

CHUNK_WAIT_SECONDS = 30.0
"""How long the next piece may take; a caller that went silent must not hold its place."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that arrived whole."""

    path: Path
    digest: str
    size_bytes: int


class Spool:
    """A folder in which each file has a folder of its own, so that a model cannot name its neighbours."""

    def __init__(self, folder: Path, *, file_bytes_max: int) -> None:
        self._folder = folder
        self._file_bytes_max = file_bytes_max

    @contextlib.asynccontextmanager
    async def room(self) -> AsyncIterator[Path]:
        """A path for one file, gone when the block ends."""
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
        folder = await asyncio.to_thread(tempfile.TemporaryDirectory, dir=self._folder)
        try:
            yield Path(folder.name) / "model.onnx"
        finally:
            await asyncio.to_thread(folder.cleanup)

    @contextlib.asynccontextmanager
    async def receiving(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[Upload]:
        """Take in a file piece by piece; it is there while the block runs. Raises Refused for one that is empty or too large."""
        async with self.room() as path:
            yield await self._receive(chunks, path)

    async def pieces(self, path: Path) -> AsyncIterator[bytes]:
        """A file on its way out, piece by piece."""
        with path.open("rb") as file:
            while piece := await asyncio.to_thread(file.read, CHUNK_BYTES_MAX // 2):
                yield piece

    async def _receive(self, chunks: AsyncIterator[bytes], path: Path) -> Upload:
        digest, size_bytes = hashlib.sha256(), 0
        with path.open("wb") as file:
            while (chunk := await _next(chunks)) is not None:
                size_bytes += len(chunk)
                if len(chunk) > CHUNK_BYTES_MAX:
                    raise Refused(f"has {len(chunk)} bytes, at most {CHUNK_BYTES_MAX} are taken", field="chunk")
                if size_bytes > self._file_bytes_max:
                    raise Refused(f"the file is larger than {self._file_bytes_max} bytes", field="chunk")
                digest.update(chunk)
                await asyncio.to_thread(file.write, chunk)
        if size_bytes == 0:
            raise Refused("the file is empty", field="chunk")
        return Upload(path, f"sha256-{digest.hexdigest()}", size_bytes)


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    try:
        async with asyncio.timeout(CHUNK_WAIT_SECONDS):
            return await anext(chunks, None)
    except TimeoutError as error:
        raise Unavailable(f"the next piece of the file did not come within {CHUNK_WAIT_SECONDS:g} s") from error
