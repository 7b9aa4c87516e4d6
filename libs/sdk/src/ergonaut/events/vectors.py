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


class CollectionChanged(Event):
    """Vectors of a collection were written or removed. Told at most once a second, for all that happened meanwhile.

    What was written is found by a search at these positions. The positions are told at least once: a process that is killed in
    the second before it tells of a write leaves that to the next one, which tells where each log ends as it opens it. What was
    counted is lost then, and the counts may be 0. Where nodes share a collection each tells of what it wrote, and a batch that
    was sent to two of them, since the first was slow, is counted by both.
    """

    TYPE: ClassVar[str] = "vectors.collection.changed"

    collection: Name
    sequences: dict[int, int] = Field(description="The highest position in the log of each shard that was written to.")
    written: int = Field(ge=0, description="Vectors that were written, new or over others.")
    removed: int = Field(ge=0, description="Ids that were asked to be removed.")
    payloads_changed: int = Field(ge=0, description="Ids whose payloads were to be changed while the vectors stay.")

    @property
    def key(self) -> str:
        return self.collection


class CollectionKept(Event):
    """A snapshot of a collection was made, from which it can be brought back."""

    TYPE: ClassVar[str] = "vectors.collection.kept"

    collection: Name
    snapshot_id: str
    sequences: dict[int, int] = Field(description="How far the log of each shard had been applied.")
    count: int = Field(ge=0, description="Vectors in it.")
    size_bytes: int = Field(ge=0)

    @property
    def key(self) -> str:
        return self.collection
