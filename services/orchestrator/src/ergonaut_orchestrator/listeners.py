"""The NATS door: what budgets say is passed on to the workflows of the jobs concerned."""

from ergonaut.events import BudgetExceeded, BudgetRenewed
from ergonaut_common.bus import Listeners
from ergonaut_orchestrator.service import Steering


def listeners(steering: Steering) -> Listeners:
    """Every event that the orchestrator listens to."""
    heard = Listeners("orchestrator")

    # Nobody else stops or resumes a job for its budget, so no outage of Temporal may be too long.
    @heard.on(BudgetExceeded, gives_up=False)
    async def exceeded(event: BudgetExceeded) -> None:
        await steering.exceeded(event)

    @heard.on(BudgetRenewed, gives_up=False)
    async def renewed(event: BudgetRenewed) -> None:
        await steering.renewed(event)

    return heard
