"""Whose use has changed: what a kept batch tells those who watch use. Told by `Keeping`."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import pyarrow.compute as pc

from ergonaut_ledger.domain.rows import Batch

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


Run = tuple[str, str, str, str]
Span = tuple[datetime, datetime]


def touched_by(batch: Batch) -> list[Touched]:
    """The runs that a batch's samples are of, each once; what belongs to no run touches nothing."""
    spans: dict[Run, Span] = {}
    for run, (oldest, newest) in _spans(batch):
        known = spans.get(run, (oldest, newest))
        spans[run] = min(oldest, known[0]), max(newest, known[1])
    return [Touched(*run, *span) for run, span in spans.items()]


def _spans(batch: Batch) -> Iterator[tuple[Run, Span]]:
    for row in batch.samples:
        if row.share == SHARE_OF_RUNS:
            yield (row.tenant, row.project, row.job_id, row.run_id), (row.started_at, row.ended_at)
    labels = ["tenant", "project", "job_id", "run_id"]
    for readings in batch.readings:
        of_runs = readings.samples.filter(pc.equal(readings.samples["share"], SHARE_OF_RUNS))
        plain = of_runs.select([*labels, "started_at", "ended_at"])
        found = plain.group_by(labels).aggregate([("started_at", "min"), ("ended_at", "max")])
        columns = (found.column(name).to_pylist() for name in (*labels, "started_at_min", "ended_at_max"))
        for tenant, project, job_id, run_id, oldest, newest in zip(*columns, strict=True):
            yield (tenant, project, job_id, run_id), (oldest, newest)
