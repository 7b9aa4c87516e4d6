"""Links between nodes: by TLS where there is a network, and the services' key never in clear over one."""

from pathlib import Path
from typing import Any

import pytest

from ergonaut.api.vectors.v1 import shards_pb2 as pb
from ergonaut.api.vectors.v1 import shards_pb2_grpc as pb_grpc
from ergonaut.errors import Broken, Unavailable
from ergonaut.tls import CA
from ergonaut_common.auth import KeyRing
from ergonaut_common.h2.serving import serving
from ergonaut_common.rpc import caller
from ergonaut_common.testing import key_ring_file
from ergonaut_common.testing_certificates import Authority
from ergonaut_common.tls import TlsFiles
from ergonaut_vectors.adapters.node_links import GrpcNodeLinks
from ergonaut_vectors.assembly import node_of
from ergonaut_vectors.settings import Settings


class Shards(pb_grpc.ShardsServiceServicer):
    """Has one replica, and remembers who asked."""

    def __init__(self) -> None:
        self.callers: list[str] = []

    async def GetReplicas(self, request: pb.GetReplicasRequest, context: Any) -> pb.GetReplicasResponse:
        self.callers.append(caller().principal)
        return pb.GetReplicasResponse(replicas=[pb.Replica(shard=3, sequence=7)])


@pytest.fixture
def shards() -> Shards:
    return Shards()


async def test_nodes_ask_each_other_by_tls(shards: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    own = authority.signed("node")
    files = TlsFiles(own.certificate, own.key, None, "ERGONAUT_VECTORS_TLS")
    path, keys = key_ring_file(tmp_path)
    monkeypatch.setenv(CA, str(authority.file))
    async with serving(
        "127.0.0.1:0",
        service="vectors",
        add=lambda server: pb_grpc.add_ShardsServiceServicer_to_server(shards, server),
        keys=KeyRing.load(path),
        names=[],
        tls=files,
    ) as port:
        links = GrpcNodeLinks(keys["service"])
        link = links.open(f"https://127.0.0.1:{port}")
        assert list(await link.reports("default", "uid")) == [3]
        assert shards.callers == ["service"]
        in_clear = links.open(f"127.0.0.1:{port}")
        with pytest.raises(Unavailable):
            await in_clear.reports("default", "uid")
        link.close()
        in_clear.close()


async def test_the_key_is_not_sent_in_clear_over_a_network_unless_that_is_allowed() -> None:
    link = GrpcNodeLinks("key").open("192.0.2.1:7406")
    with pytest.raises(Unavailable, match="not sent to it in clear"):
        await link.reports("default", "uid")
    assert GrpcNodeLinks("key", plain_allowed=True).open("192.0.2.1:7406")._told("default")[0][1] == "Bearer key"


def test_a_node_that_would_be_told_the_key_in_clear_does_not_start(tmp_path: Path) -> None:
    settings = Settings(node_name="one", node_address="node.example:7406")
    with pytest.raises(Broken, match="in clear"):
        node_of(settings, "key", None, (None, None), tmp_path)  # type: ignore[arg-type]


def test_a_certificate_needs_its_key() -> None:
    with pytest.raises(ValueError, match="belong together"):
        Settings(tls_certificate="node.crt")
