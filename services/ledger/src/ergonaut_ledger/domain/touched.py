"""Whose use has changed: what a kept batch tells those who watch use. Told by `Keeping`."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from ergonaut_ledger.domain.rows import SampleRow

SHARE_OF_RUNS = "run"


@dataclass(frozen=True, slots=True)
class Touched:
    """A run of which samples were kept, among them perhaps some that were kept before: it says where to look, not how much."""

    tenant: str
    project: str
    job_id: str
    run_id: str
    oldest_started_at: datetime
    """Beginning of the oldest sample; only sums from here on can have changed."""
    newest_ended_at: datetime


def touched_by(samples: Iterable[SampleRow]) -> list[Touched]:
    """The runs that these samples are of, each once; what belongs to no run touches nothing."""
    spans: dict[tuple[str, str, str, str], tuple[datetime, datetime]] = {}
    for row in samples:
        if row.share != SHARE_OF_RUNS:
            continue
        run = (row.tenant, row.project, row.job_id, row.run_id)
        oldest, newest = spans.get(run, (row.started_at, row.ended_at))
        spans[run] = min(oldest, row.started_at), max(newest, row.ended_at)
    return [Touched(*run, *span) for run, span in spans.items()]
