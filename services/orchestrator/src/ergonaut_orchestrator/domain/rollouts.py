"""How a new version takes over an endpoint: which routes each step sets, and what a look at the figures leads to.

Each step is a trial of its own. Figures of steps with different weights are never added up: while the new version gets more, the
requests themselves may change, and a sum would hold one version's mornings against the other's evenings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import TypeAdapter

from ergonaut.errors import Refused
from ergonaut.rollouts import CANARY, CHAMPION, ArmFigures, RolloutInput
from ergonaut_orchestrator.domain.canary import Guard, Outcomes, Rule, Verdict, judged, split_is_off


@dataclass(frozen=True, slots=True)
class Route:
    """One way that an endpoint's requests go."""

    name: str
    model: str
    version: str
    weight: float


@dataclass(frozen=True, slots=True)
class Mirror:
    """Requests that are also sent elsewhere."""

    model: str
    version: str
    share: float


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A name that serves versions of models, at one of its revisions."""

    name: str
    routes: tuple[Route, ...]
    mirrors: tuple[Mirror, ...] = ()
    key_parameter: str = ""
    slow_milliseconds: float = 0.0
    revision: int = 0

    def is_set_as(self, other: "Endpoint") -> bool:
        """Whether both say the same of where requests go."""
        return _compared(self) == _compared(other)


def _compared(endpoint: Endpoint) -> Endpoint:
    return replace(endpoint, revision=0, routes=tuple(sorted(endpoint.routes, key=lambda route: route.name)))


@dataclass(frozen=True, slots=True)
class RouteFigures:
    """What one route did under one revision. `drawn` are the requests that were sent there by chance; `keys` the different keys
    that requests followed there, each counted by `key_counters` processes at most."""

    requests: int = 0
    drawn: int = 0
    failed: int = 0
    slow: int = 0
    labelled: int = 0
    wrong: int = 0
    keys: int = 0
    key_counters: int = 0


@dataclass(frozen=True, slots=True)
class Figures:
    """What each route of an endpoint did under a revision."""

    revision: int
    routes: Mapping[str, RouteFigures]
    is_gone: bool = False
    """Whether there is no such endpoint any more."""


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions of a model that are kept, and what its aliases name."""

    kept: tuple[int, ...]
    aliases: Mapping[str, int]
    default: int = 0
    """The one that serves who asks for none; 0 is none."""

    def number_of(self, version: str) -> int:
        """The number that a number, an alias or nothing means; 0 where it means none."""
        if not version:
            return self.default
        number = self.aliases.get(version, int(version) if version.isascii() and version.isdigit() else 0)
        return number if number in self.kept else 0


@dataclass(frozen=True, slots=True)
class Course:
    """What is replaced: the endpoint as it was, its route that loses its requests, and what that one served."""

    before: Endpoint
    champion: str
    champion_version: int
    alias_names: int
    """What the alias that is to move names until now; 0 is nothing."""

    @property
    def champion_route(self) -> Route:
        """The route as it was."""
        return next(route for route in self.before.routes if route.name == self.champion)


@dataclass(frozen=True, slots=True)
class RolloutSoFar:
    """How far a rollout has come: enough to go on in a new history."""

    course: Course
    started_at: datetime
    step: int = -1
    """The place of the step that is set, from 0; -1 before the first."""
    revision: int = 0
    """That the endpoint has since our last change of it."""
    step_began_at: datetime | None = None
    tried: Endpoint | None = None
    """What was asked to be set and may be set or not, since no answer came."""


@dataclass(frozen=True, slots=True)
class Changed:
    """What came of a change of routes: the new revision, or who was faster."""

    revision: int = 0
    overtaken_because: str = ""


class Next(StrEnum):
    """What a look leads to."""

    WAIT = "wait"
    GO_ON = "go-on"
    PROMOTE = "promote"
    ROLL_BACK = "roll-back"
    OVERTAKEN = "overtaken"


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look leads to and why, with the figures of both."""

    next: Next
    because: str
    champion: ArmFigures = field(default_factory=ArmFigures)
    canary: ArmFigures = field(default_factory=ArmFigures)


def course_of(request: RolloutInput, endpoint: Endpoint, canary: Versions, champion: Versions) -> Course:
    """What a rollout replaces. Raises Refused where the endpoint or the version does not allow one."""
    if request.version not in canary.kept:
        raise Refused(f"version {request.version} of model {request.model} is not kept", field="version")
    if any(route.name == CANARY for route in endpoint.routes):
        raise Refused(f"{endpoint.name} has a route named {CANARY} already; take it away first", field="endpoint")
    replaced = replaced_route(endpoint)
    number = champion.number_of(replaced.version)
    if (replaced.model, number) == (request.model, request.version):
        raise Refused(f"is what {endpoint.name} serves already", field="version")
    return Course(endpoint, replaced.name, number, canary.aliases.get(request.alias, 0) if request.alias else 0)


def replaced_route(endpoint: Endpoint) -> Route:
    """The route whose requests a new version would get. Raises Refused where that is not clear."""
    weighted = [route for route in endpoint.routes if route.weight > 0]
    if len(weighted) == 1:
        return weighted[0]
    named = ", ".join(route.name for route in weighted)
    raise Refused(
        f"{endpoint.name} sends requests to {named}; a new version can replace one route: give the others no weight first",
        field="endpoint",
    )


def at_step(request: RolloutInput, course: Course, step: int) -> Endpoint:
    """The endpoint in a step: the new version beside what it replaces."""
    share = request.steps[step]
    canary = Route(CANARY, request.model, str(request.version), share)
    kept = (
        replace(route, weight=(1.0 - share) if route.name == course.champion else 0.0) for route in course.before.routes
    )
    return replace(course.before, routes=(*kept, canary), revision=0)


def promoted(request: RolloutInput, course: Course) -> Endpoint:
    """The endpoint when the new version has taken over. A route that follows the alias goes on following it."""
    version = course.champion_route.version if follows_alias(request, course) else str(request.version)
    taken = (
        replace(route, model=request.model, version=version) if route.name == course.champion else route
        for route in course.before.routes
    )
    return replace(course.before, routes=tuple(taken), revision=0)


def follows_alias(request: RolloutInput, course: Course) -> bool:
    """Whether the replaced route serves whatever the alias names, so that moving the alias is what makes it serve the new one."""
    route = course.champion_route
    same_model = route.model == request.model
    names = route.version == request.alias or (not route.version and request.alias == CHAMPION)
    return bool(request.alias) and same_model and names


def looked(request: RolloutInput, so_far: RolloutSoFar, figures: Figures | None, now: datetime) -> Looked:
    """What the figures lead to; None where they could not be had."""
    assert so_far.step >= 0, "the first step has been set"
    deadline_at = so_far.started_at + timedelta(seconds=request.deadline_seconds)
    verdict = Looked(Next.WAIT, "the gateway does not tell its figures now")
    # A gateway that has not heard of our change yet tells the figures of the revision before.
    if figures is not None and not figures.is_gone and figures.revision < so_far.revision:
        verdict = Looked(Next.WAIT, "the gateway has not taken up the step's routes yet")
    elif figures is not None and figures.is_gone:
        return Looked(Next.OVERTAKEN, f"{request.endpoint} was removed meanwhile")
    elif figures is not None and figures.revision > so_far.revision:
        return Looked(Next.OVERTAKEN, f"{request.endpoint} was changed meanwhile: it has revision {figures.revision}")
    elif figures is not None:
        verdict = _weighed(request, so_far, figures, now)
    if verdict.next is Next.WAIT and now >= deadline_at:
        because = f"no verdict within {request.deadline_seconds:g} s: {verdict.because}"
        return replace(verdict, next=Next.ROLL_BACK, because=because)
    return verdict


def guards_of(request: RolloutInput, course: Course, champion: RouteFigures, canary: RouteFigures) -> Sequence[Guard]:
    """The questions that are asked; which ones is settled before the first figures come, as the rule requires."""
    asked = request.guards
    guards = [_guard("errors", champion, canary, "requests", "failed", asked.errors)]
    if asked.slow is not None and course.before.slow_milliseconds > 0:
        guards.append(_guard("slow", champion, canary, "requests", "slow", asked.slow))
    if asked.wrong is not None:
        guards.append(_guard("wrong", champion, canary, "labelled", "wrong", asked.wrong))
    return guards


def _weighed(request: RolloutInput, so_far: RolloutSoFar, figures: Figures, now: datetime) -> Looked:
    course, steps = so_far.course, len(request.steps)
    champion = figures.routes.get(course.champion, RouteFigures())
    canary = figures.routes.get(CANARY, RouteFigures())
    weights = {route.name: route.weight for route in at_step(request, course, so_far.step).routes}

    def told(what: Next, because: str) -> Looked:
        return Looked(what, because, arm_of(champion), arm_of(canary))

    # The steps share what may go wrong: whichever verdict is given in whichever step, it is wrong no more often than was asked.
    # Of an endpoint with a key two questions are asked, of keys and of what comes without one.
    error = request.rule.split_error / steps / (2 if course.before.key_parameter else 1)
    if shares := _shares_that_are_off(figures, weights, error):
        return told(Next.ROLL_BACK, f"requests are not split as set: {shares}, {request.steps[so_far.step]:.2%} should")
    rule = Rule(error=request.rule.error / steps, requests_min=request.rule.requests_min)
    judgement = judged(guards_of(request, course, champion, canary), rule)
    if judgement.verdict is Verdict.ROLL_BACK:
        return told(Next.ROLL_BACK, judgement.because)
    assert so_far.step_began_at is not None, "a step that is set has begun"
    held_seconds = (now - so_far.step_began_at).total_seconds()
    if held_seconds < request.hold_seconds:
        return told(Next.WAIT, f"held for {held_seconds:.0f} of {request.hold_seconds:g} s; {judgement.because}")
    if so_far.step == steps - 1:
        return told(Next.PROMOTE if judgement.verdict is Verdict.PROMOTE else Next.WAIT, judgement.because)
    if canary.requests < request.rule.requests_step_min:
        return told(
            Next.WAIT, f"the new version answered {canary.requests} of {request.rule.requests_step_min} requests"
        )
    return told(Next.GO_ON, judgement.because)


def _shares_that_are_off(figures: Figures, weights: Mapping[str, float], error: float) -> str:
    """What went to the new version where that is not what was set; empty where it may be."""
    drawn = {name: route.drawn for name, route in figures.routes.items()}
    if split_is_off(drawn, weights, error):
        return f"{drawn.get(CANARY, 0)} of {sum(drawn.values())} drawn requests went to the new version"
    # Requests that follow a key go where all of that key go: what is drawn, once for all of them, is the key. Several processes
    # may have counted the same one; as if each had counted all, too little is believed rather than too much.
    counters = max((route.key_counters for route in figures.routes.values()), default=0)
    keys = {name: route.keys // max(counters, 1) for name, route in figures.routes.items()}
    if split_is_off(keys, weights, error):
        return f"{keys.get(CANARY, 0)} of {sum(keys.values())} keys went to the new version"
    return ""


def arm_of(figures: RouteFigures) -> ArmFigures:
    """The figures as people and programs get them."""
    return ArmFigures(
        requests=figures.requests,
        failed=figures.failed,
        slow=figures.slow,
        labelled=figures.labelled,
        wrong=figures.wrong,
    )


def _guard(name: str, champion: RouteFigures, canary: RouteFigures, trials: str, bad: str, margin: float) -> Guard:
    return Guard(name, _outcomes(champion, trials, bad), _outcomes(canary, trials, bad), margin)


def _outcomes(figures: RouteFigures, trials: str, bad: str) -> Outcomes:
    # Gateways tell their counts one after the other, so that a bad one may be counted before its trial.
    return Outcomes(max(getattr(figures, trials), getattr(figures, bad)), getattr(figures, bad))


_SO_FAR = TypeAdapter(RolloutSoFar)


def rollout_so_far(request: RolloutInput) -> RolloutSoFar | None:
    """How far the rollout of an input has come; None for a new one."""
    return _SO_FAR.validate_python(request.so_far, strict=False) if request.so_far else None


def rollout_going_on(request: RolloutInput, so_far: RolloutSoFar) -> RolloutInput:
    """The input with which a new history goes on."""
    return request.model_copy(update={"so_far": _SO_FAR.dump_python(so_far, mode="json")})
