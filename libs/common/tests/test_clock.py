"""The clock that tests turn."""

import asyncio
from datetime import UTC, datetime

from ergonaut_common.clock import FakeClock, SystemClock


async def test_a_fake_clock_stands_still_until_it_is_advanced() -> None:
    clock = FakeClock(datetime(2026, 1, 1, tzinfo=UTC))
    await clock.advance(90)
    assert (clock.now(), clock.monotonic()) == (datetime(2026, 1, 1, 0, 1, 30, tzinfo=UTC), 90.0)


async def test_sleepers_wake_in_order_each_at_its_own_moment() -> None:
    clock, woken = FakeClock(), []

    async def sleep_twice(name: str, seconds: float) -> None:
        for _ in range(2):
            await clock.sleep(seconds)
            woken.append((name, clock.monotonic()))

    async with asyncio.TaskGroup() as group:
        group.create_task(sleep_twice("slow", 3))
        group.create_task(sleep_twice("quick", 1))
        await clock.advance(10)
    assert woken == [("quick", 1.0), ("quick", 2.0), ("slow", 3.0), ("slow", 6.0)]


async def test_a_sleeper_that_was_cancelled_wakes_nobody() -> None:
    clock = FakeClock()
    sleeper = asyncio.create_task(clock.sleep(5))
    await asyncio.sleep(0)
    sleeper.cancel()
    await clock.advance(10)
    assert sleeper.cancelled()


async def test_the_machines_clock_is_utc_and_waits() -> None:
    clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep(0.01)
    assert clock.monotonic() - before >= 0.01
    assert clock.now().tzinfo is UTC
