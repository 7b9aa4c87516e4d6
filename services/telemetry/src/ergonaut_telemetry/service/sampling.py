"""Takes a sample of the host at each interval, puts it into the spool, and shows it to whoever watches."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from ergonaut.carbon import zone_code
from ergonaut.errors import Unavailable
from ergonaut.events import PUBLIC_TENANT, IntensityChanged
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_telemetry import figures
from ergonaut_telemetry.domain import HostReading, Memory, Terms, Turn, account, grid_of, grid_with
from ergonaut_telemetry.ports import Meters, Spool

log = get_logger(__name__)


class Sampling:
    """The one that reads the meters; there is one on a host, and one sample at a time."""

    def __init__(self, meters: Meters, spool: Spool, terms: Terms) -> None:
        self._meters = meters
        self._spool = spool
        self._terms = terms
        self._memory = spool.remembered()
        self._grid = grid_of(spool.intensities())
        self._dropped = 0

    def sample(self) -> Turn:
        """Take one sample. Raises Unavailable where the spool takes none; the next sample then covers the time of this one."""
        return self._kept(self._meters.read())

    def _kept(self, reading: HostReading) -> Turn:
        memory = self._recalled(reading)
        turn = account(memory, reading, self._terms, self._grid)
        self._spool.record(turn)
        self._memory = turn.memory
        return turn

    async def run(self, clock: Clock, interval_seconds: float, show: Callable[[Turn], None]) -> None:
        """Sample for ever, at equal intervals; an interval that was slept through is made up for by a longer one."""
        due = clock.monotonic()
        while True:
            try:
                # A thread that wakes beside the loop costs as much as the sample, so only meters that may block get one. The
                # spool's commits wait for no disk but when its log is moved, every few minutes.
                if self._meters.may_block:
                    show(self._kept(await asyncio.to_thread(self._meters.read)))
                else:
                    show(self.sample())
            except Unavailable as error:
                figures.failures.inc()
                log.error("a sample could not be kept; the next will cover its time", error=str(error))
            self._tell_drops()
            due = max(due + interval_seconds, clock.monotonic())
            await clock.sleep(due - clock.monotonic())

    def reckon_by(self, terms: Terms) -> None:
        """Use these terms from the next sample on."""
        self._terms = terms

    def learn_intensity(self, event: IntensityChanged) -> None:
        """Use these intensities from the next sample on, unless newer ones are known; only public ones count."""
        known = self._grid.get(zone_code(event.zone), ())
        if known and known[0].event_id == event.event_id:
            return
        if event.tenant == PUBLIC_TENANT and self._spool.keep_intensity(event):
            self._grid = grid_with(self._grid, event)

    def _recalled(self, reading: HostReading) -> Memory:
        """The memory, with the totals of runs that had ended and have processes again."""
        unknown = [run.key for run in reading.runs if run.key not in self._memory.runs]
        if not unknown:
            return self._memory
        recalled = {key: totals for key in unknown if (totals := self._spool.run(*key)) is not None}
        return replace(self._memory, runs={**self._memory.runs, **recalled})

    def _tell_drops(self) -> None:
        dropped = self._spool.dropped()
        if dropped > self._dropped:
            figures.drops.inc(dropped - self._dropped)
            log.error("the spool is full: oldest samples were dropped unsent", events=dropped - self._dropped)
        self._dropped = dropped
