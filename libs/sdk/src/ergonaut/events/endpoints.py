"""Endpoints, which send requests to versions of models by routes. Emitted by `gateway`."""

from typing import ClassVar

from pydantic import Field

from ergonaut.events.base import Event, Name


class EndpointChanged(Event):
    """An endpoint sends its requests by these routes from now on."""

    TYPE: ClassVar[str] = "models.endpoint.changed"

    endpoint: Name
    revision: int = Field(ge=1, description="Counts up with each change.")
    changed_by: str = ""
    because: str = ""
    shares: dict[str, float] = Field(
        default_factory=dict, description="Share of the requests, 0 to 1, by route as `canary=digits@3`."
    )

    @property
    def key(self) -> str:
        return self.endpoint


class EndpointRemoved(Event):
    """An endpoint is served no longer; its models are."""

    TYPE: ClassVar[str] = "models.endpoint.removed"

    endpoint: Name

    @property
    def key(self) -> str:
        return self.endpoint
