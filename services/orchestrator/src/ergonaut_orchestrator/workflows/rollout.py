"""The workflow `Rollout`: waits and chooses; all that touches the world is an activity. Contract in `ergonaut.rollouts`.

Whatever happens, the endpoint ends at its new routes or at its old ones, or as somebody else has set it meanwhile.
"""

import asyncio
import contextlib
from dataclasses import replace
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from ergonaut.errors import Refused
    from ergonaut.rollouts import ABORT_SIGNAL, ROLLOUT, RolloutInput, RolloutProgress, RolloutState
    from ergonaut.workflows import PROGRESS_QUERY, Asked
    from ergonaut_orchestrator.activities import RolloutActivities
    from ergonaut_orchestrator.domain import WorkflowIds, brief
    from ergonaut_orchestrator.domain.rollout_facts import (
        RolloutEvent,
        begun_progress,
        rollout_ended,
        rollout_started,
        watched_progress,
    )
    from ergonaut_orchestrator.domain.rollouts import (
        Endpoint,
        Figures,
        Looked,
        Next,
        RolloutSoFar,
        at_step,
        follows_alias,
        looked,
        promoted,
        rollout_going_on,
        rollout_so_far,
    )
    from ergonaut_orchestrator.service import AliasMove, RouteChange
    from ergonaut_orchestrator.workflows import steps
    from ergonaut_orchestrator.workflows.inputs import NO_INPUT, accepted
    from ergonaut_orchestrator.workflows.steps import is_cancelled, message_of, surely

FINDING = steps.step(try_for=timedelta(seconds=30), again_for=timedelta(minutes=10))
LOOKING = steps.step(try_for=timedelta(seconds=15), again_for=timedelta(seconds=30))
"""A look that fails is followed by the next one; it must not keep an abort waiting."""

CHANGING = steps.step(try_for=timedelta(minutes=5), again_for=timedelta(hours=1))
"""A version is loaded before it gets requests, which may take minutes."""

SETTLING = steps.step(try_for=timedelta(minutes=5), again_for=timedelta(days=30))
"""The last change of routes: nothing else would bring the endpoint to an end that is neither here nor there."""


@workflow.defn(name=ROLLOUT, failure_exception_types=[TypeError])
class Rollout:
    """Lets a new version take over an endpoint step by step, or takes it back."""

    def __init__(self) -> None:
        self._progress = RolloutProgress(endpoint="", model="", version=0)
        self._so_far: RolloutSoFar | None = None
        self._abort: Asked | None = None

    @workflow.query(name=PROGRESS_QUERY)
    def progress(self) -> RolloutProgress:
        """Where the rollout is."""
        return self._progress

    @workflow.signal(name=ABORT_SIGNAL)
    def abort(self, asked: Asked | None = None) -> None:
        """Take the new version back; the first who asks is named."""
        self._abort = self._abort or asked or Asked()

    @workflow.run
    async def run(self, given: RawValue = NO_INPUT) -> RolloutProgress:
        """Step by step until the new version has taken over or is taken back; answer which."""
        request = accepted(RolloutInput, given)
        self._progress = begun_progress(request)
        so_far = rollout_so_far(request) or await self._begin(request)
        self._so_far = so_far
        self._progress = watched_progress(request, so_far, None)
        try:
            last = await self._watch(request)
        except asyncio.CancelledError:
            last = Looked(Next.ROLL_BACK, self._interrupted_because())
        return await surely(self._end(request, last))

    async def _begin(self, request: RolloutInput) -> RolloutSoFar:
        """See what is replaced; nothing has been changed by then, so that what is wrong simply fails the workflow."""
        try:
            course = await workflow.execute_activity_method(RolloutActivities.find_course, request, **FINDING)
        except ActivityError as error:
            if isinstance(error.cause, ApplicationError):
                raise ApplicationError(error.cause.message, type=error.cause.type, non_retryable=True) from error
            raise
        return RolloutSoFar(course, workflow.now(), revision=course.before.revision)

    async def _watch(self, request: RolloutInput) -> Looked:
        """Set the steps one after the other and look at each, until a look says how it ends."""
        if self._at.step < 0 and (end := await self._set_step(request, 0)):
            return end
        while True:
            if because := self._interrupted_because():
                return Looked(Next.ROLL_BACK, because)
            self._begin_anew_when_long(request)
            seen = looked(request, self._at, await surely(self._look(request)), workflow.now())
            self._progress = watched_progress(request, self._at, seen)
            if seen.next is Next.GO_ON:
                if end := await self._set_step(request, self._at.step + 1):
                    return end
            elif seen.next is not Next.WAIT:
                return seen
            with contextlib.suppress(TimeoutError):
                await workflow.wait_condition(
                    lambda: bool(self._interrupted_because()), timeout=timedelta(seconds=request.look_seconds)
                )

    async def _set_step(self, request: RolloutInput, step: int) -> Looked | None:
        """Give the new version the step's share; how it ends, where that cannot be done."""
        wanted = at_step(request, self._at.course, step)
        because = f"rollout of {request.model} {request.version}: {request.steps[step]:.2%} of the requests"
        # Cancelled meanwhile, we would not know whether it was set; so it is waited for, and then taken back.
        end = await surely(self._set(request, wanted, because, CHANGING))
        if end is not None:
            return end
        self._so_far = replace(self._at, step=step, step_began_at=workflow.now())
        self._progress = watched_progress(request, self._at, None)
        if step == 0:
            await surely(self._tell(rollout_started(request, self._at, _ids())))
        return None

    async def _set(self, request: RolloutInput, wanted: Endpoint, because: str, config: Any) -> Looked | None:
        """Change the routes; how it ends, where that cannot be done."""
        at = self._at
        change = RouteChange(request.tenant, wanted, at.revision, because, at.tried)
        self._so_far = replace(at, tried=wanted)
        try:
            changed = await workflow.execute_activity_method(RolloutActivities.change_routes, change, **config)
        except ActivityError as error:
            return Looked(Next.ROLL_BACK, f"its routes could not be set: {message_of(error)}")
        if changed.overtaken_because:
            return Looked(Next.OVERTAKEN, changed.overtaken_because)
        self._so_far = replace(self._at, revision=changed.revision, tried=None)
        return None

    async def _look(self, request: RolloutInput) -> Figures | None:
        """The figures; None where the gateway is away, which is no verdict on anybody."""
        names = (request.tenant, request.endpoint)
        try:
            return await workflow.execute_activity_method(RolloutActivities.look_at_routes, args=names, **LOOKING)
        except ActivityError:
            return None

    async def _end(self, request: RolloutInput, last: Looked) -> RolloutProgress:
        """Bring the endpoint to its new or its old routes, tell which, and answer it."""
        if last.next is Next.PROMOTE:
            last = await self._promote(request, last)
        if last.next is Next.ROLL_BACK:
            last = await self._take_back(request, last)
        states = {Next.PROMOTE: RolloutState.PROMOTED, Next.OVERTAKEN: RolloutState.OVERTAKEN}
        seen = {"because": brief(last.because), "revision": self._at.revision}
        seen |= {"share": float(last.next is Next.PROMOTE), "state": states.get(last.next, RolloutState.ROLLED_BACK)}
        self._progress = self._progress.model_copy(update=seen)
        await self._tell(rollout_ended(request, self._progress, _ids(), workflow.now()))
        return self._progress

    async def _promote(self, request: RolloutInput, last: Looked) -> Looked:
        """All requests go to the new version, and the alias names it. A route that follows the alias is moved by it, so that
        no request goes to the old version in between; else the routes come first, since they are what was watched."""
        wanted = promoted(request, self._at.course)
        because = f"rollout of {request.model} {request.version}: it has taken over"
        if follows_alias(request, self._at.course):
            if moved := await self._move_alias(request):
                last = Looked(Next.OVERTAKEN, moved, last.champion, last.canary)
            return await self._set(request, wanted, because, SETTLING) or last
        if end := await self._set(request, wanted, because, SETTLING):
            return end
        if request.alias and (moved := await self._move_alias(request)):
            return replace(last, because=f"{last.because}; the alias stays as somebody set it: {moved}")
        return last

    async def _move_alias(self, request: RolloutInput) -> str:
        """Says why it did not move."""
        expected = self._at.course.alias_names
        move = AliasMove(request.tenant, request.model, request.alias, request.version, expected)
        try:
            return await workflow.execute_activity_method(RolloutActivities.move_alias, move, **SETTLING)
        except ActivityError as error:
            return message_of(error)

    async def _take_back(self, request: RolloutInput, last: Looked) -> Looked:
        """The old routes, exactly as they were. Nobody has set others: then that stands."""
        untouched = self._at.step < 0 and self._at.tried is None
        if untouched:
            return last
        because = brief(f"rollout of {request.model} {request.version}: taken back; {last.because}")
        end = await self._set(request, self._at.course.before, because, SETTLING)
        if end is not None and end.next is Next.ROLL_BACK:
            raise ApplicationError(f"{last.because}; {end.because}", type=Refused.__name__, non_retryable=True)
        return Looked(Next.OVERTAKEN, end.because, last.champion, last.canary) if end is not None else last

    async def _tell(self, event: RolloutEvent) -> None:
        """Announce a fact; a bus that is away for a day must not keep the rollout from its end."""
        activity: Any = {
            "models.rollout.started": RolloutActivities.tell_rollout_started,
            "models.rollout.promoted": RolloutActivities.tell_rollout_promoted,
            "models.rollout.reverted": RolloutActivities.tell_rollout_reverted,
        }[event.TYPE]
        try:
            await workflow.execute_activity_method(activity, event, **steps.TELLING)
        except ActivityError as error:
            workflow.logger.error("%s is not told: %s", event.TYPE, message_of(error))

    def _begin_anew_when_long(self, request: RolloutInput) -> None:
        """Go on in a new history: Temporal ends a workflow whose own has grown beyond its bounds."""
        if workflow.info().is_continue_as_new_suggested():
            workflow.continue_as_new(rollout_going_on(request, self._at))

    def _interrupted_because(self) -> str:
        """Why it is to be taken back without a look; empty where nobody asked for that."""
        if is_cancelled():
            return "the rollout was cancelled"
        return f"aborted: {self._abort.because or 'somebody asked for it'}" if self._abort else ""

    @property
    def _at(self) -> RolloutSoFar:
        assert self._so_far is not None, "it has begun"
        return self._so_far


def _ids() -> WorkflowIds:
    """The ids by which facts are told once, also over several histories."""
    info = workflow.info()
    return WorkflowIds(info.workflow_id, info.first_execution_run_id)
