"""The orchestrator's use cases: get and give back leases, start and watch runs, keep their files. Called by `activities`."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import Counter

from ergonaut.errors import ErgonautError, NotFound, Refused, Unavailable
from ergonaut.jobs import Plan
from ergonaut.workflows import RunJobInput
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_orchestrator.domain import (
    Attempt,
    Collected,
    Ending,
    EndKind,
    Lease,
    LeaseState,
    RunEnd,
    StopReason,
    Telling,
    end_of,
    facts,
    given_up,
    program_of,
    reason_to_stop,
    within_bounds,
)
from ergonaut_orchestrator.ports import Announcer, Artifacts, Placing, Provider, Sources, Workflows

STOP_PATIENCE_SECONDS = 900.0
"""Longer than any grace; a program that has not ended then is left to the tear-down, which does not ask."""

LOGS = ("stdout.log", "stderr.log")

log = get_logger(__name__)
_ended = Counter("ergonaut_orchestrator_runs_ended_total", "Attempts that ended, by how.", ["kind"])


@dataclass(frozen=True, slots=True)
class Bounds:
    """How often runs are looked at and how much of them is kept."""

    look_interval_seconds: float = 1.0
    artifacts_count_max: int = 256
    artifacts_bytes_max: int = 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class World:
    """All ports that the use cases share."""

    placing: Placing
    providers: Mapping[str, Provider]
    sources: Sources
    artifacts: Artifacts
    announcer: Announcer
    workflows: Workflows
    clock: Clock

    def provider(self, name: str) -> Provider:
        """A provider by name. Raises Refused naming it."""
        if name not in self.providers:
            known = ", ".join(sorted(self.providers))
            raise Refused(f"{name!r} has no adapter here; known are {known}", field="provider")
        return self.providers[name]


@dataclass(slots=True)
class StopRequest:
    """Somebody's wish that a run be stopped, which may come while it is watched."""

    reason: StopReason | None = None


class Leasing:
    """Gets machines and gives them back."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def place(self, request: RunJobInput, workflow_id: str) -> Plan:
        """Ask where and when the job runs; what else was weighed is left out, for the workflow's history need not hold it."""
        plan = await self._world.placing.place(request, workflow_id)
        return plan.model_copy(update={"alternatives": ()})

    async def provision(self, attempt: Attempt) -> None:
        """Get the attempt's machine, with the job's files on it."""
        lease, source = attempt.lease, attempt.job.source
        provider = self._world.provider(lease.provider)
        archive = await self._world.sources.fetch(lease.tenant, source) if source else None
        acquired = await provider.provision(lease, archive)
        await self._world.announcer.tell(facts.lease_acquired(lease, host=acquired.host, at=acquired.at))

    async def tear_down(self, lease: Lease, because: str, *, again: bool = False) -> None:
        """Give the machine back. A lease that was never got needs nothing, but `again`, it may be gone and that not yet told."""
        provider = self._world.providers.get(lease.provider)
        if provider is None or not (again or await _is_held(provider, lease)):
            return
        await provider.tear_down(lease.lease_id)
        log.info("lease released", lease_id=lease.lease_id, run_id=lease.run_id, because=because)
        await self._world.announcer.tell(facts.lease_released(lease, because=because, at=self._world.clock.now()))

    async def reconcile(self) -> None:
        """Give back the machines whose workflow is gone, whoever got them."""
        for lease in await _held(self._world.providers.values()):
            try:
                if not await self._world.workflows.is_live(lease):
                    await self.tear_down(lease, "its workflow is gone")
            except ErgonautError as error:
                log.warning("lease not reconciled", lease_id=lease.lease_id, error=str(error))

    async def ask_all_to_stop(self) -> None:
        """Ask every program on this machine to end, as preempted, and return at once."""
        for lease in await _held(self._providers_here()):
            await self._world.provider(lease.provider).ask_to_stop(lease.lease_id, StopReason.PREEMPTED)

    async def interrupt_all(self) -> None:
        """Stop every program on this machine, as preempted; return when all have ended."""
        await self.ask_all_to_stop()
        for lease in await _held(self._providers_here()):
            while (await self._world.provider(lease.provider).observe(lease.lease_id)).state is LeaseState.RUNNING:
                await self._world.clock.sleep(0.1)

    def _providers_here(self) -> list[Provider]:
        return [provider for provider in self._world.providers.values() if provider.on_this_machine]


async def _is_held(provider: Provider, lease: Lease) -> bool:
    return (await provider.observe(lease.lease_id)).state is not LeaseState.ABSENT


async def _held(providers: Iterable[Provider]) -> list[Lease]:
    return [lease for provider in providers for lease in await provider.held()]


class Running:
    """Starts programs and watches over them."""

    def __init__(self, world: World, bounds: Bounds) -> None:
        self._world = world
        self._bounds = bounds

    async def start(self, attempt: Attempt) -> None:
        """Start the attempt's program, once."""
        lease = attempt.lease
        started = await self._world.provider(lease.provider).start(lease.lease_id, program_of(attempt))
        log.info("run started", run_id=lease.run_id, job_id=lease.job_id, attempt=attempt.number)
        await self._world.announcer.tell(facts.run_started(attempt, host=started.host, at=started.at))

    async def watch(self, attempt: Attempt, beat: Callable[[], None], stop: StopRequest) -> RunEnd:
        """Return when the program has ended. `beat` is called at every look; `stop` may be filled in meanwhile."""
        newest = Newest()
        telling = asyncio.create_task(self._tell_progress(attempt.lease, newest))
        try:
            end = await self._watch(attempt, beat, stop, newest)
        finally:
            telling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await telling
        _ended.labels(end.kind).inc()
        log.info("run ended", run_id=attempt.lease.run_id, kind=end.kind, because=end.because)
        return end

    async def _watch(self, attempt: Attempt, beat: Callable[[], None], stop: StopRequest, newest: "Newest") -> RunEnd:
        provider, lease_id, clock = (
            self._world.provider(attempt.lease.provider),
            attempt.lease.lease_id,
            self._world.clock,
        )
        ear = Ear(provider, lease_id)
        asked_at: float | None = None
        while True:
            beat()
            seen = await provider.observe(lease_id)
            # The journal is read after the look, so that a run seen as ended has told all that it will ever tell.
            await ear.listen(to_the_end=seen.state is not LeaseState.RUNNING, beat=beat)
            if end := end_of(seen, ear.telling, clock.now()):
                return end
            newest.put(ear.telling, ear.offset)
            await provider.renew(lease_id)
            if reason := reason_to_stop(attempt, stop.reason, clock.now()):
                asked_at = clock.monotonic() if asked_at is None else asked_at
                await provider.ask_to_stop(lease_id, reason)
                if clock.monotonic() - asked_at > STOP_PATIENCE_SECONDS:
                    return given_up(seen, reason, ear.telling, clock.now())
            await clock.sleep(self._bounds.look_interval_seconds)

    async def _tell_progress(self, lease: Lease, newest: "Newest") -> None:
        """Tell the newest words; when the bus is away the older ones are passed over, for only the newest matter."""
        while True:
            telling, offset = await newest.get()
            try:
                at = self._world.clock.now()
                await self._world.announcer.tell(facts.run_progressed(lease, telling, offset=offset, at=at))
            except Unavailable as error:
                log.warning("progress not told", run_id=lease.run_id, error=str(error))
            await self._world.clock.sleep(self._bounds.look_interval_seconds)


class Ear:
    """Listens to a run's journal."""

    def __init__(self, provider: Provider, lease_id: str) -> None:
        self._provider = provider
        self._lease_id = lease_id
        self.telling = Telling()
        self.offset = 0

    async def listen(self, *, to_the_end: bool, beat: Callable[[], None]) -> None:
        """Hear the next block, or all that is left; a program that never stops writing must not hold up the look at it."""
        while True:
            entries, offset = await self._provider.told(self._lease_id, self.offset)
            is_end = offset == self.offset
            self.telling, self.offset = self.telling.after(entries), offset
            if is_end or not to_the_end:
                return
            beat()


class Newest:
    """A place for one thing: what comes later replaces what nobody has taken."""

    def __init__(self) -> None:
        self._telling = Telling()
        self._offset = 0
        self._fresh = asyncio.Event()

    def put(self, telling: Telling, offset: int) -> None:
        """Lay down what is newest, if it is new."""
        if offset != self._offset:
            self._telling, self._offset = telling, offset
            self._fresh.set()

    async def get(self) -> tuple[Telling, int]:
        """Wait for something new and take it."""
        await self._fresh.wait()
        self._fresh.clear()
        return self._telling, self._offset


def artifact_name(run_id: str, path: str) -> str:
    """The name under which a run's file is kept, and under which anybody fetches it."""
    return f"{run_id}/{path}"


class Keeping:
    """Keeps what runs leave, and tells how they ended."""

    def __init__(self, world: World, bounds: Bounds) -> None:
        self._world = world
        self._bounds = bounds

    async def collect(self, attempt: Attempt) -> Collected:
        """Keep the run's files and outputs, within bounds."""
        lease, bounds = attempt.lease, self._bounds
        provider = self._world.provider(lease.provider)
        await self._keep_logs(provider, lease)
        found = await provider.files(lease.lease_id, attempt.job.artifacts)
        kept, said = within_bounds(found, count_max=bounds.artifacts_count_max, bytes_max=bounds.artifacts_bytes_max)
        for file in kept:
            with await provider.open_file(lease.lease_id, file.path) as content:
                await self._world.artifacts.keep(lease.tenant, artifact_name(lease.run_id, file.path), content)
        return Collected(tuple(artifact_name(lease.run_id, file.path) for file in kept), said)

    async def _keep_logs(self, provider: Provider, lease: Lease) -> None:
        """What the program wrote; no run's name is `logs`, so that no artifact can be in the way."""
        for name in LOGS:
            with contextlib.suppress(NotFound), await provider.open_log(lease.lease_id, name) as content:
                await self._world.artifacts.keep(lease.tenant, f"logs/{lease.run_id}/{name}", content)

    async def tell_ended(self, ending: Ending) -> None:
        """Tell how an attempt ended: preempted with another to follow, or for good."""
        preempted = ending.end.kind is EndKind.PREEMPTED
        await self._world.announcer.tell(facts.run_preempted(ending) if preempted else facts.run_finished(ending))
