"""Threads for work that would block the loop; the kernels release the interpreter, so the threads truly run beside it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

from ergonaut.errors import Unavailable

T = TypeVar("T")


class Workers:
    """A few threads and a bounded queue before them; leaves when its block ends."""

    def __init__(self, name: str, *, threads: int, waiting_max: int) -> None:
        self.threads = threads
        """How many pieces of work are done at once."""
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._name = name
        self._taken_max = threads + waiting_max
        self._taken = 0

    async def run(self, work: Callable[[], T]) -> T:
        """What the work gives, done in a thread. Raises Unavailable at once when too much waits already."""
        if self._taken >= self._taken_max:
            raise Unavailable(f"{self._taken} pieces of {self._name} wait already; try again later or ask for less")
        self._taken += 1
        done = asyncio.get_running_loop().run_in_executor(self._pool, work)
        # Counted until the work has ended, even when its caller has left before.
        done.add_done_callback(self._leave)
        return await done

    def _leave(self, _: "asyncio.Future[T]") -> None:
        self._taken -= 1

    async def __aenter__(self) -> "Workers":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._pool.shutdown, wait=True, cancel_futures=True)
