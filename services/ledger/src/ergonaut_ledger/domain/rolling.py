"""Which touched minutes are to be rolled up now, and in which portions. Asked by `Rolling`."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from ergonaut_ledger.domain.rows import Batch

GRACE_SECONDS = 5.0
"""After a minute's end most of its samples are here; those that come later touch it again."""


MINUTES_MAX = 60
"""Minutes of one portion: an hour of a thousand hosts is some ten million samples, which a second or two sums up."""


@dataclass(frozen=True, slots=True)
class Touch:
    """One insert's samples in one minute."""

    tenant: str
    minute: datetime
    touch: str


@dataclass(frozen=True, slots=True)
class Portion:
    """Some touched minutes of one tenant's day, rolled up in one go: these minutes, then their hours, then the day."""

    tenant: str
    day: datetime
    touches: tuple[Touch, ...]

    @property
    def minutes(self) -> tuple[datetime, ...]:
        """Each touched minute once, in order."""
        return tuple(sorted({touch.minute for touch in self.touches}))

    @property
    def hours(self) -> tuple[datetime, ...]:
        """Each touched hour once, in order."""
        return tuple(sorted({minute.replace(minute=0) for minute in self.minutes}))


def touched_minutes(batch: Batch) -> list[tuple[str, datetime]]:
    """The minutes in which a batch's samples began, by tenant, each once."""
    touched = {(row.tenant, row.started_at.replace(second=0, microsecond=0)) for row in batch.samples}
    for readings in batch.readings:
        if readings.samples.num_rows:
            minutes = pc.floor_temporal(readings.samples["started_at"], unit="minute")
            found = pa.table({"tenant": readings.samples["tenant"], "minute": minutes}).group_by(["tenant", "minute"])
            columns = found.aggregate([])
            touched.update(zip(columns["tenant"].to_pylist(), columns["minute"].to_pylist(), strict=True))
    return sorted(touched)


def portions(touches: Iterable[Touch], now: datetime) -> list[Portion]:
    """The minutes that have ended, by day and tenant, oldest first; the present minute waits until it has."""
    ended_before = now - timedelta(seconds=60 + GRACE_SECONDS)
    days: dict[tuple[datetime, str], dict[datetime, list[Touch]]] = {}
    for touch in touches:
        # A clock that is ahead tells of minutes to come; they are rolled up when they have come.
        if touch.minute <= ended_before:
            minutes = days.setdefault((touch.minute.replace(hour=0, minute=0), touch.tenant), {})
            minutes.setdefault(touch.minute, []).append(touch)
    return [
        Portion(tenant, day, tuple(touch for minute in some for touch in minutes[minute]))
        for (day, tenant), minutes in sorted(days.items())
        for some in _batched(sorted(minutes))
    ]


def _batched(minutes: Sequence[datetime]) -> Iterator[Sequence[datetime]]:
    for first in range(0, len(minutes), MINUTES_MAX):
        yield minutes[first : first + MINUTES_MAX]
