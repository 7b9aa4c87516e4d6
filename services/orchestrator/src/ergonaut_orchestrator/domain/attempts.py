"""Attempts of a job: what one is, how it ended, whether another follows, and what the job's result is."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from ergonaut.ids import derived_id, id_at
from ergonaut.jobs import JobSpec, Placement
from ergonaut.workflows import RunJobInput, RunJobResult

BECAUSE_BYTES_MAX = 2_048
"""A reason is read by people and travels in events; two kilobytes hold the end of a traceback."""

OVERRUN_FACTOR_MAX = 4.0
"""An expectation is often wrong by two; a run that takes four times as long hangs, and its machine costs."""

OVERRUN_SECONDS_MIN = 600.0
"""Short jobs get at least ten minutes more than expected: a cold cache alone can take minutes."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A machine held for one run, and the workflow that answers for it."""

    lease_id: str
    tenant: str
    job_id: str
    run_id: str
    provider: str
    offer_id: str
    workflow_id: str
    workflow_run_id: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a job: everything that an activity needs to know."""

    lease: Lease
    number: int
    job: JobSpec
    placement: Placement
    stop_at: datetime
    """When a program that still runs is stopped as overdue."""
    checkpoint: str = ""
    """The stored checkpoint to go on from; empty to begin at the beginning."""
    replica_of: str = ""
    """The set of which it is a replica: its program is the platform's gateway. Empty for all other jobs."""


class EndKind(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PREEMPTED = "preempted"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class RunEnd:
    """The end of an attempt."""

    kind: EndKind
    ended_at: datetime
    because: str = ""
    exit_code: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    started_at: datetime | None = None
    counted: tuple[str, ...] = ()
    """Those of the metrics that count work."""


@dataclass(frozen=True, slots=True)
class Collected:
    """The files kept of a run, by their names `<run_id>/<path>`, and what is to be said about those that were not."""

    artifacts: tuple[str, ...] = ()
    because: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """What is to be announced about an attempt that is over."""

    tenant: str
    job_id: str
    run_id: str
    end: RunEnd
    artifacts: tuple[str, ...] = ()
    budget_id: str = ""
    """Of a pause: the budget that asked for it; empty where a person did."""
    checkpoint: str = ""
    """Of a pause: the stored checkpoint from which the job goes on."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What an interrupted attempt left for the next one."""

    checkpoint: str = ""
    """Its name in the object store; empty where there is none."""
    because: str = ""
    """Why there is none, where that needs to be said."""


@dataclass(frozen=True, slots=True)
class WorkflowIds:
    """The workflow that an attempt belongs to."""

    workflow_id: str
    run_id: str


def new_attempt(
    request: RunJobInput, placement: Placement, number: int, *, run_id: str, workflow: WorkflowIds, now: datetime
) -> Attempt:
    """The next attempt, its lease named after its run so that a repeated step finds the same one."""
    lease = Lease(
        lease_id=derived_id("lease", run_id),
        tenant=request.tenant,
        job_id=request.job_id,
        run_id=run_id,
        provider=placement.provider,
        offer_id=placement.offer_id,
        workflow_id=workflow.workflow_id,
        workflow_run_id=workflow.run_id,
    )
    starts_at = max(now, placement.starts_at)
    stop_at = latest_end(request.job, starts_at)
    return Attempt(lease, number, request.job, placement, stop_at=stop_at, replica_of=request.replica_of)


def with_time_from(attempt: Attempt, now: datetime) -> Attempt:
    """The attempt, its time counted from now: what its machine and its start took is not the program's fault."""
    return replace(attempt, stop_at=latest_end(attempt.job, now))


def new_run_id(at: datetime, entropy: int) -> str:
    """A run's id, the same for the same time and randomness, as a workflow needs it."""
    return id_at("run", at, entropy)


def latest_end(job: JobSpec, starts_at: datetime) -> datetime:
    """When a run is overdue: well after what was expected, and never before the job's deadline."""
    expected = job.duration_seconds_expected
    bound = starts_at + timedelta(seconds=max(expected * OVERRUN_FACTOR_MAX, expected + OVERRUN_SECONDS_MIN))
    return max(bound, job.deadline) if job.deadline else bound


def another_follows(end: RunEnd, tries: int, job: JobSpec) -> bool:
    """Whether the job is tried again: only after a preemption, while attempts and time are left. Pauses are no tries."""
    in_time = job.deadline is None or end.ended_at < job.deadline
    return end.kind is EndKind.PREEMPTED and tries < job.attempts_max and in_time


def final_end(end: RunEnd, tries: int, *, stopped_because: str) -> RunEnd:
    """The end as the job's own: an interruption after which nothing follows is a failure, or what was asked for."""
    if end.kind in {EndKind.SUCCEEDED, EndKind.FAILED}:
        return end
    if stopped_because:
        return replace(end, kind=EndKind.CANCELLED, because=brief(stopped_because))
    if end.kind is EndKind.CANCELLED:
        return end
    because = brief(f"no attempt or no time is left after {tries}; the last: {end.because}")
    return replace(end, kind=EndKind.FAILED, because=because)


def without_files(end: RunEnd) -> RunEnd:
    """The end of a run whose files could not be kept: a success without its fruits is none."""
    return replace(end, kind=EndKind.FAILED) if end.kind is EndKind.SUCCEEDED else end


def ended_with(end: RunEnd, collected: Collected) -> RunEnd:
    """The end, telling also what became of the files to keep."""
    parts = [part for part in (end.because, collected.because) if part]
    return replace(end, because=brief("; ".join(parts)))


def result_of(job_id: str, run_id: str, end: RunEnd, artifacts: Sequence[str]) -> RunJobResult:
    """What the workflow answers."""
    return RunJobResult(
        job_id=job_id,
        run_id=run_id,
        state=end.kind,
        exit_code=end.exit_code,
        artifacts=tuple(artifacts),
        metrics=end.metrics,
        because=end.because,
    )


def brief(text: str) -> str:
    """The text, or its last two kilobytes: the end of an error's output says the most.

    >>> brief("as it is")
    'as it is'
    """
    encoded = text.strip().encode()
    if len(encoded) <= BECAUSE_BYTES_MAX:
        return text.strip()
    return "…" + encoded[3 - BECAUSE_BYTES_MAX :].decode(errors="ignore")
