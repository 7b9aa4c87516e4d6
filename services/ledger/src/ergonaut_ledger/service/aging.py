"""Lets old measurements go: samples by whole months, roll-ups by minute by whole days. Run by `main` in the background.

Sums by hour and day, runs, prices and all other events are kept for good; they are small.
"""

from datetime import UTC, date, datetime, timedelta

from ergonaut.errors import Broken, Unavailable
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_ledger.domain.bounds import EARLIEST
from ergonaut_ledger.ports.aging import Ages

PAUSE_SECONDS = 3_600.0
"""Between two looks. A time is sealed at one look and dropped at the next: what was on its way in is rolled up in between."""

log = get_logger(__name__)


class Aging:
    """Drops what has reached its age, and never what is not rolled up yet."""

    def __init__(self, ages: Ages, clock: Clock, *, samples_days: int, minutes_days: int) -> None:
        self._ages = ages
        self._clock = clock
        self._samples = timedelta(days=samples_days)
        self._minutes = timedelta(days=minutes_days)
        self._not_before = EARLIEST

    def not_before(self) -> datetime:
        """Samples that began before this come too late to be kept."""
        return self._not_before

    async def start(self) -> None:
        """Learn what was sealed before. Raises Unavailable."""
        self._not_before = await self._ages.sealed_before() or EARLIEST

    async def run(self) -> None:
        """Look for ever; trouble is waited out until the next look."""
        while True:
            try:
                await self.look()
            except (Unavailable, Broken) as error:
                log.warning("old measurements will be looked for again", because=str(error))
            await self._clock.sleep(PAUSE_SECONDS)

    async def look(self) -> None:
        """Drop what was sealed at the look before, then seal what has reached its age since."""
        now = self._clock.now()
        sealed_before = self._not_before
        if sealed_before > EARLIEST and not await self._ages.touched_before(sealed_before):
            for month in await self._ages.months_of_samples():
                if _after(month) <= sealed_before:
                    await self._ages.drop_samples(month)
                    log.info("samples dropped by age", month=f"{month:%Y-%m}")
        for day in await self._ages.days_of_minutes():
            end = _midnight(day) + timedelta(days=1)
            if end <= min(now - self._minutes, sealed_before):
                await self._ages.drop_minutes(day)
        await self._seal(now)

    async def _seal(self, now: datetime) -> None:
        """Whole months only, since samples lie in parts of a month, and a part is dropped without being rewritten."""
        aged = [_after(month) for month in await self._ages.months_of_samples() if _after(month) <= now - self._samples]
        if aged and max(aged) > self._not_before:
            await self._ages.seal(max(aged))
            self._not_before = max(aged)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _after(month: date) -> datetime:
    """The beginning of the next month."""
    return _midnight((month.replace(day=1) + timedelta(days=32)).replace(day=1))
