"""What `Rollout` may have done in the world; each activity calls one use case. Every one may be repeated."""

from collections.abc import Sequence
from typing import Any

from temporalio import activity

from ergonaut.events.rollouts import RolloutPromoted, RolloutReverted, RolloutStarted
from ergonaut.rollouts import RolloutInput
from ergonaut_orchestrator.activities.working import at_work
from ergonaut_orchestrator.domain.rollouts import Changed, Course, Figures
from ergonaut_orchestrator.service import AliasMove, RollingOut, RouteChange


class RolloutActivities:
    """The steps of a rollout."""

    def __init__(self, rolling_out: RollingOut) -> None:
        self._rolling_out = rolling_out

    def all(self) -> Sequence[Any]:
        """All of them, as a worker wants them."""
        return [
            self.find_course,
            self.change_routes,
            self.look_at_routes,
            self.move_alias,
            self.tell_rollout_started,
            self.tell_rollout_promoted,
            self.tell_rollout_reverted,
        ]

    @activity.defn
    async def find_course(self, request: RolloutInput) -> Course:
        """See what would be replaced."""
        async with at_work():
            return await self._rolling_out.course(request)

    @activity.defn
    async def change_routes(self, change: RouteChange) -> Changed:
        """Set the endpoint's routes, unless somebody else did."""
        async with at_work():
            return await self._rolling_out.change(change)

    @activity.defn
    async def look_at_routes(self, tenant: str, endpoint: str) -> Figures:
        """Read what the routes did."""
        async with at_work():
            return await self._rolling_out.figures(tenant, endpoint)

    @activity.defn
    async def move_alias(self, move: AliasMove) -> str:
        """Let the alias name the new version; says why not."""
        async with at_work():
            return await self._rolling_out.move_alias(move)

    @activity.defn
    async def tell_rollout_started(self, event: RolloutStarted) -> None:
        """Announce it."""
        async with at_work():
            await self._rolling_out.tell(event)

    @activity.defn
    async def tell_rollout_promoted(self, event: RolloutPromoted) -> None:
        """Announce it."""
        async with at_work():
            await self._rolling_out.tell(event)

    @activity.defn
    async def tell_rollout_reverted(self, event: RolloutReverted) -> None:
        """Announce it."""
        async with at_work():
            await self._rolling_out.tell(event)
