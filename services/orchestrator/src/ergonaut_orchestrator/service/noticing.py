"""Passes what the gateway finds of a model on to the workflow that retrains it, where there is one. Called by `listeners`."""

from ergonaut.events import DriftFound, QualityChanged
from ergonaut.retraining import DRIFTED_SIGNAL, Drifted, retraining_workflow_id
from ergonaut_common.observe import get_logger
from ergonaut_orchestrator.ports import Workflows

log = get_logger(__name__)


class Noticing:
    """Lets drift cause retrainings. The workflow hears an event once, so all may be repeated."""

    def __init__(self, workflows: Workflows) -> None:
        self._workflows = workflows

    async def drift_found(self, event: DriftFound) -> None:
        """A model drifts. Raises Unavailable where Temporal is away."""
        because = (
            f"{event.feature} drifts: {event.statistic} {event.value:.3g} of {event.threshold:.3g}, "
            f"{event.features_drifting} of {event.features_watched} features"
        )
        await self._pass_on(
            event.tenant, event.model, Drifted(event_id=event.event_id, version=event.version, because=because)
        )

    async def quality_changed(self, event: QualityChanged) -> None:
        """A model does worse, or better, which needs nothing."""
        if not event.is_worse:
            return
        because = (
            f"{event.metric} {event.value:.4g} where it was {event.baseline:.4g}, on {event.window_rows} labelled rows"
        )
        await self._pass_on(
            event.tenant, event.model, Drifted(event_id=event.event_id, version=event.version, because=because)
        )

    async def _pass_on(self, tenant: str, model: str, drifted: Drifted) -> None:
        reached = await self._workflows.signal(retraining_workflow_id(tenant, model), DRIFTED_SIGNAL, drifted)
        log.info("drift passed on", model=model, version=drifted.version, reached=reached, because=drifted.because)
