"""Endpoints looked after: applied, rolled back, listed, removed, and held ready by each process as their records say. A record is
written after the versions that it names are loaded; what remains to be told is found in it and told by whoever looks next."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from ergonaut.errors import ErgonautError, NotFound, Refused, Unavailable
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.changes import Held
from ergonaut_gateway.domain.endpoints.figures import RouteFigures, summed
from ergonaut_gateway.domain.endpoints.records import (
    Change,
    EndpointEntry,
    EndpointRecord,
    applied,
    before,
    event_of,
    held_by,
    removed,
)
from ergonaut_gateway.domain.endpoints.spec import Endpoint, check_endpoint
from ergonaut_gateway.domain.revisions import check_because, check_expected, check_room
from ergonaut_gateway.ports import Announcer, EndpointBook, FiguresBook
from ergonaut_gateway.service.endpoint_counting import Board
from ergonaut_gateway.service.endpoint_folding import Folding
from ergonaut_gateway.service.endpoint_telling import OwnFigures
from ergonaut_gateway.service.models import Models
from ergonaut_gateway.service.plans import Plans
from ergonaut_gateway.service.shelf import Shelf
from ergonaut_gateway.service.traffic import ComingPlan, EndpointPlan, Traffic

ENDPOINTS_MAX = 1_000
"""Endpoints of a tenant."""

TELL_SECONDS = 1.0
"""How often figures are told to the other processes; a kill loses at most those of so long."""

log = get_logger(__name__)
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class EndpointWorld:
    """What endpoints are kept in, told to, and made of."""

    book: EndpointBook
    figures: FiguresBook
    announcer: Announcer
    clock: Clock
    models: Models


class Endpoints:
    """Looks after the endpoints of all tenants."""

    def __init__(self, world: EndpointWorld, plans: Plans, traffic: Traffic, *, process: str) -> None:
        self._world = world
        self._plans = plans
        self._traffic = traffic
        self._own = OwnFigures(world.figures, world.clock, process)
        self._folding = Folding(world.figures, world.clock, self._revision)
        self._held: dict[Key, EndpointEntry] = {}
        self._serving: dict[Key, EndpointPlan] = {}
        self._coming: dict[Key, ComingPlan] = {}
        self._board = Board()
        self._shelf = Shelf(
            world.book, world.announcer, world.clock, what="endpoint", event_of=event_of, hold=self._hold
        )

    async def apply(self, tenant: str, endpoint: Endpoint, change: Change) -> EndpointRecord:
        """Send requests by these routes from now on, their versions loaded first. Raises Refused, Conflict."""
        check_endpoint(endpoint)
        check_because(change.because)
        self._check_free(tenant, endpoint.name)
        await self._load(tenant, endpoint)

        def after(current: EndpointRecord | None) -> EndpointRecord:
            held = (entry.record for entry in self._held.values())
            check_room(held, current, tenant, most=ENDPOINTS_MAX, what="endpoints")
            return applied(current, tenant, endpoint, change, at=self._world.clock.now())

        record, is_other = await self._shelf.change(tenant, endpoint.name, after)
        if is_other:
            log.info("endpoint applied", tenant=tenant, endpoint=endpoint.name, revision=record.now.revision)
            await self._load_again(tenant, endpoint)
        return record

    async def roll_back(self, tenant: str, name: str, change: Change, *, to_revision: int = 0) -> EndpointRecord:
        """Go back to an earlier revision's routes, the one before where none is named. Raises NotFound, Refused, Conflict."""
        record = await self.get(tenant, name)
        check_expected(record, f"endpoint {name}", change.expected)
        # Back from what is there now, and not from what another makes of it meanwhile.
        change = replace(change, expected=record.now.revision)
        return await self.apply(tenant, before(record, to_revision), change)

    async def get(self, tenant: str, name: str) -> EndpointRecord:
        """An endpoint. Raises NotFound."""
        return await self._shelf.get(tenant, name)

    async def list(self, tenant: str) -> Sequence[EndpointRecord]:
        """The endpoints by name."""
        return await self._shelf.list(tenant)

    async def remove(self, tenant: str, name: str) -> None:
        """Serve an endpoint no longer; its models stay. Raises NotFound."""
        await self._shelf.remove(tenant, name, lambda current: removed(current, at=self._world.clock.now()))
        try:
            for told in await self._world.figures.told(tenant, name):
                await self._world.figures.forget(tenant, name, told.process)
        except Unavailable as error:
            # Of what is left, nothing counts for an endpoint that takes the name again: its revisions are later.
            log.warning("figures of a removed endpoint not forgotten", endpoint=name, error=str(error))

    async def figures(self, tenant: str, name: str) -> tuple[EndpointRecord, dict[str, RouteFigures]]:
        """What each route did under the present revision, of all processes. Raises NotFound."""
        record = await self.get(tenant, name)
        key = (tenant, name)
        if key in self._serving:
            await self._own.tell(key, self._serving[key])
        told = await self._world.figures.told(tenant, name)
        sums = summed(told, record.now.revision)
        for past in (each for each in told if each.revision < record.now.revision):
            await self._world.figures.forget(tenant, name, past.process)
        return record, {route.name: sums.get(route.name, RouteFigures()) for route in record.now.endpoint.routes}

    def labelled(self, tenant: str, model: str, version: int, *, is_wrong: bool) -> None:
        """A prediction's label has come; count it for the routes that lead to its version."""
        for plan in [plan for key, plan in self._serving.items() if key[0] == tenant]:
            for route, counts in zip(plan.routes, plan.counts, strict=True):
                if route.model == model and self._leads_to(plan, route.version, model, version):
                    counts.labelled += 1
                    counts.wrong += is_wrong

    def holds(self, tenant: str, model: str) -> Held:
        """The versions of a model that endpoints send requests to."""
        return held_by((entry.record for entry in self._held.values()), tenant, model)

    async def load_all(self) -> None:
        """Hold ready whatever the records say."""
        await self._shelf.load_all()

    async def follow(self, *, resync_seconds: float) -> None:
        """Keep current, for ever, also with what other gateways apply."""
        await self._shelf.follow(resync_seconds=resync_seconds)

    async def keep_telling(self) -> None:
        """Tell figures, and follow changes whose versions have come, again and again, for ever."""
        while True:
            await self._world.clock.sleep(TELL_SECONDS)
            self.settle()
            await self.tell_figures()

    def settle(self) -> None:
        """Serve by what waited for its versions, where they are there or have been waited for long enough."""
        for plan in list(self._coming.values()):
            plan.settle()

    async def tell_figures(self) -> None:
        """Tell what was counted since this was last done; what cannot be told now is told later."""
        for key, plan in list(self._serving.items()):
            try:
                await self._own.tell(key, plan)
            except Unavailable as error:
                log.warning("figures of endpoints not told yet", endpoint=plan.name, error=str(error))

    async def keep_folding(self) -> None:
        """Add up what processes counted that are gone, again and again, for ever; one process of a gateway does."""
        await self._folding.keep_folding()

    async def keep_finishing(self, *, every_seconds: float) -> None:
        """Tell what processes that died did not come to tell, again and again, for ever."""
        await self._shelf.keep_finishing(self._shelf.tell_all, every_seconds=every_seconds)

    async def _load(self, tenant: str, endpoint: Endpoint) -> None:
        """Have every version that is named ready. Raises Refused, naming where."""
        for place, model, version in endpoint.uses():
            try:
                record = (await self._world.models.get(tenant, model)).named(version)
                if not record.served:
                    await self._world.models.load(tenant, model, str(record.version))
            except (NotFound, Refused) as error:
                raise Refused(str(error), field=place) from error

    async def _load_again(self, tenant: str, endpoint: Endpoint) -> None:
        """Undo that somebody unloaded a version after it was loaded and before the record said that it is needed."""
        try:
            await self._load(tenant, endpoint)
        except ErgonautError as error:
            # Its requests go to the other routes.
            log.warning("version went before its route came", endpoint=endpoint.name, error=str(error))

    def _check_free(self, tenant: str, name: str) -> None:
        plan = self._plans.get((tenant, name))
        if plan is not None and not isinstance(plan, EndpointPlan | ComingPlan):
            raise Refused(f"a pipeline is called {name}; an endpoint needs another name", field="name")

    def _hold(self, entry: EndpointEntry) -> None:
        """Serve by an entry from now on; one that is older than what is known changes nothing."""
        record = entry.record
        key = (record.tenant, record.name)
        held = self._held.get(key)
        if held is not None and held.revision >= entry.revision:
            return
        self._held[key] = entry
        if not record.is_kept:
            self._let_go(key)
            return
        if held is not None and held.record.is_kept and held.record.now == record.now:
            return
        plan = EndpointPlan(record, self._traffic)
        if self._is_answered(key) and not plan.is_there():
            self._await(key, plan)
        else:
            self._serve(key, plan)

    def _await(self, key: Key, plan: EndpointPlan) -> None:
        coming = self._coming.get(key)
        if coming is not None:
            coming.add(plan)
        else:
            coming = ComingPlan(plan, self._plans.get(key), partial(self._serve, key))
            self._plans[key] = self._coming[key] = coming

    def _serve(self, key: Key, plan: EndpointPlan, is_newest: bool = True) -> None:
        """Answer by a plan; by an older one only until the versions of the newest are there."""
        self._serving[key] = plan
        self._board.put(key, plan)
        if is_newest:
            self._coming.pop(key, None)
            self._plans[key] = plan

    def _let_go(self, key: Key) -> None:
        self._own.forget(key)
        ours = (self._serving.pop(key, None), self._coming.pop(key, None))
        # A pipeline may have taken the name since.
        if (plan := self._plans.get(key)) is not None and plan in ours:
            del self._plans[key]
        self._board.drop(key)

    def _is_answered(self, key: Key) -> bool:
        """Whether requests for the name are answered until now, by other routes or by the model of that name."""
        if key in self._plans:
            return True
        try:
            self._traffic.find(*key, "")
        except ErgonautError:
            return False
        return True

    def _revision(self, tenant: str, name: str) -> int | None:
        held = self._held.get((tenant, name))
        return held.record.now.revision if held is not None and held.record.is_kept else None

    def _leads_to(self, plan: EndpointPlan, wanted: str, model: str, version: int) -> bool:
        try:
            return self._traffic.find(plan.tenant, model, wanted).version == version
        except ErgonautError:
            return False
