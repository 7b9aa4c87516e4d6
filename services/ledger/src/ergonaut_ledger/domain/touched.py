"""Whose use has changed: what a kept batch tells those who watch use. Told by `Keeping`."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow.compute as pc

from ergonaut_ledger.domain.rows import Batch

SHARE_OF_RUNS = "run"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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


CODE_MAX = 2**62
"""Above this the numbers that stand for a row's words are made smaller before they no longer fit 64 bits."""

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
    for readings in batch.readings:
        yield from _spans_of_columns(readings.samples)


def _spans_of_columns(samples: Any) -> Iterator[tuple[Run, Span]]:
    """The same from columns: rows are sorted by the numbers that stand for their words, and words are looked at once a run."""
    of_runs = samples.filter(pc.equal(samples["share"], SHARE_OF_RUNS)).combine_chunks()
    if not of_runs.num_rows:
        return
    words = [of_runs.column(label).chunk(0) for label in ("tenant", "project", "job_id", "run_id")]
    code = np.zeros(of_runs.num_rows, np.int64)
    for each in words:
        if int(code.max()) * len(each.dictionary) > CODE_MAX:
            code = np.unique(code, return_inverse=True)[1]
        code = code * len(each.dictionary) + each.indices.to_numpy()
    order = np.argsort(code, kind="stable")
    firsts = np.flatnonzero(np.diff(code[order], prepend=-1))
    oldest = np.minimum.reduceat(_microseconds(of_runs["started_at"])[order], firsts)
    newest = np.maximum.reduceat(_microseconds(of_runs["ended_at"])[order], firsts)
    moments = {each: EPOCH + timedelta(microseconds=each) for each in {*oldest.tolist(), *newest.tolist()}}
    rows = order[firsts]
    labels = (_words_at(each, rows) for each in words)
    for tenant, project, job_id, run_id, start, end in zip(*labels, oldest.tolist(), newest.tolist(), strict=True):
        yield (tenant, project, job_id, run_id), (moments[start], moments[end])


def _words_at(column: Any, rows: Any) -> list[str]:
    words = column.dictionary.to_pylist()
    return [words[index] for index in column.indices.to_numpy()[rows].tolist()]


def _microseconds(column: Any) -> Any:
    return column.cast("int64").to_numpy()
