"""The NATS door: what runs tell keeps their jobs' records in step."""

from ergonaut.events import RunFinished, RunPaused, RunPreempted, RunProgressed, RunStarted
from ergonaut_common.bus import Listeners
from ergonaut_scheduler.service import Following


def listeners(following: Following) -> Listeners:
    """Every event that the scheduler listens to."""
    heard = Listeners("scheduler")

    @heard.on(RunStarted)
    async def started(event: RunStarted) -> None:
        await following.started(event)

    @heard.on(RunProgressed)
    async def progressed(event: RunProgressed) -> None:
        await following.progressed(event)

    @heard.on(RunPreempted)
    async def preempted(event: RunPreempted) -> None:
        await following.preempted(event)

    @heard.on(RunPaused)
    async def paused(event: RunPaused) -> None:
        await following.paused(event)

    @heard.on(RunFinished)
    async def finished(event: RunFinished) -> None:
        await following.finished(event)

    return heard
