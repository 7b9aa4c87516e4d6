"""Room for models that are loaded at the same time, as many as there are cores and as large as the memory can bear."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

MEMORY_PER_FILE_BYTE = 3
"""What loading takes at its peak: the file as it is read, its weights, and those that were packed for the processor."""


@dataclass(frozen=True, slots=True)
class LoadLimits:
    """How much is loaded at once."""

    models: int = 1
    memory_bytes: int = 1024**3


class LoadRoom:
    """Whoever comes waits until there is room; a file that is too large for all of it is loaded alone."""

    def __init__(self, limits: LoadLimits) -> None:
        self._limits = limits
        self._loading = 0
        self._memory_bytes = 0
        self._left = asyncio.Condition()

    @contextlib.asynccontextmanager
    async def taken(self, file_bytes: int) -> AsyncIterator[None]:
        """Room to load a file, or several one after the other of which this is the largest, for the block."""
        memory_bytes = MEMORY_PER_FILE_BYTE * file_bytes
        async with self._left:
            await self._left.wait_for(lambda: self._fits(memory_bytes))
            self._loading += 1
            self._memory_bytes += memory_bytes
        try:
            yield
        finally:
            async with self._left:
                self._loading -= 1
                self._memory_bytes -= memory_bytes
                self._left.notify_all()

    def _fits(self, memory_bytes: int) -> bool:
        if self._loading >= self._limits.models:
            return False
        return not self._loading or self._memory_bytes + memory_bytes <= self._limits.memory_bytes
