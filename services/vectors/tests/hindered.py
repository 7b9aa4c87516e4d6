"""Logs that take their time or lose answers, for tests of whoever writes to them."""

import asyncio
import random

import numpy as np

from ergonaut.errors import Unavailable
from ergonaut_vectors.domain.batches import Chain
from ergonaut_vectors.domain.records import Key
from ergonaut_vectors.domain.segments.writes import Upserts
from ergonaut_vectors.fakes import FakeLog

KEY = Key("acme", "digits")


def rows(*names: str, value: float = 1.0) -> Upserts:
    return Upserts(names, np.full((len(names), 4), value, np.float32))


class Hindered(FakeLog):
    """A log that lets everything wait until it is told to go on, and then fails what it was told to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.fails: set[int] = set()
        self.begun: list[int] = []

    async def append(self, key: Key, content: bytes, after: int, *, name: str = "", behind: str = "") -> int:
        self.begun.append(after)
        await self.go.wait()
        if after in self.fails:
            self.fails.discard(after)
            raise Unavailable("no answer")
        return await super().append(key, content, after, name=name, behind=behind)

    async def has_begun(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.begun) < count:
                await asyncio.sleep(0.001)


class Uncertain(FakeLog):
    """Takes its time, and loses answers before or after it has written."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self._dice = dice

    async def append(self, key: Key, content: bytes, after: int, *, name: str = "", behind: str = "") -> int:
        for _ in range(self._dice.randrange(3)):
            await asyncio.sleep(0)
        lost = self._dice.random()
        if lost < 0.1:
            raise Unavailable("no answer")
        position = await super().append(key, content, after, name=name, behind=behind)
        if lost < 0.2:
            raise Unavailable("no answer, but written")
        return position


def ids_of(log: FakeLog) -> list[list[str]]:
    """The ids of each batch in a log."""
    chain = Chain()
    batches = [chain.take(at, content) for at, content in enumerate(log.logs[KEY], 1)]
    return [list(batch.write.ids) for batch in batches if batch is not None]
