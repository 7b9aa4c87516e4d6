"""A job's record and how it moves: forwards only. Every function gives the same record back where a fact is old news.

A job that has ended stays as it is. Before that, a run of an older attempt, or one that is known to be over, changes nothing, so
that events may come twice, late and in any order.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType

from ergonaut.events import RunFinished, RunPaused, RunPreempted, RunProgressed, RunStarted
from ergonaut.events.runs import RunState
from ergonaut.jobs import JobSpec, JobState, JobStatus, Plan
from ergonaut.workflows import RunJobResult

METRICS_MAX = 100
"""Figures kept of one run; a program that tells more would make every record and every watcher slow."""

RUNS_OVER_MAX = 100
"""Runs remembered as over: a job that is paused each day has many, and news of older ones has long been heard."""

LEFT_FRACTION_MIN = 0.1
"""Of a job's expected duration, what is taken to be left at least: one that takes longer than expected is never nearly done."""

_END_OF_RUN = MappingProxyType(
    {
        RunState.SUCCEEDED: JobState.SUCCEEDED,
        RunState.FAILED: JobState.FAILED,
        RunState.CANCELLED: JobState.CANCELLED,
    }
)


@dataclass(frozen=True, slots=True)
class JobRecord:
    """All that the scheduler knows of one job."""

    tenant: str
    job_id: str
    workflow_id: str
    spec: JobSpec
    submitted_at: datetime
    changed_at: datetime
    state: JobState = JobState.SUBMITTED
    handed_over: bool = False
    """Whether its submission was announced and its workflow started."""
    cancel_requested: bool = False
    cancel_passed_on: bool = False
    """Whether the wish to stop was announced and given to Temporal."""
    plan: Plan | None = None
    planned_attempt: int = 0
    """Which attempt the plan is for; a repeat of the question gets the same answer."""
    pauses: int = 0
    """How often it was paused; what was decided before a pause is decided anew after it."""
    run_id: str = ""
    attempt: int = 0
    run_started_at: datetime | None = None
    done_seconds: float = 0.0
    """How long runs worked whose checkpoint the next one goes on from."""
    runs_over: tuple[str, ...] = ()
    phase: str = ""
    progressed_at: datetime | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    exit_code: int | None = None
    artifacts: tuple[str, ...] = ()
    because: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state.has_ended

    @property
    def has_plan_for_next_attempt(self) -> bool:
        """Whether the next run has been placed already."""
        return self.plan is not None and self.planned_attempt == self.attempt + 1

    @property
    def may_wait(self) -> bool:
        """Whether no offer for it now means only that it waits, since it has run before or was paused."""
        return self.attempt > 0 or self.state is JobState.PAUSED

    @property
    def spec_left(self) -> JobSpec:
        """The job as it is weighed now: what its checkpoint holds need not be done again."""
        if not self.done_seconds:
            return self.spec
        expected = self.spec.duration_seconds_expected
        left = max(expected - self.done_seconds, expected * LEFT_FRACTION_MIN)
        return self.spec.model_copy(update={"duration_seconds_expected": left})

    def status(self) -> JobStatus:
        """How the job stands, as a person asks for it."""
        return JobStatus(
            job_id=self.job_id,
            name=self.spec.name,
            state=self.state,
            placement=self.plan.chosen if self.plan else None,
            run_id=self.run_id,
            attempt=self.attempt,
            phase=self.phase,
            metrics=self.metrics,
            because=self.because,
            exit_code=self.exit_code,
            artifacts=self.artifacts,
            submitted_at=self.submitted_at,
            changed_at=self.changed_at,
        )


def handed_over(record: JobRecord) -> JobRecord:
    """Its workflow runs and the world knows of it."""
    return replace(record, handed_over=True)


def planned(record: JobRecord, plan: Plan, at: datetime) -> JobRecord:
    """The decision for the next attempt: placed, refused for good, or not yet for a job that was paused and is resumed."""
    if record.has_ended or record.has_plan_for_next_attempt:
        return record
    if plan.chosen is None and record.may_wait:
        because = f"resumed, but cannot go on yet: {plan.refused_because}"
        if (record.state, record.because) == (JobState.PAUSED, because):
            return record
        return replace(record, state=JobState.PAUSED, because=because, changed_at=at)
    decided = replace(record, plan=plan, planned_attempt=record.attempt + 1, changed_at=at)
    if plan.chosen is None:
        return replace(decided, state=JobState.REFUSED, because=plan.refused_because)
    because = "" if record.state is JobState.PAUSED and not record.cancel_requested else record.because
    return replace(decided, state=JobState.PLACED, because=because)


def refused(record: JobRecord, because: str, at: datetime) -> JobRecord:
    """It cannot be carried."""
    if record.has_ended:
        return record
    return planned(replace(record, plan=None), Plan(refused_because=because), at)


def cancel_requested(record: JobRecord, because: str, at: datetime) -> JobRecord:
    """Somebody asked for it to stop."""
    if record.has_ended or record.cancel_requested:
        return record
    told = f"asked to stop: {because}" if because else "asked to stop"
    return replace(record, cancel_requested=True, because=told, changed_at=at)


def cancel_passed_on(record: JobRecord, at: datetime) -> JobRecord:
    """Temporal knows that it shall stop. Before a run it has stopped thereby; a run that has begun tells its own end."""
    if record.has_ended or record.cancel_passed_on:
        return record
    passed_on = replace(record, cancel_passed_on=True)
    if record.state is JobState.RUNNING:
        return passed_on
    return replace(_without_alternatives(passed_on), state=JobState.CANCELLED, changed_at=at)


def run_started(record: JobRecord, event: RunStarted, at: datetime) -> JobRecord:
    """A run has begun."""
    if record.has_ended or event.attempt < record.attempt:
        return record
    if event.run_id in record.runs_over:
        known = event.attempt == record.attempt
        return record if known else replace(record, attempt=event.attempt, run_id=event.run_id)
    same_run = event.run_id == record.run_id
    if same_run and event.attempt == record.attempt:
        return record
    started = replace(
        record,
        state=JobState.RUNNING,
        run_id=event.run_id,
        attempt=event.attempt,
        run_started_at=event.started_at,
        changed_at=at,
    )
    if same_run:
        return started
    because = record.because if record.cancel_requested else ""
    return replace(started, phase="", metrics={}, progressed_at=None, because=because)


def run_progressed(record: JobRecord, event: RunProgressed, at: datetime) -> JobRecord:
    """The run told where it is. The news may overtake that of its start, and then stands for it."""
    if record.has_ended or event.run_id in record.runs_over:
        return record
    if event.run_id != record.run_id:
        between_runs = not record.run_id or record.run_id in record.runs_over
        if not between_runs:
            return record
        record = replace(record, run_id=event.run_id, metrics={}, progressed_at=None)
    if record.progressed_at is not None and event.occurred_at <= record.progressed_at:
        return record
    return replace(
        record,
        state=JobState.RUNNING,
        phase=event.phase or record.phase,
        metrics=_bounded({**record.metrics, **event.metrics}),
        progressed_at=event.occurred_at,
        changed_at=at,
    )


def run_preempted(record: JobRecord, event: RunPreempted, at: datetime) -> JobRecord:
    """A run was lost; another attempt follows."""
    if record.has_ended or event.run_id in record.runs_over:
        return record
    over = _with_run_over(record, event.run_id)
    if event.run_id != record.run_id:
        return over
    because = record.because if record.cancel_requested else f"attempt {record.attempt} was lost: {event.because}"
    return replace(over, state=JobState.PLACED, phase="", because=because, changed_at=at)


def run_paused(record: JobRecord, event: RunPaused, at: datetime) -> JobRecord:
    """A run has saved its state and ended for a while, or the job was paused before it began one."""
    if record.has_ended or event.run_id in record.runs_over:
        return record
    over = _with_run_over(record, event.run_id)
    another_runs = record.run_id not in ("", event.run_id, *record.runs_over)
    if another_runs:
        return over
    because = record.because if record.cancel_requested else event.because
    return replace(
        over,
        state=JobState.PAUSED,
        pauses=record.pauses + 1,
        done_seconds=_done_seconds(record, event),
        planned_attempt=0,
        phase="",
        because=because,
        changed_at=at,
    )


def _done_seconds(record: JobRecord, pause: RunPaused) -> float:
    """What of the job is done, as far as its checkpoint holds it; a run without one of its own leaves what was before it."""
    if not pause.checkpoint:
        return 0.0
    is_its_own = pause.run_id == record.run_id and pause.run_id in pause.checkpoint
    if not is_its_own or record.run_started_at is None:
        return record.done_seconds
    return record.done_seconds + max((pause.ended_at - record.run_started_at).total_seconds(), 0.0)


def run_finished(record: JobRecord, event: RunFinished, at: datetime) -> JobRecord:
    """The job has ended with this run."""
    stale = event.run_id in record.runs_over and event.run_id != record.run_id
    if record.has_ended or stale:
        return record
    return replace(
        _without_alternatives(record),
        state=_END_OF_RUN[event.state],
        run_id=event.run_id,
        metrics=_bounded({**record.metrics, **event.metrics}),
        exit_code=event.exit_code,
        artifacts=event.artifacts,
        because=event.because or (record.because if event.state is RunState.CANCELLED else ""),
        changed_at=at,
    )


def workflow_ended(record: JobRecord, result: RunJobResult, at: datetime) -> JobRecord:
    """The workflow has ended and no event told of it: what it answered is then the job's end."""
    if record.has_ended:
        return record
    known = {state.value for state in JobState if state.has_ended}
    return replace(
        _without_alternatives(record),
        state=JobState(result.state) if result.state in known else JobState.FAILED,
        run_id=result.run_id or record.run_id,
        metrics=_bounded({**record.metrics, **result.metrics}),
        exit_code=result.exit_code,
        artifacts=result.artifacts,
        because=result.because or record.because,
        changed_at=at,
    )


def _with_run_over(record: JobRecord, run_id: str) -> JobRecord:
    return replace(record, runs_over=(*record.runs_over, run_id)[-RUNS_OVER_MAX:])


def _without_alternatives(record: JobRecord) -> JobRecord:
    """What else was weighed is most of a record, and nobody asks for it once the job has ended."""
    return replace(record, plan=record.plan.model_copy(update={"alternatives": ()})) if record.plan else record


def _bounded(metrics: dict[str, float]) -> dict[str, float]:
    return dict(sorted(metrics.items())[:METRICS_MAX]) if len(metrics) > METRICS_MAX else metrics
