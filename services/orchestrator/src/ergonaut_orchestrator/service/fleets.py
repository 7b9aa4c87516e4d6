"""What is done for sets of replicas: see how their jobs and gateways are, ask one to end. For the activities of `Serving`."""

import asyncio
from collections.abc import Iterable, Sequence

from ergonaut.errors import NotFound, Unavailable
from ergonaut.gateways import GatewayAnnounced
from ergonaut.replicas import REPLICAS_MAX, replica_job_prefix
from ergonaut.workflows import RUN_JOB, JobProgress, JobStep, job_workflow_id
from ergonaut_common.observe import get_logger
from ergonaut_orchestrator.domain.serving import Heard, Seen
from ergonaut_orchestrator.ports import Gateways, Standing, Workflows

OTHERS_MAX = 4 * REPLICAS_MAX
"""Jobs of a set that its workflow does not know of: those of one that was terminated, which had no more than this."""

ASKED_AT_ONCE = 8
"""Questions to workflows at a time, so that a look does not take the worker's whole attention."""

log = get_logger(__name__)


class Fleets:
    """Looks at replicas and lets them leave. All may be repeated."""

    def __init__(self, workflows: Workflows, gateways: Gateways) -> None:
        self._workflows = workflows
        self._gateways = gateways

    async def look(self, tenant: str, job_ids: Sequence[str]) -> Seen:
        """How the jobs of these replicas stand, and which gateways are heard."""
        room = asyncio.Semaphore(ASKED_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(self._job(room, tenant, job_id)) for job_id in job_ids]
        jobs = dict(zip(job_ids, (task.result() for task in asking), strict=True))
        announced = await self._announced()
        told = [each.replicas_wanted for each in announced or () if each.replicas_wanted is not None]
        return Seen(
            ended={job_id: because for job_id, (_, because) in jobs.items() if because is not None},
            not_running=tuple(job_id for job_id, (step, _) in jobs.items() if step is not JobStep.RUNNING),
            heard=None if announced is None else tuple(heard_of(announced)),
            forecast=max(told, default=None),
        )

    async def let_leave(self, tenant: str, job_id: str) -> None:
        """Ask a replica to finish its requests and end. Raises Unavailable."""
        reached = await self._workflows.cancel(job_workflow_id(tenant, job_id))
        log.info("replica asked to leave", job_id=job_id, reached=reached)

    async def let_others_leave(self, tenant: str, name: str, job_ids: Iterable[str]) -> int:
        """Ask all replicas of a set but these to end, as many as still run: those of a workflow that was terminated."""
        prefix = job_workflow_id(tenant, replica_job_prefix(name))
        known = {job_workflow_id(tenant, job_id) for job_id in job_ids}
        found = await self._workflows.ids(RUN_JOB, prefix, count_max=OTHERS_MAX, only_running=True)
        others = [each for each in found if each not in known]
        for each in others:
            await self._workflows.cancel(each)
            log.warning("replica of an earlier set asked to leave", workflow_id=each)
        return len(others)

    async def _job(self, room: asyncio.Semaphore, tenant: str, job_id: str) -> tuple[JobStep, str | None]:
        """Where a replica's job is, and why it has ended; None where it has not, or that cannot be known now."""
        async with room:
            try:
                progress, standing = await self._workflows.progress(job_workflow_id(tenant, job_id), JobProgress)
            except NotFound:
                return JobStep.ENDED, "its job is not there"
            except Unavailable as error:
                log.warning("replica's job does not tell how it stands", job_id=job_id, error=str(error))
                return JobStep.RUNNING, None
        if standing is Standing.RUNNING:
            return progress.step, None
        return JobStep.ENDED, f"its job {job_id} has ended: {progress.because or 'it was not asked to'}"

    async def _announced(self) -> Sequence[GatewayAnnounced] | None:
        try:
            return await self._gateways.heard()
        except Unavailable as error:
            log.info("gateways are not heard", error=str(error))
            return None


def heard_of(announced: Iterable[GatewayAnnounced]) -> list[Heard]:
    """The gateways behind announcements: several processes of one are one, which leaves when all of them do."""
    found: dict[str, Heard] = {}
    for each in announced:
        if not each.draining or each.replica not in found:
            found[each.replica] = Heard(each.replica, each.address, each.draining)
    return list(found.values())
