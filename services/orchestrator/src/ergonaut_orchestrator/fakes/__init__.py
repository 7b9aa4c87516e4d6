"""In-memory stand-ins for the ports. Each passes the same contract test as the adapter that it stands for."""

from ergonaut_orchestrator.fakes.gateways import FakeGateways
from ergonaut_orchestrator.fakes.running import (
    EXIT_CODES,
    FakeAnnouncer,
    FakeArtifacts,
    FakePlacing,
    FakeProvider,
    FakeSources,
    FakeWorkflows,
)
from ergonaut_orchestrator.fakes.serving import FakeLineages, FakeServedModels, FakeTraffic

__all__ = [
    "EXIT_CODES",
    "FakeAnnouncer",
    "FakeArtifacts",
    "FakeGateways",
    "FakeLineages",
    "FakePlacing",
    "FakeProvider",
    "FakeServedModels",
    "FakeSources",
    "FakeTraffic",
    "FakeWorkflows",
]
