"""The door through which nodes ask each other: calls of the public door for some shards alone, and how replicas stand."""

import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from grpc import aio

from ergonaut.api.vectors.v1 import shards_pb2 as pb
from ergonaut.api.vectors.v1 import shards_pb2_grpc as pb_grpc
from ergonaut.api.vectors.v1 import vectors_pb2 as public
from ergonaut.errors import Refused
from ergonaut.keys import Scope
from ergonaut_common.rpc import caller
from ergonaut_vectors.asking import Asking
from ergonaut_vectors.catalogue import Catalogue
from ergonaut_vectors.cluster.holding import Holding
from ergonaut_vectors.cluster.some import SomeShards
from ergonaut_vectors.domain.quotas import Quota
from ergonaut_vectors.quotas import Quotas
from ergonaut_vectors.rpc.shared import Behind
from ergonaut_vectors.rpc.steps import STEPS, StepsDoor

PIECE_BYTES = 1024 * 1024

REQUESTS: dict[str, Any] = {
    **STEPS,
    "Search": public.SearchRequest,
    "GetPoints": public.GetPointsRequest,
    "ListPoints": public.ListPointsRequest,
    "DescribeCollection": public.DescribeCollectionRequest,
    "GetCount": public.GetCountRequest,
    "Upsert": public.UpsertRequest,
    "UpdatePayloads": public.UpdatePayloadsRequest,
    "Delete": public.DeleteRequest,
    "SplitShard": public.SplitShardRequest,
}
"""What may be asked through it, beside the steps of searches."""


class ShardsDoor(pb_grpc.ShardsServiceServicer):
    """Answers other nodes; nobody else has the services' key."""

    def __init__(self, behind: Behind, holding: Holding) -> None:
        self._behind = behind
        self._holding = holding
        # The node that the tenant called has counted the call.
        self._unbounded = Quotas(Quota())

    async def AskShards(self, request: pb.AskShardsRequest, context: Any) -> pb.AskShardsResponse:
        caller().require(Scope.SERVICE)
        kind = REQUESTS.get(request.method)
        if kind is None:
            raise Refused(f"{request.method!r} cannot be asked of a shard", field="method")
        shards = tuple(request.shards)
        await self._holding.check(request.collection, shards, request.epoch)
        door = StepsDoor(self._over(SomeShards(self._behind.catalogue, shards, request.slots_after)))
        answer = await getattr(door, request.method)(kind.FromString(request.request), context)
        return pb.AskShardsResponse(response=answer.SerializeToString())

    async def GetReplicas(self, request: pb.GetReplicasRequest, context: Any) -> pb.GetReplicasResponse:
        caller().require(Scope.SERVICE)
        reports = await self._holding.reports(request.collection)
        replicas = [
            pb.Replica(
                shard=shard,
                sequence=report.position,
                digests=dict(report.digests),
                drained=report.drained,
                epoch=report.epoch,
            )
            for shard, report in reports.items()
        ]
        return pb.GetReplicasResponse(replicas=replicas)

    async def DownloadReplica(
        self, request: pb.DownloadReplicaRequest, context: Any
    ) -> AsyncIterator[pb.DownloadReplicaResponse]:
        caller().require(Scope.SERVICE)
        threads, folder = self._behind.translating, self._holding.place()
        try:
            target = folder / "saved"
            await self._holding.copy_saved(request.collection, request.shard, target)
            for path in await threads.run(lambda: sorted(target.iterdir()) if target.exists() else []):
                at, size = 0, path.stat().st_size
                while at < size or at == 0:
                    content = await threads.run(lambda path=path, at=at: _piece(path, at))  # type: ignore[misc]
                    yield pb.DownloadReplicaResponse(file=path.name, content=content)
                    at += max(len(content), 1)
        finally:
            await threads.run(lambda: shutil.rmtree(folder, ignore_errors=True))

    async def RebuildReplica(self, request: pb.RebuildReplicaRequest, context: Any) -> pb.RebuildReplicaResponse:
        caller().require(Scope.SERVICE)
        await self._holding.rebuild(request.collection, request.shard)
        return pb.RebuildReplicaResponse()

    def _over(self, catalogue: Catalogue) -> Behind:
        # What is written here is told from here, whichever node the tenant called.
        asking = Asking(catalogue, self._unbounded, self._behind.translating, self._behind.changes)
        return replace(self._behind, catalogue=catalogue, asking=asking, quotas=self._unbounded)


def shards_door(behind: Behind, holding: Holding) -> Callable[[aio.Server], None]:
    """What adds this door to a server."""
    return lambda server: pb_grpc.add_ShardsServiceServicer_to_server(ShardsDoor(behind, holding), server)


def _piece(path: Path, at: int) -> bytes:
    with path.open("rb") as file:
        file.seek(at)
        return file.read(PIECE_BYTES)
