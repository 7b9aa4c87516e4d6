"""Rollouts: new versions of models that take over endpoints, or are taken back. Emitted by `orchestrator`."""

from typing import ClassVar

from pydantic import Field

from ergonaut.events.base import Event, Name
from ergonaut.rollouts import ArmFigures


class RolloutStarted(Event):
    """A new version gets its first share of an endpoint's requests."""

    TYPE: ClassVar[str] = "models.rollout.started"

    endpoint: Name
    model: Name
    version: int = Field(ge=1, description="The new version.")
    champion_model: Name = Field(description="What the endpoint served before.")
    champion_version: int = Field(ge=0, description="Its version; 0 where it was not known.")
    shares: tuple[float, ...] = Field(description="Of the requests that the new version gets, step by step.")
    because: str = ""

    @property
    def key(self) -> str:
        return self.endpoint


class RolloutPromoted(Event):
    """A new version has taken over an endpoint."""

    TYPE: ClassVar[str] = "models.rollout.promoted"

    endpoint: Name
    model: Name
    version: int = Field(ge=1)
    champion_model: Name
    champion_version: int = Field(ge=0)
    revision: int = Field(ge=0, description="The endpoint's revision that this made; 0 where it is not known.")
    champion: ArmFigures = Field(default=ArmFigures(), description="What the version before did in the last step.")
    canary: ArmFigures = Field(default=ArmFigures(), description="What the new one did in it.")
    because: str = ""

    @property
    def key(self) -> str:
        return self.endpoint


class RolloutReverted(Event):
    """A new version was taken back, or somebody changed the endpoint meanwhile and that stands."""

    TYPE: ClassVar[str] = "models.rollout.reverted"

    endpoint: Name
    model: Name
    version: int = Field(ge=1)
    champion_model: Name
    champion_version: int = Field(ge=0)
    is_overtaken: bool = Field(default=False, description="Whether somebody changed the endpoint meanwhile.")
    step: int = Field(default=0, ge=0, description="In which step, from 1; 0 before the first.")
    champion: ArmFigures = ArmFigures()
    canary: ArmFigures = ArmFigures()
    because: str = ""

    @property
    def key(self) -> str:
        return self.endpoint
