"""The NATS door: what runs tell keeps their jobs' records in step, and what budgets tell keeps jobs from starting."""

from ergonaut.events import (
    BudgetExceeded,
    BudgetRenewed,
    RunFinished,
    RunPaused,
    RunPreempted,
    RunProgressed,
    RunStarted,
)
from ergonaut_common.bus import Listeners
from ergonaut_scheduler.service import Following, Spending


def listeners(following: Following) -> Listeners:
    """Every event that the scheduler handles one by one."""
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


def followed(spending: Spending) -> Listeners:
    """The events of which only the newest of each budget matters, so they are followed and not queued."""
    heard = Listeners("scheduler")

    @heard.on(BudgetExceeded)
    async def exceeded(event: BudgetExceeded) -> None:
        spending.exceeded(event)

    @heard.on(BudgetRenewed)
    async def renewed(event: BudgetRenewed) -> None:
        spending.renewed(event)

    return heard
