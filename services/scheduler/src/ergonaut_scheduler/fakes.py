"""In-memory stand-ins for the ports, kept honest by the contract tests that the adapters pass too."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field

from ergonaut.errors import Conflict, NotFound, Unavailable
from ergonaut.events import Event
from ergonaut.workflows import Asked, RunJobInput, job_workflow_id
from ergonaut_scheduler.domain import Forecast, JobRecord, Offer
from ergonaut_scheduler.ports import Stored, WorkflowEnd

_PIECE_BYTES = 1024 * 1024


@dataclass
class FakeOfferBook:
    """Offers as a test sets them, for all and for one tenant; `away` makes it unreachable."""

    offers: Sequence[Offer] = ()
    own: Mapping[str, Sequence[Offer]] = field(default_factory=dict)
    away: bool = False

    async def newest(self, tenant: str) -> Sequence[Offer]:
        if self.away:
            raise Unavailable("the pricing service is away")
        return [*self.offers, *self.own.get(tenant, ())]


@dataclass
class FakeIntensityForecast:
    """Forecasts as a test sets them, one for every zone that is not named."""

    elsewhere: Forecast
    zones: Mapping[str, Forecast] = field(default_factory=dict)

    async def of_zone(self, zone: str, hours: int) -> Forecast:  # noqa: ARG002 - a test sets as many hours as it needs
        return self.zones.get(zone, self.elsewhere)


class FakeJobBook:
    """Records in a dictionary, with revisions that count over all of them as NATS does."""

    def __init__(self) -> None:
        self._stored: dict[tuple[str, str], Stored] = {}
        self._revision = 0
        self._changed = asyncio.Condition()

    async def add(self, record: JobRecord) -> bool:
        if (record.tenant, record.job_id) in self._stored:
            return False
        await self._put(record)
        return True

    async def find(self, tenant: str, job_id: str) -> Stored | None:
        return self._stored.get((tenant, job_id))

    async def replace(self, stored: Stored) -> bool:
        known = self._stored.get((stored.record.tenant, stored.record.job_id))
        if known is None or known.revision != stored.revision:
            return False
        await self._put(stored.record)
        return True

    async def remove(self, stored: Stored) -> None:
        key = (stored.record.tenant, stored.record.job_id)
        known = self._stored.get(key)
        if known is not None and known.revision == stored.revision:
            del self._stored[key]

    async def of_tenant(self, tenant: str) -> Sequence[JobRecord]:
        return [stored.record for (owner, _), stored in self._stored.items() if owner == tenant]

    async def everything(self) -> Sequence[Stored]:
        return list(self._stored.values())

    async def watch(self, tenant: str, job_id: str) -> AsyncGenerator[JobRecord, None]:
        seen = 0
        while True:
            async with self._changed:
                while self._revision_of(tenant, job_id) <= seen:
                    await self._changed.wait()
            stored = self._stored[tenant, job_id]
            seen = stored.revision
            yield stored.record

    def _revision_of(self, tenant: str, job_id: str) -> int:
        stored = self._stored.get((tenant, job_id))
        return stored.revision if stored else 0

    async def _put(self, record: JobRecord) -> None:
        self._revision += 1
        self._stored[record.tenant, record.job_id] = Stored(record, self._revision)
        async with self._changed:
            self._changed.notify_all()


class FakeSourceStore:
    """Packed files in a dictionary."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], bytes] = {}

    async def has(self, tenant: str, source: str) -> bool:
        return (tenant, source) in self.kept

    async def keep(self, tenant: str, source: str, packed: bytes) -> None:
        self.kept.setdefault((tenant, source), packed)


class FakeArtifactStore:
    """Files in a dictionary."""

    def __init__(self) -> None:
        self.files: dict[tuple[str, str], bytes] = {}

    async def pieces(self, tenant: str, name: str) -> AsyncGenerator[bytes, None]:
        if (tenant, name) not in self.files:
            raise NotFound(f"no run kept a file {name!r}; `ergonaut watch JOB` tells those that were kept")
        content = self.files[tenant, name]
        for begin in range(0, len(content), _PIECE_BYTES):
            yield content[begin : begin + _PIECE_BYTES]


@dataclass
class FakeWorkflows:
    """Workflows that run until a test ends them; `away` makes Temporal unreachable."""

    started: dict[str, RunJobInput] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    asked: list[tuple[str, str, Asked]] = field(default_factory=list)
    ends: dict[str, WorkflowEnd] = field(default_factory=dict)
    away: bool = False

    async def start(self, job: RunJobInput) -> None:
        self._reach()
        known = self.started.setdefault(job_workflow_id(job.tenant, job.job_id), job)
        if known != job:
            raise Conflict(f"another workflow runs as job {job.job_id} with a different spec; choose another job_id")

    async def cancel(self, workflow_id: str) -> None:
        self._reach()
        if workflow_id in self.started and workflow_id not in self.ends:
            self.cancelled.append(workflow_id)

    async def signal(self, workflow_id: str, name: str, asked: Asked) -> bool:
        self._reach()
        runs = workflow_id in self.started and workflow_id not in self.ends
        if runs:
            self.asked.append((workflow_id, name, asked))
        return runs

    async def end_of(self, workflow_id: str) -> WorkflowEnd | None:
        self._reach()
        if workflow_id not in self.started:
            raise NotFound(f"Temporal knows of no workflow {workflow_id}")
        return self.ends.get(workflow_id)

    def _reach(self) -> None:
        if self.away:
            raise Unavailable("Temporal is away")


class FakeAnnouncer:
    """Facts in the order in which they were first told."""

    def __init__(self) -> None:
        self.told: dict[str, Event] = {}

    async def tell(self, event: Event) -> None:
        self.told.setdefault(event.event_id, event)
