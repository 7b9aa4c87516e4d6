"""When an upstream is left alone: after several failures within a window, until one request has found it well again."""

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BreakerRule:
    """After how many failures in how many seconds an upstream is left alone, and for how long."""

    failures: int = 5
    window_seconds: float = 30.0
    open_seconds: float = 10.0
    open_seconds_max: float = 0.0
    """Each probe that fails doubles the time up to this; below `open_seconds` it stays the same."""


class Breaker:
    """Closed while all is well; open after failures; half open while one request probes."""

    def __init__(self, rule: BreakerRule) -> None:
        self._rule = rule
        self._failed_at_seconds: deque[float] = deque(maxlen=rule.failures)
        self._open_until_seconds: float | None = None
        self._probing = False
        self._open_seconds = rule.open_seconds

    @property
    def is_open(self) -> bool:
        """Whether requests are kept away, but for a probe."""
        return self._open_until_seconds is not None

    def would_admit(self, now_seconds: float) -> bool:
        """Whether a request could go now."""
        if self._open_until_seconds is None:
            return True
        return not self._probing and now_seconds >= self._open_until_seconds

    def admits(self, now_seconds: float) -> bool:
        """Whether a request may go now. One that may must end by `succeeded`, `failed` or `given_up`."""
        if not self.would_admit(now_seconds):
            return False
        self._probing = self.is_open
        return True

    def succeeded(self) -> None:
        """The upstream began to answer. Only a probe closes what is open; failures in between count by their window."""
        if self._probing:
            self._probing = False
            self._open_until_seconds = None
            self._open_seconds = self._rule.open_seconds
            self._failed_at_seconds.clear()

    def failed(self, now_seconds: float) -> None:
        """The upstream did not answer, or said that it cannot."""
        self._failed_at_seconds.append(now_seconds)
        full = len(self._failed_at_seconds) == self._rule.failures
        recent = now_seconds - self._failed_at_seconds[0] <= self._rule.window_seconds
        if self._probing:
            self._open_seconds = min(2 * self._open_seconds, max(self._rule.open_seconds, self._rule.open_seconds_max))
        if self._probing or (full and recent):
            self._open_until_seconds = now_seconds + self._open_seconds
        self._probing = False

    def given_up(self) -> None:
        """The request ended without telling anything of the upstream, as when the caller went."""
        self._probing = False
