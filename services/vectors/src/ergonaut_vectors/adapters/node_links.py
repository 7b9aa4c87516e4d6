"""The port `NodeLinks` on gRPC: `ShardsService` of another node, with the services' key and for the request's tenant."""

import asyncio
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from grpc import aio

from ergonaut.api.vectors.v1 import shards_pb2 as pb
from ergonaut.api.vectors.v1.shards_pb2_grpc import ShardsServiceStub
from ergonaut.errors import Broken, ErgonautError, Unavailable
from ergonaut.statuses import STATUS_OF_ERROR
from ergonaut.tls import bare, is_secure
from ergonaut_common.observe import trace_headers
from ergonaut_common.rpc import for_tenant
from ergonaut_common.rpc.fellows import FellowChannels
from ergonaut_vectors.cluster.ports import Asking
from ergonaut_vectors.domain.placing.moving import ReplicaReport

REPORT_SECONDS = 3.0
REBUILD_SECONDS = 30.0
DOWNLOAD_SECONDS = 3600.0
"""For the files of one shard: some gigabytes at a megabyte a second."""

Metadata = tuple[tuple[str, str], ...]


class GrpcNodeLinks:
    """Opens channels: by TLS where an address begins with https://, with what `ergonaut.tls` finds in the environment.

    The services' key goes over each call. In clear it goes to this machine alone, unless `plain_allowed` says that the
    network between the nodes is as good as one.
    """

    def __init__(self, key: str, *, plain_allowed: bool = False) -> None:
        self._metadata = (("authorization", f"Bearer {key}"),)
        self._plain_allowed = plain_allowed
        self._channels = FellowChannels()

    def open(self, address: str) -> "GrpcNodeLink":
        channel = self._channels.open(bare(address), tls=is_secure(address))
        metadata = self._metadata if self._plain_allowed or is_guarded(address) else None
        return GrpcNodeLink(address, channel, metadata, self._channels.close)


class GrpcNodeLink:
    """A channel to a node."""

    def __init__(self, address: str, channel: aio.Channel, metadata: Metadata | None, close: Any) -> None:
        self._address = address
        self._channel = channel
        # None where the key must not go: everybody on the way would have it.
        self._metadata = metadata
        self._close = close
        self._stub: Any = ShardsServiceStub(channel)

    async def ask(self, asking: Asking) -> bytes:
        request = pb.AskShardsRequest(
            collection=asking.uid,
            epoch=asking.epoch,
            shards=asking.shards,
            method=asking.method,
            request=asking.request,
            slots_after=asking.slots_after,
        )
        answer = await self._called(self._stub.AskShards, request, asking.tenant, asking.timeout_seconds)
        return bytes(answer.response)

    async def reports(self, tenant: str, collection: str) -> Mapping[int, ReplicaReport]:
        request = pb.GetReplicasRequest(collection=collection)
        answer = await self._called(self._stub.GetReplicas, request, tenant, REPORT_SECONDS)
        return {
            each.shard: ReplicaReport(each.sequence, each.epoch, digests=dict(each.digests), drained=each.drained)
            for each in answer.replicas
        }

    async def download(self, tenant: str, collection: str, shard: int, folder: Path) -> None:
        request = pb.DownloadReplicaRequest(collection=collection, shard=shard)
        call = self._stub.DownloadReplica(request, metadata=self._told(tenant), timeout=DOWNLOAD_SECONDS)
        try:
            async for piece in call:
                await asyncio.to_thread(_append, folder, piece.file, piece.content)
        except aio.AioRpcError as error:
            raise _meaning(error, self._address) from error

    async def rebuild(self, tenant: str, collection: str, shard: int) -> None:
        request = pb.RebuildReplicaRequest(collection=collection, shard=shard)
        await self._called(self._stub.RebuildReplica, request, tenant, REBUILD_SECONDS)

    def close(self) -> None:
        self._close(self._channel)

    async def _called(self, method: Any, request: Any, tenant: str, timeout_seconds: float) -> Any:
        try:
            return await method(request, metadata=self._told(tenant), timeout=timeout_seconds)
        except aio.AioRpcError as error:
            raise _meaning(error, self._address) from error
        except aio.UsageError as error:
            raise Unavailable(f"the connection to the node at {self._address} was closed") from error

    def _told(self, tenant: str) -> Metadata:
        if self._metadata is None:
            raise Unavailable(
                f"the node at {self._address} speaks without TLS, and the services' key is not sent to it in clear; give it "
                "ERGONAUT_VECTORS_TLS_CERTIFICATE and _KEY, or set ERGONAUT_VECTORS_NODE_PLAIN_ALLOWED here"
            )
        return (*self._metadata, *for_tenant(tenant), *trace_headers().items())


def is_guarded(address: str) -> bool:
    """Whether nobody else hears what is said to an address: it is on this machine, or spoken to by TLS.

    >>> [is_guarded(each) for each in ("127.0.0.1:7406", "[::1]:7406", "https://node.example:7406", "node.example:7406")]
    [True, True, True, False]
    """
    host = address.rpartition(":")[0].strip("[]")
    try:
        return is_secure(address) or host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _append(folder: Path, name: str, content: bytes) -> None:
    if "/" in name or name.startswith("."):
        raise Broken(f"another node gives a file that no shard has: {name!r}")
    with (folder / name).open("ab") as file:
        file.write(content)


def _meaning(error: aio.AioRpcError, address: str) -> ErgonautError:
    kind = next((kind for kind, code in STATUS_OF_ERROR if code is error.code()), Unavailable)
    words = error.details() or error.code().name
    # What is said of the request is passed on as it is.
    return kind(f"the node at {address}: {words}" if kind in (Broken, Unavailable) else words)
