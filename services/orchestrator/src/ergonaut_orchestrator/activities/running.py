"""What `RunJob` may have done in the world; each activity calls one use case."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from temporalio import activity

from ergonaut.jobs import Plan
from ergonaut.workflows import RunJobInput
from ergonaut_orchestrator.activities.working import at_work, translated
from ergonaut_orchestrator.domain import Attempt, Collected, Ending, Lease, RunEnd, Saved, StopReason
from ergonaut_orchestrator.service import Keeping, Leasing, Running, StopRequest, Told


class Activities:
    """What the workflow may have done in the world. Every one may be repeated."""

    def __init__(self, leasing: Leasing, running: Running, keeping: Keeping) -> None:
        self._leasing = leasing
        self._running = running
        self._keeping = keeping

    def all(self) -> Sequence[Any]:
        """All of them, as a worker wants them."""
        return [
            self.place,
            self.provision,
            self.start,
            self.watch,
            self.ask_to_stop,
            self.save,
            self.drop_checkpoint,
            self.collect,
            self.tear_down,
            self.tell_ended,
        ]

    @activity.defn
    async def place(self, request: RunJobInput) -> Plan:
        """Choose an offer and a start time."""
        async with at_work():
            return await self._leasing.place(request, activity.info().workflow_id or "")

    @activity.defn
    async def provision(self, attempt: Attempt) -> None:
        """Get the machine, with the job's files on it."""
        async with at_work():
            await self._leasing.provision(attempt)

    @activity.defn
    async def start(self, attempt: Attempt) -> None:
        """Start the program, once."""
        async with at_work():
            await self._running.start(attempt)

    @activity.defn
    async def watch(self, attempt: Attempt) -> RunEnd:
        """Stay with the program until it has ended, through cancellation and through this worker's own leaving."""
        stop, told = StopRequest(), Told(_phases_told_before())
        watching = asyncio.create_task(self._running.watch(attempt, _beat_for(stop, told), stop, told))
        while True:
            try:
                with translated():
                    return await asyncio.shield(watching)
            except asyncio.CancelledError:
                stop.reason = stop.reason or _why_cancelled()
                if stop.reason is None or watching.cancelled():
                    # Another attempt at this activity watches now, or nobody wants to know; the program is not ours to stop.
                    watching.cancel()
                    raise

    @activity.defn
    async def ask_to_stop(self, lease: Lease, reason: StopReason) -> None:
        """Let a wish reach the program at once, not only at the watch's next look."""
        async with at_work():
            await self._leasing.ask_to_stop(lease, reason)

    @activity.defn
    async def save(self, attempt: Attempt) -> Saved:
        """Keep what an interrupted attempt leaves for the next one."""
        async with at_work():
            return await self._keeping.save(attempt)

    @activity.defn
    async def drop_checkpoint(self, tenant: str, checkpoint: str) -> None:
        """Keep a checkpoint no longer."""
        async with at_work():
            await self._keeping.drop(tenant, checkpoint)

    @activity.defn
    async def collect(self, attempt: Attempt) -> Collected:
        """Keep the files that the run leaves."""
        async with at_work():
            return await self._keeping.collect(attempt)

    @activity.defn
    async def tear_down(self, lease: Lease, because: str) -> None:
        """Give the machine back."""
        async with at_work():
            await self._leasing.tear_down(lease, because, again=activity.info().attempt > 1)

    @activity.defn
    async def tell_ended(self, ending: Ending) -> None:
        """Announce how an attempt ended."""
        async with at_work():
            await self._keeping.tell_ended(ending)


def _phases_told_before() -> int:
    """How many phases the watch before this one had told, as its last heartbeat says."""
    details = activity.info().heartbeat_details
    return details[0] if details and isinstance(details[0], int) else 0


def _beat_for(stop: StopRequest, told: Told) -> Callable[[], None]:
    """A heartbeat that also notices that this worker is told to leave: what runs here must not outlive it."""

    def beat() -> None:
        activity.heartbeat(told.phases)
        if activity.is_worker_shutdown():
            stop.reason = stop.reason or StopReason.PREEMPTED

    return beat


def _why_cancelled() -> StopReason | None:
    """Why this activity was cancelled, where that concerns the program."""
    details = activity.cancellation_details()
    if details is not None and details.cancel_requested:
        return StopReason.CANCELLED
    return StopReason.PREEMPTED if activity.is_worker_shutdown() else None
