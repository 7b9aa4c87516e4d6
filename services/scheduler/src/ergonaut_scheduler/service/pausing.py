"""Passes on that a job shall pause or go on; its workflow does the rest, and its runs' events tell of it."""

from ergonaut.errors import Conflict, Unavailable
from ergonaut.workflows import PAUSE_SIGNAL, RESUME_SIGNAL, Asked
from ergonaut_scheduler.domain.specs import check_reason
from ergonaut_scheduler.service.world import World


class Pausing:
    """Lets people pause jobs and resume them. Pausing what is paused, or resuming what goes on, changes nothing."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def pause(self, tenant: str, job_id: str, because: str) -> None:
        """Ask a job to save its state and give its machine back.

        Raises Refused, NotFound, Conflict where it has ended, and Unavailable where its workflow cannot be told now.
        """
        await self._pass_on(tenant, job_id, PAUSE_SIGNAL, because or "asked to pause")

    async def resume(self, tenant: str, job_id: str, because: str) -> None:
        """Ask a paused job to go on, whoever paused it, and one that found no place to look for one now. Raises as `pause`."""
        await self._pass_on(tenant, job_id, RESUME_SIGNAL, because or "asked to go on")

    async def _pass_on(self, tenant: str, job_id: str, signal: str, because: str) -> None:
        check_reason(because)
        record = await self._world.record_of(tenant, job_id)
        if record.has_ended:
            raise Conflict(f"job {job_id} has ended already: {record.state}")
        if not await self._world.workflows.signal(record.workflow_id, signal, Asked(because=because)):
            if record.handed_over:
                raise Conflict(f"job {job_id} has ended just now")
            raise Unavailable(f"job {job_id} has not been handed to Temporal yet; try again in a minute")
