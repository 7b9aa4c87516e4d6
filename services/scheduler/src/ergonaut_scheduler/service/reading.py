"""Tells how jobs stand, to their own tenant only."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from ergonaut.errors import Refused
from ergonaut.jobs import JobStatus
from ergonaut_scheduler.service.world import World

LISTED_MAX = 1000
"""More than that is a report, and reports are the ledger's."""

LISTED_BY_DEFAULT = 50


class Reading:
    """Answers how one job or all stand."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def status(self, tenant: str, job_id: str) -> JobStatus:
        """How one job stands. Raises NotFound."""
        return (await self._world.record_of(tenant, job_id)).status()

    async def newest(self, tenant: str, limit: int) -> list[JobStatus]:
        """The tenant's jobs, newest first; 0 stands for 50. Raises Refused."""
        if limit > LISTED_MAX:
            raise Refused(f"{limit} is more than the {LISTED_MAX} that are listed at most", field="limit")
        records = await self._world.jobs.of_tenant(tenant)
        newest_first = sorted(records, key=lambda record: (record.submitted_at, record.job_id), reverse=True)
        return [record.status() for record in newest_first[: limit or LISTED_BY_DEFAULT]]

    def artifact(self, tenant: str, name: str) -> AsyncGenerator[bytes, None]:
        """A file that one of the tenant's runs kept, in pieces. Raises NotFound."""
        return self._world.artifacts.pieces(tenant, name)

    async def watch(self, tenant: str, job_id: str) -> AsyncGenerator[JobStatus, None]:
        """How a job stands, at once and after each change, until it has ended. Raises NotFound."""
        await self._world.record_of(tenant, job_id)
        async with aclosing(self._world.jobs.watch(tenant, job_id)) as records:
            async for record in records:
                yield record.status()
                if record.has_ended:
                    return
