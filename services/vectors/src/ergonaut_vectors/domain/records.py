"""What is written down about a collection beside its log, and the stages of its life."""

from dataclasses import dataclass, replace
from enum import StrEnum

from ergonaut_vectors.domain.schema import Schema


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Which collection: a tenant's, by name. Both are fit for subjects, keys and the names of streams."""

    tenant: str
    name: str

    def __str__(self) -> str:
        return f"{self.tenant}.{self.name}"


class Stage(StrEnum):
    """How far a collection's making or dropping has come; what was begun is finished after a crash."""

    MAKING = "making"
    """It is to be: its log may be missing."""
    READY = "ready"
    """It is: a missing log means that data was lost."""
    DROPPING = "dropping"
    """It is no more: its log may still be there."""


@dataclass(frozen=True, slots=True)
class Record:
    """A collection as the book has it."""

    key: Key
    schema: Schema
    uid: str
    """Tells two collections of one name apart, of which the first was dropped."""
    stage: Stage

    def at(self, stage: Stage) -> "Record":
        """The same collection at another stage."""
        return replace(self, stage=stage)
