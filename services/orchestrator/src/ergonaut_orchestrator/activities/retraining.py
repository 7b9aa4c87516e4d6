"""What `Retraining` may have done in the world; each activity calls one use case. Every one may be repeated."""

from collections.abc import Sequence
from typing import Any

from temporalio import activity

from ergonaut.events.retraining import RetrainingFinished
from ergonaut.retraining import Compared
from ergonaut_orchestrator.activities.working import at_work
from ergonaut_orchestrator.domain.trials import Deployed, Trained, Trial
from ergonaut_orchestrator.service import Judging


class RetrainingActivities:
    """The steps of a retraining that are no job and no rollout."""

    def __init__(self, judging: Judging) -> None:
        self._judging = judging

    def all(self) -> Sequence[Any]:
        """All of them, as a worker wants them."""
        return [self.deploy_challenger, self.validate_challenger, self.turn_down, self.tell_retraining_finished]

    @activity.defn
    async def deploy_challenger(self, trained: Trained) -> Deployed:
        """Serve the new version beside the champion."""
        async with at_work():
            return await self._judging.deploy(trained)

    @activity.defn
    async def validate_challenger(self, trial: Trial) -> Compared:
        """Ask both the same rows."""
        async with at_work():
            return await self._judging.validate(trial)

    @activity.defn
    async def turn_down(self, tenant: str, model: str, version: int) -> None:
        """Call the version the challenger no longer."""
        async with at_work():
            await self._judging.turn_down(tenant, model, version)

    @activity.defn
    async def tell_retraining_finished(self, event: RetrainingFinished) -> None:
        """Announce it."""
        async with at_work():
            await self._judging.tell(event)
