"""Collections, snapshots and sizes between the contract's words and the domain's. Used by the doors."""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.errors import Refused
from ergonaut_vectors.catalogue import Kept, Opened, ShardState
from ergonaut_vectors.domain.indexes.port import Kind
from ergonaut_vectors.domain.payload.fields import Field, declared
from ergonaut_vectors.domain.schema import (
    CANDIDATES_BUILD_DEFAULT,
    LINKS_DEFAULT,
    RECALL_DEFAULT,
    IndexWish,
    Schema,
)
from ergonaut_vectors.domain.segments.segment import Segment
from ergonaut_vectors.domain.segments.view import View
from ergonaut_vectors.domain.space import Element, Metric

T = TypeVar("T")
V = TypeVar("V")

_METRICS = {
    pb.METRIC_UNSPECIFIED: Metric.L2,
    pb.METRIC_L2: Metric.L2,
    pb.METRIC_COSINE: Metric.COSINE,
    pb.METRIC_INNER_PRODUCT: Metric.INNER_PRODUCT,
    pb.METRIC_HAMMING: Metric.HAMMING,
}
_METRIC_VALUES = {metric: value for value, metric in _METRICS.items()}
_ELEMENTS = {
    pb.ELEMENT_UNSPECIFIED: Element.FLOAT32,
    pb.ELEMENT_FLOAT32: Element.FLOAT32,
    pb.ELEMENT_FLOAT16: Element.FLOAT16,
    pb.ELEMENT_UINT8: Element.UINT8,
    pb.ELEMENT_INT8: Element.INT8,
    pb.ELEMENT_BINARY: Element.BINARY,
}
_ELEMENT_VALUES = {element: value for value, element in _ELEMENTS.items()}
_KINDS = {
    pb.INDEX_KIND_UNSPECIFIED: None,
    pb.INDEX_KIND_FLAT: Kind.FLAT,
    pb.INDEX_KIND_HNSW: Kind.GRAPH,
    pb.INDEX_KIND_IVF: Kind.LISTS,
    pb.INDEX_KIND_IVF_PQ: Kind.PRODUCT,
}
_KIND_VALUES = {kind: value for value, kind in _KINDS.items()}


def schema_of(collection: pb.Collection) -> Schema:
    """The schema that somebody wishes for. Raises Refused for words that there are not."""
    metric = meaning_of(_METRICS, collection.metric, "collection.metric", ("metric", pb.Metric))
    return Schema(
        name=collection.name,
        dimension=collection.dimension,
        metric=metric,
        links=collection.links or LINKS_DEFAULT,
        candidates_build=collection.candidates_build or CANDIDATES_BUILD_DEFAULT,
        element=_element_of(collection.element, "collection.element"),
        fields=_fields_of(collection.fields),
        index=wish_of(collection.index),
        shards=collection.shards or 1,
        replicas=collection.replicas or 1,
    )


def wish_of(index: pb.IndexWish) -> IndexWish:
    """The index that somebody wishes for."""
    kind = meaning_of(_KINDS, index.kind, "collection.index.kind", ("kind of index", pb.IndexKind))
    # Floats travel in four bytes; what comes back should be what was sent.
    recall = round(index.recall, 6) if index.recall else RECALL_DEFAULT
    wish = IndexWish(kind, recall, index.small)
    wish.check()
    return wish


def collection_of(opened: Opened) -> pb.Collection:
    """A collection as it is told."""
    schema = opened.schema
    return pb.Collection(
        name=schema.name,
        dimension=schema.dimension,
        metric=_METRIC_VALUES[schema.metric],
        count=opened.count,
        links=schema.links,
        candidates_build=schema.candidates_build,
        element=_ELEMENT_VALUES[schema.element],
        fields={name: pb.Field(type=field.type, language=field.language) for name, field in schema.fields.items()},
        index=pb.IndexWish(kind=_KIND_VALUES[schema.index.kind], recall=schema.index.recall, small=schema.index.small),
        shards=schema.shards,
        replicas=schema.replicas,
    )


def element_told(matrix: pb.Matrix, where: str) -> Element | None:
    """What a number of a matrix is; None where that is not told."""
    if matrix.element == pb.ELEMENT_UNSPECIFIED:
        return None
    return _element_of(matrix.element, f"{where}.element")


def element_value(element: Element) -> "pb.Element.ValueType":
    """As the contract calls it."""
    return _ELEMENT_VALUES[element]


def meaning_of(meanings: Mapping[V, T], value: V, where: str, called: tuple[str, Any]) -> T:
    """What a value of an enumeration means. Raises Refused where it is none that this version knows."""
    if value not in meanings:
        what, values = called
        named = ", ".join(name for name in values.keys() if not name.endswith("_UNSPECIFIED"))  # noqa: SIM118 - no dict
        raise Refused(f"{value} is not a {what}; there are {named}", field=where)
    return meanings[value]


def shard_of(state: ShardState) -> pb.Shard:
    """How a shard stands, as it is told."""
    if state.view is None:
        return pb.Shard(number=state.number, failure=state.failure or "it does not answer")
    view = state.view
    segments = [_segment_of(view, at) for at, part in enumerate(view.parts) if isinstance(part.store, Segment)]
    heads = [part for part in view.parts if not isinstance(part.store, Segment)]
    head_bytes = sum(part.store.count * view.space.row_bytes for part in heads)
    return pb.Shard(
        number=state.number,
        sequence=view.position,
        count=view.count,
        size_bytes=sum(segment.size_bytes for segment in segments) + head_bytes,
        head_count=sum(part.count for part in heads),
        segments=segments,
        digest=str(view.digest),
        failure=state.failure,
    )


def snapshot_of(kept: Kept) -> pb.Snapshot:
    """A snapshot as it is told."""
    made_at = Timestamp()
    made_at.FromDatetime(kept.made_at)
    return pb.Snapshot(
        id=kept.id,
        collection=kept.collection,
        made_at=made_at,
        sequences=dict(kept.positions),
        count=kept.count,
        size_bytes=kept.size_bytes,
    )


def _segment_of(view: View, at: int) -> pb.Segment:
    part = view.parts[at]
    segment = part.store
    assert isinstance(segment, Segment), "heads are told apart"
    return pb.Segment(
        name=segment.name,
        index=str(segment.index.kind),
        count=segment.count,
        dead_count=segment.count - part.count,
        size_bytes=sum(array.nbytes for array in segment.arrays.values()),
        parameters=json.dumps(dict(segment.index.parameters), sort_keys=True),
    )


def _element_of(value: "pb.Element.ValueType", where: str) -> Element:
    return meaning_of(_ELEMENTS, value, where, ("kind of number", pb.Element))


def _fields_of(told: Mapping[str, pb.Field]) -> dict[str, Field]:
    parts = {
        name: {"type": each.type} | ({"language": each.language} if each.language else {})
        for name, each in told.items()
    }
    return declared(parts, where="collection.fields")
