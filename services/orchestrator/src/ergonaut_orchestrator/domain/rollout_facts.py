"""What a rollout tells: its progress for whoever asks, and the events, with ids derived so that a fact told twice is one."""

from datetime import datetime, timedelta
from typing import Any

from ergonaut.events.rollouts import RolloutPromoted, RolloutReverted, RolloutStarted
from ergonaut.ids import derived_id
from ergonaut.rollouts import RolloutInput, RolloutProgress, RolloutState
from ergonaut_orchestrator.domain.attempts import WorkflowIds, brief
from ergonaut_orchestrator.domain.rollouts import Looked, RolloutSoFar

_OF_BOTH = ("endpoint", "model", "version", "champion_model", "champion_version", "champion", "canary")

RolloutEvent = RolloutStarted | RolloutPromoted | RolloutReverted


def begun_progress(request: RolloutInput) -> RolloutProgress:
    """Before the first step."""
    return RolloutProgress(
        endpoint=request.endpoint,
        model=request.model,
        version=request.version,
        steps=len(request.steps),
        because=request.because,
    )


def watched_progress(request: RolloutInput, so_far: RolloutSoFar, looked: Looked | None) -> RolloutProgress:
    """In a step, after a look or before the first one in it."""
    course = so_far.course
    progress = begun_progress(request).model_copy(
        update={
            "state": RolloutState.WATCHING,
            "step": so_far.step + 1,
            "share": request.steps[so_far.step] if so_far.step >= 0 else 0.0,
            "champion_model": course.champion_route.model,
            "champion_version": course.champion_version,
            "revision": so_far.revision,
            "started_at": so_far.started_at,
            "deadline_at": so_far.started_at + timedelta(seconds=request.deadline_seconds),
        }
    )
    if looked is None:
        return progress
    seen = {"champion": looked.champion, "canary": looked.canary, "because": brief(looked.because)}
    return progress.model_copy(update=seen)


def rollout_started(request: RolloutInput, so_far: RolloutSoFar, workflow: WorkflowIds) -> RolloutStarted:
    """The new version gets its first share."""
    course = so_far.course
    return RolloutStarted(
        event_id=_event_id(workflow, RolloutStarted.TYPE),
        tenant=request.tenant,
        occurred_at=so_far.started_at,
        endpoint=request.endpoint,
        model=request.model,
        version=request.version,
        champion_model=course.champion_route.model,
        champion_version=course.champion_version,
        shares=request.steps,
        because=request.because,
    )


def rollout_ended(
    request: RolloutInput, end: RolloutProgress, workflow: WorkflowIds, at: datetime
) -> RolloutPromoted | RolloutReverted:
    """The new version has taken over, or not."""
    common: dict[str, Any] = {"tenant": request.tenant, "occurred_at": at, "because": end.because}
    common |= {name: getattr(end, name) for name in _OF_BOTH}
    if end.state is RolloutState.PROMOTED:
        return RolloutPromoted(event_id=_event_id(workflow, RolloutPromoted.TYPE), revision=end.revision, **common)
    return RolloutReverted(
        event_id=_event_id(workflow, RolloutReverted.TYPE),
        step=end.step,
        is_overtaken=end.state is RolloutState.OVERTAKEN,
        **common,
    )


def _event_id(workflow: WorkflowIds, event_type: str) -> str:
    return derived_id("event", workflow.workflow_id, workflow.run_id, event_type)
