"""The time, handed in rather than taken, so that tests can turn it."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the time and waits."""

    def now(self) -> datetime:
        """The time of day, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary beginning; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after this many seconds."""
        ...


class SystemClock:
    """The machine's clock."""

    monotonic = staticmethod(time.monotonic)
    """As it is, for it is read some six times for each prediction, and a method around it would take longer than it does."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class FakeClock:
    """A clock that stands still until it is advanced; sleepers wake in order of their time."""

    def __init__(self, now: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = now
        self._elapsed_seconds = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed_seconds)

    def monotonic(self) -> float:
        return self._elapsed_seconds

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        waker: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._elapsed_seconds + seconds, waker))
        await waker

    async def advance(self, seconds: float) -> None:
        """Let this much time pass, waking each sleeper at its own moment."""
        target = self._elapsed_seconds + seconds
        await _let_others_run()
        while due := [entry for entry in self._sleepers if entry[0] <= target]:
            entry = min(due, key=lambda sleeper: sleeper[0])
            self._sleepers.remove(entry)
            self._elapsed_seconds = max(self._elapsed_seconds, entry[0])
            if not entry[1].done():
                entry[1].set_result(None)
            await _let_others_run()
        self._elapsed_seconds = target


async def _let_others_run() -> None:
    """Give woken tasks enough turns of the loop to reach their next wait."""
    for _ in range(20):
        await asyncio.sleep(0)
