"""The ports that the use cases share, and the bounds that they keep."""

from collections.abc import Mapping
from dataclasses import dataclass

from ergonaut.errors import Refused
from ergonaut_common.clock import Clock
from ergonaut_orchestrator.domain import StopReason
from ergonaut_orchestrator.domain.replicas import GatewayProgram
from ergonaut_orchestrator.ports import Announcer, Artifacts, Placing, Provider, Sources, Workflows


@dataclass(frozen=True, slots=True)
class Bounds:
    """How often runs are looked at and how much of them is kept."""

    look_interval_seconds: float = 1.0
    artifacts_count_max: int = 256
    artifacts_bytes_max: int = 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class World:
    """All ports that the use cases share."""

    placing: Placing
    providers: Mapping[str, Provider]
    sources: Sources
    artifacts: Artifacts
    announcer: Announcer
    workflows: Workflows
    clock: Clock
    gateway: GatewayProgram | None = None
    """The program of replicas; None where none can be started here."""

    def provider(self, name: str) -> Provider:
        """A provider by name. Raises Refused naming it."""
        if name not in self.providers:
            known = ", ".join(sorted(self.providers))
            raise Refused(f"{name!r} has no adapter here; known are {known}", field="provider")
        return self.providers[name]


@dataclass(slots=True)
class StopRequest:
    """Somebody's wish that a run be stopped, which may come while it is watched."""

    reason: StopReason | None = None
