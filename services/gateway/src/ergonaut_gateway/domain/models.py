"""Models and their versions: what is recorded of them, and what a deployment or removal makes of the record."""

from dataclasses import dataclass, replace
from datetime import datetime

from ergonaut.errors import NotFound, Refused
from ergonaut.events import ModelDeployed, ModelRemoved
from ergonaut.ids import NAME_RULE, derived_id, is_name


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor that a model takes or gives; -1 in the shape stands where the caller chooses."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model takes and gives."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that loads and wants to be a model's next version."""

    digest: str
    size_bytes: int
    file: str
    signature: Signature
    run_id: str


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """The one truth about a model: its newest version, and whether it is served and was told of."""

    tenant: str
    name: str
    version: int
    digest: str
    size_bytes: int
    file: str
    signature: Signature
    deployed_at: datetime
    run_id: str = ""
    removed_at: datetime | None = None
    announced: bool = False

    @property
    def served(self) -> bool:
        """Whether requests may go to it."""
        return self.removed_at is None


@dataclass(frozen=True, slots=True)
class Entry:
    """A record and the revision under which the registry keeps it; a writer must name the revision that it replaces."""

    record: ModelRecord
    revision: int


def check_name(name: str, *, field: str = "name") -> None:
    """Raise Refused unless the text may name a model."""
    if not is_name(name):
        raise Refused(f"{name!r} cannot be a model's name; use {NAME_RULE}", field=field)


def serves_already(current: ModelRecord | None, digest: str) -> bool:
    """Whether the same file is the served version now, so that deploying it again changes nothing."""
    return current is not None and current.served and current.digest == digest


def next_version(
    current: ModelRecord | None, candidate: Candidate, *, tenant: str, name: str, at: datetime
) -> ModelRecord:
    """The record after a deployment. Versions go on counting after a removal, so that a number never means two files."""
    return ModelRecord(
        tenant=tenant,
        name=name,
        version=current.version + 1 if current else 1,
        digest=candidate.digest,
        size_bytes=candidate.size_bytes,
        file=candidate.file,
        signature=candidate.signature,
        deployed_at=at,
        run_id=candidate.run_id,
    )


def removed(current: ModelRecord | None, *, name: str, at: datetime) -> ModelRecord:
    """The record after a removal. Raises NotFound where nothing is served."""
    if current is None or not current.served:
        raise NotFound(f"no model {name} is served")
    return replace(current, removed_at=at, announced=False)


def announcement(record: ModelRecord) -> ModelDeployed | ModelRemoved:
    """The fact behind a record, the same however often it is asked for."""
    if record.removed_at is not None:
        return ModelRemoved(
            event_id=derived_id("event", "model-removed", record.tenant, record.name, str(record.version)),
            tenant=record.tenant,
            occurred_at=record.removed_at,
            model=record.name,
        )
    return ModelDeployed(
        event_id=derived_id("event", "model-deployed", record.tenant, record.name, str(record.version)),
        tenant=record.tenant,
        occurred_at=record.deployed_at,
        model=record.name,
        version=record.version,
        digest=record.digest,
        size_bytes=record.size_bytes,
        run_id=record.run_id,
    )
