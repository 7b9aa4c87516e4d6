"""The workflow `Serving`: keeps as many replicas of the gateway as are wanted. It waits and chooses; each replica is a `RunJob`
of its own, and all else that touches the world is an activity. Contract in `ergonaut.replicas`, rules in `domain.serving`.

Replicas are abandoned children: they go on when this workflow goes on in a new history. They end because it asks them to.
"""

import asyncio
import contextlib
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from ergonaut.replicas import (
        SERVING,
        SET_REPLICAS_SIGNAL,
        ReplicasSpec,
        ServingInput,
        ServingProgress,
        replica_job_id,
    )
    from ergonaut.workflows import PROGRESS_QUERY, RUN_JOB, STOP_SIGNAL, Asked, RunJobInput, job_workflow_id
    from ergonaut_orchestrator.activities import ServingActivities
    from ergonaut_orchestrator.domain.serving import (
        Fleet,
        Moves,
        Seen,
        all_leave,
        fleet_of,
        is_settled,
        looked,
        moves,
        replica_job,
        serving_going_on,
        serving_progress,
        with_leaving,
        with_spec,
        with_started,
    )
    from ergonaut_orchestrator.workflows import steps
    from ergonaut_orchestrator.workflows.inputs import NO_INPUT, accepted
    from ergonaut_orchestrator.workflows.steps import message_of, surely

LOOKING = steps.step(try_for=timedelta(seconds=30), again_for=timedelta(minutes=2))
"""A look that fails is followed by the next one; until then nobody is replaced."""

LEAVING = steps.step(try_for=timedelta(seconds=15), again_for=timedelta(minutes=10))
CLEARING = steps.step(try_for=timedelta(seconds=15), again_for=timedelta(seconds=30))

BETWEEN_LOOKS = timedelta(seconds=5)
BETWEEN_LOOKS_AT_CHANGE = timedelta(seconds=1)
"""While replicas come or go. A look leaves a dozen events: a history holds hours of them at rest, and half an hour of change."""

STOPPED_BECAUSE = "somebody asked for it"


@workflow.defn(name=SERVING, failure_exception_types=[TypeError])
class Serving:
    """Keeps a set of replicas until it is stopped."""

    def __init__(self) -> None:
        self._name = ""
        self._known: Fleet | None = None
        self._spec: ReplicasSpec | None = None
        self._stop: Asked | None = None

    @workflow.query(name=PROGRESS_QUERY)
    def progress(self) -> ServingProgress:
        """How the set stands."""
        if self._known is None:
            return ServingProgress(name=self._name)
        because = None if self._stop is None else self._stop.because or STOPPED_BECAUSE
        fleet = self._known if self._spec is None else with_spec(self._known, self._spec)
        return serving_progress(self._name, fleet, workflow.now(), stop_because=because)

    @workflow.signal(name=SET_REPLICAS_SIGNAL)
    def set_replicas(self, spec: ReplicasSpec) -> None:
        """From now on this is kept; a set that stops goes on."""
        self._spec, self._stop = spec, None

    @workflow.signal(name=STOP_SIGNAL)
    def stop(self, asked: Asked | None = None) -> None:
        """Keep the set no longer."""
        self._stop = asked or Asked()

    @workflow.run
    async def run(self, given: RawValue = NO_INPUT) -> ServingProgress:
        """Look and do what follows, again and again, until it is stopped and all have ended; answer how it stands then."""
        request = accepted(ServingInput, given)
        self._name, self._known = request.name, fleet_of(request)
        try:
            if request.so_far is None:
                await surely(self._clear(request))
            while self._stop is None or not await surely(self._end(request)):
                self._begin_anew_when_long(request)
                await self._keep(request)
        except asyncio.CancelledError:
            self._stop = Asked(because=steps.CANCELLED_BECAUSE)
            while not await surely(self._end(request)):
                self._stop = Asked(because=steps.CANCELLED_BECAUSE)
        return self.progress()

    async def _keep(self, request: ServingInput) -> None:
        """One look, what follows from it, and a pause until the next."""
        if steps.is_cancelled():
            # It came while something was done that had to come to its end.
            raise asyncio.CancelledError
        if self._spec is not None:
            self._known, self._spec = with_spec(self._fleet, self._spec), None
        seen = await surely(self._look(request))
        if seen is not None:
            self._known = looked(self._fleet, seen, workflow.now())
            # What was begun is remembered whatever is asked meanwhile: a replica that nobody knows of would never end.
            await surely(self._do(request, moves(self._fleet, seen, workflow.now())))
        knows = seen is not None and seen.heard is not None
        hurries = knows and not self._fleet.failures and not is_settled(self._fleet, workflow.now())
        await self._pause(BETWEEN_LOOKS_AT_CHANGE if hurries else BETWEEN_LOOKS)

    async def _end(self, request: ServingInput) -> bool:
        """Let all end, and wait until they have; False where somebody wants the set kept after all."""
        while self._stop is not None:
            await self._do(request, all_leave(self._fleet, self._stop.because or STOPPED_BECAUSE))
            if (seen := await self._look(request)) is not None:
                self._known = looked(self._fleet, seen, workflow.now())
            if not self._fleet.replicas:
                await self._clear(request)
                return self._stop is not None
            await workflow.sleep(BETWEEN_LOOKS_AT_CHANGE)
        return False

    async def _look(self, request: ServingInput) -> Seen | None:
        """How all are; None where that cannot be known now."""
        job_ids = [each.job_id for each in self._fleet.replicas]
        arguments = (request.tenant, job_ids)
        try:
            return await workflow.execute_activity_method(ServingActivities.look_at_replicas, args=arguments, **LOOKING)
        except ActivityError as error:
            workflow.logger.warning("replicas of %s are not looked at: %s", self._name, message_of(error))
            return None

    async def _do(self, request: ServingInput, wanted: Moves) -> None:
        """Start and let leave; those that start come first, so that nobody waits for the others' end."""
        for _ in range(wanted.start):
            await self._start(request)
        for job_id, because in wanted.leave:
            arguments = (request.tenant, job_id)
            try:
                await workflow.execute_activity_method(ServingActivities.let_replica_leave, args=arguments, **LEAVING)
            except ActivityError as error:
                workflow.logger.error("%s is not asked to leave: %s", job_id, message_of(error))
            else:
                self._known = with_leaving(self._fleet, job_id, because, workflow.now())

    async def _start(self, request: ServingInput) -> None:
        """A job like any other: placed, leased, held to budgets, accounted for; but its program is the gateway."""
        now = workflow.now()
        job_id = replica_job_id(request.name, now, workflow.random().getrandbits(80))
        job = RunJobInput(
            job=replica_job(self._fleet, now), tenant=request.tenant, job_id=job_id, replica_of=request.name
        )
        self._known = with_started(self._fleet, job_id, now)
        await workflow.start_child_workflow(
            RUN_JOB,
            job,
            id=job_workflow_id(request.tenant, job_id),
            parent_close_policy=workflow.ParentClosePolicy.ABANDON,
        )

    async def _clear(self, request: ServingInput) -> None:
        """Let those end that a workflow of this id had started which was terminated."""
        arguments = (request.tenant, request.name, [each.job_id for each in self._fleet.replicas])
        try:
            await workflow.execute_activity_method(ServingActivities.let_others_leave, args=arguments, **CLEARING)
        except ActivityError as error:
            workflow.logger.warning("earlier replicas of %s are not looked for: %s", self._name, message_of(error))

    async def _pause(self, longest: timedelta) -> None:
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(lambda: self._spec is not None or self._stop is not None, timeout=longest)

    def _begin_anew_when_long(self, request: ServingInput) -> None:
        """Go on in a new history: Temporal ends a workflow whose own has grown beyond its bounds."""
        if workflow.info().is_continue_as_new_suggested() and self._spec is None and not steps.is_cancelled():
            workflow.continue_as_new(serving_going_on(request, self._fleet))

    @property
    def _fleet(self) -> Fleet:
        assert self._known is not None, "it has begun"
        return self._known
