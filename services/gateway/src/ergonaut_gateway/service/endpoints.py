"""Endpoints looked after: applied, rolled back, listed, removed, and held ready by each process as their records say. A record is
written after the versions that it names are loaded; what remains to be told is found in it and told by whoever looks next."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from ergonaut.errors import Broken, Conflict, ErgonautError, NotFound, Refused, Unavailable
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.changes import Held
from ergonaut_gateway.domain.endpoints.figures import EndpointFigures, RouteFigures, summed
from ergonaut_gateway.domain.endpoints.records import (
    Change,
    EndpointEntry,
    EndpointRecord,
    applied,
    before,
    check_expected,
    event_of,
    held_by,
    kept,
    removed,
)
from ergonaut_gateway.domain.endpoints.spec import Endpoint, check_endpoint
from ergonaut_gateway.ports import Announcer, EndpointBook, FiguresBook
from ergonaut_gateway.service.endpoint_counting import Board
from ergonaut_gateway.service.models import Models
from ergonaut_gateway.service.plans import Plans
from ergonaut_gateway.service.traffic import EndpointPlan, Traffic

CLAIMS_MAX = 8
"""How often a change is tried; each failure means that another change of the same endpoint got through."""

ENDPOINTS_MAX = 1_000
"""Endpoints of a tenant."""

WATCH_PAUSE_SECONDS = 1.0
"""How long to wait before the records are watched again after a failure."""

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
        self._process = process
        """By which this process's figures are told from those of others."""
        self._held: dict[Key, EndpointEntry] = {}
        self._serving: dict[Key, EndpointPlan] = {}
        self._requests_told: dict[Key, tuple[int, int]] = {}
        self._board = Board()

    async def apply(self, tenant: str, endpoint: Endpoint, change: Change) -> EndpointRecord:
        """Send requests by these routes from now on, their versions loaded first. Raises Refused, Conflict."""
        check_endpoint(endpoint)
        self._check_free(tenant, endpoint.name)
        for _ in range(CLAIMS_MAX):
            current = await self._world.book.get(tenant, endpoint.name)
            self._check_room(tenant, current)
            record = current.record if current is not None else None
            after = applied(record, tenant, endpoint, change, at=self._world.clock.now())
            await self._load(tenant, endpoint)
            if current is not None and after is record:
                self._hold(current)
                return after
            entry = await self._put(after, current)
            if entry is not None:
                log.info("endpoint applied", tenant=tenant, endpoint=endpoint.name, revision=after.now.revision)
                return entry.record
        raise Unavailable(f"endpoint {endpoint.name} is being changed by others; ask again")

    async def roll_back(self, tenant: str, name: str, change: Change, *, to_revision: int = 0) -> EndpointRecord:
        """Go back to an earlier revision's routes, the one before where none is named. Raises NotFound, Refused, Conflict."""
        record = await self.get(tenant, name)
        check_expected(record, name, change.expected)
        # Back from what is there now, and not from what another makes of it meanwhile.
        change = replace(change, expected=record.now.revision)
        return await self.apply(tenant, before(record, to_revision), change)

    async def get(self, tenant: str, name: str) -> EndpointRecord:
        """An endpoint. Raises NotFound."""
        return kept(await self._world.book.get(tenant, name), name).record

    async def list(self, tenant: str) -> Sequence[EndpointRecord]:
        """The endpoints by name."""
        records = [entry.record for entry in await self._world.book.entries()]
        return sorted((each for each in records if each.tenant == tenant and each.is_kept), key=lambda each: each.name)

    async def remove(self, tenant: str, name: str) -> None:
        """Serve an endpoint no longer; its models stay. Raises NotFound."""
        for _ in range(CLAIMS_MAX):
            current = kept(await self._world.book.get(tenant, name), name)
            if await self._put(removed(current.record, at=self._world.clock.now()), current) is not None:
                log.info("endpoint removed", tenant=tenant, endpoint=name)
                return
        raise Unavailable(f"endpoint {name} is being changed by others; ask again")

    async def figures(self, tenant: str, name: str) -> tuple[EndpointRecord, dict[str, RouteFigures]]:
        """What each route did under the present revision, of all processes. Raises NotFound."""
        record = await self.get(tenant, name)
        key = (tenant, name)
        if key in self._serving:
            await self._tell_figures(key, self._serving[key])
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
        for entry in await self._world.book.entries():
            self._hold(entry)

    async def follow(self, *, resync_seconds: float) -> None:
        """Keep current, for ever, also with what other gateways apply."""
        while True:
            try:
                async for entry in self._world.book.changes(seconds=resync_seconds):
                    self._hold(entry)
            except (Unavailable, Broken) as error:
                log.warning("endpoints not watched", error=str(error))
                await self._world.clock.sleep(WATCH_PAUSE_SECONDS)

    async def keep_telling(self) -> None:
        """Tell figures again and again, for ever."""
        while True:
            await self._world.clock.sleep(TELL_SECONDS)
            await self.tell_figures()

    async def tell_figures(self) -> None:
        """Tell what was counted since this was last done; what cannot be told now is told later."""
        for key, plan in list(self._serving.items()):
            try:
                await self._tell_figures(key, plan)
            except Unavailable as error:
                log.warning("figures of endpoints not told yet", endpoint=plan.name, error=str(error))

    async def keep_finishing(self, *, every_seconds: float) -> None:
        """Tell what processes that died did not come to tell, again and again, for ever."""
        while True:
            try:
                for entry in await self._world.book.entries():
                    await self._told(entry)
            except ErgonautError as error:
                log.warning("endpoints not finished", error=str(error))
            await self._world.clock.sleep(every_seconds)

    async def _put(self, after: EndpointRecord, current: EndpointEntry | None) -> EndpointEntry | None:
        """The new entry, held and told; None where somebody came first."""
        if current is not None:
            # What was not told yet would be lost with the record that says so.
            current = await self._told(current)
        try:
            entry = await self._world.book.put(after, revision=current.revision if current else 0)
        except Conflict:
            return None
        self._hold(entry)
        return await self._told(entry)

    async def _load(self, tenant: str, endpoint: Endpoint) -> None:
        """Have every version that is named ready. Raises Refused, naming where."""
        for place, model, version in endpoint.uses():
            try:
                record = (await self._world.models.get(tenant, model)).named(version)
                if not record.served:
                    await self._world.models.load(tenant, model, str(record.version))
            except (NotFound, Refused) as error:
                raise Refused(str(error), field=place) from error

    def _check_free(self, tenant: str, name: str) -> None:
        plan = self._plans.get((tenant, name))
        if plan is not None and not isinstance(plan, EndpointPlan):
            raise Refused(f"a pipeline is called {name}; an endpoint needs another name", field="name")

    def _check_room(self, tenant: str, current: EndpointEntry | None) -> None:
        if current is not None and current.record.is_kept:
            return
        count = sum(entry.record.tenant == tenant and entry.record.is_kept for entry in self._held.values())
        if count >= ENDPOINTS_MAX:
            raise Refused(f"{count} endpoints are there, which is the most; remove one first", field="name")

    def _hold(self, entry: EndpointEntry) -> None:
        """Serve by an entry from now on; one that is older than what is known changes nothing."""
        record = entry.record
        key = (record.tenant, record.name)
        held = self._held.get(key)
        if held is not None and held.revision >= entry.revision:
            return
        self._held[key] = entry
        if not record.is_kept:
            self._plans.pop(key, None)
            self._serving.pop(key, None)
            self._board.drop(key)
            return
        if held is not None and held.record.is_kept and held.record.now == record.now:
            return
        plan = EndpointPlan(record, self._traffic)
        self._plans[key] = self._serving[key] = plan
        self._board.put(key, plan)

    async def _told(self, entry: EndpointEntry) -> EndpointEntry:
        """The entry after its newest change was told. Raises Unavailable; it is then told later."""
        if entry.record.is_told:
            return entry
        await self._world.announcer.publish(event_of(entry.record))
        # Where somebody noted it first or went on from there, the caller's own write finds out.
        with suppress(Conflict):
            return await self._world.book.put(replace(entry.record, is_told=True), revision=entry.revision)
        return entry

    async def _tell_figures(self, key: Key, plan: EndpointPlan) -> None:
        counted = (plan.revision, sum(each.requests + each.labelled for each in plan.counts))
        if self._requests_told.get(key, (plan.revision, 0)) == counted:
            return
        routes = {route.name: counts for route, counts in zip(plan.routes, plan.counts, strict=True)}
        await self._world.figures.tell(*key, EndpointFigures(self._process, plan.revision, routes))
        self._requests_told[key] = counted

    def _leads_to(self, plan: EndpointPlan, wanted: str, model: str, version: int) -> bool:
        try:
            return self._traffic.find(plan.tenant, model, wanted).version == version
        except ErgonautError:
            return False
