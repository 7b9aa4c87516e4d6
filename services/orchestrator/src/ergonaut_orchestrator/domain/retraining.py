"""When a model is trained again: what was asked for, what was found, what time it is. Pure; the workflow waits by it."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from pydantic import TypeAdapter

from ergonaut.ids import id_at
from ergonaut.jobs import JobSpec
from ergonaut.retraining import OUTCOMES_MAX, Drifted, Outcome, Recipe, RetrainingInput, TrainingState, Trigger

EVENTS_MAX = 64
"""Events remembered, so that one that comes again is not heard again; they come again within minutes if at all."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Why there shall be a training."""

    trigger: Trigger
    because: str = ""


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


def with_drift(plans: Plans, recipe: Recipe, drifted: Drifted) -> Plans:
    """The gateway found drift; the same event twice, or of a version that is no longer served, changes nothing."""
    if drifted.event_id and drifted.event_id in plans.heard:
        return plans
    heard = (*plans.heard, drifted.event_id)[-EVENTS_MAX:] if drifted.event_id else plans.heard
    plans = replace(plans, heard=heard)
    is_old = 0 < drifted.version < plans.served_version
    if not recipe.when.on_drift or is_old or plans.wanted is not None:
        return plans
    return replace(plans, wanted=Wanted(Trigger.DRIFT, drifted.because))


def with_hand(plans: Plans, because: str) -> Plans:
    """A person wants a training now; that comes before what drift wants."""
    return replace(plans, wanted=Wanted(Trigger.HAND, because))


def with_pause(plans: Plans, because: str | None) -> Plans:
    """Only by hand from now on; None is that drift and time count again."""
    return replace(plans, paused_because=because)


def next_at(plans: Plans, recipe: Recipe, now: datetime) -> datetime | None:
    """When there shall be a training, as far as is known; in the past means now, None that nothing wants one."""
    if plans.wanted is not None and plans.wanted.trigger is Trigger.HAND:
        return now
    if plans.paused_because is not None:
        return None
    times = []
    if plans.wanted is not None:
        times.append(now)
    if recipe.when.every_seconds is not None:
        times.append((plans.last_began_at or plans.began_at) + timedelta(seconds=recipe.when.every_seconds))
    if not times:
        return None
    if plans.last_ended_at is None:
        return min(times)
    return max(min(times), plans.last_ended_at + timedelta(seconds=recipe.when.cool_down_seconds))


def due(plans: Plans, recipe: Recipe, now: datetime) -> Wanted | None:
    """Why there shall be a training now; None where there shall not."""
    at = next_at(plans, recipe, now)
    if at is None or at > now:
        return None
    return plans.wanted or Wanted(Trigger.TIME, f"{recipe.when.every_seconds:g} s since the last")


def begun(plans: Plans, now: datetime) -> Plans:
    """A training begins, which is what was wanted."""
    return replace(plans, wanted=None, last_began_at=now)


def ended(plans: Plans, outcome: Outcome, now: datetime) -> Plans:
    """A training has ended."""
    served = outcome.challenger_version if outcome.state is TrainingState.PROMOTED else plans.served_version
    outcomes = (outcome, *plans.outcomes)[:OUTCOMES_MAX]
    return replace(plans, last_ended_at=now, served_version=served, outcomes=outcomes)


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
