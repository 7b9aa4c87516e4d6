"""How many requests a model version served and how fast, kept in a bounded space until it is told."""

import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from ergonaut.events import InferenceServed

LATENCY_MS_MIN = 0.001
"""Anything faster counts as this; no request is."""

LATENCY_MS_MAX = 1_000_000.0
"""Anything slower counts as this; requests are cut off long before."""

_STEP = math.log(1.02)
"""Buckets grow by 2 %, so that a percentile is within 1 % and a tally has at most about 1,050 of them."""


@dataclass(slots=True)
class Tally:
    """The requests of one model version since a moment."""

    started_at: datetime
    requests: int = 0
    rows: int = 0
    failed: int = 0
    _buckets: Counter[int] = field(default_factory=Counter)

    def add(self, *, latency_ms: float, rows: int, failed: bool) -> None:
        """Count one request."""
        self.requests += 1
        self.rows += rows
        self.failed += failed
        bounded = min(max(latency_ms, LATENCY_MS_MIN), LATENCY_MS_MAX)
        self._buckets[int(math.log(bounded / LATENCY_MS_MIN) / _STEP)] += 1

    def latency_ms(self, quantile: float) -> float:
        """The latency below which this share of the requests stayed, within 1 %.

        >>> from datetime import UTC
        >>> tally = Tally(datetime(2026, 1, 1, tzinfo=UTC))
        >>> tally.add(latency_ms=10.0, rows=1, failed=False)
        >>> abs(tally.latency_ms(0.5) - 10.0) < 0.1
        True
        """
        assert self.requests > 0, "a tally without requests has no latency"
        wanted, seen = quantile * self.requests, 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                break
        return LATENCY_MS_MIN * math.exp((bucket + 0.5) * _STEP)

    def told(self, *, tenant: str, model: str, version: int, ended_at: datetime) -> InferenceServed:
        """The fact of this tally."""
        return InferenceServed(
            tenant=tenant,
            model=model,
            version=version,
            occurred_at=ended_at,
            started_at=self.started_at,
            ended_at=ended_at,
            requests=self.requests,
            rows=self.rows,
            failed=self.failed,
            latency_ms_p50=self.latency_ms(0.5),
            latency_ms_p99=self.latency_ms(0.99),
        )
