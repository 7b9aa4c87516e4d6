"""The Temporal door: each activity calls one use case and tells Temporal whether trying again helps. For `workflows`."""

from ergonaut_orchestrator.activities.retraining import RetrainingActivities
from ergonaut_orchestrator.activities.rollouts import RolloutActivities
from ergonaut_orchestrator.activities.running import Activities
from ergonaut_orchestrator.activities.serving import ServingActivities

__all__ = ["Activities", "RetrainingActivities", "RolloutActivities", "ServingActivities"]
