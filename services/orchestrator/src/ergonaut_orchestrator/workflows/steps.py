"""The steps of a job's workflow: for how long each is tried, and what becomes of one that fails."""

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, is_cancelled_exception
from temporalio.workflow import ActivityCancellationType, ActivityConfig

from ergonaut.errors import Refused
from ergonaut.jobs import Plan
from ergonaut.workflows import RunJobInput
from ergonaut_orchestrator.activities import Activities
from ergonaut_orchestrator.domain import (
    Attempt,
    Collected,
    Ending,
    EndKind,
    Lease,
    RunEnd,
    Saved,
    StopReason,
    brief,
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
"""A step whose process has died is taken up again after this; every step beats each second or two. Workers that are told
another time put theirs in its place."""


def step(*, try_for: timedelta, again_for: timedelta) -> ActivityConfig:
    """How long one try at a step may take, and for how long it is tried again."""
    return ActivityConfig(
        start_to_close_timeout=try_for,
        schedule_to_close_timeout=again_for,
        heartbeat_timeout=HEARTBEAT_TIMEOUT,
        retry_policy=PATIENT,
    )


PLACING = step(try_for=timedelta(seconds=30), again_for=timedelta(hours=1))
PROVISIONING = step(try_for=timedelta(minutes=10), again_for=timedelta(hours=1))
STARTING = step(try_for=timedelta(minutes=1), again_for=timedelta(hours=1))
COLLECTING = step(try_for=timedelta(hours=1), again_for=ABSENCE_MAX)
TEARING_DOWN = step(try_for=timedelta(minutes=30), again_for=ABSENCE_MAX)
TELLING = step(try_for=timedelta(seconds=30), again_for=ABSENCE_MAX)

ASKING = step(try_for=timedelta(seconds=30), again_for=timedelta(hours=1))
DROPPING = step(try_for=timedelta(minutes=1), again_for=ABSENCE_MAX)

WATCH_SLACK = timedelta(minutes=20)
"""On top of the run's own bound, for its program to be stopped; the bound itself is kept by the watch."""


async def place(request: RunJobInput) -> Plan:
    """The scheduler's plan; an input that it refuses fails the workflow as one that we refuse does."""
    try:
        return await workflow.execute_activity_method(Activities.place, request, **PLACING)
    except ActivityError as error:
        if isinstance(error.cause, ApplicationError) and error.cause.type == Refused.__name__:
            raise refusal(message_of(error)) from error
        raise


async def place_again(request: RunJobInput) -> Plan:
    """The scheduler's plan for a job that has been paused: nothing that is in the way now ends it."""
    try:
        return await workflow.execute_activity_method(Activities.place, request, **PLACING)
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise
        return Plan(refused_because=brief(message_of(error)))


async def watch(attempt: Attempt) -> RunEnd:
    """Stay with the program until it has ended. A watch lasts as long as its run may; that it has ended is waited for even
    when it is cancelled."""
    longest = attempt.stop_at - workflow.now() + WATCH_SLACK
    config = ActivityConfig(
        start_to_close_timeout=longest,
        schedule_to_close_timeout=longest + ABSENCE_MAX,
        heartbeat_timeout=HEARTBEAT_TIMEOUT,
        retry_policy=PROMPT,
        cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )
    return await workflow.execute_activity_method(Activities.watch, attempt, **config)


async def ask_to_stop(lease: Lease, reason: StopReason) -> None:
    """Let a wish reach the program; one that cannot be reached for long has ended, or ends when its lease lapses."""
    try:
        await workflow.execute_activity_method(Activities.ask_to_stop, args=(lease, reason), **ASKING)
    except ActivityError as error:
        workflow.logger.error("%s is not asked to stop: %s", lease.run_id, message_of(error))


async def collect(attempt: Attempt, end: RunEnd) -> tuple[RunEnd, Collected]:
    """Keep the run's files; a success whose files cannot be kept is none."""
    try:
        return end, await workflow.execute_activity_method(Activities.collect, attempt, **COLLECTING)
    except ActivityError as error:
        return without_files(end), Collected(because=f"artifacts: could not be kept: {message_of(error)}")


async def save(attempt: Attempt) -> Saved:
    """Keep the checkpoint of an interrupted run; where that cannot be done in a day, the one before it stands."""
    try:
        return await workflow.execute_activity_method(Activities.save, attempt, **COLLECTING)
    except ActivityError as error:
        return Saved(because=f"the checkpoint could not be kept: {message_of(error)}")


async def drop_checkpoint(tenant: str, checkpoint: str) -> None:
    """Keep a checkpoint no longer; one that cannot be dropped in a day is in nobody's way but the disk's."""
    try:
        await workflow.execute_activity_method(Activities.drop_checkpoint, args=(tenant, checkpoint), **DROPPING)
    except ActivityError as error:
        workflow.logger.error("%s is not dropped: %s", checkpoint, message_of(error))


async def tear_down(attempt: Attempt, end: RunEnd) -> None:
    """Give the machine back; what cannot be given back in a day is left to the orchestrator's search for orphans."""
    try:
        arguments = (attempt.lease, f"the run {end.kind}")
        await workflow.execute_activity_method(Activities.tear_down, args=arguments, **TEARING_DOWN)
    except ActivityError as error:
        workflow.logger.error("lease %s is not torn down: %s", attempt.lease.lease_id, message_of(error))


async def tell(ending: Ending) -> None:
    """Announce an end; a bus that is away for a day must not keep the workflow from answering."""
    try:
        await workflow.execute_activity_method(Activities.tell_ended, ending, **TELLING)
    except ActivityError as error:
        workflow.logger.error("the end of %s is not told: %s", ending.run_id, message_of(error))


async def surely(work: Coroutine[Any, Any, T]) -> T:
    """Do something to its end, even when the workflow is cancelled meanwhile."""
    task = asyncio.create_task(work)
    while True:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise


def end_of_step(error: ActivityError | asyncio.CancelledError) -> RunEnd:
    """How an attempt ends that a step has cut short."""
    if is_cancelled() or is_cancelled_exception(error):
        return RunEnd(EndKind.CANCELLED, workflow.now(), CANCELLED_BECAUSE)
    assert isinstance(error, ActivityError)
    return RunEnd(EndKind.FAILED, workflow.now(), brief(f"{error.activity_type}: {message_of(error)}"))


CANCELLED_BECAUSE = "the job was asked to stop"


def is_cancelled() -> bool:
    """Whether somebody has cancelled the workflow."""
    return workflow.cancellation_reason() is not None


def message_of(error: ActivityError) -> str:
    """The words of what went wrong in an activity."""
    return error.cause.message if isinstance(error.cause, FailureError) else str(error.cause or error)


def refusal(message: str) -> ApplicationError:
    """What fails the workflow at once for a wrong input."""
    return ApplicationError(message, type=Refused.__name__, non_retryable=True)
