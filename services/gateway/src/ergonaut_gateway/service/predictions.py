"""Predictions made and counted: find the model, check the request, run, and tell every few seconds how much was served."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec

from ergonaut.errors import ErgonautError, NotFound, Unavailable
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.batching import level_of
from ergonaut_gateway.domain.inference import Busy, DeadlineExceeded, InferenceAnswer, InferenceRequest
from ergonaut_gateway.domain.models import ModelRecord
from ergonaut_gateway.domain.peers import Because, hop_pays
from ergonaut_gateway.domain.repeats import Repeats, digest
from ergonaut_gateway.domain.tallies import Statistics
from ergonaut_gateway.domain.tensors import Tensor
from ergonaut_gateway.ports import Announcer
from ergonaut_gateway.service.batching import Engine, EngineLimits
from ergonaut_gateway.service.catalogue import Catalogue, ReadyModel
from ergonaut_gateway.service.counting import Board, Served
from ergonaut_gateway.service.energy import Energy
from ergonaut_gateway.service.joint import Joint, Ran
from ergonaut_gateway.service.lanes import OVER_ALREADY, Done, Ticket
from ergonaut_gateway.service.plans import Cancellable, Elsewhere, Plan, Plans
from ergonaut_gateway.service.telling import Telling

Watch = Callable[[ModelRecord, InferenceRequest, Mapping[str, Tensor], float], None]
"""Sees each request that was answered, after its answer, and how many seconds that took; never raises."""

log = get_logger(__name__)


class Wish(msgspec.Struct, frozen=True):
    """Who wants which model and how soon. The deadline is a time of the event loop's clock. As with Triton, priority 1 goes
    first, then 2 and so on; 0 is the default, which stands where 16 does."""

    tenant: str
    model: str
    version: str = ""
    deadline_seconds: float | None = None
    priority: int = 0
    parameters: Mapping[str, Any] | None = None
    """The request's own, where it has any, for plans that choose by them."""
    stays: bool = False
    """Whether it is answered by this gateway or by none: another has sent it on, or nobody waits for it."""


class Predictions:
    """Answers requests with the models of the catalogue."""

    def __init__(
        self,
        catalogue: Catalogue,
        announcer: Announcer,
        clock: Clock,
        limits: EngineLimits | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._clock = clock
        self._engine = Engine(limits or EngineLimits(), clock)
        self._repeats = Repeats(self._engine.limits.cache_bytes)
        self._board = Board()
        self._served = self._board.served
        self.energy = Energy(self._board, self._engine, clock)
        self._telling = Telling(announcer, of="served requests")
        self._watch = watch
        self._stopping = False
        self._closed = False
        self.plans: Plans = {}
        """What answers for names that are no models, before the models."""
        self.elsewhere: Elsewhere | None = None
        """Other gateways that requests may be sent on to, while there are any."""

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        return not self._stopping

    @property
    def at_work(self) -> int:
        """Requests that wait or run."""
        return self._engine.in_flight

    @property
    def at_work_max(self) -> int:
        """As many may be at work before callers are told to come back."""
        return self._engine.limits.waiting + self._engine.limits.threads

    @property
    def is_loaded(self) -> bool:
        """Whether half of all that may wait is at work."""
        return 2 * self._engine.in_flight > self._engine.limits.waiting

    def problem(self, record: ModelRecord) -> str:
        """What keeps a version from being served here, or is wrong with it; nothing where all is well."""
        served = self._served.get((record.tenant, record.name, record.version))
        overdue_seconds = self._engine.overdue_seconds(served.lane) if served is not None else 0.0
        if overdue_seconds:
            return f"a run is at work {overdue_seconds:.0f} s after it was told to end, and holds a thread"
        return self._catalogue.problem(record)

    def overdue_seconds(self) -> float:
        """How long a run is at work after it was told to end; 0 where none is."""
        return self._engine.overdue_seconds()

    @property
    def rows_at_once_max(self) -> int:
        """How many requests run together at most."""
        return self._engine.limits.batch_rows

    def submit(self, wish: Wish, request: InferenceRequest, done: Done) -> Cancellable:
        """Predict, on the event loop; `done` is called exactly once on it, maybe before this returns. It gets the answer, or
        NotFound, Refused, DeadlineExceeded or another Unavailable, which may have `retry_after_seconds`."""
        if self._stopping:
            done(Unavailable("the gateway is stopping; ask again"))
            return OVER_ALREADY
        plan = self.plans.get((wish.tenant, wish.model))
        if plan is not None and wish.version in ("", plan.version):
            return plan.submit(wish, request, done)
        return self.submit_model(wish, request, done)

    def submit_model(self, wish: Wish, request: InferenceRequest, done: Done) -> Cancellable:
        """Predict by a model, whatever else has its name; also for requests that came before a stop."""
        try:
            if self._closed:
                raise Unavailable("the gateway stopped; ask again")
            ready = self._catalogue.find(wish.tenant, wish.model, wish.version)
            served = self._find(wish.tenant, wish.model, ready)
        except ErgonautError as error:
            return self._not_here(wish, request, done, error)
        now = self._clock.monotonic()
        ticket = Ticket(served.lane, request, done)
        ticket.began_seconds = now
        ticket.deadline_seconds = wish.deadline_seconds
        ticket.level = level_of(wish.priority)
        try:
            ticket.outputs = served.fit.outputs(request)
            if wish.deadline_seconds is not None and now > wish.deadline_seconds:
                raise DeadlineExceeded("the deadline passed before the request's turn came")
            if not (self._engine.limits.cache_bytes and self._repeated(served, ticket, request)):
                elsewhere = self.elsewhere
                if elsewhere is not None and elsewhere.spreads and not wish.stays:
                    sent = elsewhere.beforehand(wish, ticket, ready.record.version)
                    if sent is not None:
                        return sent
                self._engine.submit(served.lane, ticket, request)
        except Busy as error:
            return self._without_room(wish, ticket, served, error)
        except ErgonautError as error:
            served.turn_away(ticket, error, self._clock.monotonic())
        return ticket

    def before_turn(self, come: Callable[[], None]) -> None:
        """Have this called as each turn of the engine begins, by a door that gathers what comes within one."""
        self._engine.before_turn(come)

    def expect_turn(self) -> None:
        """Have a turn come for what was gathered."""
        self._engine.expect_turn()

    def at_once(self, wish: Wish, joint: Joint) -> Ran | None:
        """Predict for requests that were gathered, where they would run together on this turn anyway. None where they must be
        submitted, each by itself, which also tells what is wrong with any of them."""
        if self._stopping or self._engine.limits.cache_bytes or self._plan_of(wish.tenant, wish.model, wish.version):
            return None
        if self.elsewhere is not None and self.elsewhere.spreads:
            return None
        try:
            served = self._find(wish.tenant, wish.model, self._catalogue.find(wish.tenant, wish.model, wish.version))
            wanted = served.fit.outputs(InferenceRequest("", joint.inputs))
        except ErgonautError:
            return None
        outputs = self._engine.run_at_once(served.lane, joint, wanted)
        if outputs is None:
            return None
        return Ran(served.key[2], outputs, served.count_at_once(joint, self._clock.monotonic()), served.watch)

    async def infer(self, tenant: str, model: str, version: str, request: InferenceRequest) -> InferenceAnswer:
        """Predict. Raises NotFound for a model that is not served, Refused for a request that does not fit it."""
        answer: asyncio.Future[InferenceAnswer] = asyncio.get_running_loop().create_future()
        ticket = self.submit(Wish(tenant, model, version), request, partial(_settle, answer))
        try:
            return await answer
        finally:
            ticket.cancel()

    def record_of(self, tenant: str, name: str, version: str = "") -> ModelRecord:
        """What answers for a name, a plan or a version of a model. Raises NotFound, or Unavailable where it cannot now."""
        plan = self._plan_of(tenant, name, version)
        return plan.record if plan is not None else self._catalogue.find(tenant, name, version).record

    def statistics(self, tenant: str, model: str, version: str = "") -> Statistics:
        """What a version did since it was loaded here, or a plan that counts for itself. Raises NotFound, Unavailable."""
        plan = self._plan_of(tenant, model, version)
        if plan is not None and (told := plan.statistics()) is not None:
            return told
        return self.statistics_of(tenant, model, version)

    def statistics_of(self, tenant: str, model: str, version: str) -> Statistics:
        """What a version of a model did, whatever else has its name. Raises NotFound, Unavailable."""
        return self._find(tenant, model, self._catalogue.find(tenant, model, version)).statistics()

    async def finish(self, *, within_seconds: float) -> None:
        """Take no more requests, and wait until those at work are answered, but not longer than this."""
        self._engine.gather()
        self._stopping = True
        try:
            async with asyncio.timeout(within_seconds):
                # Whatever is answered may ask for more, as the steps of a pipeline do; what is away may come back.
                while self._engine.in_flight or (self.elsewhere is not None and self.elsewhere.has_any):
                    await self._engine.idle()
                    if self.elsewhere is not None:
                        await self.elsewhere.idle()
        except TimeoutError:
            log.warning("requests cut off", requests=self._engine.in_flight, waited_seconds=within_seconds)

    def close(self) -> None:
        """Answer what is left with Unavailable and stop the threads."""
        self._stopping = self._closed = True
        self._engine.close(Unavailable("the gateway stopped before the answer was there; ask again"))

    async def report(self) -> None:
        """Tell what was served since the last report, and what could not be told before; what cannot be told now waits on."""
        now = self._clock.now()
        self.energy.look()
        for key, served in list(self._served.items()):
            told = served.told(now)
            if told is not None:
                self._telling.waiting.append(told)
            elif self._is_gone(served):
                del self._served[key]
        await self._telling.tell()

    async def keep_reporting(self, *, every_seconds: float) -> None:
        """Report again and again, for ever."""
        while True:
            await self._clock.sleep(every_seconds)
            await self.report()

    def _not_here(self, wish: Wish, request: InferenceRequest, done: Done, error: ErgonautError) -> Cancellable:
        """Send a request on whose version is to be served and could not be loaded here, or say that it cannot be asked."""
        if self.elsewhere is not None and not (wish.stays or self._closed) and isinstance(error, Unavailable):
            version = self._catalogue.number_of(wish.tenant, wish.model, wish.version)
            if version is not None:
                sent = self.elsewhere.instead(wish, request, done, version, Because.NOT_LOADED)
                if sent is not None:
                    return sent
        done(error)
        return OVER_ALREADY

    def _without_room(self, wish: Wish, ticket: Ticket, served: Served, error: Busy) -> Cancellable:
        """Send a request on for which there is no room here, where that pays, or say when there should be."""
        if self.elsewhere is not None and not wish.stays and hop_pays(served.lane.runner.traits, served.lane.cost):
            request, done = ticket.request, ticket.done
            assert request is not None, "it is not answered"
            assert done is not None, "it is not answered"
            sent = self.elsewhere.instead(wish, request, done, served.key[2], Because.BUSY)
            if sent is not None:
                return sent
        served.turn_away(ticket, error, self._clock.monotonic())
        return ticket

    def _plan_of(self, tenant: str, name: str, version: str) -> Plan | None:
        plan = self.plans.get((tenant, name))
        return plan if plan is not None and version in ("", plan.version) else None

    def _find(self, tenant: str, model: str, ready: ReadyModel) -> Served:
        """What is kept about a version that is ready."""
        key = (tenant, model, ready.record.version)
        served = self._served.get(key)
        if served is None or served.lane.runner is not ready.runner:
            before = served
            served = self._served[key] = Served(key, ready.runner, self._engine, self._repeats, self._clock)
            if self._watch is not None:
                served.watch = partial(self._watch, ready.record)
            if before is not None:
                served.go_on_from(before)
        return served

    def _repeated(self, served: Served, ticket: Ticket, request: InferenceRequest) -> bool:
        """Answer a request that was answered before, if that answer is kept."""
        ticket.repeat = (*served.key, digest(request, ticket.outputs))
        outputs = self._repeats.get(ticket.repeat)
        return outputs is not None and served.answer_again(ticket, outputs, self._clock.monotonic())

    def _is_gone(self, served: Served) -> bool:
        """Whether nobody can ask for it any more and everybody has been answered."""
        tenant, model, version = served.key
        try:
            runner = self._catalogue.find(tenant, model, str(version)).runner
        except NotFound:
            return served.lane.in_flight == 0
        except ErgonautError:
            return False
        return runner is not served.lane.runner and served.lane.in_flight == 0


def _settle(future: "asyncio.Future[InferenceAnswer]", answer: InferenceAnswer | BaseException) -> None:
    if future.done():
        return
    if isinstance(answer, BaseException):
        future.set_exception(answer)
    else:
        future.set_result(answer)
