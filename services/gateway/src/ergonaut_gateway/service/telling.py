"""Facts that wait until somebody can be told. What could not be told is tried again with the next ones."""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import TypeVar

from ergonaut.errors import ErgonautError
from ergonaut.events import Event
from ergonaut_common.observe import get_logger
from ergonaut_gateway.ports import Announcer

UNTOLD_MAX = 1_000
"""Facts kept while nobody can be told: hours for a few models. Beyond that the oldest are dropped, which the log says."""

Fact = TypeVar("Fact", bound=Event)

log = get_logger(__name__)


class Telling:
    """Tells facts in order, each once it could be told."""

    def __init__(self, announcer: Announcer, *, of: str) -> None:
        self._announcer = announcer
        self._of = of
        self._one_at_a_time = asyncio.Lock()
        self.waiting: deque[Event] = deque()

    async def tell(self, facts: Iterable[Event] = ()) -> None:
        """Tell what waits and these; what cannot be told now waits on."""
        self.waiting += facts
        await self.tell_from(self.waiting)

    async def tell_from(self, waiting: deque[Fact]) -> None:
        """Tell what stands in a queue, and take out what was told."""
        dropped = max(0, len(waiting) - UNTOLD_MAX)
        for _ in range(dropped):
            waiting.popleft()
        if dropped:
            log.error("facts not told", of=self._of, dropped=dropped)
        try:
            # Two callers at once would take out more than they told.
            async with self._one_at_a_time:
                while waiting:
                    await self._announcer.publish(waiting[0])
                    waiting.popleft()
        except ErgonautError as error:
            log.warning("facts not told yet", of=self._of, waiting=len(waiting), error=str(error))
