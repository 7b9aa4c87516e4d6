"""What `Serving` may have done in the world; each activity calls one use case. Every one may be repeated."""

from collections.abc import Sequence
from typing import Any

from temporalio import activity

from ergonaut_orchestrator.activities.working import at_work
from ergonaut_orchestrator.domain.serving import Seen
from ergonaut_orchestrator.service import Fleets


class ServingActivities:
    """The steps of a set of replicas that are no jobs."""

    def __init__(self, fleets: Fleets) -> None:
        self._fleets = fleets

    def all(self) -> Sequence[Any]:
        """All of them, as a worker wants them."""
        return [self.look_at_replicas, self.let_replica_leave, self.let_others_leave]

    @activity.defn
    async def look_at_replicas(self, tenant: str, job_ids: list[str]) -> Seen:
        """See how their jobs and gateways are."""
        async with at_work():
            return await self._fleets.look(tenant, job_ids)

    @activity.defn
    async def let_replica_leave(self, tenant: str, job_id: str) -> None:
        """Ask one to finish its requests and end."""
        async with at_work():
            await self._fleets.let_leave(tenant, job_id)

    @activity.defn
    async def let_others_leave(self, tenant: str, name: str, job_ids: list[str]) -> None:
        """Ask those to end that nobody keeps any more."""
        async with at_work():
            await self._fleets.let_others_leave(tenant, name, job_ids)
