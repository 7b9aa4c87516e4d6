"""The workflow `RunJob`: waits and chooses; all that touches the world is an activity. Contract in `ergonaut.workflows`."""

import asyncio
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue, RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, is_cancelled_exception
from temporalio.workflow import ActivityCancellationType, ActivityConfig

with workflow.unsafe.imports_passed_through():
    from ergonaut.errors import Refused
    from ergonaut.jobs import Placement, Plan
    from ergonaut.workflows import PROGRESS_QUERY, RUN_JOB, JobProgress, JobStep, RunJobInput, RunJobResult
    from ergonaut_orchestrator.activities import Activities
    from ergonaut_orchestrator.domain import (
        Attempt,
        Collected,
        Ending,
        EndKind,
        RunEnd,
        WorkflowIds,
        accepted_request,
        another_follows,
        brief,
        ended_with,
        final_end,
        new_attempt,
        new_run_id,
        result_of,
        with_time_from,
        without_files,
    )

T = TypeVar("T")

ABSENCE_MAX = timedelta(days=1)
"""How long the services and engines that a step needs may be away before the step has failed."""

PATIENT = RetryPolicy(initial_interval=timedelta(milliseconds=500), maximum_interval=timedelta(seconds=15))
"""Tries again soon, then every 15 s: a part that was restarted is back within that."""

PROMPT = RetryPolicy(initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=5))
"""For the watch: until it is taken up again, the lease is not renewed."""

HEARTBEAT_TIMEOUT = timedelta(seconds=10)
"""A step whose process has died is taken up again after this; every step beats each second or two."""


def _step(*, try_for: timedelta, again_for: timedelta) -> ActivityConfig:
    """How long one try at a step may take, and for how long it is tried again."""
    return ActivityConfig(
        start_to_close_timeout=try_for,
        schedule_to_close_timeout=again_for,
        heartbeat_timeout=HEARTBEAT_TIMEOUT,
        retry_policy=PATIENT,
    )


PLACING = _step(try_for=timedelta(seconds=30), again_for=timedelta(hours=1))
PROVISIONING = _step(try_for=timedelta(minutes=10), again_for=timedelta(hours=1))
STARTING = _step(try_for=timedelta(minutes=1), again_for=timedelta(hours=1))
COLLECTING = _step(try_for=timedelta(hours=1), again_for=ABSENCE_MAX)
TEARING_DOWN = _step(try_for=timedelta(minutes=30), again_for=ABSENCE_MAX)
TELLING = _step(try_for=timedelta(seconds=30), again_for=ABSENCE_MAX)

WATCH_SLACK = timedelta(minutes=20)
"""On top of the run's own bound, for its program to be stopped; the bound itself is kept by the watch."""


NO_INPUT = RawValue(Payload(metadata={"encoding": b"json/plain"}, data=b"{}"))
"""What stands for an input that was not given; it is refused like any other that lacks a job."""


# A wrong number of inputs is a TypeError before our first line: it too must fail the workflow at once, not be tried for ever.
@workflow.defn(name=RUN_JOB, failure_exception_types=[TypeError])
class RunJob:
    """Brings one job through its life."""

    def __init__(self) -> None:
        self._progress = JobProgress(job_id="", step=JobStep.PLACING)

    @workflow.query(name=PROGRESS_QUERY)
    def progress(self) -> JobProgress:
        """Where the job is."""
        return self._progress

    @workflow.run
    async def run(self, given: RawValue = NO_INPUT) -> RunJobResult:
        """Place, then try until an attempt ends for good; tell how, and answer."""
        request = _accepted(given)
        self._now_at(JobStep.PLACING, job_id=request.job_id)
        try:
            plan = await _place(request)
            if plan.chosen is None:
                return self._refused(request, plan)
            self._now_at(JobStep.WAITING)
            await _sleep_until(plan.chosen.starts_at)
        except (ActivityError, asyncio.CancelledError) as error:
            return await self._ended(request, _new_run_id(), _end_of_step(error), Collected())
        for number in range(1, request.job.attempts_max + 1):
            attempt = _new_attempt(request, plan.chosen, number)
            end, collected = await self._bring_through(attempt)
            if _is_cancelled() or not another_follows(end, number, request.job):
                break
            await _surely(_tell(request, attempt.lease.run_id, end))
        end = final_end(end, number, cancelled=_is_cancelled())
        return await self._ended(request, attempt.lease.run_id, end, collected)

    async def _bring_through(self, attempt: Attempt) -> tuple[RunEnd, Collected]:
        """One attempt, from getting a machine to giving it back, which happens whatever else does."""
        self._now_at(JobStep.PROVISIONING, run_id=attempt.lease.run_id, attempt=attempt.number)
        collected = Collected()
        try:
            await workflow.execute_activity_method(Activities.provision, attempt, **PROVISIONING)
            await workflow.execute_activity_method(Activities.start, attempt, **STARTING)
            # Getting here may have taken hours of somebody's absence; a watch without time left could not even be asked for.
            attempt = with_time_from(attempt, workflow.now())
            self._now_at(JobStep.RUNNING)
            end = await workflow.execute_activity_method(Activities.watch, attempt, **_watching(attempt))
            if end.kind is not EndKind.PREEMPTED:
                self._now_at(JobStep.COLLECTING)
                end, collected = await _surely(_collect(attempt, end))
        except (ActivityError, asyncio.CancelledError) as error:
            end = _end_of_step(error)
        self._now_at(JobStep.TEARING_DOWN)
        await _surely(_tear_down(attempt, end))
        return end, collected

    async def _ended(self, request: RunJobInput, run_id: str, end: RunEnd, collected: Collected) -> RunJobResult:
        """Tell the end, and answer it."""
        end = ended_with(end, collected)
        await _surely(_tell(request, run_id, end, collected.artifacts))
        self._now_at(JobStep.ENDED)
        return result_of(request.job_id, run_id, end, collected.artifacts)

    def _refused(self, request: RunJobInput, plan: Plan) -> RunJobResult:
        """Nothing ran; the scheduler has told it."""
        self._now_at(JobStep.ENDED)
        return RunJobResult(job_id=request.job_id, run_id="", state="refused", because=brief(plan.refused_because))

    def _now_at(self, step: JobStep, **more: Any) -> None:
        self._progress = self._progress.model_copy(update={"step": step, **more})


def _accepted(given: RawValue) -> RunJobInput:
    """The input, or the workflow's immediate failure, naming the field."""
    try:
        return accepted_request(given.payload.data, workflow_id=workflow.info().workflow_id, now=workflow.now())
    except Refused as error:
        raise _refusal(str(error)) from error


async def _place(request: RunJobInput) -> Plan:
    """The scheduler's plan; an input that it refuses fails the workflow as one that we refuse does."""
    try:
        return await workflow.execute_activity_method(Activities.place, request, **PLACING)
    except ActivityError as error:
        if isinstance(error.cause, ApplicationError) and error.cause.type == Refused.__name__:
            raise _refusal(_message(error)) from error
        raise


async def _collect(attempt: Attempt, end: RunEnd) -> tuple[RunEnd, Collected]:
    """Keep the run's files; a success whose files cannot be kept is none."""
    try:
        return end, await workflow.execute_activity_method(Activities.collect, attempt, **COLLECTING)
    except ActivityError as error:
        return without_files(end), Collected(because=f"artifacts: could not be kept: {_message(error)}")


async def _tear_down(attempt: Attempt, end: RunEnd) -> None:
    """Give the machine back; what cannot be given back in a day is left to the orchestrator's search for orphans."""
    try:
        arguments = (attempt.lease, f"the run {end.kind}")
        await workflow.execute_activity_method(Activities.tear_down, args=arguments, **TEARING_DOWN)
    except ActivityError as error:
        workflow.logger.error("lease %s is not torn down: %s", attempt.lease.lease_id, _message(error))


async def _tell(request: RunJobInput, run_id: str, end: RunEnd, artifacts: tuple[str, ...] = ()) -> None:
    """Announce an end; a bus that is away for a day must not keep the workflow from answering."""
    ending = Ending(request.tenant, request.job_id, run_id, end, artifacts)
    try:
        await workflow.execute_activity_method(Activities.tell_ended, ending, **TELLING)
    except ActivityError as error:
        workflow.logger.error("the end of %s is not told: %s", run_id, _message(error))


async def _sleep_until(moment: datetime) -> None:
    """Durably: nothing of ours needs to run meanwhile."""
    if (wait := moment - workflow.now()) > timedelta(0):
        await workflow.sleep(wait)


async def _surely(work: Coroutine[Any, Any, T]) -> T:
    """Do something to its end, even when the workflow is cancelled meanwhile."""
    task = asyncio.create_task(work)
    while True:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise


def _new_run_id() -> str:
    return new_run_id(workflow.now(), workflow.random().getrandbits(80))


def _new_attempt(request: RunJobInput, placement: Placement, number: int) -> Attempt:
    info = workflow.info()
    ids = WorkflowIds(info.workflow_id, info.run_id)
    return new_attempt(request, placement, number, run_id=_new_run_id(), workflow=ids, now=workflow.now())


def _watching(attempt: Attempt) -> ActivityConfig:
    """A watch lasts as long as its run may; that it has ended is waited for even when it is cancelled."""
    longest = attempt.stop_at - workflow.now() + WATCH_SLACK
    return ActivityConfig(
        start_to_close_timeout=longest,
        schedule_to_close_timeout=longest + ABSENCE_MAX,
        heartbeat_timeout=HEARTBEAT_TIMEOUT,
        retry_policy=PROMPT,
        cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )


def _end_of_step(error: ActivityError | asyncio.CancelledError) -> RunEnd:
    """How an attempt ends that a step has cut short."""
    if _is_cancelled() or is_cancelled_exception(error):
        return RunEnd(EndKind.CANCELLED, workflow.now(), "the job was asked to stop")
    assert isinstance(error, ActivityError)
    return RunEnd(EndKind.FAILED, workflow.now(), brief(f"{error.activity_type}: {_message(error)}"))


def _is_cancelled() -> bool:
    return workflow.cancellation_reason() is not None


def _message(error: ActivityError) -> str:
    """The words of what went wrong in an activity."""
    return error.cause.message if isinstance(error.cause, FailureError) else str(error.cause or error)


def _refusal(message: str) -> ApplicationError:
    return ApplicationError(message, type=Refused.__name__, non_retryable=True)
