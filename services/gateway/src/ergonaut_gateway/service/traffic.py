"""Answers requests for an endpoint's name by one of its routes, by callbacks on the event loop. What a route is asked goes
through the same queue as if a caller had asked the model, so that batching, limits and counts hold for it."""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from ergonaut.errors import ErgonautError, NotFound, Refused, Unavailable
from ergonaut_common.clock import Clock
from ergonaut_gateway.domain.endpoints.figures import RouteFigures
from ergonaut_gateway.domain.endpoints.records import EndpointRecord
from ergonaut_gateway.domain.endpoints.spec import Mirror
from ergonaut_gateway.domain.endpoints.splitting import point_of, split_of
from ergonaut_gateway.domain.inference import Busy, DeadlineExceeded, InferenceAnswer, InferenceRequest
from ergonaut_gateway.domain.models import ModelRecord
from ergonaut_gateway.domain.repeats import size_bytes_of
from ergonaut_gateway.domain.tallies import Statistics
from ergonaut_gateway.service.lanes import Done
from ergonaut_gateway.service.plans import Cancellable, Plan
from ergonaut_gateway.service.predictions import Wish

PRIORITY_LAST = 2**31 - 1
"""Of mirrored requests: whoever waits for an answer goes first."""

MIRRORED_BYTES_MAX = 64 * 2**20
"""Of tensors that a mirror keeps while they wait: their callers are answered, so that no bound on bodies holds them."""

COMING_SECONDS = 10.0
"""How long a process goes on by the routes before when it has not yet loaded the versions of new ones, which the process that
took the change has. Then it follows anyway: a version that cannot be loaded here must be seen to fail."""

COMING_MAX = 20
"""Revisions of an endpoint that wait for their versions; more in so short a time is nothing that anybody needs one by one."""

KEYS_MAX = 10_000
"""Keys that a process remembers of an endpoint's revision, some 100 bytes each: as many say enough of a split, and those that
come later are left out as if nobody had looked any more."""

Submit = Callable[[Wish, InferenceRequest, Done], Cancellable]
Find = Callable[[str, str, str], ModelRecord]
"""The version that a tenant's wish for a model leads to. Raises NotFound, Unavailable."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What endpoints ask models by."""

    submit_model: Submit
    find: Find
    statistics: Callable[[str, str, str], Statistics]
    is_loaded: Callable[[], bool]
    """Whether so much is at work that nothing is to be mirrored."""
    clock: Clock
    chance: Callable[[], float] = random.random
    """A point from 0 to 1."""


class MirrorCounts:
    """What became of the requests of one mirror."""

    __slots__ = ("at_work_bytes", "dropped", "failed", "mirror", "requests", "seconds")

    def __init__(self, mirror: Mirror) -> None:
        self.mirror = mirror
        self.requests = 0
        self.dropped = 0
        """Not sent, since callers' own requests were enough."""
        self.failed = 0
        self.seconds = 0.0
        self.at_work_bytes = 0


class EndpointPlan:
    """Fills `Plan`: one revision of an endpoint as this process serves it."""

    version = ""

    def __init__(self, record: EndpointRecord, traffic: Traffic) -> None:
        endpoint = record.now.endpoint
        self.tenant = record.tenant
        self.name = record.name
        self.revision = record.now.revision
        self.routes = endpoint.routes
        self.split = split_of([route.weight for route in endpoint.routes])
        self.counts = [RouteFigures() for _ in endpoint.routes]
        self.mirrors = [MirrorCounts(mirror) for mirror in endpoint.mirrors]
        self.slow_seconds = endpoint.slow_milliseconds / 1000 or float("inf")
        self.traffic = traffic
        self.monotonic = traffic.clock.monotonic
        self._key = endpoint.key_parameter
        self._keys: set[float] = set()
        self._chance = traffic.chance

    @property
    def record(self) -> ModelRecord:
        """What the pages of its name tell: what its heaviest route that can be asked takes and gives. Raises Unavailable."""
        return replace(self._found(), name=self.name)

    def statistics(self) -> Statistics | None:
        """What the version did that its pages tell of."""
        found = self._found()
        return self.traffic.statistics(self.tenant, found.name, str(found.version))

    def is_there(self) -> bool:
        """Whether every version that requests may go to can be asked in this process."""
        try:
            for route in self.routes:
                if route.weight:
                    self.traffic.find(self.tenant, route.model, route.version)
        except ErgonautError:
            return False
        return True

    def submit(self, wish: Wish, request: InferenceRequest, done: Done) -> Cancellable:
        """Answer a request; `done` is called exactly once, maybe before this returns."""
        key = wish.parameters.get(self._key) if self._key and wish.parameters else None
        point = self._chance() if key is None else point_of(self.tenant, self.name, key)
        asked = _Asked(self, wish, request, done, None if key is None else point)
        asked.ask(self.split.at(point), drawn=key is None)
        for mirror in self.mirrors:
            self._mirror(mirror, wish, request)
        return asked

    def count_key(self, point: float, counts: RouteFigures) -> None:
        """Count a key's first answer: keys are drawn once, however many requests follow them."""
        if point in self._keys or len(self._keys) >= KEYS_MAX:
            return
        self._keys.add(point)
        counts.keys += 1
        counts.key_counters = 1

    def _found(self) -> ModelRecord:
        heaviest = max(range(len(self.routes)), key=lambda at: self.routes[at].weight)
        failure: ErgonautError | None = None
        for at in (heaviest, *self.split.others(heaviest)):
            try:
                return self.traffic.find(self.tenant, self.routes[at].model, self.routes[at].version)
            except ErgonautError as error:
                failure = failure or error
        raise Unavailable(f"no route of endpoint {self.name} can be asked: {failure}") from failure

    def _mirror(self, counts: MirrorCounts, wish: Wish, request: InferenceRequest) -> None:
        if counts.mirror.share < 1.0 and self._chance() >= counts.mirror.share:
            return
        size_bytes = sum(map(size_bytes_of, request.inputs.values()))
        if counts.at_work_bytes + size_bytes > MIRRORED_BYTES_MAX or self.traffic.is_loaded():
            counts.dropped += 1
            return
        begun = self.monotonic()
        counts.at_work_bytes += size_bytes

        def answered(outcome: InferenceAnswer | BaseException) -> None:
            counts.at_work_bytes -= size_bytes
            counts.requests += 1
            counts.failed += isinstance(outcome, BaseException)
            counts.seconds += self.monotonic() - begun

        mirrored = Wish(wish.tenant, counts.mirror.model, counts.mirror.version, priority=PRIORITY_LAST, stays=True)
        self.traffic.submit_model(mirrored, InferenceRequest("", request.inputs), answered)


class ComingPlan:
    """Fills `Plan`: routes of which this process has not loaded all versions yet; until it has, what answered before does.
    Each request looks, since the version before may go in the very moment in which the new one comes."""

    version = ""

    def __init__(self, plan: EndpointPlan, before: Plan | None, come: Callable[[EndpointPlan, bool], None]) -> None:
        self._before = before
        """None where it is the model of that name."""
        self._plan = plan
        self._waiting = deque([plan], maxlen=COMING_MAX)
        self._until_seconds = plan.monotonic() + COMING_SECONDS
        self._come = come

    def add(self, plan: EndpointPlan) -> None:
        """Wait for a newer revision."""
        self._plan = plan
        self._waiting.append(plan)

    def settle(self) -> Plan | None:
        """What answers now: the newest routes whose versions are there, or those that were waited for long enough."""
        now = self._plan.monotonic()
        newest = self._plan if now >= self._until_seconds else None
        found = newest or next((plan for plan in reversed(self._waiting) if plan.is_there()), None)
        if found is None:
            return self._before
        while self._waiting.popleft() is not found:
            pass
        self._before, self._until_seconds = found, now + COMING_SECONDS
        self._come(found, found is self._plan)
        return found

    @property
    def record(self) -> ModelRecord:
        """What the pages of its name tell. Raises NotFound, Unavailable."""
        now = self.settle()
        return now.record if now is not None else self._plan.traffic.find(self._plan.tenant, self._plan.name, "")

    def statistics(self) -> Statistics | None:
        """What it did; None where that is told of the model of that name."""
        now = self.settle()
        return now.statistics() if now is not None else None

    def submit(self, wish: Wish, request: InferenceRequest, done: Done) -> Cancellable:
        """Answer a request; `done` is called exactly once, maybe before this returns."""
        now = self.settle()
        return (now.submit if now is not None else self._plan.traffic.submit_model)(wish, request, done)


class _Asked:
    """A request on its way."""

    __slots__ = (
        "_asking",
        "_at",
        "_begun",
        "_done",
        "_drawn",
        "_left",
        "_plan",
        "_point",
        "_request",
        "_ticket",
        "_wish",
    )

    def __init__(
        self, plan: EndpointPlan, wish: Wish, request: InferenceRequest, done: Done, point: float | None
    ) -> None:
        self._plan = plan
        self._wish = wish
        self._request = request
        self._done: Done | None = done
        self._point = point
        self._left: list[int] | None = None
        self._ticket: Cancellable | None = None
        self._begun = plan.monotonic()

    def ask(self, at: int, *, drawn: bool) -> None:
        """Ask a route."""
        wish, route = self._wish, self._plan.routes[at]
        self._at, self._drawn, self._asking = at, drawn, True
        ticket = self._plan.traffic.submit_model(
            Wish(wish.tenant, route.model, route.version, wish.deadline_seconds, wish.priority),
            self._request,
            self._answered,
        )
        self._asking = False
        # Unless another route was asked meanwhile, or the answer is there already.
        if self._at == at and self._done is not None:
            self._ticket = ticket

    def cancel(self) -> None:
        """Drop the request. Nothing if it is over."""
        if self._ticket is not None:
            self._ticket.cancel()

    def _answered(self, outcome: InferenceAnswer | BaseException) -> None:
        plan, at = self._plan, self._at
        asked_at_all = not self._asking
        self._count(plan.counts[at], outcome, asked_at_all=asked_at_all)
        if not asked_at_all and isinstance(outcome, BaseException) and _is_not_there(outcome):
            # Whoever asks an endpoint is not to suffer from one of its versions that cannot be loaded.
            if self._left is None:
                self._left = plan.split.others(at)
            if self._left:
                self.ask(self._left.pop(0), drawn=False)
                return
        done, self._done, self._ticket = self._done, None, None
        assert done is not None, "answered once"
        if isinstance(outcome, InferenceAnswer) and outcome.model != plan.name:
            outcome = InferenceAnswer(outcome.id, plan.name, outcome.version, outcome.outputs)
        done(outcome)

    def _count(self, counts: RouteFigures, outcome: InferenceAnswer | BaseException, *, asked_at_all: bool) -> None:
        seconds = self._plan.monotonic() - self._begun
        counts.requests += 1
        counts.drawn += self._drawn
        if self._point is not None:
            self._plan.count_key(self._point, counts)
            self._point = None
        counts.seconds += seconds
        counts.slow += seconds > self._plan.slow_seconds
        if isinstance(outcome, BaseException) and _is_routes_fault(outcome, ran=asked_at_all):
            counts.failed += 1


def _is_not_there(error: BaseException) -> bool:
    """Whether a version cannot be asked at all, rather than not now."""
    return isinstance(error, NotFound | Unavailable) and not isinstance(error, Busy | DeadlineExceeded)


def _is_routes_fault(error: BaseException, *, ran: bool) -> bool:
    """Whether a route failed. A request that does not fit the model is its caller's fault; one that fitted and that the model
    could not compute may be the model's."""
    if not isinstance(error, ErgonautError):
        # Cancelled by the caller.
        return isinstance(error, Exception)
    return ran if isinstance(error, Refused) else not isinstance(error, DeadlineExceeded) or ran
