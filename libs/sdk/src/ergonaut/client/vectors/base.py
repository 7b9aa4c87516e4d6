"""What the calls about vectors share: the stub, and how filters and readings are told. Used within this folder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from grpc import aio

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.api.vectors.v1.vectors_pb2_grpc import VectorsServiceStub
from ergonaut.client.connection import Connection

if TYPE_CHECKING:
    from ergonaut.api.vectors.v1.vectors_pb2_grpc import VectorsServiceAsyncStub

Filter = Mapping[str, Any]
"""Which vectors are meant: {"and": [{"field": "price", "range": {"gte": 10}}, {"not": {"field": "tag", "eq": "sold"}}]}."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """How to search, beside with what."""

    filter: Filter | None = None
    exact: bool = False
    """Compare with every vector; the answer is exact."""
    effort: int = 0
    """How hard to look; 0 is what was found to give the recall that is wished for."""
    payloads: bool = False
    """Give payloads."""
    payload_fields: Sequence[str] = ()
    """Only these of their fields; none gives all."""
    vectors: bool = False
    """Give vectors."""
    sequence_min: int = 0
    """Wait until what was written up to here is seen."""
    sequences_min: Mapping[int, int] = field(default_factory=dict)
    """The same by shard, `Written.sequences`."""
    partial: bool = False
    """Answer without shards that do not, rather than fail."""

    @property
    def reading(self) -> pb.Reading:
        """As it travels."""
        return pb.Reading(
            sequence_min=self.sequence_min,
            sequences_min=dict(self.sequences_min),
            partial=self.partial,
            with_payloads=self.payloads or bool(self.payload_fields),
            payload_fields=self.payload_fields,
            with_vectors=self.vectors,
        )

    def options(self, limit: int, *, packed: bool = False) -> pb.SearchOptions:
        """As it travels."""
        return pb.SearchOptions(
            limit=limit,
            effort=self.effort,
            exact=self.exact,
            filter=filter_text(self.filter),
            reading=self.reading,
            packed=packed,
        )


def filter_text(told: Filter | None) -> str:
    """A filter as it travels."""
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")) if told is not None else ""


class Calls:
    """The calls of one service."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._made: tuple[aio.Channel, VectorsServiceAsyncStub] | None = None

    @property
    def _stub(self) -> "VectorsServiceAsyncStub":
        channel = self._connection.channel("vectors")
        # Making a stub of so many methods takes as long as a short search.
        if self._made is None or self._made[0] is not channel:
            self._made = (channel, VectorsServiceStub(channel))
        return self._made[1]
