"""What a tenant may have and how often it may call; pure, given the time. Used by `quotas.py`."""

from dataclasses import dataclass, fields

from ergonaut.errors import Refused

BURST_SECONDS = 2.0
"""A tenant that was quiet may call so many seconds' worth at once: programs come in bursts, and a burst harms nobody."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Sizes of all that a tenant has, or of what it is about to add."""

    collections: int = 0
    vectors: int = 0
    vector_bytes: int = 0

    def with_more(self, more: "Usage") -> "Usage":
        """Both together."""
        return Usage(
            self.collections + more.collections, self.vectors + more.vectors, self.vector_bytes + more.vector_bytes
        )


@dataclass(frozen=True, slots=True)
class Quota:
    """What a tenant may have at most; 0 does not bound."""

    collections: int = 0
    vectors: int = 0
    vector_bytes: int = 0
    calls_per_second: float = 0.0


def check_room(quota: Quota, used: Usage, more: Usage) -> None:
    """Raise Refused where the tenant would have more than it may."""
    for each in fields(Usage):
        allowed, had, added = (int(getattr(of, each.name)) for of in (quota, used, more))
        if added and allowed and had + added > allowed:
            told = each.name.replace("_", " ")
            message = f"{had:,} {told} are there and {added:,} more would pass the {allowed:,} that the tenant may have"
            raise Refused(message, field=each.name)


def fits(quota: Quota, used: Usage, more: Usage) -> bool:
    """Whether the tenant may have so much more."""
    try:
        check_room(quota, used, more)
    except Refused:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Calls:
    """How many calls a tenant has left at a moment."""

    left: float
    at_seconds: float


def called(calls: Calls, now_seconds: float, per_second: float) -> tuple[Calls, float]:
    """What is left after one more call, and the seconds to wait for it: 0 where it may go on now, and is counted."""
    _, left = _refilled(calls, now_seconds, per_second)
    if left < 1.0:
        return Calls(left, now_seconds), (1.0 - left) / per_second
    return Calls(left - 1.0, now_seconds), 0.0


def rate_of(calls: Calls, now_seconds: float, per_second: float) -> float:
    """Calls a second that what is left tells of."""
    most, left = _refilled(calls, now_seconds, per_second)
    return (most - left) / BURST_SECONDS


def _refilled(calls: Calls, now_seconds: float, per_second: float) -> tuple[float, float]:
    """The calls that a quiet tenant has left at most, and those that this one has by now."""
    most = max(1.0, per_second * BURST_SECONDS)
    return most, min(most, calls.left + (now_seconds - calls.at_seconds) * per_second)
