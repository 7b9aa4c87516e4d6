"""In-memory stand-ins for what jobs need. The provider's passes the same contract test as the real one."""

import asyncio
import io
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import PurePosixPath
from typing import BinaryIO, Literal

from pydantic import BaseModel

from ergonaut.errors import Conflict, NotFound, Unavailable
from ergonaut.events import Event
from ergonaut.jobs import Plan
from ergonaut.journal import JournalEntry
from ergonaut.workflows import RunJobInput
from ergonaut_common.clock import Clock
from ergonaut_orchestrator.domain import FoundFile, FoundFiles, Lease, LeaseState, Observation, Program, StopReason
from ergonaut_orchestrator.ports import Happened, Progress, Standing

EXIT_CODES = {"true": 0, "false": 1}
"""Programs that the fake provider knows, beside `sleep SECONDS`; any other cannot be started."""


class FakePlacing:
    """Answers what the test decides."""

    def __init__(self, answer: Callable[[RunJobInput], Plan]) -> None:
        self.asked: list[tuple[RunJobInput, str]] = []
        self._answer = answer

    async def place(self, request: RunJobInput, workflow_id: str) -> Plan:
        self.asked.append((request, workflow_id))
        return self._answer(request)


@dataclass(slots=True)
class _FakeLease:
    """One lease of the fake provider."""

    lease: Lease
    made_at: datetime
    files: dict[str, bytes]
    saved: dict[str, bytes] = field(default_factory=dict)
    entries: list[JournalEntry] = field(default_factory=list)
    program: Program | None = None
    seen: Observation = field(default_factory=lambda: Observation(LeaseState.READY))
    ends_at: float = 0.0
    renewed_at: float = 0.0


class FakeProvider:
    """Machines in memory; their programs take the clock's time."""

    on_this_machine = True

    def __init__(self, clock: Clock, *, name: str = "local", lease_ttl_seconds: float = 120.0) -> None:
        self.name = name
        self.starts = 0
        self.torn_down: list[str] = []
        self.asked_for: list[StopReason] = []
        self.obeys = True
        """Whether a program that is asked to end does so at once; else when `obey_all` says so."""
        self.ends_when_asked: int | None = None
        """The exit code of a program that ends when it is asked to; None for one that dies of it."""
        self._clock = clock
        self._lease_ttl_seconds = lease_ttl_seconds
        self._leases: dict[str, _FakeLease] = {}

    async def provision(self, lease: Lease, source: bytes | None, checkpoint: BinaryIO | None = None) -> Happened:
        made = _FakeLease(lease, self._clock.now(), _unpacked(source, "r:gz"))
        made.saved = _unpacked(checkpoint.read() if checkpoint else None, "r:")
        held = self._leases.setdefault(lease.lease_id, made)
        return Happened("fake-host", held.made_at)

    async def start(self, lease_id: str, program: Program) -> Happened:
        held = self._held(lease_id)
        if held.program is None:
            self.starts += 1
            held.program = program
            held.renewed_at = self._clock.monotonic()
            held.seen = self._begun(program)
            held.ends_at = self._clock.monotonic() + _seconds_of(program)
        return Happened("fake-host", held.seen.started_at or self._clock.now())

    async def observe(self, lease_id: str) -> Observation:
        if lease_id not in self._leases:
            return Observation(LeaseState.ABSENT)
        held = self._leases[lease_id]
        if held.seen.state is LeaseState.RUNNING:
            self._let_time_pass(held)
        return held.seen

    async def renew(self, lease_id: str) -> None:
        if lease_id in self._leases:
            self._leases[lease_id].renewed_at = self._clock.monotonic()

    async def ask_to_stop(self, lease_id: str, reason: StopReason) -> None:
        held = self._leases.get(lease_id)
        if held is None or held.seen.state is not LeaseState.RUNNING:
            return
        said = held.seen.asked_for
        if said is None or (said.yields and not reason.yields):
            self.asked_for.append(reason)
            held.seen = replace(held.seen, asked_for=reason)
        if self.obeys:
            self._end(held, exit_code=self.ends_when_asked, stopped_for=held.seen.asked_for)

    async def told(self, lease_id: str, offset: int) -> tuple[Sequence[JournalEntry], int]:
        entries = self._leases[lease_id].entries if lease_id in self._leases else []
        return entries[offset:], max(offset, len(entries))

    async def checkpoint(self, lease_id: str) -> BinaryIO | None:
        saved = self._held(lease_id).saved
        if not saved:
            return None
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:") as tar:
            for name, content in saved.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        packed.seek(0)
        return packed

    async def files(self, lease_id: str, patterns: Sequence[str]) -> FoundFiles:
        files = self._held(lease_id).files
        named = {pattern: [path for path in files if PurePosixPath(path).match(pattern)] for pattern in patterns}
        found = {path: len(files[path]) for paths in named.values() for path in paths}
        unmatched = tuple(pattern for pattern, paths in named.items() if not paths)
        return FoundFiles(tuple(FoundFile(path, size) for path, size in found.items()), unmatched)

    async def open_file(self, lease_id: str, path: str) -> BinaryIO:
        files = self._held(lease_id).files
        if path not in files:
            raise NotFound(f"{path} of {lease_id} cannot be read")
        return io.BytesIO(files[path])

    async def open_log(self, lease_id: str, name: str) -> BinaryIO:
        if name not in {"stdout.log", "stderr.log"} or self._held(lease_id).program is None:
            raise NotFound(f"{lease_id} has no log {name!r}")
        return io.BytesIO()

    async def tear_down(self, lease_id: str) -> None:
        if self._leases.pop(lease_id, None) is not None:
            self.torn_down.append(lease_id)

    async def held(self) -> Sequence[Lease]:
        return [held.lease for held in self._leases.values()]

    def tell(self, entry: JournalEntry) -> None:
        """Let every program that runs say something."""
        for held in self._leases.values():
            held.entries.append(entry)

    def save(self, **files: bytes) -> None:
        """Let every program that runs write these into its checkpoint."""
        for held in self._leases.values():
            held.saved |= files

    def programs(self) -> list[Program]:
        """All that were started and whose machines are held."""
        return [held.program for held in self._leases.values() if held.program is not None]

    def saved(self, lease_id: str) -> dict[str, bytes]:
        """What lies in a lease's checkpoint."""
        return self._held(lease_id).saved

    def finish_all(self) -> None:
        """Let every program that runs come to its end."""
        for held in self._leases.values():
            held.ends_at = self._clock.monotonic()

    def obey_all(self) -> None:
        """Let every program that was asked to end do so, and from now on at once."""
        self.obeys = True
        for held in self._leases.values():
            if held.seen.asked_for and held.seen.state is LeaseState.RUNNING:
                self._end(held, exit_code=self.ends_when_asked, stopped_for=held.seen.asked_for)

    def lose_all(self) -> None:
        """Let every machine vanish."""
        for held in self._leases.values():
            if held.seen.state is LeaseState.RUNNING:
                held.seen = replace(held.seen, state=LeaseState.LOST)

    def _held(self, lease_id: str) -> _FakeLease:
        if lease_id not in self._leases:
            raise NotFound(f"there is no lease {lease_id}")
        return self._leases[lease_id]

    def _begun(self, program: Program) -> Observation:
        now = self._clock.now()
        if program.command[0] in {*EXIT_CODES, "sleep"}:
            return Observation(LeaseState.RUNNING, started_at=now)
        because = f"command: {program.command[0]!r} could not be started: No such file or directory"
        return Observation(LeaseState.ENDED, started_at=now, ended_at=now, because=because)

    def _let_time_pass(self, held: _FakeLease) -> None:
        assert held.program is not None
        if self._clock.monotonic() - held.renewed_at > self._lease_ttl_seconds:
            self._end(held, exit_code=None, stopped_for=StopReason.LAPSED)
        elif self._clock.monotonic() >= held.ends_at:
            self._end(held, exit_code=EXIT_CODES.get(held.program.command[0], 0), stopped_for=None)

    def _end(self, held: _FakeLease, *, exit_code: int | None, stopped_for: StopReason | None) -> None:
        held.seen = replace(
            held.seen,
            state=LeaseState.ENDED,
            ended_at=self._clock.now(),
            exit_code=exit_code,
            stopped_for=stopped_for,
            asked_for=None,
        )


def _seconds_of(program: Program) -> float:
    return float(program.command[1]) if program.command[0] == "sleep" else 0.0


def _unpacked(source: bytes | None, mode: Literal["r:", "r:gz"]) -> dict[str, bytes]:
    if source is None:
        return {}
    with tarfile.open(fileobj=io.BytesIO(source), mode=mode) as tar:
        opened = {member.name.removeprefix("./"): tar.extractfile(member) for member in tar if member.isfile()}
        return {name: file.read() for name, file in opened.items() if file is not None}


class FakeSources:
    """Sources in memory."""

    def __init__(self, stored: dict[tuple[str, str], bytes] | None = None) -> None:
        self.stored = stored or {}

    async def fetch(self, tenant: str, digest: str) -> bytes:
        if (tenant, digest) not in self.stored:
            raise NotFound(f"job.source: {digest} is not stored; upload it first")
        return self.stored[tenant, digest]


class FakeArtifacts:
    """An object store in memory."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], bytes] = {}

    async def keep(self, tenant: str, name: str, content: BinaryIO) -> None:
        self.kept[tenant, name] = content.read()

    async def fetch(self, tenant: str, name: str) -> BinaryIO:
        if (tenant, name) not in self.kept:
            raise NotFound(f"{name} is not kept")
        return io.BytesIO(self.kept[tenant, name])

    async def drop(self, tenant: str, name: str) -> None:
        self.kept.pop((tenant, name), None)


class FakeAnnouncer:
    """Remembers what was told; away for as many tellings as the test says."""

    def __init__(self) -> None:
        self.told: list[Event] = []
        self.away_for = 0

    async def tell(self, event: Event) -> None:
        if self.away_for:
            self.away_for -= 1
            raise Unavailable("the bus is away")
        if event.event_id not in {known.event_id for known in self.told}:
            self.told.append(event)

    def types(self) -> list[str]:
        """The kinds of what was told, in order, progress left out."""
        return [event.TYPE for event in self.told if event.TYPE != "runs.run.progressed"]

    async def heard(self, event_type: str) -> Event:
        """Wait until something of this kind was told."""
        while True:
            for event in self.told:
                if event_type == event.TYPE:
                    return event
            await asyncio.sleep(0.02)


class FakeWorkflows:
    """Knows which workflows live, and what was asked of them; away for as many questions as the test says."""

    def __init__(self, live: set[str] | None = None) -> None:
        self.live = live or set()
        self.asked: list[tuple[str, str, BaseModel]] = []
        self.started: dict[str, tuple[str, BaseModel]] = {}
        """By id, in the order of their starts."""
        self.answers: dict[str, BaseModel] = {}
        """What workflows answer to `progress`."""
        self.failed: set[str] = set()
        self.away_for = 0

    async def is_live(self, lease: Lease) -> bool:
        return lease.workflow_id in self.live

    async def signal(self, workflow_id: str, name: str, asked: BaseModel) -> bool:
        self._answer()
        if workflow_id in self.live:
            self.asked.append((workflow_id, name, asked))
        return workflow_id in self.live

    async def start(self, workflow: str, workflow_id: str, given: BaseModel) -> None:
        self._answer()
        if workflow_id in self.live:
            raise Conflict(f"{workflow_id} runs already")
        self.live.add(workflow_id)
        self.started[workflow_id] = (workflow, given)

    async def start_or_signal(
        self, workflow: str, workflow_id: str, given: BaseModel, *, signal: str, asked: BaseModel
    ) -> None:
        if workflow_id not in self.live:
            await self.start(workflow, workflow_id, given)
        await self.signal(workflow_id, signal, asked)

    async def progress(self, workflow_id: str, kind: type[Progress]) -> tuple[Progress, Standing]:
        self._answer()
        if workflow_id not in self.answers:
            raise NotFound(f"there is no {workflow_id}")
        ended = Standing.FAILED if workflow_id in self.failed else Standing.ENDED
        answer = kind.model_validate(self.answers[workflow_id].model_dump())
        return answer, Standing.RUNNING if workflow_id in self.live else ended

    async def cancel(self, workflow_id: str) -> bool:
        self._answer()
        ran = workflow_id in self.live
        self.live.discard(workflow_id)
        return ran

    async def ids(self, workflow: str, prefix: str, *, count_max: int, only_running: bool) -> Sequence[str]:
        self._answer()
        found = [
            workflow_id
            for workflow_id, (kind, _) in reversed(self.started.items())
            if kind == workflow and workflow_id.startswith(prefix) and (workflow_id in self.live or not only_running)
        ]
        return found[:count_max]

    def _answer(self) -> None:
        if self.away_for:
            self.away_for -= 1
            raise Unavailable("Temporal is away")
