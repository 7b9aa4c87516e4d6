"""Rolls up what was kept, minute by minute, for ever. Run by `main` in the background."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from ergonaut.errors import Broken, Unavailable
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_ledger.domain.rolling import Touch, portions
from ergonaut_ledger.ports.rollups import RollUps

PAUSE_SECONDS = 2.0
"""Between two looks at what is to be done; a minute is rolled up about this long after its grace."""

PAUSE_AFTER_FAILURE_SECONDS = 10.0
"""The engine is busy or its disk full; what is not rolled up is answered from samples meanwhile."""

REST_SECONDS = 3.0
"""A minute rests when for so long no sample of it was kept."""

RESTLESS_SECONDS = 60.0
"""One that never rests, as a spool is told for long, is rolled up after so long all the same."""

TOUCHES_MAX = 20_000
"""Touches read at once: after a long absence there are many, and the oldest come first."""

log = get_logger(__name__)


class Rolling:
    """Keeps the roll-ups up to date."""

    def __init__(self, rollups: RollUps, clock: Clock) -> None:
        self._rollups = rollups
        self._clock = clock
        self._watched: dict[tuple[str, datetime], _Watched] = {}

    async def run(self) -> None:
        """Roll up for ever; trouble that passes is waited out."""
        while True:
            try:
                await self.look()
                pause_seconds = PAUSE_SECONDS
            except (Unavailable, Broken) as error:
                log.warning("rolling up will be tried again", because=str(error))
                pause_seconds = PAUSE_AFTER_FAILURE_SECONDS
            await self._clock.sleep(pause_seconds)

    async def look(self) -> None:
        """Roll up the minutes that have ended and rest: one that is being filled would be summed over and over."""
        touches = await self._rollups.touched(TOUCHES_MAX)
        await self._roll(self._resting(touches))

    async def catch_up(self) -> None:
        """Roll up all that has ended, at rest or not."""
        await self._roll(await self._rollups.touched(TOUCHES_MAX))

    async def _roll(self, touches: Sequence[Touch]) -> None:
        for portion in portions(touches, self._clock.now()):
            await self._rollups.roll(portion)

    def _resting(self, touches: Sequence[Touch]) -> list[Touch]:
        now = self._clock.monotonic()
        counts = Counter((touch.tenant, touch.minute) for touch in touches)
        before, self._watched = self._watched, {}
        for minute, count in counts.items():
            known = before.get(minute, _Watched(count, now, now))
            self._watched[minute] = known if known.touches == count else replace(known, touches=count, changed_at=now)
        rests = {minute for minute, watched in self._watched.items() if watched.rests(now)}
        return [touch for touch in touches if (touch.tenant, touch.minute) in rests]


@dataclass(frozen=True, slots=True)
class _Watched:
    """A touched minute: how often it was touched, and since when that and the whole are so."""

    touches: int
    first_at: float
    changed_at: float

    def rests(self, now: float) -> bool:
        return now - self.changed_at >= REST_SECONDS or now - self.first_at >= RESTLESS_SECONDS
