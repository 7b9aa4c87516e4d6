"""Whether a node is asked, and when another is asked beside it: by how it fared with what it was asked. Used by `cluster`."""

from collections import deque
from dataclasses import dataclass

TIMES_KEPT = 128
"""The last answers of a node, by whose times it is told when one is late; of so many the slowest twentieth are six."""

TIMES_MIN = 16
"""Fewer answers say too little about what is late."""


@dataclass(frozen=True, slots=True)
class Rule:
    """When a node is left alone, and when an answer is late."""

    failures: int = 3
    """In a row. A killed node fails several requests at once; one failure alone happens to anybody."""
    alone_seconds: float = 0.5
    """How long it is left alone then; after each trial that fails twice as long."""
    alone_seconds_max: float = 15.0
    late_seconds_min: float = 0.005
    """An answer is never late before: asking twice for what takes less costs more than it saves."""
    late_seconds_default: float = 0.05
    """While too few answers are known."""


class Health:
    """How a node fares. Times are those of a monotonic clock."""

    __slots__ = (
        "_alone_seconds",
        "_alone_until_seconds",
        "_failures",
        "_rule",
        "_times_seconds",
        "_trying",
        "outstanding",
    )

    def __init__(self, rule: Rule | None = None) -> None:
        self._rule = rule or Rule()
        self._failures = 0
        self._alone_seconds = self._rule.alone_seconds
        self._alone_until_seconds: float | None = None
        self._trying = False
        self._times_seconds: deque[float] = deque(maxlen=TIMES_KEPT)
        self.outstanding = 0
        """Requests that it has."""

    def admits(self, now_seconds: float) -> bool:
        """Whether it may be asked: always, or after it was left alone for a while once, to see how it is."""
        if self._alone_until_seconds is None:
            return True
        return not self._trying and now_seconds >= self._alone_until_seconds

    def begun(self, now_seconds: float) -> None:
        """It was asked; one of the three below tells how that ended."""
        self.outstanding += 1
        self._trying = self._alone_until_seconds is not None and now_seconds >= self._alone_until_seconds

    def answered(self, seconds: float) -> None:
        """It answered, after this time."""
        self._ended()
        self._failures = 0
        self._alone_until_seconds = None
        self._alone_seconds = self._rule.alone_seconds
        self._times_seconds.append(seconds)

    def failed(self, now_seconds: float) -> None:
        """It did not answer, or cannot."""
        was_trial = self._trying
        self._ended()
        self._failures += 1
        if was_trial:
            self._alone_seconds = min(2 * self._alone_seconds, self._rule.alone_seconds_max)
        if was_trial or self._failures >= self._rule.failures:
            self._alone_until_seconds = now_seconds + self._alone_seconds

    def given_up(self) -> None:
        """It was not waited for any longer, which says nothing of it."""
        self._ended()

    def late_seconds(self) -> float:
        """After how long its answer is late: when 19 of 20 have come."""
        if len(self._times_seconds) < TIMES_MIN:
            return self._rule.late_seconds_default
        times = sorted(self._times_seconds)
        return max(times[len(times) * 19 // 20], self._rule.late_seconds_min)

    def _ended(self) -> None:
        self.outstanding -= 1
        self._trying = False
