"""The events that services emit, as typed contracts: one file an area, one class an event, its subject in the class.

A subject is `ergonaut.v1.<tenant>.<area>.<noun>.<past-verb>.<key>`. Readers ignore fields that they do not know; within v1 only
optional fields are added; `events/schemas/*.json` hold what has been promised, and a test compares.
"""

from ergonaut.events.base import EVENT_TYPES, PUBLIC_TENANT, Event, subject_of
from ergonaut.events.inference import InferenceServed, ModelDeployed, ModelRemoved
from ergonaut.events.jobs import JobCancelled, JobPlaced, JobRefused, JobSubmitted
from ergonaut.events.leases import LeaseAcquired, LeaseReleased
from ergonaut.events.ledger import (
    AnomalyFound,
    BudgetChanged,
    BudgetExceeded,
    BudgetRenewed,
    BudgetWarned,
)
from ergonaut.events.pricing import IntensityChanged, OfferChanged
from ergonaut.events.runs import (
    PhasesFinished,
    PhaseSpan,
    RunFinished,
    RunPaused,
    RunPreempted,
    RunProgressed,
    RunStarted,
)
from ergonaut.events.streams import STREAMS, StreamSpec
from ergonaut.events.telemetry import HostReported, PowerSample, PowerSampled
from ergonaut.events.vectors import CollectionCreated, CollectionDropped

__all__ = [
    "EVENT_TYPES",
    "PUBLIC_TENANT",
    "STREAMS",
    "AnomalyFound",
    "BudgetChanged",
    "BudgetExceeded",
    "BudgetRenewed",
    "BudgetWarned",
    "CollectionCreated",
    "CollectionDropped",
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
    "ModelDeployed",
    "ModelRemoved",
    "OfferChanged",
    "PhaseSpan",
    "PhasesFinished",
    "PowerSample",
    "PowerSampled",
    "RunFinished",
    "RunPaused",
    "RunPreempted",
    "RunProgressed",
    "RunStarted",
    "StreamSpec",
    "subject_of",
]
