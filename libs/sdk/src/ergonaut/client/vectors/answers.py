"""What the client gives for questions about vectors: arrays and lists rather than messages."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.client.vectors.arrays import cut, decoded, decoded_distances, numpy

if TYPE_CHECKING:
    from ergonaut.client.vectors.arrays import Array

Payload = Mapping[str, Any]
"""What comes with a vector; whatever JSON can say."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a write was answered with."""

    sequence: int
    """Position in the collection's log; the highest where it has several shards."""
    sequences: Mapping[int, int]
    """Positions by shard; a search with these as `sequences_min` sees the write, whichever replica answers."""
    count: int
    """Vectors that were written."""

    def then(self, later: "Written") -> "Written":
        """Both writes as one."""
        last = max(self.sequence, later.sequence)
        return Written(last, {**self.sequences, **later.sequences}, self.count + later.count)


NOTHING_WRITTEN = Written(0, {}, 0)


class Found(NamedTuple):
    """One vector that was found."""

    id: str
    distance: float
    payload: Payload | None = None
    vector: "Array | None" = None
    score: float | None = None
    """Higher is better, where rankings were joined."""


class FoundGroup(NamedTuple):
    """Vectors that belong together."""

    value: Any
    """The value that they share."""
    found: Sequence[Found]
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Nearest:
    """The nearest to each query, nearest first."""

    ids: list[list[str]]
    distances: "Array"
    """[queries, most of a query]; infinite behind the last of a query that has fewer."""
    payloads: list[list[Payload]] | None = None
    vectors: "list[Array] | None" = None
    """For each query [its count, width], as the collection keeps them."""
    shards_missing: Sequence[int] = ()
    """Shards that did not answer, where a partial answer was allowed."""


@dataclass(frozen=True, slots=True)
class Points:
    """Vectors by id."""

    ids: list[str]
    vectors: "Array | None" = None
    payloads: list[Payload] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)
    """Where each was written in the log of its shard."""


class Values(list[tuple[Any, int]]):
    """Values of a field, each with how many vectors have it."""

    def __init__(self, counts: Sequence[tuple[Any, int]] = (), count_missing_max: int = 0) -> None:
        super().__init__(counts)
        self.count_missing_max = count_missing_max
        """By so many a count may be too low, where several nodes share a collection and a field has very many values."""


def payload_bytes(payload: Payload) -> bytes:
    """A payload as it travels; none for an empty one."""
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() if payload else b""


def payload_of(content: bytes) -> Payload:
    """The payload that travelled."""
    payload: Payload = json.loads(content) if content else {}
    return payload


def nearest_of(answers: Sequence[pb.SearchResponse]) -> Nearest:
    """The answers to one question that was asked in pieces."""
    packs = [answer.packed for answer in answers]
    counts = [count for pack in packs for count in pack.counts]
    ids = cut([name for pack in packs for name in pack.ids], counts)
    payloads = [payload_of(each) for pack in packs for each in pack.payloads]
    vectors = [row for pack in packs for row in _rows_of(pack)]
    missing = sorted({shard for answer in answers for shard in answer.shards_missing})
    return Nearest(
        ids,
        _joined([decoded_distances(pack) for pack in packs]),
        cut(payloads, counts) if payloads or not any(counts) else None,
        vectors or None,
        missing,
    )


def found_of(neighbour: pb.Neighbour, *, score: float | None = None) -> Found:
    """One neighbour of a message."""
    vector = None
    if neighbour.vector:
        vector = decoded(pb.Matrix(rows=neighbour.vector, element=neighbour.element), 1)[0]
    payload = payload_of(neighbour.payload) if neighbour.payload else dict(neighbour.attributes)
    return Found(neighbour.id, neighbour.distance, payload, vector, score)


def group_of(group: pb.Group, *, score: float | None = None) -> FoundGroup:
    """One group of a message."""
    return FoundGroup(json.loads(group.value), [found_of(each) for each in group.neighbours], score)


def points_of(rows: pb.Rows) -> Points:
    """The points of a message."""
    vectors = decoded(rows.vectors, len(rows.ids)) if rows.vectors.rows else None
    return Points(list(rows.ids), vectors, [payload_of(each) for each in rows.payloads], list(rows.sequences))


def written_of(answer: Any, count: int) -> Written:
    """What a write was answered with."""
    return Written(int(answer.sequence), dict(answer.sequences), count)


def _rows_of(pack: pb.PackedNeighbours) -> "list[Array]":
    if not pack.vectors.rows:
        return []
    rows, pieces, first = decoded(pack.vectors, len(pack.ids)), [], 0
    for count in pack.counts:
        pieces.append(rows[first : first + count])
        first += count
    return pieces


def _joined(parts: "list[Array]") -> "Array":
    np = numpy()
    if len(parts) == 1:
        return parts[0]
    width = max((part.shape[1] for part in parts), default=0)
    padded = [np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=np.inf) for part in parts]
    joined: Array = np.concatenate(padded) if padded else np.empty((0, 0), np.float32)
    return joined
