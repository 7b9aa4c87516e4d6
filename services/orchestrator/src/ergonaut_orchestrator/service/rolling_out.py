"""The steps of a rollout in the world: read an endpoint, change its routes, read its figures, move the alias, tell. All may be
repeated: a change names the revision that it replaces, and one that was made already is recognised."""

import contextlib
from dataclasses import dataclass

from ergonaut.errors import Conflict, NotFound, Unavailable
from ergonaut.events import Event
from ergonaut.rollouts import RolloutInput
from ergonaut_common.observe import get_logger
from ergonaut_orchestrator.domain.rollouts import (
    Changed,
    Course,
    Endpoint,
    Figures,
    course_of,
    replaced_route,
)
from ergonaut_orchestrator.ports import Announcer, ServedModels, Traffic

CHANGE_TRIES = 3
"""Each further one means that somebody changed the endpoint between our look and our change; then the look tells."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RouteChange:
    """What an endpoint is to be, from which revision on; `tried` is what may have been set since, without an answer."""

    tenant: str
    wanted: Endpoint
    expected_revision: int
    because: str
    tried: Endpoint | None = None


@dataclass(frozen=True, slots=True)
class AliasMove:
    """Which version an alias is to name, and what it must name until now; 0 is nothing."""

    tenant: str
    model: str
    alias: str
    version: int
    expected: int


class RollingOut:
    """Does what rollouts decide."""

    def __init__(self, traffic: Traffic, models: ServedModels, announcer: Announcer) -> None:
        self._traffic = traffic
        self._models = models
        self._announcer = announcer

    async def course(self, request: RolloutInput) -> Course:
        """What the rollout would replace. Raises NotFound, and Refused where there can be none."""
        endpoint = await self._traffic.endpoint(request.tenant, request.endpoint)
        canary = await self._models.versions(request.tenant, request.model)
        replaced = replaced_route(endpoint)
        same = replaced.model == request.model
        champion = canary if same else await self._models.versions(request.tenant, replaced.model)
        return course_of(request, endpoint, canary, champion)

    async def change(self, change: RouteChange) -> Changed:
        """Set an endpoint's routes, unless somebody else has changed it since. Raises Refused, NotFound, Unavailable."""
        name, expected = change.wanted.name, change.expected_revision
        for _ in range(CHANGE_TRIES):
            now = await self._now(change.tenant, name)
            if now is None:
                return Changed(overtaken_because=f"{name} was removed meanwhile")
            # An answer that was lost may be that of this change, and of one that was tried before it.
            was_tried = change.tried is not None and now.revision == expected + 1 and now.is_set_as(change.tried)
            is_ours = now.revision in {expected, expected + 1} or (change.tried and now.revision == expected + 2)
            if is_ours and now.is_set_as(change.wanted):
                return Changed(now.revision)
            if now.revision != expected and not was_tried:
                log.info("endpoint changed by somebody else", endpoint=name, revision=now.revision)
                return Changed(overtaken_because=f"{name} was changed meanwhile: it has revision {now.revision}")
            with contextlib.suppress(Conflict):
                made = await self._traffic.apply(
                    change.tenant, change.wanted, expected_revision=now.revision, because=change.because
                )
                return Changed(made.revision)
        raise Unavailable(f"{name} is being changed by others; ask again")

    async def figures(self, tenant: str, endpoint: str) -> Figures:
        """What the routes did, or that there is no such endpoint any more. Raises Unavailable."""
        try:
            return await self._traffic.figures(tenant, endpoint)
        except NotFound:
            return Figures(0, {}, is_gone=True)

    async def move_alias(self, move: AliasMove) -> str:
        """Let the alias name the version; says why not where somebody else has moved it since, else nothing."""
        try:
            await self._models.name(move.tenant, move.model, move.alias, move.version, expected=move.expected)
        except Conflict as error:
            known = await self._models.versions(move.tenant, move.model)
            if known.aliases.get(move.alias) != move.version:
                return str(error)
        return ""

    async def tell(self, event: Event) -> None:
        """Announce a fact."""
        await self._announcer.tell(event)

    async def _now(self, tenant: str, name: str) -> Endpoint | None:
        try:
            return await self._traffic.endpoint(tenant, name)
        except NotFound:
            return None
