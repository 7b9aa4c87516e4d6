"""The ports that the use cases share, and the one way in which a record is changed."""

from collections.abc import Callable
from dataclasses import dataclass

from ergonaut.errors import NotFound, Unavailable
from ergonaut.ids import is_name
from ergonaut_common.clock import Clock
from ergonaut_scheduler.domain import JobRecord
from ergonaut_scheduler.ports import (
    Announcer,
    ArtifactStore,
    IntensityForecast,
    JobBook,
    OfferBook,
    SourceStore,
    Stored,
    Workflows,
)

CHANGES_MAX = 16
"""Tries to change one record while others change it too; a handful of listeners and one caller are all there are."""


@dataclass(frozen=True, slots=True)
class World:
    """Everything outside that the scheduler uses."""

    offers: OfferBook
    intensity: IntensityForecast
    jobs: JobBook
    sources: SourceStore
    artifacts: ArtifactStore
    workflows: Workflows
    announcer: Announcer
    clock: Clock

    async def record_of(self, tenant: str, job_id: str) -> JobRecord:
        """A tenant's job. Raises NotFound."""
        return (await self._stored(tenant, job_id)).record

    async def change(self, tenant: str, job_id: str, change: Callable[[JobRecord], JobRecord]) -> JobRecord:
        """Change a record on top of whatever others changed meanwhile; gives what is stored then. Raises NotFound."""
        for _ in range(CHANGES_MAX):
            stored = await self._stored(tenant, job_id)
            changed = change(stored.record)
            if changed == stored.record or await self.jobs.replace(Stored(changed, stored.revision)):
                return changed
        raise Unavailable(f"job {job_id} is being changed by too many at once; try again")

    async def _stored(self, tenant: str, job_id: str) -> Stored:
        # A text that is no name could reach beyond the tenant's own keys.
        stored = await self.jobs.find(tenant, job_id) if is_name(job_id) else None
        if stored is None:
            raise NotFound(f"there is no job {job_id!r}; `ergonaut jobs` tells which there are")
        return stored
