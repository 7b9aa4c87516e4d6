"""The workflow `RunJob`: waits and chooses; all that touches the world is an activity. Contract in `ergonaut.workflows`."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from ergonaut.errors import Refused
    from ergonaut.jobs import Placement, Plan
    from ergonaut.workflows import (
        PAUSE_SIGNAL,
        PROGRESS_QUERY,
        RESUME_SIGNAL,
        RUN_JOB,
        STOP_SIGNAL,
        Asked,
        JobProgress,
        JobStep,
        RunJobInput,
        RunJobResult,
    )
    from ergonaut_orchestrator.activities import Activities
    from ergonaut_orchestrator.domain import (
        RESUME_RETRY_MIN,
        Attempt,
        Collected,
        Ending,
        EndKind,
        RunEnd,
        SoFar,
        StopReason,
        Wishes,
        WorkflowIds,
        accepted_request,
        another_follows,
        brief,
        ended_with,
        final_end,
        going_on,
        new_attempt,
        new_run_id,
        result_of,
        so_far_of,
        with_time_from,
    )
    from ergonaut_orchestrator.domain.replicas import check_replica
    from ergonaut_orchestrator.workflows import steps
    from ergonaut_orchestrator.workflows.inputs import NO_INPUT
    from ergonaut_orchestrator.workflows.steps import is_cancelled, surely

CHECKPOINTS = "checkpoints"
"""Marks histories in which interrupted attempts save a checkpoint; those that began before it do not."""

RESUME_RETRY_MAX = timedelta(hours=1)
"""Prices and forecasts change by the hour; no forecast is told sooner."""

Wish = Callable[[Wishes, Asked], Wishes]
"""What a signal changes."""

SOMEBODY = Asked()
"""Who asks by a signal without any input."""


# A wrong number of inputs is a TypeError before our first line: it too must fail the workflow at once, not be tried for ever.
@workflow.defn(name=RUN_JOB, failure_exception_types=[TypeError])
class RunJob:
    """Brings one job through its life."""

    def __init__(self) -> None:
        self._so_far = SoFar()
        self._early: list[tuple[Wish, Asked]] = []
        self._progress = JobProgress(job_id="", step=JobStep.PLACING)

    @workflow.query(name=PROGRESS_QUERY)
    def progress(self) -> JobProgress:
        """Where the job is."""
        return self._progress

    @workflow.signal(name=PAUSE_SIGNAL)
    def pause(self, asked: Asked | None = None) -> None:
        """Save a checkpoint, give the machine back, wait."""
        self._hear(Wishes.with_pause, asked or SOMEBODY)

    @workflow.signal(name=RESUME_SIGNAL)
    def resume(self, asked: Asked | None = None) -> None:
        """Go on."""
        self._hear(Wishes.with_resume, asked or SOMEBODY)

    @workflow.signal(name=STOP_SIGNAL)
    def stop(self, asked: Asked | None = None) -> None:
        """End for good."""
        self._hear(Wishes.with_stop, asked or SOMEBODY)

    @workflow.run
    async def run(self, given: RawValue = NO_INPUT) -> RunJobResult:
        """Go on, step by step, until the job has ended; answer how."""
        request = _accepted(given)
        self._remember(so_far_of(given.payload.data))
        self._now_at(JobStep.PLACING, job_id=request.job_id)
        try:
            result = None
            while result is None:
                self._begin_anew_when_long(request)
                result = await self._go_on(request)
            return result
        except (ActivityError, asyncio.CancelledError) as error:
            return await self._end_between_runs(request, steps.end_of_step(error))

    def _hear(self, wish: Wish, asked: Asked) -> None:
        """Take in what is asked, which may come before `run` has begun."""
        self._so_far.wishes = wish(self._so_far.wishes, asked)
        if not self._progress.job_id:
            self._early.append((wish, asked))

    def _remember(self, so_far: SoFar) -> None:
        """Go on from there; what was asked between two histories counts on top."""
        for wish, asked in self._early:
            so_far.wishes = wish(so_far.wishes, asked)
        self._so_far = so_far
        self._early.clear()

    def _begin_anew_when_long(self, request: RunJobInput) -> None:
        """Between two attempts, go on in a new history: Temporal ends a workflow whose own has grown beyond its bounds."""
        if workflow.info().is_continue_as_new_suggested() and not is_cancelled():
            workflow.continue_as_new(going_on(request, self._so_far))

    async def _go_on(self, request: RunJobInput) -> RunJobResult | None:
        """One step further: stay paused, find a place, or bring an attempt through; the result once the job has ended."""
        if because := self._stopped_because():
            return await self._end_between_runs(request, RunEnd(EndKind.CANCELLED, workflow.now(), because))
        if hold := self._so_far.wishes.hold:
            await self._stay_paused(request, hold)
            return None
        self._so_far.pause_is_told = False
        if self._so_far.placement is None:
            return await self._find_place(request)
        self._now_at(JobStep.WAITING)
        await self._until(self._so_far.placement.starts_at)
        return None if self._must_halt() else await self._attempt(request, self._so_far.placement)

    async def _find_place(self, request: RunJobInput) -> RunJobResult | None:
        """Ask where and when; a first refusal ends the job, one on resuming is asked about again later."""
        if not self._so_far.has_paused:
            plan = await self._unless_halted(steps.place(request))
            if plan is not None and plan.chosen is None:
                return self._refused(request, plan)
        elif request.job.deadline is not None and request.job.deadline <= workflow.now():
            end = RunEnd(EndKind.FAILED, workflow.now(), "its deadline passed while it was paused")
            return await self._end_between_runs(request, end)
        else:
            plan = await self._unless_halted(steps.place_again(request))
            if plan is not None and plan.chosen is None:
                await self._wait_to_go_on(plan.refused_because)
        if plan is not None and plan.chosen is not None:
            self._so_far.placement, self._so_far.retry_after = plan.chosen, RESUME_RETRY_MIN
        return None

    async def _stay_paused(self, request: RunJobInput, hold: Asked) -> None:
        """Durably: nothing of ours needs to run, and no machine is held, until nobody wants the job paused any more."""
        if not self._so_far.pause_is_told:
            end = RunEnd(EndKind.PAUSED, workflow.now(), hold.because)
            await self._tell_paused(request, _new_run_id(), end, hold)
        self._so_far.placement, self._so_far.has_paused = None, True
        self._now_at(JobStep.PAUSED, because=hold.because)
        await workflow.wait_condition(lambda: self._so_far.wishes.hold is None or self._stopped_because() != "")
        self._now_at(JobStep.PLACING, because="")

    async def _wait_to_go_on(self, because: str) -> None:
        """Until it is time to ask for a place again, or somebody asks for it now."""
        self._now_at(JobStep.PAUSED, because=brief(f"resumed, but cannot go on yet: {because}"))
        resumed_count = self._so_far.wishes.resumed_count
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: self._must_halt() or self._so_far.wishes.resumed_count != resumed_count,
                timeout=self._so_far.retry_after,
            )
        self._so_far.retry_after = min(2 * self._so_far.retry_after, RESUME_RETRY_MAX)

    async def _attempt(self, request: RunJobInput, placement: Placement) -> RunJobResult | None:
        """Bring an attempt through, and see what follows it: a pause, another attempt, or the end."""
        self._so_far.runs_begun += 1
        attempt = replace(_new_attempt(request, placement, self._so_far.runs_begun), checkpoint=self._so_far.checkpoint)
        end, collected = await self._bring_through(attempt)
        run_id, stopped, hold = attempt.lease.run_id, self._stopped_because(), self._so_far.wishes.hold
        interrupted = end.kind in {EndKind.PAUSED, EndKind.PREEMPTED}
        self._so_far.interrupted = (run_id, end) if interrupted else None
        if not stopped and (end.kind is EndKind.PAUSED or (interrupted and hold)):
            self._so_far.placement, self._so_far.has_paused = None, True
            await self._tell_paused(request, run_id, end, hold)
            return None
        self._so_far.tries += 1
        if not stopped and another_follows(end, self._so_far.tries, request.job):
            await surely(steps.tell(Ending(request.tenant, request.job_id, run_id, end)))
            return None
        return await self._ended(
            request, run_id, final_end(end, self._so_far.tries, stopped_because=stopped), collected
        )

    async def _bring_through(self, attempt: Attempt) -> tuple[RunEnd, Collected]:
        """One attempt, from getting a machine to giving it back, which happens whatever else does."""
        self._now_at(JobStep.PROVISIONING, run_id=attempt.lease.run_id, attempt=attempt.number)
        collected = Collected()
        try:
            end = await self._run_on_machine(attempt)
            if end.kind not in {EndKind.PREEMPTED, EndKind.PAUSED}:
                self._now_at(JobStep.COLLECTING)
                end, collected = await surely(steps.collect(attempt, end))
            elif end.started_at is not None and workflow.patched(CHECKPOINTS):
                self._now_at(JobStep.COLLECTING)
                end = await surely(self._save(attempt, end))
        except (ActivityError, asyncio.CancelledError) as error:
            end = steps.end_of_step(error)
        self._now_at(JobStep.TEARING_DOWN)
        await surely(steps.tear_down(attempt, end))
        return end, collected

    async def _run_on_machine(self, attempt: Attempt) -> RunEnd:
        """Get the machine, and run the program on it unless somebody wants otherwise by then."""
        await workflow.execute_activity_method(Activities.provision, attempt, **steps.PROVISIONING)
        if asked := self._so_far.wishes.interrupt:
            return RunEnd(EndKind.PAUSED, workflow.now(), asked.because)
        await workflow.execute_activity_method(Activities.start, attempt, **steps.STARTING)
        # Getting here may have taken hours of somebody's absence; a watch without time left could not even be asked for.
        attempt = with_time_from(attempt, workflow.now())
        self._now_at(JobStep.RUNNING)
        asking = asyncio.create_task(self._pass_wishes_on(attempt))
        try:
            return await steps.watch(attempt)
        finally:
            asking.cancel()

    async def _pass_wishes_on(self, attempt: Attempt) -> None:
        """Let a wish reach the program that is watched, sooner than the watch's next look would."""
        await workflow.wait_condition(lambda: self._so_far.wishes.interrupt is not None)
        if self._so_far.wishes.stop is None:
            await steps.ask_to_stop(attempt.lease, StopReason.PAUSED)
            await workflow.wait_condition(lambda: self._so_far.wishes.stop is not None)
        await steps.ask_to_stop(attempt.lease, StopReason.CANCELLED)

    async def _save(self, attempt: Attempt, end: RunEnd) -> RunEnd:
        """Keep what the attempt saved for the next one; only then is the checkpoint before it given up."""
        saved = await steps.save(attempt)
        former = self._so_far.checkpoint
        if saved.checkpoint:
            self._so_far.checkpoint = saved.checkpoint
            if former:
                await steps.drop_checkpoint(attempt.lease.tenant, former)
        return ended_with(end, Collected(because=saved.because))

    async def _tell_paused(self, request: RunJobInput, run_id: str, end: RunEnd, hold: Asked | None) -> None:
        """Tell that a run has been paused, by whom and with which checkpoint."""
        budget_id = hold.budget_id if hold else ""
        because = brief("; ".join(part for part in (hold.because if hold else "", end.because) if part))
        told = replace(end, kind=EndKind.PAUSED, because=because)
        ending = Ending(
            request.tenant, request.job_id, run_id, told, budget_id=budget_id, checkpoint=self._so_far.checkpoint
        )
        await surely(steps.tell(ending))
        self._so_far.pause_is_told = True

    async def _end_between_runs(self, request: RunJobInput, end: RunEnd) -> RunJobResult:
        """The end of a job of which nothing runs: with its interrupted run, where it has one, and in that one's times."""
        if self._so_far.interrupted is None:
            return await self._ended(request, _new_run_id(), end, Collected())
        run_id, last = self._so_far.interrupted
        return await self._ended(request, run_id, replace(last, kind=end.kind, because=end.because), Collected())

    async def _ended(self, request: RunJobInput, run_id: str, end: RunEnd, collected: Collected) -> RunJobResult:
        """Tell the end, and answer it."""
        end = ended_with(end, collected)
        await surely(steps.tell(Ending(request.tenant, request.job_id, run_id, end, collected.artifacts)))
        if self._so_far.checkpoint:
            await surely(steps.drop_checkpoint(request.tenant, self._so_far.checkpoint))
        self._now_at(JobStep.ENDED, because=end.because)
        return result_of(request.job_id, run_id, end, collected.artifacts)

    def _refused(self, request: RunJobInput, plan: Plan) -> RunJobResult:
        """Nothing ran; the scheduler has told it."""
        self._now_at(JobStep.ENDED, because=brief(plan.refused_because))
        return RunJobResult(job_id=request.job_id, run_id="", state="refused", because=brief(plan.refused_because))

    async def _until(self, moment: datetime) -> None:
        """Durably: nothing of ours needs to run meanwhile."""
        if (wait := moment - workflow.now()) > timedelta(0):
            with contextlib.suppress(TimeoutError):
                await workflow.wait_condition(self._must_halt, timeout=wait)

    async def _unless_halted(self, placing: Any) -> Plan | None:
        """The plan; None where something else is wanted before it comes."""
        task: asyncio.Task[Plan] = asyncio.create_task(placing)
        try:
            await workflow.wait_condition(lambda: task.done() or self._must_halt())
        finally:
            if not task.done():
                task.cancel()
        return await task if task.done() else None

    def _must_halt(self) -> bool:
        """Whether the job must not go on as it would."""
        return is_cancelled() or self._so_far.wishes.interrupt is not None

    def _stopped_because(self) -> str:
        """Why the job is to end for good; empty where it is not."""
        if is_cancelled():
            return steps.CANCELLED_BECAUSE
        return (self._so_far.wishes.stop.because or steps.CANCELLED_BECAUSE) if self._so_far.wishes.stop else ""

    def _now_at(self, step: JobStep, **more: Any) -> None:
        self._progress = self._progress.model_copy(update={"step": step, **more})


def _accepted(given: RawValue) -> RunJobInput:
    """The input, or the workflow's immediate failure, naming the field."""
    try:
        info = workflow.info()
        request = accepted_request(given.payload.data, workflow_id=info.workflow_id, now=workflow.now())
        check_replica(request, parent_id=info.parent.workflow_id if info.parent else "")
        return request
    except Refused as error:
        raise steps.refusal(str(error)) from error


def _new_run_id() -> str:
    return new_run_id(workflow.now(), workflow.random().getrandbits(80))


def _new_attempt(request: RunJobInput, placement: Placement, number: int) -> Attempt:
    info = workflow.info()
    ids = WorkflowIds(info.workflow_id, info.run_id)
    return new_attempt(request, placement, number, run_id=_new_run_id(), workflow=ids, now=workflow.now())
