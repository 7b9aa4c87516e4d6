"""What is kept of a pipeline: what it is, what it was, and what is to be told of it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from ergonaut.events import Event, PipelineChanged, PipelineRemoved
from ergonaut.ids import derived_id
from ergonaut_gateway.domain.models import ModelRecord, Signature
from ergonaut_gateway.domain.pipelines.checking import Signatures, checked
from ergonaut_gateway.domain.pipelines.graph import Graph, with_fused
from ergonaut_gateway.domain.pipelines.spec import Pipeline
from ergonaut_gateway.domain.revisions import HISTORY_MAX


@dataclass(frozen=True, slots=True)
class Use:
    """A version of a model as a pipeline names it, and what that took and gave when the pipeline was applied."""

    model: str
    version: str
    signature: Signature


@dataclass(frozen=True, slots=True)
class Fusion:
    """What came of making one model of a node: the model, or why there is none."""

    path: str
    node: str
    model: str = ""
    because: str = ""


@dataclass(frozen=True, slots=True)
class Revision:
    """A pipeline as somebody applied it."""

    revision: int
    pipeline: Pipeline
    changed_by: str
    changed_at: datetime
    because: str = ""


@dataclass(frozen=True, slots=True)
class PipelineRecord:
    """The one truth about a pipeline."""

    tenant: str
    name: str
    now: Revision
    signature: Signature
    uses: tuple[Use, ...]
    fusions: tuple[Fusion, ...] = ()
    history: tuple[Revision, ...] = ()
    """What it was, the newest first."""
    removed_at: datetime | None = None
    is_told: bool = False
    """Whether the other services were told of the newest change."""

    @property
    def is_kept(self) -> bool:
        """Whether requests may go to it."""
        return self.removed_at is None

    @property
    def fused_models(self) -> tuple[str, ...]:
        """The models that were made for it."""
        return tuple(fusion.model for fusion in self.fusions if fusion.model) if self.is_kept else ()

    def graph(self) -> Graph:
        """The graph that answers requests; always the same for a record."""
        signatures: Signatures = {(use.model, use.version): use.signature for use in self.uses}
        graph, _ = checked(self.now.pipeline, signatures)
        return with_fused(graph, {fusion.path: fusion.model for fusion in self.fusions if fusion.model})

    def as_model(self) -> ModelRecord:
        """The same as the pages of the Open Inference Protocol tell of models."""
        return ModelRecord(
            tenant=self.tenant,
            name=self.name,
            version=self.now.revision,
            digest="",
            size_bytes=0,
            file="",
            signature=self.signature,
            deployed_at=self.now.changed_at,
        )


@dataclass(frozen=True, slots=True)
class PipelineEntry:
    """A record and the revision under which it is kept; a writer must name the revision that it replaces."""

    record: PipelineRecord
    revision: int


@dataclass(frozen=True, slots=True)
class Applied:
    """A pipeline that fits together, ready to be recorded."""

    tenant: str
    pipeline: Pipeline
    signature: Signature
    uses: tuple[Use, ...]
    fusions: tuple[Fusion, ...]
    changed_by: str
    because: str = ""


def applied(current: PipelineRecord | None, what: Applied, *, at: datetime) -> PipelineRecord:
    """The record after a pipeline was applied; the same one where nothing is other. Revisions go on counting after a removal."""
    if current is not None and current.is_kept and _is_same(current, what):
        return current
    last = current.now.revision if current is not None else 0
    past = (current.now, *current.history)[:HISTORY_MAX] if current is not None else ()
    now = Revision(last + 1, what.pipeline, what.changed_by, at, what.because)
    return PipelineRecord(what.tenant, what.pipeline.name, now, what.signature, what.uses, what.fusions, past)


def removed(current: PipelineRecord, *, at: datetime) -> PipelineRecord:
    """The record after the pipeline was removed; what it was is kept a while."""
    return replace(current, removed_at=at, is_told=False, uses=(), fusions=())


def event_of(record: PipelineRecord) -> Event:
    """The event behind the newest change, the same however often it is asked for."""
    parts = (record.tenant, record.name, str(record.now.revision))
    if record.removed_at is not None:
        return PipelineRemoved(
            event_id=derived_id("event", "pipeline-removed", *parts),
            tenant=record.tenant,
            occurred_at=record.removed_at,
            pipeline=record.name,
        )
    return PipelineChanged(
        event_id=derived_id("event", "pipeline-changed", *parts),
        tenant=record.tenant,
        occurred_at=record.now.changed_at,
        pipeline=record.name,
        revision=record.now.revision,
        changed_by=record.now.changed_by,
        models=tuple(sorted({use.model for use in record.uses})),
    )


def held_by(records: Iterable[PipelineRecord], tenant: str, model: str) -> dict[str, str]:
    """By the versions of a model that pipelines ask: who does. Fused models are held as a whole."""
    held: dict[str, str] = {}
    for record in records:
        if record.tenant == tenant and record.is_kept:
            versions = [use.version for use in record.uses if use.model == model]
            for version in versions + [""] * (model in record.fused_models):
                held.setdefault(version, f"pipeline {record.name}")
    return held


def _is_same(current: PipelineRecord, what: Applied) -> bool:
    return (current.now.pipeline, current.signature, current.uses, current.fusions) == (
        what.pipeline,
        what.signature,
        what.uses,
        what.fusions,
    )
