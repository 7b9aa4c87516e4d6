"""Passes what budgets ask for on to the workflows of the jobs concerned. Called by `listeners`."""

from collections.abc import Iterable

from ergonaut.events import BudgetExceeded, BudgetRenewed
from ergonaut.jobs import BudgetAction
from ergonaut.workflows import PAUSE_SIGNAL, RESUME_SIGNAL, STOP_SIGNAL, Asked, job_workflow_id
from ergonaut_common.observe import get_logger
from ergonaut_orchestrator.service.world import World

_SIGNALS = {BudgetAction.PAUSE: PAUSE_SIGNAL, BudgetAction.STOP: STOP_SIGNAL}

log = get_logger(__name__)


class Steering:
    """Lets budgets pause, stop and resume jobs. A workflow takes the same wish twice as one, so all may be repeated."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def exceeded(self, event: BudgetExceeded) -> None:
        """A budget is used up: do with its jobs what it says. Raises Unavailable where Temporal is away."""
        signal = _SIGNALS.get(event.action)
        if signal is None:
            return
        asked = Asked(because=event.because, budget_id=event.budget_id, asked_at=event.occurred_at)
        await self._signal_all(event.tenant, event.job_ids, signal, asked)

    async def renewed(self, event: BudgetRenewed) -> None:
        """A budget is there again: what it had paused may go on; what others had paused stays so."""
        asked = Asked(because=event.because, budget_id=event.budget_id, asked_at=event.occurred_at)
        await self._signal_all(event.tenant, event.job_ids, RESUME_SIGNAL, asked)

    async def _signal_all(self, tenant: str, job_ids: Iterable[str], signal: str, asked: Asked) -> None:
        held = await self._workflows_here(tenant)
        for job_id in job_ids:
            for workflow_id in held.get(job_id, {job_workflow_id(tenant, job_id)}):
                reached = await self._world.workflows.signal(workflow_id, signal, asked)
                log.info("wish passed on", wish=signal, job_id=job_id, budget_id=asked.budget_id, reached=reached)

    async def _workflows_here(self, tenant: str) -> dict[str, set[str]]:
        """By job, the workflows that hold machines: one that somebody started by hand may have any id."""
        found: dict[str, set[str]] = {}
        for provider in self._world.providers.values():
            for lease in await provider.held():
                if lease.tenant == tenant:
                    found.setdefault(lease.job_id, set()).add(lease.workflow_id)
        return found
