"""A loader that has each file tried in a process of its own first, so that one that asks for much memory, or ends the process
that loads it, harms nobody but who sent it. For files that come from outside; those that were deployed were tried then."""

import asyncio
import math
from pathlib import Path

from ergonaut.errors import Refused
from ergonaut_gateway import memory
from ergonaut_gateway.adapters.apart import asked
from ergonaut_gateway.adapters.probes import is_steady
from ergonaut_gateway.ports import ModelLoader, Runner

SECONDS_MAX = 120
"""How long a file may take to be loaded and run a few times; half a gigabyte of weights takes some seconds."""

_PROGRAM = "ergonaut_gateway.adapters.trying"


class TriedFirst:
    """Fills `ModelLoader` by another that does."""

    def __init__(self, loader: ModelLoader, *, memory_bytes_max: int, for_memory_only: bool = False) -> None:
        """`for_memory_only`: refuse nothing else, as for a file that only an accelerator can run, which the trial has not."""
        self._loader = loader
        self._for_memory_only = for_memory_only
        self._memory_bytes_max = memory_bytes_max

    async def load(self, path: Path) -> Runner:
        if self._memory_bytes_max:
            await self._try(path)
        return await self._loader.load(path)

    async def _try(self, path: Path) -> None:
        """Raise Refused for a file that cannot be served, or takes more memory than it may have or there is."""
        there_bytes = memory.available_bytes()
        memory_bytes = min(self._memory_bytes_max, there_bytes or self._memory_bytes_max)
        request = {
            "path": str(path),
            "memory_bytes": memory_bytes,
            "seconds": math.ceil(SECONDS_MAX),
            "for_memory_only": self._for_memory_only,
        }
        answer = await asked(_PROGRAM, request, doing="trying the file in a process of its own", seconds=SECONDS_MAX)
        # What an operator takes whose work depends on values is known when somebody sends them.
        if answer["runs_out"] and await asyncio.to_thread(is_steady, path):
            told = f"takes more than {memory_bytes / 1024**3:,.1f} GiB of memory to compute a few rows"
            raise Refused(told, field="chunk")
