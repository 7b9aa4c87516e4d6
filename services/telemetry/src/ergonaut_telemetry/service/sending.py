"""Sends what is in the spool, in order, and forgets an event only once the bus has stored it."""

import asyncio

from ergonaut.errors import Broken, Refused, Unavailable
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_telemetry import figures
from ergonaut_telemetry.ports import Announcer, Spool

BATCH_MAX = 100
"""Events read from the spool at once: after an outage the backlog is worked off in pieces that fit in memory."""

PAUSE_SECONDS_FIRST = 0.5
PAUSE_SECONDS_LAST = 15.0
"""Longest pause while the bus is away: a supervisor restarts it within seconds, and the ledger should not lag longer."""

log = get_logger(__name__)


class Sending:
    """Works off the spool."""

    def __init__(self, spool: Spool, announcer: Announcer) -> None:
        self._spool = spool
        self._announcer = announcer

    async def send_waiting(self) -> int:
        """Send up to a batch; returns how many were sent. Raises Unavailable at the first that the bus does not take."""
        waiting = self._spool.oldest(BATCH_MAX)
        for spooled in waiting:
            try:
                await self._announcer.tell(spooled.event, spooled.body)
                figures.sent.inc()
            except Refused as error:
                # It would stand before all others for ever; its number is missing from then on, which tells of it.
                figures.drops.inc()
                log.error(
                    "an event that the bus never takes is dropped", number=spooled.event.sequence, error=str(error)
                )
            # One by one: what the bus has is not sent again, even when this is stopped half-way.
            self._spool.sent(spooled.position)
        return len(waiting)

    async def run(self, clock: Clock, sampled: asyncio.Event) -> None:
        """Send for ever, resting until there is a sample when the spool is empty, and longer and longer while the bus is away."""
        pause_seconds = PAUSE_SECONDS_FIRST
        while True:
            try:
                sent = await self.send_waiting()
                pause_seconds = PAUSE_SECONDS_FIRST
                figures.spooled.set(self._spool.waiting())
                if sent < BATCH_MAX:
                    await sampled.wait()
                    sampled.clear()
            except (Unavailable, Broken) as error:
                # Broken too: a stream that was removed comes back when somebody makes it again; the spool holds until then.
                figures.spooled.set(self._spool.waiting())
                log.warning("samples wait to be sent", waiting=self._spool.waiting(), error=str(error))
                await clock.sleep(pause_seconds)
                pause_seconds = min(pause_seconds * 2, PAUSE_SECONDS_LAST)
