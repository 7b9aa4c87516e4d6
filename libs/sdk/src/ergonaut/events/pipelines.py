"""Pipelines, which are graphs of models that are asked as one. Emitted by `gateway`."""

from typing import ClassVar

from pydantic import Field

from ergonaut.events.base import Event, Name


class PipelineChanged(Event):
    """A pipeline is served as it is now from now on."""

    TYPE: ClassVar[str] = "models.pipeline.changed"

    pipeline: Name
    revision: int = Field(ge=1, description="Counts up with each change.")
    changed_by: str = ""
    models: tuple[Name, ...] = Field(default=(), description="The models that it asks, each once.")

    @property
    def key(self) -> str:
        return self.pipeline


class PipelineRemoved(Event):
    """A pipeline is served no longer; its models are."""

    TYPE: ClassVar[str] = "models.pipeline.removed"

    pipeline: Name

    @property
    def key(self) -> str:
        return self.pipeline
