"""Makes the async client usable without asyncio: runs its coroutines on a loop in a thread and waits for them."""

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ergonaut-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and wait; an interrupt here cancels it there."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def each(self, items: AsyncIterator[T]) -> Iterator[T]:
        """Go through an async iterator from here; leaving early closes it."""
        try:
            while True:
                try:
                    yield self.run(_next(items))
                except StopAsyncIteration:
                    return
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                self.run(close())

    def close(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()


class Blocking:
    """An area of the client whose methods block."""

    def __init__(self, area: object, loop: Loop) -> None:
        self._area = area
        self._loop = loop

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._area, name)

        def call(*args: Any, **options: Any) -> Any:
            answer = method(*args, **options)
            return self._loop.run(answer) if inspect.iscoroutine(answer) else self._loop.each(answer)

        call.__doc__ = method.__doc__
        return call


async def _next(items: AsyncIterator[T]) -> T:
    return await anext(items)
