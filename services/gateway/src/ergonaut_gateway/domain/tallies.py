"""How many requests a model version served, how fast and in which runs, in a bounded space and cheap to count."""

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from ergonaut.events import InferenceServed

LATENCY_MS_MIN = 0.001
"""Anything faster counts as this; no request is."""

LATENCY_MS_MAX = 1_000_000.0
"""Anything slower counts as this; requests are cut off long before."""

_STEP = math.log(1.02)
"""Buckets grow by 2 %, so that a percentile is within 1 %."""

_BUCKETS = int(math.log(LATENCY_MS_MAX / LATENCY_MS_MIN) / _STEP) + 1
"""About 1,050, 8 kB a model version."""

_BOUNDS = [LATENCY_MS_MIN * math.exp(bucket * _STEP) for bucket in range(1, _BUCKETS)]
"""Where each bucket ends. Searching them takes half the time of a logarithm."""

BATCH_SIZES_MAX = 1_024
"""Batches of more different sizes than this are counted as the largest one that is; who sends such knows the size."""


@dataclass(slots=True)
class Tally:
    """The requests of one model version since a moment."""

    started_at: datetime
    requests: int = 0
    rows: int = 0
    failed: int = 0
    seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * _BUCKETS)

    def add(self, *, latency_ms: float, rows: int, failed: bool) -> None:
        """Count one request."""
        self.requests += 1
        self.rows += rows
        self.failed += failed
        self.seconds += latency_ms / 1000
        self.buckets[bisect_right(_BOUNDS, latency_ms)] += 1

    def add_alike(self, *, latency_ms: float, requests: int) -> None:
        """Count requests of one row each that took equally long and did not fail."""
        self.requests += requests
        self.rows += requests
        self.seconds += requests * latency_ms / 1000
        self.buckets[bisect_right(_BOUNDS, latency_ms)] += requests

    def copied(self, *, started_at: datetime) -> "Tally":
        """The same numbers, which no longer change."""
        return replace(self, started_at=started_at, buckets=self.buckets.copy())

    def since(self, earlier: "Tally") -> "Tally":
        """Only what came after an earlier copy, which began when that was made."""
        return Tally(
            earlier.started_at,
            self.requests - earlier.requests,
            self.rows - earlier.rows,
            self.failed - earlier.failed,
            self.seconds - earlier.seconds,
            [now - then for now, then in zip(self.buckets, earlier.buckets, strict=True)],
        )

    def latency_ms(self, quantile: float) -> float:
        """The latency below which this share of the requests stayed, within 1 %.

        >>> from datetime import UTC
        >>> tally = Tally(datetime(2026, 1, 1, tzinfo=UTC))
        >>> tally.add(latency_ms=10.0, rows=1, failed=False)
        >>> abs(tally.latency_ms(0.5) - 10.0) < 0.1
        True
        """
        assert self.requests > 0, "a tally without requests has no latency"
        wanted, seen, last = quantile * self.requests, 0, 0
        for bucket, count in enumerate(self.buckets):
            if count:
                seen += count
                last = bucket
                if seen >= wanted:
                    break
        return LATENCY_MS_MIN * math.exp((last + 0.5) * _STEP)

    def within(self, seconds: float) -> int:
        """How many requests took at most this long; those within 2 % of it count as well."""
        return sum(self.buckets[: bisect_right(_BOUNDS, seconds * 1000) + 1])

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


@dataclass(slots=True)
class Runs:
    """The runs of one model version: how many requests of how many rows ran together, and how long that took."""

    runs: int = 0
    rows: int = 0
    seconds: float = 0.0
    ran: int = 0
    """Requests that ran, alone or in a batch; each of a batch counts, with all the time of the batch."""

    ran_seconds: float = 0.0
    input_seconds: float = 0.0
    """Of `ran_seconds`, putting the inputs of a batch together."""

    output_seconds: float = 0.0
    """Of `ran_seconds`, parting the outputs of a batch."""

    cpu_seconds: float = 0.0
    """CPU time of all runs."""

    waited_seconds: float = 0.0
    failed_seconds: float = 0.0
    cache_hits: int = 0
    cache_misses: int = 0
    by_rows: dict[int, tuple[int, float]] = field(default_factory=dict)

    def add(self, *, rows: int, seconds: float) -> None:
        """Count one run."""
        self.runs += 1
        self.rows += rows
        self.seconds += seconds
        if rows not in self.by_rows and len(self.by_rows) >= BATCH_SIZES_MAX:
            rows = max(self.by_rows)
        count, total = self.by_rows.get(rows, (0, 0.0))
        self.by_rows[rows] = (count + 1, total + seconds)


@dataclass(frozen=True, slots=True)
class Spent:
    """How often something happened, and how long all of it took in nanoseconds."""

    count: int = 0
    ns: int = 0


@dataclass(frozen=True, slots=True)
class Statistics:
    """What one model version did since it was loaded here, as Triton's statistics extension tells it. `inferences` are rows,
    `executions` are runs; `batches` has the runs of each number of rows. All else counts requests: each one of a batch with all
    the time of the batch."""

    version: int
    inferences: int
    executions: int
    success: Spent
    fail: Spent
    queue: Spent
    compute_input: Spent
    compute_infer: Spent
    compute_output: Spent
    cache_hit: Spent
    cache_miss: Spent
    batches: dict[int, Spent]
    last_inference_ms: int
    """Unix time in milliseconds, 0 where there was none."""
    energy: Mapping[str, Any] = field(default_factory=dict)
    """What it used, as far as that is known, in the words of `InferenceServed`."""


def statistics(version: int, tally: Tally, runs: Runs, *, last_inference_ms: int) -> Statistics:
    """Both counts as one."""
    succeeded = tally.requests - tally.failed
    return Statistics(
        version=version,
        inferences=tally.rows,
        executions=runs.runs,
        success=Spent(succeeded, _ns(tally.seconds - runs.failed_seconds)),
        fail=Spent(tally.failed, _ns(runs.failed_seconds)),
        queue=Spent(runs.ran, _ns(runs.waited_seconds)),
        compute_input=Spent(runs.ran, _ns(runs.input_seconds)),
        compute_infer=Spent(runs.ran, _ns(runs.ran_seconds - runs.input_seconds - runs.output_seconds)),
        compute_output=Spent(runs.ran, _ns(runs.output_seconds)),
        cache_hit=Spent(runs.cache_hits, 0),
        cache_miss=Spent(runs.cache_misses, 0),
        batches={rows: Spent(count, _ns(seconds)) for rows, (count, seconds) in sorted(runs.by_rows.items())},
        last_inference_ms=last_inference_ms,
    )


def _ns(seconds: float) -> int:
    return int(max(seconds, 0.0) * 1e9)
