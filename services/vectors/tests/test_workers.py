"""The threads: what they take, and when they send callers away."""

import asyncio
import threading

import pytest

from ergonaut.errors import Unavailable
from ergonaut_vectors.workers import Workers


async def test_more_than_may_wait_is_sent_away_and_later_taken_again() -> None:
    gate = threading.Event()
    async with Workers("searches", threads=1, waiting_max=1) as workers:
        running = [asyncio.create_task(workers.run(gate.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="2 pieces of searches wait already"):
            await workers.run(gate.wait)
        gate.set()
        assert await asyncio.gather(*running) == [True, True]
        assert await workers.run(lambda: "again") == "again"
