"""The events that services emit, as typed contracts: one file an area, one class an event, its subject in the class.

A subject is `ergonaut.v1.<tenant>.<area>.<noun>.<past-verb>.<key>`. Readers ignore fields that they do not know; within v1 only
optional fields are added; `events/schemas/*.json` hold what has been promised, and a test compares.

An area is loaded when one of its names is first used: a tracker needs two of them, and each takes its time to build.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ergonaut.events.base import PUBLIC_TENANT, Event, subject_of
from ergonaut.events.streams import STREAMS, StreamSpec

if TYPE_CHECKING:
    from ergonaut.events.base import EVENT_TYPES
    from ergonaut.events.completions import CompletionsServed
    from ergonaut.events.endpoints import EndpointChanged, EndpointRemoved
    from ergonaut.events.inference import InferenceServed, ModelAliased, ModelDeployed, ModelRemoved
    from ergonaut.events.jobs import JobCancelled, JobPlaced, JobRefused, JobSubmitted
    from ergonaut.events.leases import LeaseAcquired, LeaseReleased
    from ergonaut.events.ledger import (
        AnomalyFound,
        BudgetChanged,
        BudgetExceeded,
        BudgetRenewed,
        BudgetWarned,
    )
    from ergonaut.events.pipelines import PipelineChanged, PipelineRemoved
    from ergonaut.events.pricing import IntensityChanged, OfferChanged
    from ergonaut.events.quality import DriftFound, QualityChanged, RequestsLogged
    from ergonaut.events.retraining import RetrainingFinished
    from ergonaut.events.rollouts import RolloutPromoted, RolloutReverted, RolloutStarted
    from ergonaut.events.runs import (
        PhasesFinished,
        PhaseSpan,
        RunFinished,
        RunPaused,
        RunPreempted,
        RunProgressed,
        RunStarted,
    )
    from ergonaut.events.telemetry import HostReported, PowerSample, PowerSampled
    from ergonaut.events.vectors import CollectionChanged, CollectionCreated, CollectionDropped, CollectionKept

_AREAS = {
    "completions": ("CompletionsServed",),
    "endpoints": ("EndpointChanged", "EndpointRemoved"),
    "inference": ("InferenceServed", "ModelAliased", "ModelDeployed", "ModelRemoved"),
    "jobs": ("JobCancelled", "JobPlaced", "JobRefused", "JobSubmitted"),
    "leases": ("LeaseAcquired", "LeaseReleased"),
    "ledger": ("AnomalyFound", "BudgetChanged", "BudgetExceeded", "BudgetRenewed", "BudgetWarned"),
    "pipelines": ("PipelineChanged", "PipelineRemoved"),
    "pricing": ("IntensityChanged", "OfferChanged"),
    "quality": ("DriftFound", "QualityChanged", "RequestsLogged"),
    "retraining": ("RetrainingFinished",),
    "rollouts": ("RolloutPromoted", "RolloutReverted", "RolloutStarted"),
    "runs": ("PhasesFinished", "PhaseSpan", "RunFinished", "RunPaused", "RunPreempted", "RunProgressed", "RunStarted"),
    "telemetry": ("HostReported", "PowerSample", "PowerSampled"),
    "vectors": ("CollectionChanged", "CollectionCreated", "CollectionDropped", "CollectionKept"),
}
_HOMES = {name: f"ergonaut.events.{area}" for area, names in _AREAS.items() for name in names}

__all__ = [
    "EVENT_TYPES",
    "PUBLIC_TENANT",
    "STREAMS",
    "AnomalyFound",
    "BudgetChanged",
    "BudgetExceeded",
    "BudgetRenewed",
    "BudgetWarned",
    "CollectionChanged",
    "CollectionCreated",
    "CollectionDropped",
    "CollectionKept",
    "CompletionsServed",
    "DriftFound",
    "EndpointChanged",
    "EndpointRemoved",
    "Event",
    "HostReported",
    "InferenceServed",
    "IntensityChanged",
    "JobCancelled",
    "JobPlaced",
    "JobRefused",
    "JobSubmitted",
    "LeaseAcquired",
    "LeaseReleased",
    "ModelAliased",
    "ModelDeployed",
    "ModelRemoved",
    "OfferChanged",
    "PhaseSpan",
    "PhasesFinished",
    "PipelineChanged",
    "PipelineRemoved",
    "PowerSample",
    "PowerSampled",
    "QualityChanged",
    "RequestsLogged",
    "RetrainingFinished",
    "RolloutPromoted",
    "RolloutReverted",
    "RolloutStarted",
    "RunFinished",
    "RunPaused",
    "RunPreempted",
    "RunProgressed",
    "RunStarted",
    "StreamSpec",
    "subject_of",
]


def __getattr__(name: str) -> Any:
    if name == "EVENT_TYPES":
        # Whoever looks a type up by its name must find it, whichever area it is of.
        value: Any = _every_type()
    elif name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'ergonaut.events' has no attribute {name!r}")
    globals()[name] = value
    return value


def _every_type() -> dict[str, type[Event]]:
    for area in _AREAS:
        importlib.import_module(f"ergonaut.events.{area}")
    return importlib.import_module("ergonaut.events.base").EVENT_TYPES  # type: ignore[no-any-return]
