"""The NATS door: what budgets say is passed on to the workflows of the jobs concerned, and drift to those that retrain."""

from ergonaut.events import BudgetExceeded, BudgetRenewed, DriftFound, QualityChanged
from ergonaut_common.bus import Listeners
from ergonaut_orchestrator.service import Noticing, Steering


def listeners(steering: Steering, noticing: Noticing) -> Listeners:
    """Every event that the orchestrator listens to."""
    heard = Listeners("orchestrator")

    # Nobody else stops or resumes a job for its budget, so no outage of Temporal may be too long.
    @heard.on(BudgetExceeded, gives_up=False)
    async def exceeded(event: BudgetExceeded) -> None:
        await steering.exceeded(event)

    @heard.on(BudgetRenewed, gives_up=False)
    async def renewed(event: BudgetRenewed) -> None:
        await steering.renewed(event)

    # Told once an episode: what is not passed on now is not told again.
    @heard.on(DriftFound, gives_up=False)
    async def drift_found(event: DriftFound) -> None:
        await noticing.drift_found(event)

    @heard.on(QualityChanged, gives_up=False)
    async def quality_changed(event: QualityChanged) -> None:
        await noticing.quality_changed(event)

    return heard
