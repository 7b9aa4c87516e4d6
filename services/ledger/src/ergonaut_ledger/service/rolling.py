"""Rolls up what was kept, minute by minute, for ever. Run by `main` in the background."""

from ergonaut.errors import Broken, Unavailable
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_ledger.domain.rolling import portions
from ergonaut_ledger.ports.rollups import RollUps

PAUSE_SECONDS = 2.0
"""Between two looks at what is to be done; a minute is rolled up about this long after its grace."""

PAUSE_AFTER_FAILURE_SECONDS = 10.0
"""The engine is busy or its disk full; what is not rolled up is answered from samples meanwhile."""

TOUCHES_MAX = 20_000
"""Touches read at once: after a long absence there are many, and the oldest come first."""

log = get_logger(__name__)


class Rolling:
    """Keeps the roll-ups up to date."""

    def __init__(self, rollups: RollUps, clock: Clock) -> None:
        self._rollups = rollups
        self._clock = clock

    async def run(self) -> None:
        """Roll up for ever; trouble that passes is waited out."""
        while True:
            try:
                done = await self.catch_up()
                pause_seconds = 0.0 if done else PAUSE_SECONDS
            except (Unavailable, Broken) as error:
                log.warning("rolling up will be tried again", because=str(error))
                pause_seconds = PAUSE_AFTER_FAILURE_SECONDS
            await self._clock.sleep(pause_seconds)

    async def catch_up(self) -> int:
        """Roll up what has ended and was touched; gives the number of hours that were."""
        waiting = portions(await self._rollups.touched(TOUCHES_MAX), self._clock.now())
        for portion in waiting:
            await self._rollups.roll(portion)
        return len(waiting)
