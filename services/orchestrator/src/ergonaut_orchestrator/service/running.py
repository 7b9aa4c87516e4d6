"""Starts programs and watches over them until they have ended."""

import asyncio
from collections.abc import Callable

from prometheus_client import Counter, Gauge

from ergonaut.errors import Unavailable
from ergonaut_common.lifetimes import stopped
from ergonaut_common.observe import get_logger
from ergonaut_orchestrator.domain import (
    Attempt,
    Lease,
    LeaseState,
    RunEnd,
    Telling,
    end_of,
    facts,
    given_up,
    program_of,
    reason_to_stop,
)
from ergonaut_orchestrator.domain.replicas import replica_program
from ergonaut_orchestrator.ports import Provider
from ergonaut_orchestrator.service.phases import Phases, Told
from ergonaut_orchestrator.service.world import Bounds, StopRequest, World

STOP_PATIENCE_SECONDS = 900.0
"""Longer than any grace; a program that has not ended then is left to the tear-down, which does not ask."""

log = get_logger(__name__)
_under_way = Gauge("ergonaut_orchestrator_runs", "Programs that are watched over now.")
_ended = Counter("ergonaut_orchestrator_runs_ended_total", "Attempts that ended, by how.", ["kind"])


class Running:
    """Starts programs and watches over them."""

    def __init__(self, world: World, bounds: Bounds) -> None:
        self._world = world
        self._bounds = bounds

    async def start(self, attempt: Attempt) -> None:
        """Start the attempt's program, once."""
        lease = attempt.lease
        program = replica_program(attempt, self._world.gateway) if attempt.replica_of else program_of(attempt)
        started = await self._world.provider(lease.provider).start(lease.lease_id, program)
        log.info("run started", run_id=lease.run_id, job_id=lease.job_id, attempt=attempt.number)
        await self._world.announcer.tell(facts.run_started(attempt, host=started.host, at=started.at))

    async def watch(
        self, attempt: Attempt, beat: Callable[[], None], stop: StopRequest, told: Told | None = None
    ) -> RunEnd:
        """Return when the program has ended. `beat` is called at every look; `stop` and `told` may change meanwhile.

        Raises Unavailable where the phases of a run that has ended cannot be told now; watching it again tells them.
        """
        phases = Phases(self._world, attempt.lease, told or Told())
        ear = Ear(self._world.provider(attempt.lease.provider), attempt.lease.lease_id, phases)
        newest = Newest()
        telling = [
            asyncio.create_task(self._tell_progress(attempt.lease, newest)),
            asyncio.create_task(self._tell_phases(phases)),
        ]
        try:
            with _under_way.track_inprogress():
                end = await self._watch(attempt, beat, stop, ear, newest)
        finally:
            for task in telling:
                await stopped(task)
        await phases.tell_all()
        _ended.labels(end.kind).inc()
        log.info("run ended", run_id=attempt.lease.run_id, kind=end.kind, because=end.because)
        return end

    async def _watch(
        self, attempt: Attempt, beat: Callable[[], None], stop: StopRequest, ear: "Ear", newest: "Newest"
    ) -> RunEnd:
        provider, lease_id, clock = (
            self._world.provider(attempt.lease.provider),
            attempt.lease.lease_id,
            self._world.clock,
        )
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
            if reason := reason_to_stop(attempt, stop.reason, seen.asked_for, clock.now()):
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

    async def _tell_phases(self, phases: Phases) -> None:
        """Tell which phases have ended, now and again."""
        while True:
            await self._world.clock.sleep(self._bounds.look_interval_seconds)
            await phases.tell_due(self._world.clock.now())


class Ear:
    """Listens to a run's journal."""

    def __init__(self, provider: Provider, lease_id: str, phases: Phases) -> None:
        self._provider = provider
        self._lease_id = lease_id
        self.phases = phases
        self.telling = Telling()
        self.offset = 0

    async def listen(self, *, to_the_end: bool, beat: Callable[[], None]) -> None:
        """Hear the next block, or all that is left; a program that never stops writing must not hold up the look at it."""
        while True:
            entries, offset = await self._provider.told(self._lease_id, self.offset)
            is_end = offset == self.offset
            self.telling, self.offset = self.telling.after(entries), offset
            self.phases.hear(entries)
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
