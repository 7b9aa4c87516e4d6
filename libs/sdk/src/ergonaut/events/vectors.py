"""Collections that come and go. Emitted by `vectors`; the vectors themselves travel in each collection's own log."""

from typing import ClassVar

from pydantic import Field

from ergonaut.events.base import Event, Name


class CollectionCreated(Event):
    """A collection can be written to from now on."""

    TYPE: ClassVar[str] = "vectors.collection.created"

    collection: Name
    dimension: int = Field(ge=1)
    metric: str

    @property
    def key(self) -> str:
        return self.collection


class CollectionDropped(Event):
    """A collection and all in it are gone."""

    TYPE: ClassVar[str] = "vectors.collection.dropped"

    collection: Name

    @property
    def key(self) -> str:
        return self.collection
