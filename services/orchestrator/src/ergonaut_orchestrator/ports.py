"""What the orchestrator needs of the world, in its own words. Adapters fill these; fakes stand in for them in tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, BinaryIO, Protocol, TypeVar

from numpy.typing import NDArray
from pydantic import BaseModel

from ergonaut.events import Event
from ergonaut.gateways import GatewayAnnounced
from ergonaut.jobs import Plan
from ergonaut.journal import JournalEntry
from ergonaut.workflows import RunJobInput
from ergonaut_orchestrator.domain import FoundFiles, Lease, Observation, Program, StopReason
from ergonaut_orchestrator.domain.rollouts import Endpoint, Figures, Versions
from ergonaut_orchestrator.domain.trials import Lineage, Question


@dataclass(frozen=True, slots=True)
class Happened:
    """When something came to be on a machine, and on which."""

    host: str
    at: datetime


class Standing(StrEnum):
    """How a workflow stands for Temporal."""

    RUNNING = "running"
    ENDED = "ended"
    FAILED = "failed"
    """It ended without an answer: what it was given was wrong, or somebody terminated it."""


Progress = TypeVar("Progress", bound=BaseModel)


class Placing(Protocol):
    """Chooses where and when a job runs."""

    async def place(self, request: RunJobInput, workflow_id: str) -> Plan:
        """The choice, recorded and announced by the chooser; asking again is harmless. Raises Refused, Unavailable."""
        ...


class Provider(Protocol):
    """Machines of one provider. Every method may be repeated, and called by another process than the one before."""

    @property
    def name(self) -> str:
        """The provider's name in offers."""
        ...

    @property
    def on_this_machine(self) -> bool:
        """Whether its programs run beside this service, and must not go on when the platform is taken down."""
        ...

    async def provision(self, lease: Lease, source: bytes | None, checkpoint: BinaryIO | None = None) -> Happened:
        """Get a machine and lay out on it the job's files (a gzipped tar) and what an earlier attempt saved (a tar).

        Raises Refused for files that are not acceptable.
        """
        ...

    async def start(self, lease_id: str, program: Program) -> Happened:
        """Start the program, at most once for each lease. Raises NotFound where there is no such lease."""
        ...

    async def observe(self, lease_id: str) -> Observation:
        """What is to be seen of the lease now."""
        ...

    async def renew(self, lease_id: str) -> None:
        """Say that somebody watches; a lease that is not renewed stops its program by itself."""
        ...

    async def ask_to_stop(self, lease_id: str, reason: StopReason) -> None:
        """Ask the program to end, by force after a grace; the first reason given stands, but a pause yields to any other.

        Returns at once; a program that takes its time is seen as asked for that reason.
        """
        ...

    async def told(self, lease_id: str, offset: int) -> tuple[Sequence[JournalEntry], int]:
        """The run's journal after an offset, and the offset to go on from."""
        ...

    async def checkpoint(self, lease_id: str) -> BinaryIO | None:
        """What the program saved for its next attempt, as a tar; None where it saved nothing.

        Raises NotFound where there is no such lease, and Refused where it saved more than may be kept.
        """
        ...

    async def files(self, lease_id: str, patterns: Sequence[str]) -> FoundFiles:
        """The regular files inside the job's folder that the patterns name."""
        ...

    async def open_file(self, lease_id: str, path: str) -> BinaryIO:
        """One of those files, to read. Raises NotFound."""
        ...

    async def open_log(self, lease_id: str, name: str) -> BinaryIO:
        """What the program wrote, by name: `stdout.log` or `stderr.log`. Raises NotFound."""
        ...

    async def tear_down(self, lease_id: str) -> None:
        """Stop what still runs, gently first, and give the machine back; nothing of the lease remains."""
        ...

    async def held(self) -> Sequence[Lease]:
        """All leases that are held, by whichever process they were got."""
        ...


class Sources(Protocol):
    """The files that jobs were submitted with."""

    async def fetch(self, tenant: str, digest: str) -> bytes:
        """A gzipped tar by its digest. Raises NotFound, Broken where it is damaged, Unavailable."""
        ...


class Artifacts(Protocol):
    """Where the files that runs leave are kept."""

    async def keep(self, tenant: str, name: str, content: BinaryIO) -> None:
        """Keep a file under a name; the same name again replaces it. Raises Unavailable."""
        ...

    async def fetch(self, tenant: str, name: str) -> BinaryIO:
        """A file that was kept, whole. Raises NotFound, Unavailable."""
        ...

    async def drop(self, tenant: str, name: str) -> None:
        """Keep a file no longer; one that is not there is fine. Raises Unavailable."""
        ...


class Announcer(Protocol):
    """Tells facts to whoever listens."""

    async def tell(self, event: Event) -> None:
        """Tell a fact; it is stored when this returns. Raises Unavailable."""
        ...


class Workflows(Protocol):
    """The workflows that there are."""

    async def is_live(self, lease: Lease) -> bool:
        """Whether the lease's workflow still runs. Raises Unavailable where that cannot be known now."""
        ...

    async def signal(self, workflow_id: str, name: str, asked: BaseModel) -> bool:
        """Pass a wish on; False where no such workflow runs, which is fine. Raises Unavailable."""
        ...

    async def start(self, workflow: str, workflow_id: str, given: BaseModel) -> None:
        """Start a workflow by its name. Raises Conflict where one of that id runs, Unavailable."""
        ...

    async def start_or_signal(
        self, workflow: str, workflow_id: str, given: BaseModel, *, signal: str, asked: BaseModel
    ) -> None:
        """Start a workflow, or pass a wish on to the one that runs. Raises Unavailable."""
        ...

    async def progress(self, workflow_id: str, kind: type[Progress]) -> tuple[Progress, Standing]:
        """What the newest workflow of an id answers to `progress`, and how it stands. Raises NotFound, Unavailable."""
        ...

    async def cancel(self, workflow_id: str) -> bool:
        """Ask a workflow to end; False where none of that id runs. Raises Unavailable."""
        ...

    async def ids(self, workflow: str, prefix: str, *, count_max: int, only_running: bool) -> Sequence[str]:
        """The ids of a kind of workflow that begin so, each once, the newest first. Raises Unavailable."""
        ...


class Traffic(Protocol):
    """Endpoints: which versions of models get how many of a name's requests, and how they do."""

    async def endpoint(self, tenant: str, name: str) -> Endpoint:
        """An endpoint as it is now. Raises NotFound, Unavailable."""
        ...

    async def apply(self, tenant: str, endpoint: Endpoint, *, expected_revision: int, because: str) -> Endpoint:
        """Set what an endpoint is; gives it with its new revision.

        Raises Conflict where its revision is not the expected one, Refused, NotFound for its versions, Unavailable.
        """
        ...

    async def figures(self, tenant: str, name: str) -> Figures:
        """What each route did under the present revision. Raises NotFound, Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Upload:
    """A model's file that is about to be served, under which alias, and where it comes from."""

    tenant: str
    model: str
    run_id: str
    alias: str
    lineage: Lineage
    signature: str = ""


class ServedModels(Protocol):
    """Models: their versions and aliases, and what they say."""

    async def versions(self, tenant: str, model: str) -> Versions:
        """What is kept of a model. Raises NotFound, Unavailable."""
        ...

    async def name(self, tenant: str, model: str, alias: str, version: int, *, expected: int | None) -> None:
        """Let an alias name a version. `expected` is what it must name until now, 0 for none, None for any.

        Raises Conflict, Refused, NotFound, Unavailable.
        """
        ...

    async def unname(self, tenant: str, model: str, alias: str, *, expected: int) -> None:
        """Remove an alias that names the expected version. Raises Conflict, NotFound, Unavailable."""
        ...

    async def deploy(self, upload: Upload, content: BinaryIO) -> int:
        """Serve a file as the model's newest version, or the one that it is already; gives its number. Raises Refused."""
        ...

    async def ask(self, tenant: str, model: str, version: int, question: Question) -> NDArray[Any]:
        """What a version says of rows, one answer a row. Raises Refused where they do not fit, NotFound, Unavailable."""
        ...


class Gateways(Protocol):
    """The gateways that announce themselves, ours and all others."""

    async def heard(self) -> Sequence[GatewayAnnounced]:
        """The newest announcement of each process that is heard now.

        Raises Unavailable while that cannot be known: the bus is away, or was listened to for too short a time.
        """
        ...


class Lineages(Protocol):
    """What runs used."""

    async def of_run(self, tenant: str, run_id: str) -> Lineage | None:
        """What a run that has ended used; None where its end is not known yet. Raises Unavailable."""
        ...
