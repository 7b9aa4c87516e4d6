"""What the scheduler needs of the world, in its own words. Adapters and fakes both fill these."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ergonaut.events import Event
from ergonaut.workflows import Asked, RunJobInput, RunJobResult
from ergonaut_scheduler.domain import Forecast, JobRecord, Offer


class OfferBook(Protocol):
    """Knows what is for sale."""

    async def newest(self, tenant: str) -> Sequence[Offer]:
        """Every offer that a tenant may take now: those of the market and its own machines. Raises Unavailable."""
        ...


class IntensityForecast(Protocol):
    """Knows how clean a zone's electricity will be."""

    async def of_zone(self, zone: str, hours: int) -> Forecast:
        """A zone's forecast from the hour that is now; an unknown zone gets the world's average. Raises Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Stored:
    """A record as it stands in the book, with the revision that a change must name."""

    record: JobRecord
    revision: int


class JobBook(Protocol):
    """Keeps the records; a change succeeds only on the newest revision. All methods raise Unavailable."""

    async def add(self, record: JobRecord) -> bool:
        """Store a new record; False where the job is known already."""
        ...

    async def find(self, tenant: str, job_id: str) -> Stored | None:
        """The newest record of a job."""
        ...

    async def replace(self, stored: Stored) -> bool:
        """Store `stored.record` over the revision `stored.revision`; False where another change came first."""
        ...

    async def remove(self, stored: Stored) -> None:
        """Forget a job, unless it has changed since."""
        ...

    async def of_tenant(self, tenant: str) -> Sequence[JobRecord]:
        """Every job of a tenant, in no order."""
        ...

    async def everything(self) -> Sequence[Stored]:
        """Every job of every tenant, in no order."""
        ...

    def watch(self, tenant: str, job_id: str) -> AsyncGenerator[JobRecord, None]:
        """The record as it is, then after each change; changes that come fast may be told as one. Never ends by itself."""
        ...


class SourceStore(Protocol):
    """Keeps the packed files of jobs, one tenant apart from another. All methods raise Unavailable."""

    async def has(self, tenant: str, source: str) -> bool:
        """Whether files of this digest are kept."""
        ...

    async def keep(self, tenant: str, source: str, packed: bytes) -> None:
        """Keep files under their digest; again changes nothing."""
        ...


class ArtifactStore(Protocol):
    """Holds the files that runs kept, one tenant apart from another."""

    def pieces(self, tenant: str, name: str) -> AsyncGenerator[bytes, None]:
        """A file in pieces of 1 MiB at most. Raises NotFound and Unavailable, before the first piece."""
        ...


@dataclass(frozen=True, slots=True)
class WorkflowEnd:
    """A workflow that has ended, and with what."""

    ended_at: datetime
    result: RunJobResult


class Workflows(Protocol):
    """Starts and stops the workflows that bring jobs through their lives. All methods raise Unavailable."""

    async def start(self, job: RunJobInput) -> None:
        """Start a job's workflow; an equal one that was started before is fine. Raises Conflict for a different one."""
        ...

    async def cancel(self, workflow_id: str) -> None:
        """Ask a workflow to stop; one that has ended or never was is fine."""
        ...

    async def signal(self, workflow_id: str, name: str, asked: Asked) -> bool:
        """Pass a wish on to a workflow; False where it has ended or never was."""
        ...

    async def end_of(self, workflow_id: str) -> WorkflowEnd | None:
        """How a workflow ended; None while it runs. Raises NotFound where Temporal knows of none."""
        ...


class Announcer(Protocol):
    """Tells the world."""

    async def tell(self, event: Event) -> None:
        """Tell a fact; the same fact twice is told once. Raises Unavailable."""
        ...
