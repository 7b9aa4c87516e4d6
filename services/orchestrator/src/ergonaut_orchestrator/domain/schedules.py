"""When a recipe's schedule comes next, by the clock on a wall of its time zone. Pure: the time is given.

Schedules are cron's, with its habits of summer time: what would come in an hour that is left out comes right after it, and what
comes at a certain time comes once in an hour that comes twice.
"""

from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from ergonaut.errors import Refused
from ergonaut.retraining import When

REPEATED_MAX = 64
"""Times of an hour that comes twice may be told for its first coming while it is there again; it has no more minutes."""

SOME_DAY = datetime(2026, 1, 1, tzinfo=UTC)
"""A schedule that never comes after it comes never."""


def check_schedule(when: When) -> None:
    """Whether the schedule can be followed, if there is one. Raises Refused naming the field."""
    next_scheduled(when, SOME_DAY)


def next_scheduled(when: When, after: datetime) -> datetime | None:
    """The schedule's first time after a moment; None where there is no schedule. Raises Refused naming the field.

    >>> berlin = When(schedule="0 3 * * 1", time_zone="Europe/Berlin")
    >>> next_scheduled(berlin, datetime(2026, 3, 27, tzinfo=UTC)).isoformat()
    '2026-03-30T01:00:00+00:00'
    """
    if when.schedule is None:
        return None
    try:
        zone = ZoneInfo(when.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Refused(
            f"{when.time_zone!r} is no time zone such as Europe/Berlin", field="recipe.when.time_zone"
        ) from error
    try:
        times = islice(CronSim(when.schedule, after.astimezone(zone)), REPEATED_MAX)
        found = next((at for at in times if at.astimezone(UTC) > after), None)
    except CronSimError as error:
        raise Refused(
            f"{when.schedule!r} is no cron schedule such as '0 3 * * 1': {error}", field="recipe.when.schedule"
        ) from error
    if found is None:
        raise Refused(f"{when.schedule!r} never comes", field="recipe.when.schedule")
    return found.astimezone(UTC)
