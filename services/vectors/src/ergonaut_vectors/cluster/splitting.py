"""Writes of the public contract cut by the shards that their ids belong to. Used by whoever sends them on."""

from collections.abc import Sequence
from typing import TypeVar

from ergonaut.api.vectors.v1 import vectors_pb2 as pb
from ergonaut.errors import Refused
from ergonaut_vectors.domain.placing.shard_map import ShardMap

T = TypeVar("T")
Write = pb.UpsertRequest | pb.UpdatePayloadsRequest | pb.DeleteRequest


def by_shard(request: Write, now: ShardMap) -> dict[int, Write]:
    """What of a write belongs to each shard; all of it to every shard where a filter says what is removed."""
    if isinstance(request, pb.DeleteRequest):
        if request.filter:
            return {shard.number: request for shard in now.owning}
        return {
            number: pb.DeleteRequest(collection=request.collection, ids=_chosen(request.ids, places))
            for number, places in _places(request.ids, now).items()
        }
    if isinstance(request, pb.UpdatePayloadsRequest):
        return {number: _payloads(request, places) for number, places in _places(request.ids, now).items()}
    if request.HasField("rows"):
        return {number: _rows(request, places) for number, places in _places(request.rows.ids, now).items()}
    ids = [point.id for point in request.points]
    return {
        number: pb.UpsertRequest(
            collection=request.collection, points=_chosen(request.points, places), batch_id=request.batch_id
        )
        for number, places in _places(ids, now).items()
    }


def _places(ids: Sequence[str], now: ShardMap) -> dict[int, list[int]]:
    return {number: places.tolist() for number, places in now.by_shard(list(ids)).items()}


def _chosen(values: Sequence[T], places: Sequence[int]) -> list[T]:
    return [values[at] for at in places]


def _payloads(request: pb.UpdatePayloadsRequest, places: Sequence[int]) -> pb.UpdatePayloadsRequest:
    if len(request.payloads) not in (1, len(request.ids)):
        message = f"has {len(request.payloads)} entries for {len(request.ids)} ids; one for each or one for all"
        raise Refused(message, field="payloads")
    payloads = request.payloads if len(request.payloads) == 1 else _chosen(request.payloads, places)
    return pb.UpdatePayloadsRequest(
        collection=request.collection, ids=_chosen(request.ids, places), payloads=payloads, merged=request.merged
    )


def _rows(request: pb.UpsertRequest, places: Sequence[int]) -> pb.UpsertRequest:
    rows, count = request.rows, len(request.rows.ids)
    content = rows.vectors.rows
    if len(content) % count:
        raise Refused(f"has {len(content)} bytes for {count} ids", field="rows.vectors")
    if len(rows.payloads) not in (0, count):
        raise Refused(f"has {len(rows.payloads)} entries for {count} ids", field="rows.payloads")
    width = len(content) // count
    packed = b"".join(content[at * width : (at + 1) * width] for at in places)
    chosen = pb.Rows(
        ids=_chosen(rows.ids, places),
        vectors=pb.Matrix(rows=packed, element=rows.vectors.element, count=len(places)),
        payloads=_chosen(rows.payloads, places) if rows.payloads else (),
    )
    return pb.UpsertRequest(collection=request.collection, rows=chosen, batch_id=request.batch_id)
