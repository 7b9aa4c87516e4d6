"""The Temporal workflows of the orchestrator: they wait and choose; all that touches the world is an activity."""

from ergonaut_orchestrator.workflows.patience import Patience
from ergonaut_orchestrator.workflows.retraining import Retraining
from ergonaut_orchestrator.workflows.rollout import Rollout
from ergonaut_orchestrator.workflows.run_job import RunJob
from ergonaut_orchestrator.workflows.serving import Serving

__all__ = ["Patience", "Retraining", "Rollout", "RunJob", "Serving"]
