"""The workflow `Retraining`: waits and chooses; all that touches the world is an activity or a workflow of its own. Contract in
`ergonaut.retraining`."""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ActivityError, ChildWorkflowError, FailureError, WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from ergonaut.errors import Refused
    from ergonaut.retraining import (
        DRIFTED_SIGNAL,
        RETRAINING,
        SET_RECIPE_SIGNAL,
        TRAIN_NOW_SIGNAL,
        Drifted,
        Outcome,
        Recipe,
        RetrainingInput,
        RetrainingProgress,
        TrainingState,
    )
    from ergonaut.rollouts import CHAMPION, ROLLOUT, RolloutInput, RolloutProgress, RolloutState, rollout_workflow_id
    from ergonaut.workflows import (
        PAUSE_SIGNAL,
        PROGRESS_QUERY,
        RESUME_SIGNAL,
        RUN_JOB,
        Asked,
        RunJobInput,
        RunJobResult,
        job_workflow_id,
    )
    from ergonaut_orchestrator.activities import RetrainingActivities, RolloutActivities
    from ergonaut_orchestrator.domain import brief
    from ergonaut_orchestrator.domain.comparing import verdict
    from ergonaut_orchestrator.domain.retraining import (
        Plans,
        Wanted,
        artifact_of,
        begun,
        due,
        ended,
        next_at,
        plans_of,
        retraining_going_on,
        training_job,
        training_job_id,
        with_drift,
        with_hand,
        with_pause,
        with_recipe,
        with_resume,
        without_old_drift,
    )
    from ergonaut_orchestrator.domain.retraining_facts import retraining_finished
    from ergonaut_orchestrator.domain.schedules import check_schedule
    from ergonaut_orchestrator.domain.trials import Deployed, Trained, Trial, missing_file
    from ergonaut_orchestrator.service import AliasMove
    from ergonaut_orchestrator.workflows import steps
    from ergonaut_orchestrator.workflows.inputs import NO_INPUT, accepted
    from ergonaut_orchestrator.workflows.steps import message_of, surely

DEPLOYING = steps.step(try_for=timedelta(minutes=15), again_for=steps.ABSENCE_MAX)
VALIDATING = steps.step(try_for=timedelta(hours=1), again_for=steps.ABSENCE_MAX)
ASKING = steps.step(try_for=timedelta(minutes=5), again_for=steps.ABSENCE_MAX)

OLD_DRIFT = "old-drift"
"""Marks histories in which drift of a version is forgotten once its successor has taken over; earlier ones trained once more."""

TRAININGS_MAX = 20
"""Trainings in one history: each leaves some fifty events in it, beside the signals that it heard."""


class _Ended(Exception):
    """A training has come to its end, in this state and for this reason."""

    def __init__(self, state: TrainingState, because: str) -> None:
        super().__init__(because)
        self.state = state


@workflow.defn(name=RETRAINING, failure_exception_types=[TypeError])
class Retraining:
    """Trains a model again when that is wanted, and puts the new version to use where it is better. One training at a time."""

    def __init__(self) -> None:
        self._recipe: Recipe | None = None
        self._plans: Plans | None = None
        self._early: list[Callable[[], None]] = []
        self._current: Outcome | None = None
        self._model = ""

    @workflow.query(name=PROGRESS_QUERY)
    def progress(self) -> RetrainingProgress:
        """What it does, when it trains next, and what came of the last trainings."""
        if self._plans is None or self._recipe is None:
            return RetrainingProgress(model=self._model)
        paused = self._plans.paused_because
        state = TrainingState.WAITING if paused is None else TrainingState.PAUSED
        return RetrainingProgress(
            model=self._model,
            state=self._current.state if self._current else state,
            because=self._current.because if self._current else (paused or ""),
            next_at=next_at(self._plans, self._recipe, workflow.now()),
            current=self._current,
            outcomes=self._plans.outcomes,
            recipe=self._recipe,
        )

    @workflow.signal(name=DRIFTED_SIGNAL)
    def drifted(self, drifted: Drifted | None = None) -> None:
        """The model drifts, or got worse."""
        self._hear(lambda: self._change(with_drift(self._known, self._how, drifted or Drifted())))

    @workflow.signal(name=TRAIN_NOW_SIGNAL)
    def train_now(self, asked: Asked | None = None) -> None:
        """Somebody wants it trained now."""
        self._hear(lambda: self._change(with_hand(self._known, (asked or Asked()).because)))

    @workflow.signal(name=PAUSE_SIGNAL)
    def pause(self, asked: Asked | None = None) -> None:
        """Train no more, but by hand; a training under way goes on."""
        self._hear(lambda: self._change(with_pause(self._known, (asked or Asked()).because)))

    @workflow.signal(name=RESUME_SIGNAL)
    def resume(self, asked: Asked | None = None) -> None:
        """Train again when that is wanted."""
        workflow.logger.info("resumed: %s", (asked or Asked()).because)
        self._hear(lambda: self._change(with_resume(self._known, workflow.now())))

    @workflow.signal(name=SET_RECIPE_SIGNAL)
    def set_recipe(self, recipe: Recipe) -> None:
        """From the next training on, this is how; one whose schedule cannot be followed is not heard."""

        def change() -> None:
            try:
                check_schedule(recipe.when)
            except Refused as error:
                workflow.logger.error("the recipe before stays: %s", error)
                return
            self._recipe = recipe
            self._change(with_recipe(self._known, workflow.now()))

        self._hear(change)

    @workflow.run
    async def run(self, given: RawValue = NO_INPUT) -> None:
        """Wait and train, until somebody removes it."""
        request = _accepted(given)
        self._model, self._recipe, self._plans = request.model, request.recipe, plans_of(request, workflow.now())
        for change in self._early:
            change()
        trainings = 0
        while True:
            if trainings >= TRAININGS_MAX or workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(retraining_going_on(request, self._how, self._known))
            await self._until_due()
            if wanted := due(self._known, self._how, workflow.now()):
                trainings += 1
                await self._train(request, wanted)

    async def _until_due(self) -> None:
        """Until it is time, or somebody changed when that is."""
        at = next_at(self._known, self._how, workflow.now())
        was = (self._plans, self._recipe)
        wait = None if at is None else max((at - workflow.now()).total_seconds(), 0.0)
        if wait == 0.0:
            return
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(lambda: (self._plans, self._recipe) != was, timeout=wait)

    async def _train(self, request: RetrainingInput, wanted: Wanted) -> None:
        """One training from its job to its end, which is told whatever it is."""
        now, recipe = workflow.now(), self._how
        self._plans = begun(self._known, now)
        self._current = Outcome(
            trigger=wanted.trigger,
            state=TrainingState.TRAINING,
            job_id=training_job_id(now, workflow.random().getrandbits(80)),
            wanted_because=wanted.because,
            began_at=now,
        )
        try:
            await self._bring_through(request, recipe)
        except _Ended as end:
            self._now(state=end.state, because=brief(str(end)))
        except (asyncio.CancelledError, FailureError) as error:
            state = TrainingState.CANCELLED if steps.is_cancelled() else TrainingState.FAILED
            self._now(state=state, because=brief(_words_of(error)))
        await surely(self._end(request))
        if steps.is_cancelled():
            # A job that is cancelled answers as one that has ended, and so might a training: nobody wants another.
            raise asyncio.CancelledError

    async def _bring_through(self, request: RetrainingInput, recipe: Recipe) -> None:
        """Train, deploy beside the champion, compare, put to use; ends by raising how it ended."""
        result = await self._run_job(request, recipe)
        deployed, trial = await self._deploy(request, recipe, result)
        self._now(
            state=TrainingState.VALIDATING, challenger_version=deployed.challenger, champion_version=deployed.champion
        )
        if deployed.challenger == deployed.champion:
            raise _Ended(TrainingState.TURNED_DOWN, "the training made the very file that is served")
        seen = await workflow.execute_activity_method(RetrainingActivities.validate_challenger, trial, **VALIDATING)
        is_good, because = verdict(recipe.judging, seen)
        self._now(compared=seen, because=brief(because))
        if not is_good:
            raise _Ended(TrainingState.TURNED_DOWN, because)
        self._now(state=TrainingState.ROLLING_OUT)
        if recipe.rollout is None or deployed.champion == 0:
            await self._take_over_at_once(request, deployed, because)
        else:
            await self._roll_out(request, recipe, deployed, because)

    async def _run_job(self, request: RetrainingInput, recipe: Recipe) -> RunJobResult:
        """The training as a job like any other: placed in a cheap and clean hour, held to its budget, accounted for."""
        assert self._current is not None, "a training is under way"
        job = RunJobInput(job=training_job(recipe, workflow.now()), tenant=request.tenant, job_id=self._current.job_id)
        result: RunJobResult = await workflow.execute_child_workflow(
            RUN_JOB,
            job,
            id=job_workflow_id(request.tenant, job.job_id),
            result_type=RunJobResult,
            parent_close_policy=workflow.ParentClosePolicy.REQUEST_CANCEL,
            cancellation_type=workflow.ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
        )
        self._now(run_id=result.run_id)
        if result.state != "succeeded":
            state = TrainingState.CANCELLED if result.state == "cancelled" else TrainingState.FAILED
            raise _Ended(state, f"the training {result.state}: {result.because}")
        return result

    async def _deploy(self, request: RetrainingInput, recipe: Recipe, result: RunJobResult) -> tuple[Deployed, Trial]:
        """The new version beside the champion, and the trial that both are put to."""
        files, named = result.artifacts, recipe.artifacts
        model_file, rows_file = artifact_of(files, named.model), artifact_of(files, named.validation)
        if missing := missing_file(named, model_file=model_file, validation_file=rows_file):
            raise _Ended(TrainingState.FAILED, missing)
        signature_file = artifact_of(files, named.signature) if named.signature else ""
        trained = Trained(request.tenant, request.model, result.run_id, model_file, signature_file)
        deployed = await workflow.execute_activity_method(RetrainingActivities.deploy_challenger, trained, **DEPLOYING)
        return deployed, Trial(request.tenant, request.model, deployed, rows_file, recipe.judging)

    async def _roll_out(self, request: RetrainingInput, recipe: Recipe, deployed: Deployed, because: str) -> None:
        """A canary, step by step; the endpoint has one rollout at a time."""
        assert recipe.rollout is not None, "there is an endpoint"
        rollout = RolloutInput(
            tenant=request.tenant,
            model=request.model,
            version=deployed.challenger,
            because=brief(because)[:1024],
            **dict(recipe.rollout),
        )
        try:
            end: RolloutProgress = await workflow.execute_child_workflow(
                ROLLOUT,
                rollout,
                id=rollout_workflow_id(request.tenant, rollout.endpoint),
                result_type=RolloutProgress,
                parent_close_policy=workflow.ParentClosePolicy.REQUEST_CANCEL,
                cancellation_type=workflow.ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
            )
        except WorkflowAlreadyStartedError as error:
            raise _Ended(TrainingState.FAILED, f"another rollout of {rollout.endpoint} is under way") from error
        state = TrainingState.PROMOTED if end.state is RolloutState.PROMOTED else TrainingState.ROLLED_BACK
        raise _Ended(state, f"{because}; {end.state}: {end.because}")

    async def _take_over_at_once(self, request: RetrainingInput, deployed: Deployed, because: str) -> None:
        """The new version is what is served by default from now on; unless somebody else has changed that meanwhile."""
        move = AliasMove(request.tenant, request.model, CHAMPION, deployed.challenger, deployed.champion)
        moved = await workflow.execute_activity_method(RolloutActivities.move_alias, move, **ASKING)
        if moved:
            raise _Ended(TrainingState.ROLLED_BACK, f"{because}; {moved}")
        raise _Ended(TrainingState.PROMOTED, because)

    async def _end(self, request: RetrainingInput) -> None:
        """Take the challenger's alias away, tell the end and remember it."""
        self._now(ended_at=workflow.now())
        outcome = self._current
        assert outcome is not None, "a training is under way"
        with contextlib.suppress(ActivityError):
            if outcome.challenger_version:
                arguments: Any = (request.tenant, request.model, outcome.challenger_version)
                await workflow.execute_activity_method(RetrainingActivities.turn_down, args=arguments, **ASKING)
        with contextlib.suppress(ActivityError):
            event = retraining_finished(request.tenant, request.model, outcome)
            await workflow.execute_activity_method(
                RetrainingActivities.tell_retraining_finished, event, **steps.TELLING
            )
        self._plans, self._current = ended(self._known, outcome, workflow.now()), None
        if workflow.patched(OLD_DRIFT):
            self._plans = without_old_drift(self._plans)

    def _hear(self, change: Callable[[], None]) -> None:
        """A signal may come before `run` has begun."""
        if self._plans is None:
            self._early.append(change)
        else:
            change()

    def _change(self, plans: Plans) -> None:
        self._plans = plans

    def _now(self, **more: Any) -> None:
        assert self._current is not None, "a training is under way"
        self._current = self._current.model_copy(update=more)

    @property
    def _known(self) -> Plans:
        assert self._plans is not None, "it has begun"
        return self._plans

    @property
    def _how(self) -> Recipe:
        assert self._recipe is not None, "it has begun"
        return self._recipe


def _accepted(given: RawValue) -> RetrainingInput:
    """The input, or the workflow's immediate failure."""
    request = accepted(RetrainingInput, given)
    try:
        check_schedule(request.recipe.when)
    except Refused as error:
        raise steps.refusal(str(error)) from error
    return request


def _words_of(error: BaseException) -> str:
    """What went wrong in a step, in the words of whoever it went wrong for."""
    if isinstance(error, ActivityError):
        return message_of(error)
    if isinstance(error, ChildWorkflowError) and isinstance(error.cause, FailureError):
        return f"{error.workflow_type}: {error.cause.message}"
    return str(error) or steps.CANCELLED_BECAUSE
