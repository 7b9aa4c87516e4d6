"""When a model is trained again: what was asked for, what was found, what time it is. Pure; the workflow waits by it."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from pydantic import TypeAdapter

from ergonaut.ids import id_at
from ergonaut.jobs import JobSpec
from ergonaut.retraining import OUTCOMES_MAX, Drifted, Outcome, Recipe, RetrainingInput, TrainingState, Trigger
from ergonaut_orchestrator.domain.schedules import next_scheduled

EVENTS_MAX = 64
"""Events remembered, so that one that comes again is not heard again; they come again within minutes if at all."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Why there shall be a training."""

    trigger: Trigger
    because: str = ""
    version: int = 0
    """The version that drifts; 0 is not known."""


@dataclass(frozen=True, slots=True)
class Plans:
    """What a model's retraining remembers between two trainings."""

    began_at: datetime
    """When the recipe was first set."""
    wanted: Wanted | None = None
    """By hand or by drift: the first that asked. Whoever else asks meanwhile wants the same."""
    paused_because: str | None = None
    last_began_at: datetime | None = None
    last_ended_at: datetime | None = None
    served_version: int = 0
    """The version that a training put to use last; drift of an older one is old news."""
    heard: tuple[str, ...] = ()
    outcomes: tuple[Outcome, ...] = field(default=())
    scheduled_from: datetime | None = None
    """Times of the schedule before this are past: the recipe was set then, or the pause ended."""


def with_drift(plans: Plans, recipe: Recipe, drifted: Drifted) -> Plans:
    """The gateway found drift; the same event twice, or of a version that is no longer served, changes nothing."""
    if drifted.event_id and drifted.event_id in plans.heard:
        return plans
    heard = (*plans.heard, drifted.event_id)[-EVENTS_MAX:] if drifted.event_id else plans.heard
    plans = replace(plans, heard=heard)
    is_old = 0 < drifted.version < plans.served_version
    if not recipe.when.on_drift or is_old or plans.wanted is not None:
        return plans
    return replace(plans, wanted=Wanted(Trigger.DRIFT, drifted.because, drifted.version))


def with_hand(plans: Plans, because: str) -> Plans:
    """A person wants a training now; that comes before what drift wants."""
    return replace(plans, wanted=Wanted(Trigger.HAND, because))


def with_pause(plans: Plans, because: str) -> Plans:
    """Only by hand from now on."""
    return replace(plans, paused_because=because)


def with_resume(plans: Plans, now: datetime) -> Plans:
    """Drift and time count again; what was scheduled meanwhile is left out."""
    return replace(plans, paused_because=None, scheduled_from=now)


def with_recipe(plans: Plans, now: datetime) -> Plans:
    """Another recipe: what its schedule would have had before is left out."""
    return replace(plans, scheduled_from=now)


def next_at(plans: Plans, recipe: Recipe, now: datetime) -> datetime | None:
    """When there shall be a training, as far as is known; in the past means now, None that nothing wants one."""
    if plans.wanted is not None and plans.wanted.trigger is Trigger.HAND:
        return now
    if plans.paused_because is not None:
        return None
    may_from = plans.began_at
    if plans.last_ended_at is not None:
        may_from = plans.last_ended_at + timedelta(seconds=recipe.when.cool_down_seconds)
    times = []
    if plans.wanted is not None:
        times.append(max(now, may_from))
    if recipe.when.every_seconds is not None:
        every_at = (plans.last_began_at or plans.began_at) + timedelta(seconds=recipe.when.every_seconds)
        times.append(max(every_at, may_from))
    # One that came before could be is left out, not made up for at an hour that nobody chose.
    if scheduled_at := next_scheduled(recipe.when, max(may_from, plans.scheduled_from or may_from)):
        times.append(scheduled_at)
    return min(times, default=None)


def due(plans: Plans, recipe: Recipe, now: datetime) -> Wanted | None:
    """Why there shall be a training now; None where there shall not."""
    at = next_at(plans, recipe, now)
    if at is None or at > now:
        return None
    return plans.wanted or Wanted(Trigger.TIME, _time_of(plans, recipe, now))


def _time_of(plans: Plans, recipe: Recipe, now: datetime) -> str:
    """Which time it is that has come, for people."""
    when = recipe.when
    without = recipe.model_copy(update={"when": when.model_copy(update={"every_seconds": None})})
    scheduled_at = next_at(plans, without, now)
    if when.schedule is not None and scheduled_at is not None and scheduled_at <= now:
        return f"schedule {when.schedule} ({when.time_zone})"
    return f"{when.every_seconds:g} s since the last"


def begun(plans: Plans, now: datetime) -> Plans:
    """A training begins, which is what was wanted."""
    return replace(plans, wanted=None, last_began_at=now)


def ended(plans: Plans, outcome: Outcome, now: datetime) -> Plans:
    """A training has ended."""
    served = outcome.challenger_version if outcome.state is TrainingState.PROMOTED else plans.served_version
    outcomes = (outcome, *plans.outcomes)[:OUTCOMES_MAX]
    return replace(plans, last_ended_at=now, served_version=served, outcomes=outcomes)


def without_old_drift(plans: Plans) -> Plans:
    """Drift that was found of a version while its successor was being trained wants nothing any more."""
    wanted = plans.wanted
    is_old = wanted is not None and wanted.trigger is Trigger.DRIFT and 0 < wanted.version < plans.served_version
    return replace(plans, wanted=None) if is_old else plans


def training_job(recipe: Recipe, wanted_at: datetime) -> JobSpec:
    """The job of a training: it must have ended within what the recipe gives it."""
    deadline = wanted_at + timedelta(seconds=recipe.within_seconds)
    return recipe.job.model_copy(update={"deadline": deadline})


def training_job_id(now: datetime, entropy: int) -> str:
    """A job id that no other training has."""
    return id_at("job", now, entropy)


def artifact_of(artifacts: tuple[str, ...], name: str) -> str:
    """The artifact that a run kept of a file, by the file's name; empty where it kept none."""
    return next((each for each in artifacts if each.partition("/")[2] == name), "")


_PLANS = TypeAdapter(Plans)


def plans_of(request: RetrainingInput, now: datetime) -> Plans:
    """What was remembered, or nothing yet."""
    return _PLANS.validate_python(request.so_far, strict=False) if request.so_far else Plans(now)


def retraining_going_on(request: RetrainingInput, recipe: Recipe, plans: Plans) -> RetrainingInput:
    """The input with which a new history goes on."""
    return request.model_copy(update={"recipe": recipe, "so_far": _PLANS.dump_python(plans, mode="json")})
